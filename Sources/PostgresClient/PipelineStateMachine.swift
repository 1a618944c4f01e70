import DequeModule

/// The calls of a pipelined connection, from the moment that they are made to the server's last word on each.
///
/// Calls wait while the socket takes no more, are sent in order, and are answered in order: for each statement of a
/// call a result and an end, then a synchronization. A call has succeeded only when it is synchronized, since its
/// transaction is committed there. The machine does no input or output: it takes what happened, and says what to do.
struct PipelineStateMachine<CallID: Hashable, Request, Completion, Response> {
    /// Something that libpq read.
    enum Event {
        /// A statement succeeded.
        case response(Response)
        /// A statement, or the commit, failed.
        case failure(PostgresError)
        /// A statement was skipped because an earlier one of the call failed.
        case aborted
        /// A statement wants to transfer data, which a pipeline has no way out of.
        case copy
        /// The end of a statement's results (a NULL from `PQgetResult`).
        case endOfStatement
        /// The end of a call.
        case synchronized
    }

    /// What to do about it.
    enum Action {
        /// Read on.
        case proceed
        /// The call is over. `completion` is `nil` if its caller no longer waits.
        case complete(Completion?, PreparedStatements.Use, Result<Response, PostgresError>)
        /// The two sides disagree about where they are: give the connection up.
        case giveUp(PostgresError)
    }

    private struct WaitingCall {
        let id: CallID
        let request: Request
        let completion: Completion
    }

    private struct SentCall {
        let id: CallID
        let statement: PreparedStatements.Use
        /// How many statements precede the one whose response is the call's.
        var preliminaries: Int
        /// `nil` once the caller no longer waits.
        var completion: Completion?
        var response: Response?
        var failure: PostgresError?
        /// Whether the failure came after the statement had succeeded, which is to say at the commit.
        var failedAtCommit = false
    }

    private var waiting: Deque<WaitingCall> = []
    private var sent: Deque<SentCall> = []
    private var consecutiveEnds = 0

    /// Whether a call is sent before the one before it is answered.
    var isPipelining = true
    /// Whether the socket takes no more for the time being.
    var isOutputBlocked = false

    /// How many calls were sent and not answered.
    var sentCount: Int { sent.count }
    /// How many calls wait to be sent.
    var waitingCount: Int { waiting.count }

    /// A call was made.
    mutating func submit(_ id: CallID, _ request: Request, _ completion: Completion) {
        waiting.append(WaitingCall(id: id, request: request, completion: completion))
    }

    /// The request to send now, if there is one. It is to be followed by ``sent(_:preliminaries:)``.
    func nextRequest() -> Request? {
        guard !isOutputBlocked, isPipelining || sent.isEmpty else { return nil }
        return waiting.first?.request
    }

    /// The next request was handed to libpq: as far as is known, the server has it.
    mutating func sent(_ statement: PreparedStatements.Use, preliminaries: Int) {
        guard let call = waiting.popFirst() else { return }
        let entry = SentCall(
            id: call.id,
            statement: statement,
            preliminaries: preliminaries,
            completion: call.completion
        )
        sent.append(entry)
    }

    /// Something was read.
    mutating func received(_ event: Event) -> Action {
        guard !sent.isEmpty else { return giveUp("an answer without a call") }
        if case .endOfStatement = event {
            consecutiveEnds += 1
        } else {
            consecutiveEnds = 0
        }
        switch event {
        case .response(let response):
            if sent[0].preliminaries == 0, sent[0].response == nil { sent[0].response = response }
        case .failure(let failure):
            if sent[0].failure == nil {
                sent[0].failure = failure
                sent[0].failedAtCommit = sent[0].response != nil
            }
        case .aborted:
            guard sent[0].failure != nil else { return giveUp("an aborted call that nothing had failed in") }
        case .copy:
            return giveUp("COPY is not for pipelines")
        case .endOfStatement:
            guard consecutiveEnds < 3 else { return giveUp("statements without results") }
            sent[0].preliminaries = max(0, sent[0].preliminaries - 1)
        case .synchronized:
            guard let call = sent.popFirst() else { return .proceed }
            if let failure = call.failure { return .complete(call.completion, call.statement, .failure(failure)) }
            guard let response = call.response else { return giveUp("a call without a result", call) }
            return .complete(call.completion, call.statement, .success(response))
        }
        return .proceed
    }

    private mutating func giveUp(_ message: String, _ call: SentCall? = nil) -> Action {
        // Back in its place, to be told with the others.
        if let call { sent.prepend(call) }
        return .giveUp(PostgresError(.connectionLost, "the pipeline is broken: " + message))
    }

    /// A caller no longer waits. Returns whom to tell, unless the call is over. If it was not sent yet it never is.
    mutating func cancel(_ id: CallID) -> Completion? {
        if let index = sent.firstIndex(where: { $0.id == id }) {
            defer { sent[index].completion = nil }
            return sent[index].completion
        }
        guard let index = waiting.firstIndex(where: { $0.id == id }) else { return nil }
        return waiting.remove(at: index).completion
    }

    /// The connection is gone: who is to be told what.
    ///
    /// A server that ends a session says so in answer to the call that it had come to. That call was undone and those
    /// after it were not begun, so the outcome is known. A failure at the commit, or one that a pooler made up, leaves
    /// it open.
    ///
    /// - Parameter reason: why it is gone; its message becomes part of theirs.
    mutating func close(reason: PostgresError) -> [(Completion, PostgresError)] {
        var outcomes: [(Completion, PostgresError)] = []
        let unknown = PostgresError(
            .outcomeUnknown,
            "the connection was lost before the server answered: \(reason.message)",
            sqlState: reason.sqlState
        )
        let notExecuted = PostgresError(
            .notExecuted,
            "the connection was closed before the server began the call: \(reason.message)",
            sqlState: reason.sqlState
        )
        var outcome = unknown
        for (index, call) in sent.enumerated() {
            if index == 0, let failure = call.failure, !call.failedAtCommit {
                if !failure.endsSession {
                    // An ordinary error, of which only the synchronization is missing. What follows may have run.
                    if let completion = call.completion { outcomes.append((completion, failure)) }
                    continue
                }
                if failure.isOfServerItself {
                    if let completion = call.completion { outcomes.append((completion, failure)) }
                    outcome = notExecuted
                    continue
                }
            }
            if let completion = call.completion { outcomes.append((completion, outcome)) }
        }
        for call in waiting {
            outcomes.append((call.completion, notExecuted))
        }
        sent = []
        waiting = []
        return outcomes
    }
}

extension PostgresError {
    /// Whether it is the kind with which PostgreSQL, and no pooler before it, ends a session that it can still speak
    /// to: an administrator's command, a shutdown, or a timeout of the session's.
    fileprivate var isOfServerItself: Bool {
        guard let sqlState else { return false }
        return sqlState.hasPrefix("57P") || sqlState.hasPrefix("25P")
    }
}
