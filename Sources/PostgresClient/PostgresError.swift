/// What went wrong in a connection to PostgreSQL or in a call on it.
package struct PostgresError: Error, Sendable, Hashable {
    /// The kinds of failure that a caller can act on.
    package enum Code: String, Sendable, Hashable, CaseIterable {
        /// The connection string or an option of the connection is wrong. Trying again does not help.
        case invalidConfiguration
        /// No connection was made: no server there, or it refused. ``PostgresError/sqlState`` says why if a server
        /// answered.
        case connectFailed
        /// No connection was made within the connect timeout.
        case connectTimeout
        /// The call was not done, and will not be: the connection was closed or lost before the server began it.
        case notExecuted
        /// The connection was lost after the call was sent and before it was answered: it may have been done or not.
        case outcomeUnknown
        /// The server refused the call and undid it; see ``PostgresError/sqlState``.
        case server
        /// The caller's task was cancelled; the call may have been done or not.
        case cancelled
        /// A parameter or an SQL text that cannot be sent. Nothing was sent.
        case invalidParameter
        /// A result does not have the row, column or type that was asked for, or has NULL where a value was asked for.
        case unexpectedResult
        /// The connection was closed by its owner. The reason that the close handler gets, never that of a call.
        case closed
        /// The connection was lost. The reason that the close handler gets, never that of a call.
        case connectionLost
        /// The operating system has no descriptor, thread or memory left for this.
        case systemResources
    }

    /// The kind of failure.
    package var code: Code
    /// What went wrong, in a sentence. May hold data and names; never a password of ours.
    package var message: String
    /// The five characters that PostgreSQL gave, if the failure came from there.
    package var sqlState: String?
    /// More about what went wrong. May hold data.
    package var detail: String?
    /// What to do about it.
    package var hint: String?
    /// Where in the server's functions it went wrong. May hold data.
    package var context: String?
    /// Whether the server ended the session with this error.
    package var endsSession: Bool

    /// An error of the given kind.
    package init(
        _ code: Code,
        _ message: String,
        sqlState: String? = nil,
        detail: String? = nil,
        hint: String? = nil,
        context: String? = nil,
        endsSession: Bool = false
    ) {
        self.code = code
        self.message = message
        self.sqlState = sqlState
        self.detail = detail
        self.hint = hint
        self.context = context
        self.endsSession = endsSession
    }
}

extension PostgresError: CustomStringConvertible, CustomDebugStringConvertible {
    /// The code and the SQLSTATE only: safe for a log, since no data is in it.
    package var description: String {
        let state = sqlState.map { ", SQLSTATE \($0)" } ?? ""
        return "PostgresError(\(code.rawValue)\(state))"
    }

    /// Everything, for a developer's eyes.
    package var debugDescription: String {
        let parts = [
            description + ": " + message,
            detail.map { "Detail: " + $0 },
            hint.map { "Hint: " + $0 },
            context.map { "Context: " + $0 },
        ]
        return parts.compactMap { $0 }.joined(separator: " ")
    }
}
