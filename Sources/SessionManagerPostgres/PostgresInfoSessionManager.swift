import Foundation
public import Logging
import PostgresClient
public import ServiceLifecycle
public import SessionManager

/// Keeps what is known of sessions in PostgreSQL, for every process that serves them.
///
/// Share the connections of a ``PostgresStreamSessionManager`` of the same database with
/// ``init(sharing:)``, or give it a database of its own. Every method is one call of a function of the extension
/// `tmcp_session_manager`. Setting anything and ``metadata(_:principal:)`` count as activity of the session.
///
/// ## What every call can throw
/// `SessionManagerError`, besides what each method names, with code
/// - `.notRunning` when ``run()`` was not called within the connect timeout, or has ended: nothing was done;
/// - `.unreachable` when there was no connection within the connect timeout: nothing was done;
/// - `.outcomeUnknown` when the connection was lost before the answer came: it may have been done;
/// - `.timeout` after the statement timeout, or 2 s of waiting for a lock: it was undone;
/// - `.cancelled` when the calling task is: it may have been done;
/// - `.storeNotFound` when the store was dropped or is no longer granted, and `.invalidArgument` for an argument that holds
///   a NUL character, which no text of PostgreSQL can;
/// - `.database` for whatever else PostgreSQL refuses: `sqlState` says what.
public struct PostgresInfoSessionManager: InfoSessionManager, Service {
    private let client: SessionClient
    private let isShared: Bool

    /// A manager with a connection of its own, which does nothing yet.
    public init(
        configuration: PostgresSessionConfiguration,
        logger: Logger = Logger(label: "tmcp.session-manager")
    ) {
        client = SessionClient(configuration: configuration, holdsStreams: false, logger: logger)
        isShared = false
    }

    /// A manager on the connections of `streams`, which has to run; this one need not.
    public init(sharing streams: PostgresStreamSessionManager) {
        client = streams.client
        isShared = true
    }

    /// Connects, installs or checks what the database needs, and serves until the task is cancelled or the service
    /// group shuts down. With shared connections it only waits for that.
    ///
    /// - Throws: as ``PostgresStreamSessionManager/run()``.
    public func run() async throws {
        if isShared {
            try? await gracefulShutdown()
        } else {
            try await client.run()
        }
    }

    /// Returns when the manager can be used.
    ///
    /// - Throws: what ``run()`` throws, or `.notRunning` when it has stopped or the task is cancelled.
    public func waitUntilReady() async throws(SessionManagerError) {
        try await client.lifecycle.waitUntilReady()
    }

    /// Records a new session. SQL: `tmcp.start_session`.
    ///
    /// - Throws: `.sessionExists` when a session has that id, `.sessionLimitReached` or `.principalSessionLimitReached`
    ///   when there are as many as there may be, `.invalidArgument` for an argument that cannot be one, and what every
    ///   call can throw.
    public func start(
        _ id: String,
        metadata: SessionMetadata,
        principal: String?
    ) async throws(SessionManagerError) {
        try await client.functions.call(
            "tmcp.start_session",
            [
                .text(id), .inferred(metadata.clientInfo?.text), .inferred(metadata.clientCapabilities?.text),
                .text(principal), .inferred(metadata.logLevel?.rawValue), .text(metadata.protocolVersion),
            ]
        )
    }

    /// Everything known of a session. SQL: `tmcp.get_session`.
    ///
    /// - Throws: `.database` when what is kept is JSON that cannot be read here, and what every call can throw.
    public func metadata(_ id: String, principal: String?) async throws(SessionManagerError) -> SessionMetadata? {
        let found = try await client.functions.rows(
            "client_info::text, client_capabilities::text, log_level::text, protocol_version",
            from: "tmcp.get_session",
            [.text(id), .text(principal)]
        ) { (row) throws(PostgresError) in
            (
                clientInfo: try row.value(0, as: String?.self),
                clientCapabilities: try row.value(1, as: String?.self),
                logLevel: try row.value(2, as: String?.self),
                protocolVersion: try row.value(3, as: String?.self)
            )
        }
        guard let session = found.first else { return nil }
        return SessionMetadata(
            clientInfo: try Self.json(session.clientInfo),
            clientCapabilities: try Self.json(session.clientCapabilities),
            logLevel: session.logLevel.flatMap(LogLevel.init(rawValue:)),
            protocolVersion: session.protocolVersion
        )
    }

    /// The `clientInfo` of a session. SQL: `tmcp.get_client_info`.
    ///
    /// - Throws: `.database` when what is kept is JSON that cannot be read here, and what every call can throw.
    public func getClientInfo(_ id: String, principal: String?) async throws(SessionManagerError) -> JSONValue? {
        try Self.json(try await text("tmcp.get_client_info", id, principal))
    }

    /// Records the `clientInfo` of a session. SQL: `tmcp.set_client_info`.
    ///
    /// - Throws: `.sessionNotFound` when the session belongs to another principal, `.sessionLimitReached` or
    ///   `.principalSessionLimitReached` when it would be one too many, `.invalidArgument` for an id that cannot be
    ///   one, and what every call can throw.
    public func setClientInfo(
        _ id: String,
        _ clientInfo: JSONValue,
        principal: String?
    ) async throws(SessionManagerError) {
        try await client.functions.call(
            "tmcp.set_client_info",
            [.text(id), .inferred(clientInfo.text), .text(principal)]
        )
    }

    /// The `capabilities` of a session's client. SQL: `tmcp.get_client_capabilities`.
    ///
    /// - Throws: `.database` when what is kept is JSON that cannot be read here, and what every call can throw.
    public func getClientCapabilities(
        _ id: String,
        principal: String?
    ) async throws(SessionManagerError) -> JSONValue? {
        try Self.json(try await text("tmcp.get_client_capabilities", id, principal))
    }

    /// Records the `capabilities` of a session's client. SQL: `tmcp.set_client_capabilities`.
    ///
    /// - Throws: `.sessionNotFound` when the session belongs to another principal, `.sessionLimitReached` or
    ///   `.principalSessionLimitReached` when it would be one too many, `.invalidArgument` for an id that cannot be
    ///   one, and what every call can throw.
    public func setClientCapabilities(
        _ id: String,
        _ clientCapabilities: JSONValue,
        principal: String?
    ) async throws(SessionManagerError) {
        try await client.functions.call(
            "tmcp.set_client_capabilities",
            [.text(id), .inferred(clientCapabilities.text), .text(principal)]
        )
    }

    /// The log level of a session. SQL: `tmcp.get_log_level`.
    ///
    /// - Throws: what every call can throw.
    public func getLogLevel(_ id: String, principal: String?) async throws(SessionManagerError) -> LogLevel? {
        try await text("tmcp.get_log_level", id, principal).flatMap(LogLevel.init(rawValue:))
    }

    /// Records the log level of a session. SQL: `tmcp.set_log_level`.
    ///
    /// - Throws: `.sessionNotFound` when the session belongs to another principal, `.sessionLimitReached` or
    ///   `.principalSessionLimitReached` when it would be one too many, `.invalidArgument` for an id that cannot be
    ///   one, and what every call can throw.
    public func setLogLevel(_ id: String, _ level: LogLevel, principal: String?) async throws(SessionManagerError) {
        try await client.functions.call("tmcp.set_log_level", [.text(id), .inferred(level.rawValue), .text(principal)])
    }

    /// Subscribes a session to a resource. SQL: `tmcp.add_subscription`.
    ///
    /// - Throws: `.sessionNotFound` when the session belongs to another principal, `.sessionLimitReached` or
    ///   `.principalSessionLimitReached` when it would be one too many, `.invalidArgument` for an id or a uri that
    ///   cannot be one, and what every call can throw.
    public func addSubscription(_ id: String, uri: String, principal: String?) async throws(SessionManagerError) {
        try await client.functions.call("tmcp.add_subscription", [.text(id), .text(uri), .text(principal)])
    }

    /// Ends a subscription. SQL: `tmcp.remove_subscription`.
    ///
    /// - Throws: what every call can throw.
    public func removeSubscription(_ id: String, uri: String, principal: String?) async throws(SessionManagerError) {
        try await client.functions.call("tmcp.remove_subscription", [.text(id), .text(uri), .text(principal)])
    }

    /// Who is subscribed to a resource. SQL: `tmcp.get_subscriptions`.
    ///
    /// - Throws: what every call can throw.
    public func getSubscriptions(_ uri: String) async throws(SessionManagerError) -> [String] {
        try await client.functions.rows("*", from: "tmcp.get_subscriptions", [.text(uri)]) {
            (row) throws(PostgresError) in try row.value(0)
        }
    }

    /// Ends a session with its streams. SQL: `tmcp.end_session`.
    ///
    /// - Throws: what every call can throw.
    @discardableResult
    public func delete(_ id: String, principal: String?) async throws(SessionManagerError) -> Bool {
        try await client.functions.value("tmcp.end_session", [.text(id), .text(principal)])
    }

    private func text(
        _ function: StaticString,
        _ id: String,
        _ principal: String?
    ) async throws(SessionManagerError) -> String? {
        try await client.functions.value(function, [.text(id), .text(principal)], cast: "::text")
    }

    private static func json(_ text: String?) throws(SessionManagerError) -> JSONValue? {
        guard let text else { return nil }
        do {
            return try JSONValue(parsing: Data(text.utf8))
        } catch {
            throw SessionManagerError(
                .database,
                "what is kept for the session is JSON that cannot be read here",
                hint: "It was set by other means than this library; set it again."
            )
        }
    }
}
