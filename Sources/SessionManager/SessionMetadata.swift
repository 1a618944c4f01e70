/// What is known of a session.
public struct SessionMetadata: Sendable, Hashable {
    /// The `clientInfo` of `initialize`, with every member that the client sent.
    public var clientInfo: JSONValue?
    /// The `capabilities` of `initialize`, with every member that the client sent.
    public var clientCapabilities: JSONValue?
    /// The level of the last `logging/setLevel`.
    public var logLevel: LogLevel?
    /// The protocol revision that `initialize` agreed on, such as `2025-11-25`.
    public var protocolVersion: String?

    /// Metadata of a session; whatever is not given is unknown.
    public init(
        clientInfo: JSONValue? = nil,
        clientCapabilities: JSONValue? = nil,
        logLevel: LogLevel? = nil,
        protocolVersion: String? = nil
    ) {
        self.clientInfo = clientInfo
        self.clientCapabilities = clientCapabilities
        self.logLevel = logLevel
        self.protocolVersion = protocolVersion
    }
}
