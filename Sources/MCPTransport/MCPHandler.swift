public import SessionManager

/// Whatever answers MCP messages: your server, or a server library.
///
/// The transport takes care of HTTP, sessions and streams; everything that a message asks for is the handler's.
/// Messages of one session may be handled at the same time, and in any process.
public protocol MCPHandler: Sendable {
    /// Answers a request with its `result`.
    ///
    /// `initialize` comes here too: answer `capabilities` and `serverInfo`; the transport adds the revision that was
    /// agreed on (``MCPContext/protocolVersion``) where the result names none, and records the session.
    ///
    /// A client that goes away does not cancel its request; one that says `notifications/cancelled` cancels the task.
    ///
    /// - Throws: ``MCPError`` is passed on to the client. Of any other error the client learns no more than
    ///   ``MCPError/internalError``, and the log has the rest.
    func respond(to request: MCPRequest, context: MCPContext) async throws -> JSONValue

    /// Takes a notification of the client. An error is logged; the client hears nothing.
    func receive(_ notification: MCPNotification, context: MCPContext) async throws
}

extension MCPHandler {
    /// Ignores the notification.
    public func receive(_ notification: MCPNotification, context: MCPContext) async throws {}
}
