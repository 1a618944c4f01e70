/// Keeps what is known of a session, for every process that serves it.
///
/// Every method takes the authenticated `principal` of the caller: a session that is bound to another principal is
/// exactly as if it did not exist. Pass `nil` where the application has no users.
///
/// Each method names the errors that are its own. A manager that keeps its sessions elsewhere adds what can go wrong on
/// the way there: see its own documentation.
public protocol InfoSessionManager: Sendable {
    /// Records a new session with everything that `initialize` brings, in one call.
    ///
    /// - Throws: ``SessionManagerError`` with code ``SessionManagerError/Code/sessionExists`` when a session
    ///   has that id, ``SessionManagerError/Code/sessionLimitReached`` or
    ///   ``SessionManagerError/Code/principalSessionLimitReached`` when there are as many as there may be, and
    ///   ``SessionManagerError/Code/invalidArgument`` for an id that cannot be one.
    func start(_ id: String, metadata: SessionMetadata, principal: String?) async throws(SessionManagerError)

    /// Everything known of a session, in one call; `nil` for a session that does not exist. Counts as activity.
    ///
    /// - Throws: ``SessionManagerError``, nothing of its own: for a session that does not exist this is `nil`.
    func metadata(_ id: String, principal: String?) async throws(SessionManagerError) -> SessionMetadata?

    /// The `clientInfo` of the session's `initialize`, with every member that the client sent; `nil` if never set.
    ///
    /// - Throws: ``SessionManagerError``, nothing of its own: for a session that does not exist this is `nil`.
    func getClientInfo(_ id: String, principal: String?) async throws(SessionManagerError) -> JSONValue?

    /// Records the `clientInfo` of the session's `initialize`; the session is created if it does not exist.
    ///
    /// - Throws: ``SessionManagerError`` with code ``SessionManagerError/Code/sessionNotFound`` when the session
    ///   belongs to another principal, ``SessionManagerError/Code/sessionLimitReached`` or
    ///   ``SessionManagerError/Code/principalSessionLimitReached`` when it would be one too many, and
    ///   ``SessionManagerError/Code/invalidArgument`` for an id that cannot be one.
    func setClientInfo(_ id: String, _ clientInfo: JSONValue, principal: String?) async throws(SessionManagerError)

    /// The `capabilities` of the session's `initialize`, with every member that the client sent; `nil` if never set.
    ///
    /// - Throws: ``SessionManagerError``, nothing of its own: for a session that does not exist this is `nil`.
    func getClientCapabilities(_ id: String, principal: String?) async throws(SessionManagerError) -> JSONValue?

    /// Records the `capabilities` of the session's `initialize`; the session is created if it does not exist.
    ///
    /// - Throws: ``SessionManagerError`` with code ``SessionManagerError/Code/sessionNotFound`` when the session
    ///   belongs to another principal, ``SessionManagerError/Code/sessionLimitReached`` or
    ///   ``SessionManagerError/Code/principalSessionLimitReached`` when it would be one too many, and
    ///   ``SessionManagerError/Code/invalidArgument`` for an id that cannot be one.
    func setClientCapabilities(
        _ id: String,
        _ clientCapabilities: JSONValue,
        principal: String?
    ) async throws(SessionManagerError)

    /// The least severe level that the session wants to hear of; `nil` if it never said, and then it hears everything.
    ///
    /// - Throws: ``SessionManagerError``, nothing of its own: for a session that does not exist this is `nil`.
    func getLogLevel(_ id: String, principal: String?) async throws(SessionManagerError) -> LogLevel?

    /// Records the level of `logging/setLevel`; the session is created if it does not exist.
    ///
    /// - Throws: ``SessionManagerError`` with code ``SessionManagerError/Code/sessionNotFound`` when the session
    ///   belongs to another principal, ``SessionManagerError/Code/sessionLimitReached`` or
    ///   ``SessionManagerError/Code/principalSessionLimitReached`` when it would be one too many, and
    ///   ``SessionManagerError/Code/invalidArgument`` for an id that cannot be one.
    func setLogLevel(_ id: String, _ level: LogLevel, principal: String?) async throws(SessionManagerError)

    /// Subscribes the session to the resource `uri`. Subscribing twice is the same as once.
    ///
    /// - Throws: ``SessionManagerError`` with code ``SessionManagerError/Code/sessionNotFound`` when the session
    ///   belongs to another principal, ``SessionManagerError/Code/sessionLimitReached`` or
    ///   ``SessionManagerError/Code/principalSessionLimitReached`` when it would be one too many, and
    ///   ``SessionManagerError/Code/invalidArgument`` for an id or a uri that cannot be one.
    func addSubscription(_ id: String, uri: String, principal: String?) async throws(SessionManagerError)

    /// Ends the session's subscription to the resource `uri`, if there is one.
    ///
    /// - Throws: ``SessionManagerError``, nothing of its own: a subscription that there is not is no error.
    func removeSubscription(_ id: String, uri: String, principal: String?) async throws(SessionManagerError)

    /// The ids of the sessions that are subscribed to the resource `uri`, in no particular order.
    ///
    /// - Throws: ``SessionManagerError``, nothing of its own.
    func getSubscriptions(_ uri: String) async throws(SessionManagerError) -> [String]

    /// Ends the session: its metadata, its subscriptions and its streams, wherever they are held.
    ///
    /// - Returns: whether there was such a session.
    /// - Throws: ``SessionManagerError``, nothing of its own.
    @discardableResult
    func delete(_ id: String, principal: String?) async throws(SessionManagerError) -> Bool
}
