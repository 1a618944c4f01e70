/// Who sends a request, as the application's own middleware found out.
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
