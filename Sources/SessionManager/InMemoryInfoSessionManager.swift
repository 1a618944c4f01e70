/// What is known of the sessions of this process alone: for an application that runs in one process, and for tests.
public struct InMemoryInfoSessionManager: InfoSessionManager {
    private let store: InMemorySessionStore

    /// A manager of the sessions of `store`.
    ///
    /// - Parameter store: shared with an ``InMemoryStreamSessionManager``, so that ending a session ends its streams.
    public init(store: InMemorySessionStore = InMemorySessionStore()) {
        self.store = store
    }

    /// Records a new session with everything that `initialize` brings.
    ///
    /// - Throws: `.sessionExists` when a session has that id, `.sessionLimitReached` or `.principalSessionLimitReached`
    ///   when there are as many as there may be, and `.invalidArgument` for an id that cannot be one.
    public func start(_ id: String, metadata: SessionMetadata, principal: String?) async throws(SessionManagerError) {
        try await store.start(id, metadata: metadata, principal: principal)
    }

    /// Everything known of a session; `nil` for a session that does not exist. Counts as activity.
    ///
    /// - Throws: nothing.
    public func metadata(_ id: String, principal: String?) async throws(SessionManagerError) -> SessionMetadata? {
        await store.metadata(id, principal: principal)
    }

    /// The `clientInfo` of the session's `initialize`; `nil` if never set.
    ///
    /// - Throws: nothing.
    public func getClientInfo(_ id: String, principal: String?) async throws(SessionManagerError) -> JSONValue? {
        await store.metadata(id, principal: principal)?.clientInfo
    }

    /// Records the `clientInfo` of the session's `initialize`.
    ///
    /// - Throws: `.sessionNotFound` when the session belongs to another principal, `.sessionLimitReached` or
    ///   `.principalSessionLimitReached` when it would be one too many, and `.invalidArgument` for an id that cannot be
    ///   one.
    public func setClientInfo(
        _ id: String,
        _ clientInfo: JSONValue,
        principal: String?
    ) async throws(SessionManagerError) {
        try await store.update(id, principal: principal) { $0.clientInfo = clientInfo }
    }

    /// The `capabilities` of the session's `initialize`; `nil` if never set.
    ///
    /// - Throws: nothing.
    public func getClientCapabilities(
        _ id: String,
        principal: String?
    ) async throws(SessionManagerError) -> JSONValue? {
        await store.metadata(id, principal: principal)?.clientCapabilities
    }

    /// Records the `capabilities` of the session's `initialize`.
    ///
    /// - Throws: `.sessionNotFound` when the session belongs to another principal, `.sessionLimitReached` or
    ///   `.principalSessionLimitReached` when it would be one too many, and `.invalidArgument` for an id that cannot be
    ///   one.
    public func setClientCapabilities(
        _ id: String,
        _ clientCapabilities: JSONValue,
        principal: String?
    ) async throws(SessionManagerError) {
        try await store.update(id, principal: principal) { $0.clientCapabilities = clientCapabilities }
    }

    /// The least severe level that the session wants to hear of; `nil` if it never said.
    ///
    /// - Throws: nothing.
    public func getLogLevel(_ id: String, principal: String?) async throws(SessionManagerError) -> LogLevel? {
        await store.metadata(id, principal: principal)?.logLevel
    }

    /// Records the level of `logging/setLevel`.
    ///
    /// - Throws: `.sessionNotFound` when the session belongs to another principal, `.sessionLimitReached` or
    ///   `.principalSessionLimitReached` when it would be one too many, and `.invalidArgument` for an id that cannot be
    ///   one.
    public func setLogLevel(_ id: String, _ level: LogLevel, principal: String?) async throws(SessionManagerError) {
        try await store.update(id, principal: principal) { $0.logLevel = level }
    }

    /// Subscribes the session to the resource `uri`.
    ///
    /// - Throws: `.sessionNotFound` when the session belongs to another principal, `.sessionLimitReached` or
    ///   `.principalSessionLimitReached` when it would be one too many, and `.invalidArgument` for an id or a uri that
    ///   cannot be one.
    public func addSubscription(_ id: String, uri: String, principal: String?) async throws(SessionManagerError) {
        try await store.addSubscription(id, uri: uri, principal: principal)
    }

    /// Ends the session's subscription to the resource `uri`, if there is one.
    ///
    /// - Throws: nothing.
    public func removeSubscription(_ id: String, uri: String, principal: String?) async throws(SessionManagerError) {
        await store.removeSubscription(id, uri: uri, principal: principal)
    }

    /// The ids of the sessions that are subscribed to the resource `uri`.
    ///
    /// - Throws: nothing.
    public func getSubscriptions(_ uri: String) async throws(SessionManagerError) -> [String] {
        await store.subscribers(uri)
    }

    /// Ends the session, its subscriptions and its streams, and returns whether there was one.
    ///
    /// - Throws: nothing.
    @discardableResult
    public func delete(_ id: String, principal: String?) async throws(SessionManagerError) -> Bool {
        await store.deleteSession(id, principal: principal)
    }
}
