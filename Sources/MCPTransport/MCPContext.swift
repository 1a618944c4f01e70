public import Logging
public import SessionManager

/// What a handler knows of the message it handles, and where it can send others.
public struct MCPContext: Sendable {
    /// The session; for `initialize`, the one that begins if it succeeds. A secret of the client's: do not log it.
    public let sessionID: String
    /// The authenticated user, and what else the application said of the caller.
    public let caller: MCPCaller
    /// The revision that was agreed on; for `initialize`, the one to agree on.
    public let protocolVersion: ProtocolVersion
    /// What `initialize` said of the session.
    public let session: SessionMetadata
    /// The id of the request; `nil` for a notification.
    public let requestID: RequestID?
    /// What the client wants its progress notifications to carry; `nil` when it wants none.
    public let progressToken: JSONValue?
    /// The logger of the HTTP request.
    public let logger: Logger

    let exchange: Exchange?
    let router: MessageRouter

    /// The authenticated user; `nil` where the application has none.
    public var principal: String? { caller.principal }

    /// What the application attached to the caller, if it is of the type `Custom`.
    public func custom<Custom>(_ type: Custom.Type = Custom.self) -> Custom? { caller.custom as? Custom }

    /// Sends a notification on the stream of the request that is being handled, ahead of the answer.
    ///
    /// The first one turns the answer into a stream, which is logged, and can be resumed on any process.
    /// While a notification is handled there is no such stream, and this is ``notifySession(_:)``.
    public func notify(_ notification: MCPNotification) async throws(SessionManagerError) {
        guard let exchange else { return try await notifySession(notification) }
        try await exchange.send(notification.text)
    }

    /// Tells the client how far its request is, if it wants to know.
    ///
    /// - Parameters:
    ///   - progress: grows with each call.
    ///   - total: what `progress` will be at the end, if that is known.
    ///   - message: what is being done, for people.
    public func reportProgress(
        _ progress: Double,
        total: Double? = nil,
        message: String? = nil
    ) async throws(SessionManagerError) {
        guard let progressToken else { return }
        var params: [String: JSONValue] = ["progressToken": progressToken, "progress": .number(progress)]
        params["total"] = total.map { .number($0) }
        params["message"] = message.map { .string($0) }
        try await notify(MCPNotification(method: "notifications/progress", params: params))
    }

    /// Sends a notification that has nothing to do with the request, on the session's standalone stream.
    public func notifySession(_ notification: MCPNotification) async throws(SessionManagerError) {
        try await router.streams.send([sessionID], data: notification.text)
    }

    /// Records that the session wants to hear of changes to the resource `uri`.
    public func subscribe(to uri: String) async throws(SessionManagerError) {
        try await router.info.addSubscription(sessionID, uri: uri, principal: principal)
    }

    /// Records that the session no longer wants to hear of changes to the resource `uri`.
    public func unsubscribe(from uri: String) async throws(SessionManagerError) {
        try await router.info.removeSubscription(sessionID, uri: uri, principal: principal)
    }

    /// Records the least severe level that the session wants to hear of.
    public func setLogLevel(_ level: LogLevel) async throws(SessionManagerError) {
        try await router.info.setLogLevel(sessionID, level, principal: principal)
    }

    /// Asks the client something, such as `sampling/createMessage`, `elicitation/create`, `roots/list` or `ping`, and
    /// waits for its answer, which may arrive through any process.
    ///
    /// Ask only for what the client's capabilities offer. The question goes out on the stream of the request that is
    /// being handled. If the task is cancelled, the client is told that nobody waits any more.
    ///
    /// - Parameter timeout: how long to wait. Default: 5 minutes; people may have to think.
    /// - Throws: ``MCPError`` is the client's own; ``ClientRequestError`` says why there is no answer;
    ///   `SessionManagerError` that the question could not be sent.
    public func request(
        _ method: String,
        params: [String: JSONValue] = [:],
        timeout: Duration = .seconds(300)
    ) async throws -> JSONValue {
        try await router.clientRequests.send(method, params: params, context: self, timeout: timeout) {
            [exchange, router, sessionID] data throws(SessionManagerError) in
            if let exchange {
                try await exchange.send(data)
            } else {
                try await router.streams.send([sessionID], data: data)
            }
        }
    }
}
