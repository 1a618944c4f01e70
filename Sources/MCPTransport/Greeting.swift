import SessionManager

/// What `initialize` asks for, and what it is told.
struct Greeting: Sendable {
    var version: ProtocolVersion
    var metadata: SessionMetadata

    /// - Parameter served: the revisions that the transport serves.
    init(_ request: MCPRequest, served: [ProtocolVersion]) throws(MCPError) {
        guard let requested = request.params["protocolVersion"]?.string,
            let clientInfo = request.params["clientInfo"], clientInfo.object != nil,
            let capabilities = request.params["capabilities"], capabilities.object != nil
        else { throw .invalidParams("initialize has protocolVersion, capabilities and clientInfo") }
        version = ProtocolVersion.negotiated(requested: requested, served: served)
        metadata = SessionMetadata(
            clientInfo: clientInfo,
            clientCapabilities: capabilities,
            protocolVersion: version.rawValue
        )
    }

    /// The handler's result with the revision that was agreed on, unless the handler chose another that has sessions.
    func completed(_ result: JSONValue) -> JSONValue {
        guard var members = result.object else { return result }
        let chosen = members["protocolVersion"]?.string.flatMap(ProtocolVersion.init(rawValue:))
        guard chosen?.hasSessions != true else { return result }
        members["protocolVersion"] = .string(version.rawValue)
        return .object(members)
    }
}
