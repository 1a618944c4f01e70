/// Who sends a request, as the application's own middleware found out.
///
/// A session belongs to the principal that began it. Where each user has a bearer token:
///
/// ```swift
/// let users = ["token-a": "alice", "token-b": "bob"]
/// let middleware = transport.middleware { (request, _: BasicRequestContext) in
///     let header = request.headers[.authorization] ?? ""
///     guard header.hasPrefix("Bearer "), let user = users[String(header.dropFirst("Bearer ".count))] else {
///         throw HTTPError(.unauthorized, headers: [.wwwAuthenticate: "Bearer"])
///     }
///     return MCPCaller(principal: user)
/// }
/// router.add(middleware: middleware)
/// ```
///
/// An application with an authentication middleware of its own reads the user from its context instead, which is the
/// closure's second argument.
public struct MCPCaller: Sendable {
    /// The authenticated user, to whom the session is bound: with another one it is as if it did not exist. Default:
    /// `nil`, nobody in particular.
    public var principal: String?

    /// Anything the application wants its handler to have; see ``MCPContext/custom(_:)``. Default: `nil`.
    public var custom: (any Sendable)?

    /// A caller.
    public init(principal: String? = nil, custom: (any Sendable)? = nil) {
        self.principal = principal
        self.custom = custom
    }
}
