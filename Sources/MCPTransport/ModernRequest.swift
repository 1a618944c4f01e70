import Foundation
import HTTPTypes
import SessionManager

/// A request of a revision without sessions, which says itself what there is to know of its client.
///
/// Source: MCP 2026-07-28, `basic` ("_meta") and `basic/transports/streamable-http` ("Request Metadata").
struct ModernRequest: Sendable {
    var request: MCPRequest
    var metadata: SessionMetadata

    /// The names under which `_meta` holds what the protocol itself defines.
    enum MetaKey {
        static let protocolVersion = "io.modelcontextprotocol/protocolVersion"
        static let clientInfo = "io.modelcontextprotocol/clientInfo"
        static let clientCapabilities = "io.modelcontextprotocol/clientCapabilities"
        static let logLevel = "io.modelcontextprotocol/logLevel"
        static let serverInfo = "io.modelcontextprotocol/serverInfo"
        static let subscriptionID = "io.modelcontextprotocol/subscriptionId"
    }

    /// Whether a POST is to be answered as these revisions have it: its body or else its header names one, or none that
    /// the transport knows. `initialize` without either begins a session.
    static func isModern(_ json: JSONValue, headers: HTTPFields) throws(Refusal) -> Bool {
        if let version = json["params"]?["_meta"]?[MetaKey.protocolVersion] {
            return version.string.flatMap(ProtocolVersion.init(rawValue:))?.hasSessions != true
        }
        return json["method"] == "initialize" ? false : try isModern(headers)
    }

    /// Whether the header of a request names a revision without sessions, or none that the transport knows.
    static func isModern(_ headers: HTTPFields) throws(Refusal) -> Bool {
        guard let text = try RequestHead.single(.mcpProtocolVersion, in: headers) else { return false }
        return ProtocolVersion(rawValue: text)?.hasSessions != true
    }

    /// Whether the header of a request names a revision without sessions that the transport serves.
    static func namesServedModern(_ headers: HTTPFields) throws(Refusal) -> Bool {
        guard let text = try RequestHead.single(.mcpProtocolVersion, in: headers) else { return false }
        return ProtocolVersion(rawValue: text)?.hasSessions == false
    }

    /// - Throws: the refusal, if a header is missing or does not match the body, or `_meta` lacks something.
    init(_ request: MCPRequest, headers: HTTPFields) throws(Refusal) {
        self.request = request
        let meta = request.params["_meta"]
        do throws(MCPError) {
            try ModernRequest.checkVersion(meta?[MetaKey.protocolVersion], headers: headers)
            try ModernRequest.checkHeader(.mcpMethod, is: request.method, in: headers)
            if let name = ModernRequest.name(of: request) {
                try ModernRequest.checkHeader(.mcpName, is: name, in: headers)
            }
            metadata = try ModernRequest.metadata(of: meta)
        } catch {
            throw Refusal(.badRequest, error, requestID: request.id)
        }
    }

    private static func checkVersion(_ inBody: JSONValue?, headers: HTTPFields) throws(MCPError) {
        let inHeader = try header(.mcpProtocolVersion, in: headers)
        guard let inBody else {
            guard let inHeader, ProtocolVersion(rawValue: inHeader) == nil else {
                throw .invalidParams("_meta lacks \(MetaKey.protocolVersion)")
            }
            throw .unsupportedProtocolVersion(inHeader)
        }
        guard let version = inBody.string else {
            throw .invalidParams("\(MetaKey.protocolVersion) must be a string")
        }
        guard let inHeader else { throw .headerMismatch("MCP-Protocol-Version is missing") }
        guard inHeader == version else {
            throw .headerMismatch("MCP-Protocol-Version is not what _meta says")
        }
        guard ProtocolVersion(rawValue: version) != nil else { throw .unsupportedProtocolVersion(version) }
    }

    /// What `Mcp-Name` repeats, for the methods that have it.
    private static func name(of request: MCPRequest) -> String? {
        switch request.method {
        case "tools/call", "prompts/get": request.params["name"]?.string
        case "resources/read": request.params["uri"]?.string
        default: nil
        }
    }

    private static func checkHeader(
        _ name: HTTPField.Name,
        is value: String,
        in headers: HTTPFields
    ) throws(MCPError) {
        guard let text = try header(name, in: headers) else { throw .headerMismatch("\(name.rawName) is missing") }
        guard let decoded = RequestHead.decodedValue(text), decoded == value else {
            throw .headerMismatch("\(name.rawName) is not what the body says")
        }
    }

    /// What `Mcp-Param-{name}` repeats of a tool's arguments.
    static func checkParameter(
        _ name: String,
        is value: JSONValue?,
        in headers: HTTPFields
    ) throws(MCPError) {
        guard let field = HTTPField.Name("Mcp-Param-\(name)") else { return }
        switch value {
        case nil, .null:
            guard try header(field, in: headers) == nil else {
                throw .headerMismatch("\(field.rawName) repeats an argument that is not there")
            }
        case .string(let text): try checkHeader(field, is: text, in: headers)
        case .bool(let bool): try checkHeader(field, is: bool ? "true" : "false", in: headers)
        case .integer(let number):
            // 42.0 is 42.
            guard let text = try header(field, in: headers), Double(text) == Double(number) else {
                throw .headerMismatch("\(field.rawName) is not what the body says")
            }
        default: throw .invalidParams("\(name) must be a string, a whole number or a boolean")
        }
    }

    private static func header(_ name: HTTPField.Name, in headers: HTTPFields) throws(MCPError) -> String? {
        let values = headers[values: name]
        guard values.count < 2 else { throw .headerMismatch("more than one \(name.rawName)") }
        return values.first
    }

    private static func metadata(of meta: JSONValue?) throws(MCPError) -> SessionMetadata {
        guard let capabilities = meta?[MetaKey.clientCapabilities], capabilities.object != nil else {
            throw .invalidParams("_meta lacks \(MetaKey.clientCapabilities), an object")
        }
        let clientInfo = meta?[MetaKey.clientInfo]
        guard clientInfo == nil || clientInfo?.object != nil else {
            throw .invalidParams("\(MetaKey.clientInfo) must be an object")
        }
        let level = meta?[MetaKey.logLevel]
        let logLevel = level?.string.flatMap(LogLevel.init(rawValue:))
        guard level == nil || logLevel != nil else {
            throw .invalidParams("\(MetaKey.logLevel) must be a level of the specification")
        }
        return SessionMetadata(
            clientInfo: clientInfo,
            clientCapabilities: capabilities,
            logLevel: logLevel,
            protocolVersion: ProtocolVersion.july2026.rawValue
        )
    }
}

extension RequestHead {
    private static let encodedPrefix = "=?base64?"
    private static let encodedSuffix = "?="

    /// The text that a header's value stands for; `nil` if it has characters that it must not have. A text that does
    /// not fit into a header is there in base64.
    static func decodedValue(_ value: String) -> String? {
        guard value.utf8.allSatisfy({ $0 == 0x09 || (0x20...0x7E).contains($0) }) else { return nil }
        guard value.hasPrefix(encodedPrefix), value.hasSuffix(encodedSuffix),
            value.utf8.count >= encodedPrefix.utf8.count + encodedSuffix.utf8.count
        else { return value }
        let encoded = value.dropFirst(encodedPrefix.count).dropLast(encodedSuffix.count)
        return Data(base64Encoded: String(encoded)).flatMap { String(data: $0, encoding: .utf8) }
    }
}
