import HTTPTypes
public import Logging
public import SessionManager

/// What a handler knows of the message it handles, and where it can send others.
public struct MCPContext: Sendable {
    /// The session; for `initialize`, the one that begins if it succeeds; `nil` in revision 2026-07-28, which has none.
    /// A secret of the client's: do not log it.
    public let sessionID: String?
    /// The authenticated user, and what else the application said of the caller.
    public let caller: MCPCaller
    /// The revision that was agreed on; for `initialize`, the one to agree on.
    public let protocolVersion: ProtocolVersion
    /// What `initialize` said of the client, or in revision 2026-07-28 the request itself.
    public let session: SessionMetadata
    /// The id of the request; `nil` for a notification.
    public let requestID: RequestID?
    /// What the client wants its progress notifications to carry; `nil` when it wants none.
    public let progressToken: JSONValue?
    /// The logger of the HTTP request.
    public let logger: Logger

    let answer: (any AnswerStream)?
    /// The headers of a request of revision 2026-07-28.
    var headers = HTTPFields()
    /// What a request of revision 2026-07-28 asks its client.
    var rounds: InputRounds?
    let router: MessageRouter

    /// The authenticated user; `nil` where the application has none.
    public var principal: String? { caller.principal }

    /// What the application attached to the caller, if it is of the type `Custom`.
    public func custom<Custom>(_ type: Custom.Type = Custom.self) -> Custom? { caller.custom as? Custom }

    /// Sends a notification on the stream of the request that is being handled, ahead of the answer.
    ///
    /// The first one turns the answer into a stream, which is logged, and can be resumed on any process; in revision
    /// 2026-07-28 it is neither. There, `notifications/message` goes only to a client whose request asks for its level.
    /// While a notification is handled there is no such stream, and this is ``notifySession(_:)``.
    public func notify(_ notification: MCPNotification) async throws(SessionManagerError) {
        guard let answer else { return try await notifySession(notification) }
        guard protocolVersion.hasSessions || isWanted(notification) else { return }
        try await answer.send(notification.text)
    }

    private func isWanted(_ notification: MCPNotification) -> Bool {
        guard notification.method == "notifications/message" else { return true }
        guard let least = session.logLevel, let level = notification.params["level"]?.string else { return false }
        return LogLevel(rawValue: level).map { $0 >= least } ?? false
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

    /// Makes sure that the header `Mcp-Param-{name}` repeats an argument, for a tool whose input schema asks for that with
    /// `x-mcp-header`. In revisions before 2026-07-28 there are no such headers, and nothing is looked at.
    ///
    /// - Parameters:
    ///   - name: what `x-mcp-header` says: letters, digits and what else the name of a header may have.
    ///   - value: the argument: a string, a whole number or a boolean; `nil` or null when the call has none. Numbers are
    ///     compared as such: `42.0` in the header is 42.
    /// - Throws: ``MCPError``, to be passed on; ``MCPError/internalError`` for a name that no header can have.
    public func requireParameterHeader(_ name: String, matches value: JSONValue?) throws(MCPError) {
        guard !protocolVersion.hasSessions else { return }
        guard !name.isEmpty, let field = HTTPField.Name("Mcp-Param-\(name)") else {
            logger.critical("x-mcp-header has a value that can be in the name of no header")
            throw .internalError
        }
        try ModernRequest.checkParameter(field, is: value, in: headers)
    }

    /// Sends a notification that has nothing to do with the request, on the session's standalone stream.
    ///
    /// - Throws: `.sessionNotFound` in revision 2026-07-28, whose clients hear of nothing but changes
    ///   (`StreamSessionManager.listChanged(_:)` and `resourceUpdated(_:)`).
    public func notifySession(_ notification: MCPNotification) async throws(SessionManagerError) {
        try await router.streams.send([requireSession()], data: notification.text)
    }

    private func requireSession() throws(SessionManagerError) -> String {
        if let sessionID { return sessionID }
        throw SessionManagerError(
            .sessionNotFound,
            "the client speaks a revision without sessions",
            hint: "See whether there is a session: MCPContext.sessionID is nil where there is none."
        )
    }

    /// Records that the session wants to hear of changes to the resource `uri`.
    public func subscribe(to uri: String) async throws(SessionManagerError) {
        try await router.info.addSubscription(requireSession(), uri: uri, principal: principal)
    }

    /// Records that the session no longer wants to hear of changes to the resource `uri`.
    public func unsubscribe(from uri: String) async throws(SessionManagerError) {
        try await router.info.removeSubscription(requireSession(), uri: uri, principal: principal)
    }

    /// Records the least severe level that the session wants to hear of.
    public func setLogLevel(_ level: LogLevel) async throws(SessionManagerError) {
        try await router.info.setLogLevel(requireSession(), level, principal: principal)
    }

    /// Asks the client something, such as `sampling/createMessage`, `elicitation/create`, `roots/list` or `ping`, and
    /// waits for its answer, which may arrive through any process.
    ///
    /// Ask only for what the client's capabilities offer. The question goes out on the stream of the request that is
    /// being handled. If the task is cancelled, the client is told that nobody waits any more.
    ///
    /// In revision 2026-07-28 the server cannot ask while it answers. There this throws an error, which the handler has to
    /// let through, for the first question that is open; the client is told, and sends its request again with the answer.
    /// The handler then runs again, and comes here again for the answer: let it ask the same in the same order, and
    /// before it changes anything. Only `tools/call`, `prompts/get` and `resources/read` can ask, and what the client does
    /// not offer is ``MCPError/missingClientCapability(_:)``: `elicitation.url` for the mode `url`, `sampling.tools` for
    /// sampling with tools.
    ///
    /// - Parameter timeout: how long to wait. Default: 5 minutes; people may have to think.
    /// - Throws: ``MCPError`` is the client's own, or in revision 2026-07-28 says what the client does not offer, or that
    ///   what it sent back cannot be an answer (-32602); ``ClientRequestError`` says why there is no answer;
    ///   `SessionManagerError` that the question could not be sent.
    public func request(
        _ method: String,
        params: [String: JSONValue] = [:],
        timeout: Duration = .seconds(300)
    ) async throws -> JSONValue {
        if let rounds { return try rounds.ask(method, params: params) }
        let sessionID = try requireSession()
        return try await router.clientRequests.send(
            method,
            params: params,
            session: sessionID,
            context: self,
            timeout: timeout
        ) { [answer, router] data throws(SessionManagerError) in
            if let answer {
                try await answer.send(data)
            } else {
                try await router.streams.send([sessionID], data: data)
            }
        }
    }
}
