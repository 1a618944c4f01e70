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
            hint: error.hint
        )
    }

    /// What an error means to whoever starts a session manager, with what to do about it.
    init(connecting error: PostgresError) {
        self.init(error)
        switch error.sqlState?.prefix(2) {
        case "28":
            code = .configuration
            hint = hint ?? "Check the user and the password, and what pg_hba.conf allows them."
        case "3D":
            code = .configuration
            hint = hint ?? "Create the database, or name another one in the connection string."
        default:
            hint = hint ?? "Check the host and the port in the connection string, and whether the server runs."
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

    /// Whether the server refused the call for what was in it, so that the calls it was batched with may do better
    /// alone.
    var isRefusal: Bool {
        switch code {
        case .unreachable, .outcomeUnknown, .cancelled, .notRunning, .nodeFenced, .timeout: false
        default: true
        }
    }
}
