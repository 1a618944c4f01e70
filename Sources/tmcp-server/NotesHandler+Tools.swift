import MCPTransport
import SessionManager

extension NotesHandler {
    /// A tool that every server has.
    private enum Tool: String, CaseIterable {
        case writeNote = "write_note"
        case announce
        case addTool = "add_tool"
        case echo
        case bigMessage = "big_message"
        case count
        case askModel = "ask_model"
        case askUser = "ask_user"
        case listRoots = "list_roots"

        var description: JSONValue {
            switch self {
            case .writeNote: NotesHandler.tool(self.rawValue, "Writes a note.", ["name": "string", "text": "string"])
            case .announce: NotesHandler.tool(self.rawValue, "Tells every session something.", ["text": "string"])
            case .addTool: NotesHandler.tool(self.rawValue, "Adds a tool to every server.", ["name": "string"])
            case .echo: NotesHandler.tool(self.rawValue, "Says the same again.", ["text": "string"])
            case .bigMessage:
                NotesHandler.tool(
                    self.rawValue,
                    "Sends a large message to this session's stream.",
                    ["bytes": "integer"]
                )
            case .count:
                NotesHandler.tool(
                    self.rawValue,
                    "Counts, ten times a second, and says how far it is.",
                    ["to": "integer"]
                )
            case .askModel: NotesHandler.tool(self.rawValue, "Asks the client's model.", ["question": "string"])
            case .askUser: NotesHandler.tool(self.rawValue, "Asks the client's user.", ["question": "string"])
            case .listRoots: NotesHandler.tool(self.rawValue, "Lists the client's roots.", [:])
            }
        }
    }

    /// What is wrong with the arguments of a tool, for the model to read and do better.
    private struct WrongArguments: Error {
        var text: String
    }

    private static let bigMessageBytes = 1...64 * 1_048_576

    func listTools() async throws -> JSONValue {
        let added = try await notes.addedTools().map { NotesHandler.tool($0, "Added with add_tool.", [:]) }
        return ["tools": .array(Tool.allCases.map(\.description) + added)]
    }

    func callTool(_ request: MCPRequest, _ context: MCPContext) async throws -> JSONValue {
        guard let name = request.params["name"]?.string else { throw MCPError.invalidParams("name is missing") }
        let arguments = request.params["arguments"]?.object ?? [:]
        do {
            if let tool = Tool(rawValue: name) {
                return NotesHandler.answer(try await call(tool, arguments, context))
            }
            guard NoteName(name) != nil, try await notes.hasTool(name) else {
                throw MCPError.invalidParams("unknown tool")
            }
            return NotesHandler.answer("\(name) was called")
        } catch let error as WrongArguments {
            return NotesHandler.answer(error.text, isError: true)
        } catch let error as SessionManagerError where error.code == .messageTooLarge {
            return NotesHandler.answer("The message is larger than the store takes.", isError: true)
        } catch let error as SessionManagerError where error.code == .sessionNotFound {
            return NotesHandler.answer("There is no session whose stream could take it.", isError: true)
        }
    }

    private func call(_ tool: Tool, _ arguments: [String: JSONValue], _ context: MCPContext) async throws -> String {
        switch tool {
        case .echo:
            return try string("text", in: arguments)
        case .writeNote:
            let name = try name(in: arguments)
            try await notes.write(name.text, text: string("text", in: arguments))
            return "Wrote \(name.uri)."
        case .announce:
            let message = NotesHandler.message(.string(try string("text", in: arguments)))
            let count = try await streams.log(.info, data: message.text)
            return "Told \(count) sessions."
        case .addTool:
            let name = try name(in: arguments)
            guard Tool(rawValue: name.text) == nil, try await notes.addTool(name.text) else {
                return "There is a tool \(name.text) already."
            }
            try await streams.listChanged(.tools)
            return "Added \(name.text)."
        case .bigMessage:
            guard let bytes = arguments["bytes"]?.integer.map(Int.init(clamping:)),
                NotesHandler.bigMessageBytes.contains(bytes)
            else { throw WrongArguments(text: "bytes must be a whole number from 1 to 67108864.") }
            try await context.notifySession(NotesHandler.message(.string(String(repeating: "x", count: bytes))))
            return "Sent \(bytes) bytes."
        case .count:
            guard let end = arguments["to"]?.integer, (1...1000).contains(end) else {
                throw WrongArguments(text: "to must be a whole number from 1 to 1000.")
            }
            for number in 1...end {
                try await context.reportProgress(Double(number), total: Double(end))
                try await Task.sleep(for: .milliseconds(100))
            }
            return "Counted to \(end)."
        case .askModel:
            return try await askModel(string("question", in: arguments), context)
        case .askUser:
            return try await askUser(string("question", in: arguments), context)
        case .listRoots:
            try NotesHandler.require("roots", of: context)
            return try await context.request("roots/list", timeout: .seconds(30)).text
        }
    }

    private func askModel(_ question: String, _ context: MCPContext) async throws -> String {
        try NotesHandler.require("sampling", of: context)
        let answer = try await context.request(
            "sampling/createMessage",
            params: [
                "messages": [["role": "user", "content": ["type": "text", "text": .string(question)]]],
                "maxTokens": 500,
            ]
        )
        return answer["content"]?["text"]?.string ?? answer.text
    }

    private func askUser(_ question: String, _ context: MCPContext) async throws -> String {
        try NotesHandler.require("elicitation", of: context)
        let answer = try await context.request(
            "elicitation/create",
            params: [
                "message": .string(question),
                "requestedSchema": [
                    "type": "object",
                    "properties": ["answer": ["type": "string"]],
                    "required": ["answer"],
                ],
            ]
        )
        guard answer["action"] == "accept" else { return "The user did not answer." }
        return answer["content"]?["answer"]?.string ?? answer.text
    }

    private static func require(_ capability: String, of context: MCPContext) throws {
        guard context.session.clientCapabilities?[capability]?.object != nil else {
            guard context.protocolVersion.hasSessions else {
                throw MCPError.missingClientCapability(.object([capability: [:]]))
            }
            throw WrongArguments(text: "The client does not offer \(capability).")
        }
    }

    private func string(_ name: String, in arguments: [String: JSONValue]) throws -> String {
        guard let value = arguments[name]?.string, !value.utf8.contains(0) else {
            throw WrongArguments(text: "\(name) must be a string without NUL characters.")
        }
        return value
    }

    private func name(in arguments: [String: JSONValue]) throws -> NoteName {
        guard let name = NoteName(try string("name", in: arguments)) else {
            throw WrongArguments(text: "name must be \(NotesDatabase.nameRule).")
        }
        return name
    }

    private static func message(_ data: JSONValue) -> MCPNotification {
        MCPNotification(method: "notifications/message", params: ["level": "info", "logger": "notes", "data": data])
    }

    private static func answer(_ text: String, isError: Bool = false) -> JSONValue {
        ["content": [["type": "text", "text": .string(text)]], "isError": .bool(isError)]
    }

    private static func tool(_ name: String, _ description: String, _ arguments: [String: String]) -> JSONValue {
        let properties = arguments.mapValues { JSONValue.object(["type": .string($0)]) }
        return [
            "name": .string(name),
            "description": .string(description),
            "inputSchema": [
                "type": "object",
                "properties": .object(properties),
                "required": .array(arguments.keys.sorted().map { .string($0) }),
            ],
        ]
    }
}
