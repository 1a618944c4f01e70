public import SessionManager

/// A JSON-RPC error, as the client gets to see it.
public struct MCPError: Error, Sendable, Hashable {
    /// The code of the error; the constants below name those of JSON-RPC and of MCP. For one of your own take a number
    /// outside of -32768 to -32000: clients of 2026-07-28 get -32603 for those of -32099 to -32000 that the revision does not
    /// define.
    ///
    /// Source: MCP 2026-07-28, `basic`, "Error Codes".
    public var code: Int
    /// What went wrong, in a short sentence for the client's developer.
    public var message: String
    /// More about what went wrong.
    public var data: JSONValue?

    /// An error for the client.
    public init(code: Int, message: String, data: JSONValue? = nil) {
        self.code = code
        self.message = message
        self.data = data
    }

    /// The body is not JSON: -32700.
    public static let parseError = MCPError(code: -32700, message: "Parse error: the body is not JSON in UTF-8")

    /// The message is no JSON-RPC 2.0 message of MCP: -32600.
    public static func invalidRequest(_ reason: String) -> MCPError {
        MCPError(code: -32600, message: "Invalid request: \(reason)")
    }

    /// The server does not know the method: -32601. In revision 2026-07-28 the HTTP status is 404, unless a message came
    /// before it or it took more than a second.
    public static func methodNotFound(_ method: String) -> MCPError {
        MCPError(code: -32601, message: "Method not found", data: ["method": .string(method)])
    }

    /// A parameter is missing or cannot be what it should be: -32602.
    public static func invalidParams(_ reason: String) -> MCPError {
        MCPError(code: -32602, message: "Invalid params: \(reason)")
    }

    /// The server failed; what happened is in its log, and nowhere else: -32603.
    public static let internalError = MCPError(code: -32603, message: "Internal error")

    /// There is no such resource: -32002; -32602 to a client of 2026-07-28.
    public static func resourceNotFound(_ uri: String) -> MCPError {
        MCPError(code: -32002, message: "Resource not found", data: ["uri": .string(uri)])
    }

    /// The client cancelled the request, or the server is shutting down: -32800.
    public static let cancelled = MCPError(code: -32800, message: "Request cancelled")

    /// The headers do not say what the body says, or lack something: -32020, of revision 2026-07-28.
    static func headerMismatch(_ reason: String) -> MCPError {
        MCPError(code: -32020, message: "Header mismatch: \(reason)")
    }

    /// The request needs what its client does not offer: -32021, of revision 2026-07-28. The HTTP status is 400, unless a
    /// message came before it or it took more than a second.
    ///
    /// - Parameter capabilities: what is missing, in the shape of client capabilities, such as `["sampling": [:]]`.
    public static func missingClientCapability(_ capabilities: JSONValue) -> MCPError {
        MCPError(
            code: -32021,
            message: "Missing required client capability",
            data: ["requiredCapabilities": capabilities]
        )
    }

    /// The transport does not speak the revision: -32022, of revision 2026-07-28.
    static func unsupportedProtocolVersion(_ requested: String) -> MCPError {
        let supported = ProtocolVersion.streamableHTTP.reversed().map { JSONValue.string($0.rawValue) }
        return MCPError(
            code: -32022,
            message: "Unsupported protocol version",
            data: ["supported": .array(supported), "requested": .string(requested)]
        )
    }

    /// The transport refuses the request: -32000.
    static func refused(_ reason: String) -> MCPError { MCPError(code: -32000, message: reason) }

    /// The session is unknown, has ended, or is somebody else's: -32001.
    static let sessionNotFound = MCPError(
        code: -32001,
        message: "Session not found: start over with initialize and without MCP-Session-Id"
    )

    var json: JSONValue {
        var members: [String: JSONValue] = ["code": .integer(Int64(code)), "message": .string(message)]
        members["data"] = data
        return .object(members)
    }
}
