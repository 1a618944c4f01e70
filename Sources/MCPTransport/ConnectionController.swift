import SessionManager

/// Passes a stream's messages on, and tells whoever writes to the connection at once that the stream has ended.
final class ConnectionController: StreamController {
    private let buffer: any StreamController
    private let ends: AsyncStream<Void>
    private let end: AsyncStream<Void>.Continuation

    init(_ buffer: any StreamController) {
        self.buffer = buffer
        (ends, end) = AsyncStream.makeStream(of: Void.self)
    }

    func enqueue(_ message: StreamMessage) -> Bool {
        buffer.enqueue(message)
    }

    func close(_ closing: StreamClosing) {
        buffer.close(closing)
        end.finish()
    }

    func waitUntilDrained() async {
        await buffer.waitUntilDrained()
    }

    /// Returns when the stream was closed, though messages may still wait to be written; or when cancelled.
    func waitForEnd() async {
        for await _ in ends {}
    }
}
