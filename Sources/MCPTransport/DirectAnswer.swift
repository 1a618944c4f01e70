import SessionManager

/// The answer to a POST of a revision without sessions: plain JSON, unless a message comes before it or it takes long,
/// which makes it a stream.
///
/// Nothing of it is logged, since these revisions resume no stream: a client whose connection breaks has cancelled its
/// request. So a request that takes long becomes a stream, whose connection can be watched.
actor DirectAnswer: AnswerStream {
    enum Outcome: Sendable {
        /// The answer came first.
        case answered(Result<JSONValue, MCPError>)
        /// The answer comes on the stream.
        case streaming
    }

    private let requestID: RequestID
    private let stream: any StreamController
    private var first = FirstOutcome<Outcome>()
    private var isFinished = false

    /// - Parameter stream: takes the messages, if there is more than the answer.
    init(to requestID: RequestID, stream: any StreamController) {
        self.requestID = requestID
        self.stream = stream
    }

    /// Waits for whatever comes first.
    func firstOutcome() async -> Outcome {
        await withCheckedContinuation { first.tell($0) }
    }

    /// Sends a message ahead of the answer.
    func send(_ data: String) async throws(SessionManagerError) {
        guard !isFinished else { throw SessionManagerError(.notRunning, "the request was answered already") }
        becomeStream()
        guard !enqueue(data) else { return }
        stream.close(.tooSlow)
        throw SessionManagerError(.cancelled, "the client has gone, or reads too slowly")
    }

    /// Has the answer come on a stream.
    func becomeStream() {
        first.settle(.streaming)
    }

    /// Gives the answer. Nothing is sent afterwards.
    ///
    /// - Parameter patience: how long the client may take to read what waits before it.
    func finish(_ result: Result<JSONValue, MCPError>, within patience: Duration) async {
        isFinished = true
        first.settle(.answered(result))
        guard case .streaming = first.outcome else { return }
        // An answer of any size fits when nothing waits before it.
        await withTaskGroup(of: Void.self) { group in
            group.addTask { [stream] in await stream.waitUntilDrained() }
            group.addTask { try? await Task.sleep(for: patience) }
            await group.next()
            group.cancelAll()
        }
        stream.close(enqueue(MCPText.answer(result, id: requestID)) ? .ended : .tooSlow)
    }

    private func enqueue(_ data: String) -> Bool {
        stream.enqueue(StreamMessage(eventID: EventID(rawValue: 0), data: data))
    }
}
