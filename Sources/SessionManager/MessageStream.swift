import Synchronization

/// A buffer between a session manager, which must never wait, and the consumer of a stream, which may be slow.
///
/// The manager enqueues through ``controller``; one consumer reads with `for await`. The buffer holds at most
/// `byteLimit` bytes of messages: whoever reads more slowly than that is cut off rather than let the process grow.
/// What was taken before the end is still read; afterwards ``closing`` says why the stream ended.
public struct MessageStream: AsyncSequence, Sendable {
    /// A message of the stream.
    public typealias Element = StreamMessage

    /// Bytes that a buffer holds unless told otherwise: 1 MiB.
    public static let defaultByteLimit = 1_048_576

    /// What a message counts beside its data, about what keeping it takes: 64 bytes.
    public static let bytesPerMessage = 64

    private let buffer: Buffer
    private let messages: AsyncStream<StreamMessage>

    /// An empty buffer for one stream.
    ///
    /// - Parameter byteLimit: how many bytes may wait, each message counting its data and ``bytesPerMessage``. Default:
    ///   1 MiB. A single message that is larger is taken when nothing else waits, so that every message can be delivered.
    public init(byteLimit: Int = MessageStream.defaultByteLimit) {
        let (messages, continuation) = AsyncStream.makeStream(of: StreamMessage.self)
        self.messages = messages
        buffer = Buffer(byteLimit: byteLimit, continuation: continuation)
    }

    /// What the session manager hands messages to.
    public var controller: any StreamController { buffer }

    /// Why the stream ended; `nil` while it has not.
    public var closing: StreamClosing? { buffer.closing }

    /// An iterator over the messages. A stream has one consumer: make one iterator.
    public func makeAsyncIterator() -> Iterator {
        Iterator(buffer: buffer, messages: messages.makeAsyncIterator())
    }

    /// Reads a ``MessageStream``.
    public struct Iterator: AsyncIteratorProtocol {
        private let buffer: Buffer
        private var messages: AsyncStream<StreamMessage>.Iterator

        fileprivate init(buffer: Buffer, messages: AsyncStream<StreamMessage>.Iterator) {
            self.buffer = buffer
            self.messages = messages
        }

        /// The next message; `nil` when the stream has ended and everything was read, or the task was cancelled.
        public mutating func next(isolation actor: isolated (any Actor)?) async -> StreamMessage? {
            guard let message = await messages.next(isolation: actor) else { return nil }
            buffer.release(message)
            return message
        }

        /// The next message; `nil` when the stream has ended and everything was read, or the task was cancelled.
        public mutating func next() async -> StreamMessage? {
            await next(isolation: nil)
        }
    }
}

/// The two counters that the sides of a ``MessageStream`` share. Atomics suffice, and need no lock: the messages
/// themselves are in an `AsyncStream`, and each counter stands for itself.
private final class Buffer: StreamController {
    private static let closings: [StreamClosing] = [.ended, .takenOver, .detached, .tooSlow, .purged]

    private let byteLimit: Int
    private let continuation: AsyncStream<StreamMessage>.Continuation
    private let waitingBytes = Atomic<Int>(0)
    /// Yields when the last message was read, and ends with the stream.
    private let drained: AsyncStream<Void>
    private let drainedContinuation: AsyncStream<Void>.Continuation
    /// The place of the reason in ``closings``; -1 while the stream is open.
    private let closingIndex = Atomic<Int>(-1)

    init(byteLimit: Int, continuation: AsyncStream<StreamMessage>.Continuation) {
        self.byteLimit = byteLimit
        self.continuation = continuation
        let (drained, drainedContinuation) = AsyncStream.makeStream(of: Void.self, bufferingPolicy: .bufferingNewest(1))
        self.drained = drained
        self.drainedContinuation = drainedContinuation
        continuation.onTermination = { _ in drainedContinuation.finish() }
    }

    var closing: StreamClosing? {
        let index = closingIndex.load(ordering: .acquiring)
        return Buffer.closings.indices.contains(index) ? Buffer.closings[index] : nil
    }

    func enqueue(_ message: StreamMessage) -> Bool {
        guard reserve(Self.size(message)) else { return false }
        // A consumer that is gone takes nothing more, and a stream that was closed has ended.
        guard case .enqueued = continuation.yield(message) else { return false }
        return true
    }

    func close(_ closing: StreamClosing) {
        let index = Buffer.closings.firstIndex(of: closing) ?? 0
        // The first reason stands.
        _ = closingIndex.compareExchange(expected: -1, desired: index, ordering: .acquiringAndReleasing)
        continuation.finish()
    }

    func release(_ message: StreamMessage) {
        let (_, waiting) = waitingBytes.subtract(Self.size(message), ordering: .acquiringAndReleasing)
        if waiting == 0 { drainedContinuation.yield() }
    }

    func waitUntilDrained() async {
        while waitingBytes.load(ordering: .acquiring) > 0 {
            var signals = drained.makeAsyncIterator()
            guard await signals.next() != nil else { return }
        }
    }

    private static func size(_ message: StreamMessage) -> Int {
        message.data.utf8.count + MessageStream.bytesPerMessage
    }

    private func reserve(_ size: Int) -> Bool {
        var waiting = waitingBytes.load(ordering: .relaxed)
        while true {
            guard waiting == 0 || waiting + size <= byteLimit else { return false }
            let (exchanged, original) = waitingBytes.compareExchange(
                expected: waiting,
                desired: waiting + size,
                ordering: .relaxed
            )
            if exchanged { return true }
            waiting = original
        }
    }
}
