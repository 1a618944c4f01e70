import SessionManager

/// What the results of a revision without sessions have to hold beside what the handler put into them.
///
/// Source: MCP 2026-07-28, `basic` ("Result Responses", "_meta"), `server/discover` and `server/utilities/caching`.
enum ModernResult {
    private static let cacheable: Set<String> = [
        "server/discover", "tools/list", "prompts/list", "resources/list", "resources/templates/list", "resources/read",
    ]

    /// A handler's result, with what it left out. Unless the handler says otherwise, a result is complete, already
    /// stale, and for this client alone.
    static func completed(_ result: JSONValue, of method: String, serverInfo: JSONValue?) -> JSONValue {
        guard var members = result.object else { return result }
        let type = members["resultType"] ?? "complete"
        members["resultType"] = type
        if type == "complete", cacheable.contains(method) {
            members["ttlMs"] = members["ttlMs"] ?? 0
            members["cacheScope"] = members["cacheScope"] ?? "private"
        }
        if let serverInfo { members["_meta"] = tagged(members["_meta"], ModernRequest.MetaKey.serverInfo, serverInfo) }
        return .object(members)
    }

    /// The result of `server/discover`, from the handler's result of `initialize`: it says the same.
    static func discovery(from greeting: JSONValue) -> JSONValue {
        guard var members = greeting.object else { return greeting }
        members["protocolVersion"] = nil
        let serverInfo = members.removeValue(forKey: "serverInfo")
        members["supportedVersions"] = .array(
            ProtocolVersion.streamableHTTP.reversed().map { .string($0.rawValue) }
        )
        if let serverInfo { members["_meta"] = tagged(members["_meta"], ModernRequest.MetaKey.serverInfo, serverInfo) }
        return .object(members)
    }

    /// The error with a code that these revisions allow.
    ///
    /// Source: MCP 2026-07-28, `basic`, "Error Codes".
    static func error(_ error: MCPError) -> MCPError {
        var error = error
        switch error.code {
        // Renumbered: what does not exist is an invalid parameter.
        case -32002: error.code = -32602
        // Reserved and not defined, or no longer; and those that meant something else to everybody.
        case -32099 ... -32023, -32019 ... -32000: error.code = MCPError.internalError.code
        default: break
        }
        return error
    }

    /// A `_meta` that also holds `value`, unless it has one of that name.
    static func tagged(_ meta: JSONValue?, _ key: String, _ value: JSONValue) -> JSONValue {
        var members = meta?.object ?? [:]
        members[key] = members[key] ?? value
        return .object(members)
    }
}
