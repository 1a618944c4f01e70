public import SessionManager

/// Whatever answers MCP messages: your server, or a server library.
///
/// The transport takes care of HTTP, sessions and streams; everything that a message asks for is the handler's.
/// Messages of one session may be handled at the same time, and in any process.
public protocol MCPHandler: Sendable {
    /// Answers a request with its `result`.
    ///
    /// `initialize` comes here too: answer `capabilities` and `serverInfo`; the transport adds the revision that was
    /// agreed on (``MCPContext/protocolVersion``) where the result names none, and records the session. What it answers
    /// is also what clients of revision 2026-07-28 are told of the server; for that, it is asked without a session, at any
    /// time, whatever the request. Let `serverInfo` be the same for everybody: it is kept, and goes out with every result.
    /// `subscriptions/listen` does not come here, see ``authorize(_:context:)``.
    ///
    /// A client that goes away does not cancel its request, and one that says `notifications/cancelled` does; in revision
    /// 2026-07-28, which resumes nothing, one that goes away does, as soon as the answer has become a stream: after a
    /// second at the latest. Cancelled is the task.
    ///
    /// - Throws: ``MCPError`` is passed on to the client. Of any other error the client learns no more than
    ///   ``MCPError/internalError``, and the log has the rest. In revision 2026-07-28 the HTTP status tells of
    ///   ``MCPError/methodNotFound(_:)`` (404) and ``MCPError/missingClientCapability(_:)`` (400) too, but not once the
    ///   answer is a stream: throw them first.
    func respond(to request: MCPRequest, context: MCPContext) async throws -> JSONValue

    /// Says which of the changes that a client of revision 2026-07-28 wants to listen for it may hear of.
    ///
    /// Only what is in `filter` as well counts. A client of an older revision subscribes to resources with
    /// `resources/subscribe`, which comes to ``respond(to:context:)``: let both lead to the same check.
    ///
    /// Source: MCP 2026-07-28, `basic/patterns/subscriptions`, "Acknowledgment".
    ///
    /// - Parameter filter: what the client asks for, of what the `capabilities` of `initialize` announce: lists with
    ///   `listChanged`, and resources with `subscribe`, at most 1,000 of 1 to 2,048 bytes, none of them twice. Their uris may
    ///   be anything else.
    /// - Throws: ``MCPError``, to refuse the stream as a whole.
    func authorize(_ filter: ChangeFilter, context: MCPContext) async throws -> ChangeFilter

    /// Takes a notification of the client. An error is logged; the client hears nothing.
    func receive(_ notification: MCPNotification, context: MCPContext) async throws
}

extension MCPHandler {
    /// Lets everybody hear of the changed lists that the server announces, and nobody of changed resources.
    public func authorize(_ filter: ChangeFilter, context: MCPContext) async throws -> ChangeFilter {
        ChangeFilter(lists: filter.lists)
    }

    /// Ignores the notification.
    public func receive(_ notification: MCPNotification, context: MCPContext) async throws {}
}
