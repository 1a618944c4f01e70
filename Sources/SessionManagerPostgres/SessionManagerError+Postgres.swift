import PostgresClient
import SessionManager

extension SessionManagerError {
    /// What an error of the connection, or of one of the extension's functions, means to a caller.
    init(_ error: PostgresError) {
        self.init(
            Self.code(error),
            error.message,
            sqlState: error.sqlState,
            detail: error.detail,
            hint: error.hint ?? Self.hint(error)
        )
    }

    /// What to do about it, where neither the server nor the connection says so.
    private static func hint(_ error: PostgresError) -> String? {
        switch (code(error), error.sqlState) {
        case (.outcomeUnknown, _):
            "It may have been done or not. Make the call again only if it does no harm to have it done twice."
        case (.timeout, "55P03"):
            "It was undone: somebody holds a lock for too long, an open transaction perhaps. pg_stat_activity and "
                + "pg_locks tell who; make the call again."
        case (.timeout, _):
            "It was undone. Make the call again; if that happens often, see what the server is busy with, or raise "
                + "statementTimeout."
        case (.invalidArgument, "22021"):
            "Leave NUL characters out; in JSON one is written as \\u0000."
        case (.invalidArgument, nil):
            "Leave NUL characters out; in JSON one is written as \\u0000. Send less in one call if it is too much."
        default: nil
        }
    }

    /// What a caller is told who comes too late.
    static var stopped: SessionManagerError {
        SessionManagerError(
            .notRunning,
            "the session manager has stopped",
            hint: "A session manager runs once; make another one. Services end in the opposite order of their list, so "
                + "put it before those that use it."
        )
    }

    /// The listening connection was made, and lost before it was of use.
    static var listenerLost: SessionManagerError {
        SessionManagerError(
            .unreachable,
            "the listening connection was lost at once",
            hint: "The server, or something between, ended it: the server's log says which. At a start, start again."
        )
    }

    /// What an error means to whoever starts a session manager, with what to do about it.
    init(connecting error: PostgresError) {
        self.init(error)
        switch error.sqlState?.prefix(2) {
        case _ where code == .cancelled: break
        case "28":
            code = .configuration
            hint = hint ?? "Check the user and the password, and what pg_hba.conf allows them."
        case "3D":
            code = .configuration
            hint = hint ?? "Create the database, or name another one in the connection string."
        case nil:
            hint = hint ?? "Check the host and the port in the connection string, and whether the server runs."
        case "53":
            hint = hint ?? "The server has no connection or memory left: see max_connections, and who is connected."
        default:
            hint = hint ?? "The server answered, and refused: its message and its log say why."
        }
    }

    /// The same for an error of either kind, where one statement can throw both.
    init(any error: any Error) {
        switch error {
        case let error as SessionManagerError: self = error
        case let error as PostgresError: self.init(error)
        default: self.init(.database, "an unexpected error: \(type(of: error))")
        }
    }

    private static func code(_ error: PostgresError) -> Code {
        if let sqlState = error.sqlState, let code = codes[sqlState] { return code }
        switch error.code {
        case .invalidConfiguration: return .configuration
        case .connectFailed, .connectTimeout, .notExecuted, .closed, .connectionLost: return .unreachable
        case .outcomeUnknown: return .outcomeUnknown
        case .cancelled: return .cancelled
        case .invalidParameter: return .invalidArgument
        case .server, .unexpectedResult, .systemResources: return .database
        }
    }

    private static let codes: [String: Code] = [
        "TM001": .invalidArgument,
        "TM002": .storeNotFound,
        "TM003": .streamHeld,
        "TM004": .messageTooLarge,
        "TM005": .sessionLimitReached,
        "TM006": .principalSessionLimitReached,
        "TM007": .sessionNotFound,
        "TM008": .sessionExists,
        "TM009": .nodeFenced,
        "TM010": .purged,
        // A NUL character in a text, which no text of PostgreSQL can hold.
        "22021": .invalidArgument,
        // statement_timeout and lock_timeout.
        "57014": .timeout,
        "55P03": .timeout,
    ]

    /// Whether the same call may succeed later, if it does no harm to make it twice.
    var isTransient: Bool {
        switch code {
        case .unreachable, .outcomeUnknown, .timeout: true
        default: false
        }
    }

    /// Whether the call waited for a lock for too long, and was undone.
    var isOfLock: Bool { sqlState == "55P03" }

    /// Whether the server refused the call for what was in it and undid it, so that the calls it was batched with may do
    /// better alone. An answer that was not understood is none: it came after the commit, and nothing may be done twice.
    var isRefusal: Bool {
        switch code {
        case .database: sqlState != nil
        case .unreachable, .outcomeUnknown, .cancelled, .notRunning, .nodeFenced, .timeout: false
        default: true
        }
    }
}
