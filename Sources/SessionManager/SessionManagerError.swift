/// What went wrong in a session manager, and what to do about it.
public struct SessionManagerError: Error, Sendable, Hashable {
    /// The kinds of failure that a caller can act on.
    public enum Code: String, Sendable, Hashable, CaseIterable {
        /// An id, uri or other argument cannot be what it should be. SQLSTATE `TM001`.
        case invalidArgument
        /// No such store, or the role was not granted it. SQLSTATE `TM002`.
        case storeNotFound
        /// Another live process holds the stream. SQLSTATE `TM003`.
        case streamHeld
        /// The message is over the store's size limit. SQLSTATE `TM004`.
        case messageTooLarge
        /// The store has as many sessions as it may. SQLSTATE `TM005`.
        case sessionLimitReached
        /// The principal has as many sessions as one may. SQLSTATE `TM006`.
        case principalSessionLimitReached
        /// No such session, or it belongs to another principal. SQLSTATE `TM007`.
        case sessionNotFound
        /// A session with that id exists. SQLSTATE `TM008`.
        case sessionExists
        /// This process was silent for longer than the freshness window and no longer owns its streams. SQLSTATE `TM009`.
        case nodeFenced
        /// The log no longer reaches back to the event that was asked for. SQLSTATE `TM010`.
        case purged
        /// The extension is missing, or has a version that this client does not know.
        case notInstalled
        /// The connection string, or another option, is wrong.
        case configuration
        /// The LISTEN connection goes through a pooler that swallows notifications.
        case listenerPooled
        /// The database cannot be reached; nothing was done.
        case unreachable
        /// The connection broke while the call was under way: it may have been done or not.
        case outcomeUnknown
        /// The manager is not running yet, or no more.
        case notRunning
        /// The caller's task was cancelled; the call may have been done or not.
        case cancelled
        /// The call took longer than the statement timeout, or waited too long for a lock, and was undone.
        case timeout
        /// Anything else that PostgreSQL refused; see ``SessionManagerError/sqlState``.
        case database
    }

    /// The kind of failure.
    public var code: Code
    /// What went wrong, in a sentence. May hold ids and uris from clients.
    public var message: String
    /// The five characters that PostgreSQL gave, if the failure came from there.
    public var sqlState: String?
    /// More about what went wrong. May hold ids and uris from clients.
    public var detail: String?
    /// What to do about it.
    public var hint: String?

    /// An error of the given kind.
    public init(_ code: Code, _ message: String, sqlState: String? = nil, detail: String? = nil, hint: String? = nil) {
        self.code = code
        self.message = message
        self.sqlState = sqlState
        self.detail = detail
        self.hint = hint
    }
}

extension SessionManagerError: CustomStringConvertible, CustomDebugStringConvertible {
    /// The code and the SQLSTATE only: safe for a log, since nothing in it came from a client.
    public var description: String {
        let state = sqlState.map { ", SQLSTATE \($0)" } ?? ""
        return "SessionManagerError(\(code.rawValue)\(state))"
    }

    /// Everything, for a developer's eyes.
    public var debugDescription: String {
        [description + ": " + message, detail, hint.map { "Hint: " + $0 }].compactMap { $0 }.joined(separator: " ")
    }
}
