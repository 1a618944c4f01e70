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

    /// Whether a POST is to be answered as these revisions have it: its body or its header names one, or none that the
    /// transport knows. One of them alone is a mismatch, for these revisions to refuse. `initialize` whose body names none
    /// begins a session, whatever its header says.
    ///
    /// Source: MCP 2026-07-28, `basic/versioning`, "Backward Compatibility with Initialization-Based Versions".
    static func isModern(_ json: JSONValue, headers: HTTPFields) -> Bool {
        guard let inBody = json["params"]?["_meta"]?[MetaKey.protocolVersion] else {
            return json["method"] != "initialize" && isModern(headers)
        }
        return inBody.string.flatMap(ProtocolVersion.init(rawValue:))?.hasSessions != true || isModern(headers)
    }

    /// Whether the header of a request names a revision without sessions, or none that the transport knows.
    private static func isModern(_ headers: HTTPFields) -> Bool {
        headers[values: .mcpProtocolVersion].contains { ProtocolVersion(rawValue: $0)?.hasSessions != true }
    }

    /// Whether the header of a request names a revision without sessions that the transport serves.
    static func namesServedModern(_ headers: HTTPFields) -> Bool {
        headers[values: .mcpProtocolVersion].contains { ProtocolVersion(rawValue: $0)?.hasSessions == false }
    }

    /// What a notification has to say, which is less than a request.
    static func check(_ notification: MCPNotification, headers: HTTPFields) throws(Refusal) {
        do throws(MCPError) {
            let inHeader = try header(.mcpProtocolVersion, in: headers)
            let inBody = notification.params["_meta"]?[MetaKey.protocolVersion]
            if let inHeader, ProtocolVersion(rawValue: inHeader) == nil { throw .unsupportedProtocolVersion(inHeader) }
            if let inBody, inBody.string != inHeader {
                throw .headerMismatch("MCP-Protocol-Version is not what _meta says")
            }
        } catch {
            throw Refusal(.badRequest, error)
        }
    }

    /// - Throws: the refusal, if a header is missing or does not match the body, or `_meta` lacks something.
    init(_ request: MCPRequest, headers: HTTPFields) throws(Refusal) {
        self.request = request
        let meta = request.params["_meta"]
        do throws(MCPError) {
            try ModernRequest.checkVersion(meta?[MetaKey.protocolVersion], headers: headers)
            try ModernRequest.checkHeader(.mcpMethod, is: request.method, in: headers, decoded: { $0 })
            if let member = ModernRequest.namedMembers[request.method] {
                try ModernRequest.checkName(request.params[member]?.string, in: headers)
            }
            // It is repeated in each message of a stream.
            guard request.id.json.text.utf8.count <= ModernRequest.maximumIDLength else {
                throw .invalidRequest("id may have \(ModernRequest.maximumIDLength) bytes")
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

    private static let maximumIDLength = 1024

    /// What `Mcp-Name` repeats, for the methods that have it.
    private static let namedMembers = ["tools/call": "name", "prompts/get": "name", "resources/read": "uri"]

    private static func checkName(_ name: String?, in headers: HTTPFields) throws(MCPError) {
        if let name { return try checkHeader(.mcpName, is: name, in: headers, decoded: RequestHead.decodedValue) }
        // The handler says what is missing.
        guard try header(.mcpName, in: headers) == nil else {
            throw .headerMismatch("Mcp-Name is not what the body says")
        }
    }

    private static func checkHeader(
        _ name: HTTPField.Name,
        is value: String,
        in headers: HTTPFields,
        decoded: (String) -> String?
    ) throws(MCPError) {
        // Byte by byte: texts that only look the same are different to whoever routes by the header.
        try checkHeader(name, in: headers) { decoded($0)?.utf8.elementsEqual(value.utf8) == true }
    }

    private static func checkHeader(
        _ name: HTTPField.Name,
        in headers: HTTPFields,
        saysIt: (String) -> Bool
    ) throws(MCPError) {
        guard let text = try header(name, in: headers) else { throw .headerMismatch("\(name.rawName) is missing") }
        guard saysIt(text) else { throw .headerMismatch("\(name.rawName) is not what the body says") }
    }

    /// What `Mcp-Param-{name}` repeats of a tool's arguments.
    ///
    /// Source: MCP 2026-07-28, `basic/transports/streamable-http`, "Server Behavior for Custom Headers" and "Server
    /// Validation".
    static func checkParameter(
        _ field: HTTPField.Name,
        is value: JSONValue?,
        in headers: HTTPFields
    ) throws(MCPError) {
        switch value {
        case nil, .null:
            guard try header(field, in: headers) == nil else {
                throw .headerMismatch("\(field.rawName) repeats an argument that is not there")
            }
        case .string(let text): try checkHeader(field, is: text, in: headers, decoded: RequestHead.decodedValue)
        case .bool(let bool):
            try checkHeader(field, is: bool ? "true" : "false", in: headers, decoded: RequestHead.decodedValue)
        case .integer(let number):
            // Read as the body's was, so that 42.0 and 4.2e1 are 42.
            try checkHeader(field, in: headers) { text in
                let json = RequestHead.decodedValue(text).flatMap { try? JSONValue(parsing: Data($0.utf8)) }
                return json == .integer(number)
            }
        default: throw .invalidParams("what \(field.rawName) repeats must be a string, a whole number or a boolean")
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
