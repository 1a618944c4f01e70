import Logging
import SessionManager

/// The streams whose connections are in this process.
///
/// A session manager knows a stream by its id alone. When a client comes back before its dead connection was noticed,
/// the old connection must not let go of the stream that the new one has just opened: opening and letting go of one
/// stream happen one after the other here, and a connection lets go only of what is still its own.
actor HeldStreams {
    private let streams: any StreamSessionManager
    private var holders: [String: UInt64] = [:]
    private var lastHolder: UInt64 = 0
    private var busy: [String: [CheckedContinuation<Void, Never>]] = [:]

    init(_ streams: any StreamSessionManager) {
        self.streams = streams
    }

    func open(
        _ id: String,
        controller: any StreamController,
        options: StreamOptions,
        logger: Logger
    ) async throws(SessionManagerError) -> (opening: StreamOpening, lease: StreamLease) {
        await enter(id)
        defer { leave(id) }
        let opening = try await streams.create(id, controller: controller, options: options)
        lastHolder += 1
        holders[id] = lastHolder
        let holder = lastHolder
        return (opening, StreamLease { await self.release(id, holder: holder, logger: logger) })
    }

    /// Opens a stream of a session for a connection.
    nonisolated func openStream(
        _ name: StreamName,
        of session: String,
        bufferBytes: Int,
        options: StreamOptions,
        logger: Logger
    ) async throws(SessionManagerError) -> Exchange.OpenStream {
        let messages = MessageStream(byteLimit: bufferBytes)
        let controller = ConnectionController(messages.controller)
        let (opening, lease) = try await open(
            name.streamID(session: session),
            controller: controller,
            options: options,
            logger: logger
        )
        let outgoing = OutgoingStream(messages: messages, controller: controller, lease: lease)
        return Exchange.OpenStream(name: name, opening: opening, outgoing: outgoing)
    }

    /// Opens a stream that no client sees, for messages between processes, and deletes it after `body`.
    nonisolated func withPrivateStream<Value: Sendable>(
        _ id: String,
        session: String,
        principal: String?,
        logger: Logger,
        _ body: (MessageStream) async -> Value
    ) async throws(SessionManagerError) -> Value {
        let messages = MessageStream()
        let (_, lease) = try await open(
            id,
            controller: messages.controller,
            options: StreamOptions(sessionID: session, principal: principal),
            logger: logger
        )
        let value = await body(messages)
        // In a task of its own: nobody has to wait for it, and the caller's task may be cancelled.
        Task {
            await lease.release()
            try? await streams.delete(id)
        }
        return value
    }

    private func release(_ id: String, holder: UInt64, logger: Logger) async {
        await enter(id)
        defer { leave(id) }
        guard holders[id] == holder else { return }
        holders.removeValue(forKey: id)
        do throws(SessionManagerError) {
            try await streams.detach(id)
        } catch {
            logger.warning("A stream was not detached", metadata: ["tmcp.error": "\(error)"])
        }
    }

    private func enter(_ id: String) async {
        guard busy[id] != nil else {
            busy[id] = []
            return
        }
        await withCheckedContinuation { busy[id]?.append($0) }
    }

    private func leave(_ id: String) {
        guard var waiting = busy[id], !waiting.isEmpty else {
            busy.removeValue(forKey: id)
            return
        }
        let next = waiting.removeFirst()
        busy[id] = waiting
        next.resume()
    }
}

/// A connection's hold on what it carries. It ends with ``release()``, or with the last reference: a response whose
/// connection broke before its body was written is dropped without a word.
final class StreamLease: Sendable {
    private let end: @Sendable () async -> Void

    /// - Parameter end: lets go; to do it twice must be the same as once.
    init(_ end: @escaping @Sendable () async -> Void) {
        self.end = end
    }

    deinit {
        Task { [end] in await end() }
    }

    /// Lets go, unless another connection has the stream by now. Releasing twice is the same as once.
    func release() async {
        await end()
    }
}
