import Hummingbird
import NIOCore
import ServiceLifecycle
import SessionManager

/// How long the parts of a stream's connection may take.
struct StreamTiming: Sendable {
    var keepAliveInterval: Duration
    var drainTime: Duration
}

/// A stream on its way to a connection.
struct OutgoingStream: Sendable {
    var messages: MessageStream
    /// Where the messages come in, and through which the stream ends.
    var controller: ConnectionController
    /// The connection's hold on the stream.
    var lease: StreamLease
}

extension StreamClosing {
    /// Whether a client should come back and resume the stream.
    var comesBack: Bool {
        switch self {
        case .detached, .tooSlow, .purged: true
        case .ended, .takenOver: false
        }
    }
}

/// Writes a stream to its connection until the stream or the connection ends.
struct EventStreamResponse: Sendable {
    /// The stream, held by this process.
    var stream: OutgoingStream
    /// What is written before the messages.
    var prelude: ByteBuffer
    /// Whether the stream is over once it has carried an answer, as that of a POST is.
    var endsWithAnswer: Bool
    /// Whether the connection has nothing to wait for but messages, so that a shutdown lets go of it at once. A
    /// request that is being handled is waited for.
    var closesOnShutdown: Bool
    var timing: StreamTiming
    /// Writes a message as an event.
    var encode: @Sendable (StreamMessage) -> ByteBuffer
    /// Called when the connection has let go of the stream.
    var onEnd: @Sendable () async -> Void = {}
    /// What is written behind the messages, depending on why the stream ended.
    var completion: @Sendable (StreamClosing) -> ByteBuffer? = { _ in nil }
    /// What is written once the connection has let go of the stream, so that a client which it sends back finds it free.
    var epilogue: @Sendable (StreamClosing) -> ByteBuffer? = { _ in nil }

    /// The stream's client reads too slowly for it to be told that the stream has ended.
    private struct ClientTooSlow: Error {}

    /// The body of the response.
    ///
    /// - Parameter request: the request of a GET, to notice at once when its client goes away. Its body must have been
    ///   collected with `collectBody(upTo:)`.
    func body(watching request: Request?) -> ResponseBody {
        ResponseBody { writer in
            nonisolated(unsafe) let shared = writer
            try await write(to: EventWriter(shared), watching: request)
            try await writer.finish(nil)
        }
    }

    private func write(to writer: EventWriter, watching request: Request?) async throws {
        do {
            if closesOnShutdown {
                try await withGracefulShutdownHandler {
                    try await writeWhileConnected(to: writer, watching: request)
                } onGracefulShutdown: {
                    stream.controller.close(.detached)
                }
            } else {
                try await writeWhileConnected(to: writer, watching: request)
            }
        } catch {
            await stream.lease.release()
            await onEnd()
            throw error
        }
        await stream.lease.release()
        await onEnd()
        if let closing = stream.messages.closing, let last = epilogue(closing) { try await writer.write(last) }
    }

    private func writeWhileConnected(to writer: EventWriter, watching request: Request?) async throws {
        guard let request else { return try await writeMessages(to: writer) }
        try await request.body.consumeWithInboundCloseHandler { _ in
            try await writeMessages(to: writer)
        } onInboundClosed: {
            stream.controller.close(.detached)
        }
    }

    private func writeMessages(to writer: EventWriter) async throws {
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { try await deliver(to: writer) }
            group.addTask { try await keepAlive(writer) }
            group.addTask { try await cutOffSlowClient() }
            // The messages are through, or a task threw: either way the others have nothing left to do.
            defer { group.cancelAll() }
            try await group.next()
        }
    }

    private func deliver(to writer: EventWriter) async throws {
        try await writer.write(prelude)
        for await message in stream.messages {
            try await writer.write(encode(message))
            if endsWithAnswer, MCPText.isResponse(message.data) {
                stream.controller.close(.ended)
                return
            }
        }
        try Task.checkCancellation()
        if let closing = stream.messages.closing, let last = completion(closing) { try await writer.write(last) }
    }

    /// Comments keep proxies from closing a silent connection, and find out that a client is gone.
    private func keepAlive(_ writer: EventWriter) async throws {
        while true {
            try await Task.sleep(for: timing.keepAliveInterval)
            try await writer.write(ServerSentEvent.comment("ping"))
        }
    }

    /// What waits when a stream ends is still written, but a client that does not read cannot hold a connection and
    /// its buffer for longer.
    private func cutOffSlowClient() async throws {
        await stream.controller.waitForEnd()
        try await Task.sleep(for: timing.drainTime)
        throw ClientTooSlow()
    }
}

/// The connection, shared by the tasks that write to it. Each event is written as a whole.
private struct EventWriter: Sendable {
    // A response body's writer is not Sendable by its type, though it is a reference to the connection's outbound
    // writer, which any task may use. It is used while the body's closure waits, and not afterwards.
    private nonisolated(unsafe) let writer: any ResponseBodyWriter

    init(_ writer: any ResponseBodyWriter) {
        self.writer = writer
    }

    func write(_ buffer: ByteBuffer) async throws {
        nonisolated(unsafe) var writer = writer
        try await writer.write(buffer)
    }
}
