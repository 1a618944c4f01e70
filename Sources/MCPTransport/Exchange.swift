import Logging
import SessionManager

/// The answer to one POST: plain JSON, unless a message comes before it, which makes it a stream.
///
/// The stream is opened at the session manager first, and everything on it goes through the log, so that a client
/// whose connection breaks finds it again on any process. Without a message in between the log is not touched.
actor Exchange: AnswerStream {
    enum Outcome: Sendable {
        /// The answer came first.
        case answered(String)
        /// A message came first: the stream is open.
        case streaming(OpenStream)
    }

    /// A stream of a session that this process holds.
    struct OpenStream: Sendable {
        var name: StreamName
        var opening: StreamOpening
        var outgoing: OutgoingStream
    }

    private enum State {
        case quiet
        case opening(Task<Result<OpenStream, SessionManagerError>, Never>)
        case streaming
        case finished
    }

    private let name: StreamName
    private let options: StreamOptions
    private let sessionID: String
    private let streams: any StreamSessionManager
    private let held: HeldStreams
    private let bufferBytes: Int
    private let logger: Logger
    private var state = State.quiet
    private var first = FirstOutcome<Outcome>()

    init(
        sessionID: String,
        principal: String?,
        streams: any StreamSessionManager,
        held: HeldStreams,
        bufferBytes: Int,
        logger: Logger
    ) {
        name = .newPost()
        options = StreamOptions(sessionID: sessionID, principal: principal)
        self.sessionID = sessionID
        self.streams = streams
        self.held = held
        self.bufferBytes = bufferBytes
        self.logger = logger
    }

    /// Waits for whatever comes first.
    func firstOutcome() async -> Outcome {
        await withCheckedContinuation { first.tell($0) }
    }

    /// Sends a message ahead of the answer.
    func send(_ data: String) async throws(SessionManagerError) {
        try await open()
        try await append(data)
    }

    /// Gives the answer. Nothing is sent afterwards.
    func finish(_ answer: String, orElse replacement: String) async {
        if case .opening(let task) = state { _ = await task.value }
        guard case .streaming = state else {
            state = .finished
            return first.settle(.answered(answer))
        }
        state = .finished
        do throws(SessionManagerError) {
            try await append(answer)
        } catch {
            logger.error("An answer could not be sent on its stream", metadata: ["tmcp.error": "\(error)"])
            await sendReplacement(replacement)
        }
    }

    /// The answer was too large for the log, or the log is out of reach: the client should not wait for it for ever.
    private func sendReplacement(_ replacement: String) async {
        do throws(SessionManagerError) {
            try await append(replacement)
        } catch {
            if case .streaming(let stream) = first.outcome { stream.outgoing.controller.close(.ended) }
        }
    }

    private func append(_ data: String) async throws(SessionManagerError) {
        let receipts = try await streams.send([name.streamID(session: sessionID)], data: data)
        guard receipts.contains(.unknownSession) else { return }
        throw SessionManagerError(.sessionNotFound, "the session of the request has ended")
    }

    private func open() async throws(SessionManagerError) {
        let task: Task<Result<OpenStream, SessionManagerError>, Never>
        switch state {
        case .streaming: return
        case .finished: throw SessionManagerError(.notRunning, "the request was answered already")
        case .opening(let current): task = current
        case .quiet:
            task = Task { await self.openStream() }
            state = .opening(task)
        }
        let result = await task.value
        if case .opening = state {
            switch result {
            case .success(let stream):
                state = .streaming
                first.settle(.streaming(stream))
            case .failure:
                // The next message may find the session manager in a better state.
                state = .quiet
            }
        }
        if case .failure(let error) = result { throw error }
    }

    private func openStream() async -> Result<OpenStream, SessionManagerError> {
        do throws(SessionManagerError) {
            return .success(
                try await held.openStream(
                    name,
                    of: sessionID,
                    bufferBytes: bufferBytes,
                    options: options,
                    logger: logger
                )
            )
        } catch {
            return .failure(error)
        }
    }
}
