import SessionManager

/// Where the messages go that come before the answer to a request.
protocol AnswerStream: Sendable {
    /// Sends a message ahead of the answer.
    func send(_ data: String) async throws(SessionManagerError)
}
