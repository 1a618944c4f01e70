import MCPTransport
import SessionManager

/// A small MCP server: notes as resources, and tools that change them.
struct NotesHandler: MCPHandler {
    let notes: NotesDatabase
    let streams: any StreamSessionManager

    static let pageSize = 200

    func respond(to request: MCPRequest, context: MCPContext) async throws -> JSONValue {
        switch request.method {
        case "initialize": NotesHandler.greeting(context.protocolVersion)
        case "ping": [:]
        case "logging/setLevel": try await setLevel(request, context)
        case "resources/list": try await listNotes(request)
        case "resources/templates/list": NotesHandler.templates
        case "resources/read": try await readNote(request)
        case "resources/subscribe": try await subscribe(request, context)
        case "resources/unsubscribe": try await unsubscribe(request, context)
        case "prompts/list": NotesHandler.prompts
        case "prompts/get": try await getPrompt(request)
        case "tools/list": try await listTools()
        case "tools/call": try await callTool(request, context)
        default: throw MCPError.methodNotFound(request.method)
        }
    }

    /// Everybody may hear of every note, and of new tools.
    func authorize(_ filter: ChangeFilter, context: MCPContext) async throws -> ChangeFilter {
        ChangeFilter(lists: filter.lists, resources: filter.resources.filter { NoteName(uri: $0) != nil })
    }

    private static func greeting(_ version: ProtocolVersion) -> JSONValue {
        var capabilities: [String: JSONValue] = [
            "prompts": [:],
            "resources": ["subscribe": true],
            "tools": ["listChanged": true],
        ]
        // The newest revision advises against it.
        if version.hasSessions { capabilities["logging"] = [:] }
        return [
            "capabilities": .object(capabilities),
            "serverInfo": ["name": "tmcp-server", "title": "Notes", "version": "1.0.0"],
            "instructions": "Notes are resources note://{name}. Subscribe to one to hear of its changes.",
        ]
    }

    private static let templates: JSONValue = [
        "resourceTemplates": [
            ["uriTemplate": "note://{name}", "name": "note", "title": "Note", "mimeType": "text/plain"]
        ]
    ]

    private static let prompts: JSONValue = [
        "prompts": [
            [
                "name": "summarize",
                "description": "Asks for a summary of a note.",
                "arguments": [["name": "name", "description": "The name of the note.", "required": true]],
            ]
        ]
    ]

    // MARK: Prompts

    private func getPrompt(_ request: MCPRequest) async throws -> JSONValue {
        guard request.params["name"] == "summarize" else { throw MCPError.invalidParams("unknown prompt") }
        guard let name = request.params["arguments"]?["name"]?.string.flatMap(NoteName.init(_:)) else {
            throw MCPError.invalidParams("name must be \(NotesDatabase.nameRule)")
        }
        guard let note = try await notes.note(name.text) else { throw MCPError.resourceNotFound(name.uri) }
        let text = "Summarize this note in one sentence.\n\n\(note.text)"
        return ["messages": [["role": "user", "content": ["type": "text", "text": .string(text)]]]]
    }

    // MARK: Logging

    private func setLevel(_ request: MCPRequest, _ context: MCPContext) async throws -> JSONValue {
        guard let level = request.params["level"]?.string.flatMap(LogLevel.init(rawValue:)) else {
            let levels = LogLevel.allCases.map(\.rawValue).joined(separator: ", ")
            throw MCPError.invalidParams("level must be one of \(levels)")
        }
        try await context.setLogLevel(level)
        return [:]
    }

    // MARK: Resources

    private func listNotes(_ request: MCPRequest) async throws -> JSONValue {
        var after = ""
        if let cursor = request.params["cursor"] {
            guard let name = cursor.string, NoteName(name) != nil else {
                throw MCPError.invalidParams("cursor must be the nextCursor of an earlier answer")
            }
            after = name
        }
        let page = try await notes.notes(after: after, limit: NotesHandler.pageSize)
        let resources = page.map { note in
            JSONValue.object([
                "uri": .string("note://" + note.name),
                "name": .string(note.name),
                "mimeType": "text/plain",
                "annotations": ["lastModified": .string(note.updatedAt)],
            ])
        }
        var result: [String: JSONValue] = ["resources": .array(resources)]
        if page.count == NotesHandler.pageSize { result["nextCursor"] = page.last.map { .string($0.name) } }
        return .object(result)
    }

    private func readNote(_ request: MCPRequest) async throws -> JSONValue {
        let name = try noteName(request)
        guard let note = try await notes.note(name.text) else { throw MCPError.resourceNotFound(name.uri) }
        return ["contents": [["uri": .string(name.uri), "mimeType": "text/plain", "text": .string(note.text)]]]
    }

    private func subscribe(_ request: MCPRequest, _ context: MCPContext) async throws -> JSONValue {
        // A note that is not there yet can be waited for.
        try await context.subscribe(to: noteName(request).uri)
        return [:]
    }

    private func unsubscribe(_ request: MCPRequest, _ context: MCPContext) async throws -> JSONValue {
        try await context.unsubscribe(from: noteName(request).uri)
        return [:]
    }

    private func noteName(_ request: MCPRequest) throws -> NoteName {
        guard let uri = request.params["uri"]?.string else { throw MCPError.invalidParams("uri is missing") }
        guard let name = NoteName(uri: uri) else { throw MCPError.resourceNotFound(uri) }
        return name
    }
}

/// The name of a note, or of a tool: ``NotesDatabase/nameRule``.
struct NoteName: Hashable {
    let text: String

    var uri: String { "note://" + text }

    init?(_ text: String) {
        guard (1...200).contains(text.utf8.count), text.utf8.allSatisfy(NoteName.isAllowed) else { return nil }
        self.text = text
    }

    init?(uri: String) {
        guard uri.hasPrefix("note://") else { return nil }
        self.init(String(uri.dropFirst("note://".count)))
    }

    private static func isAllowed(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
            UInt8(ascii: "0")...UInt8(ascii: "9"):
            true
        default: "._~-".utf8.contains(byte)
        }
    }
}
