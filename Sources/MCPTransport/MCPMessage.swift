import Foundation
public import SessionManager

/// The id of a JSON-RPC request.
public enum RequestID: Sendable, Hashable {
    /// A string.
    case string(String)
    /// A whole number.
    case integer(Int64)

    init?(_ value: JSONValue?) {
        switch value {
        case .string(let id): self = .string(id)
        case .integer(let id): self = .integer(id)
        default: return nil
        }
    }

    /// The id as JSON.
    public var json: JSONValue {
        switch self {
        case .string(let id): .string(id)
        case .integer(let id): .integer(id)
        }
    }
}

/// A request of the client, which is owed an answer.
public struct MCPRequest: Sendable, Hashable {
    /// The client's id of the request.
    public var id: RequestID
    /// What is asked for, such as `tools/call`.
    public var method: String
    /// The parameters: an object, empty if the client sent none.
    public var params: [String: JSONValue]

    /// A request.
    public init(id: RequestID, method: String, params: [String: JSONValue] = [:]) {
        self.id = id
        self.method = method
        self.params = params
    }
}

/// A notification, which is owed no answer.
public struct MCPNotification: Sendable, Hashable {
    /// What happened, such as `notifications/resources/updated`.
    public var method: String
    /// The parameters: an object, empty if there are none.
    public var params: [String: JSONValue]

    /// A notification.
    public init(method: String, params: [String: JSONValue] = [:]) {
        self.method = method
        self.params = params
    }

    /// The notification as JSON-RPC text.
    public var text: String {
        var members: [String: JSONValue] = ["jsonrpc": "2.0", "method": .string(method)]
        if !params.isEmpty { members["params"] = .object(params) }
        return JSONValue.object(members).text
    }
}

/// The client's answer to a request of the server.
struct MCPResponse: Sendable, Hashable {
    /// The id that the server gave its request.
    var id: RequestID
    /// The result, or the error that the client reports.
    var outcome: Result<JSONValue, MCPError>

    var text: String { MCPText.answer(outcome, id: id) }
}

/// A JSON-RPC message from a client.
enum MCPMessage: Sendable, Hashable {
    case request(MCPRequest)
    case notification(MCPNotification)
    case response(MCPResponse)
}

extension MCPMessage {
    /// The message that `value` is. Nothing about `value` is taken for granted.
    init(_ value: JSONValue) throws(MCPError) {
        guard let members = value.object else { throw .invalidRequest("a message is an object") }
        guard members["jsonrpc"] == "2.0" else { throw .invalidRequest("jsonrpc must be \"2.0\"") }
        if let method = members["method"] {
            guard let method = method.string else { throw .invalidRequest("method must be a string") }
            let params = try MCPMessage.params(members)
            guard let id = members["id"] else {
                self = .notification(MCPNotification(method: method, params: params))
                return
            }
            guard let id = RequestID(id) else { throw .invalidRequest("id must be a string or a whole number") }
            self = .request(MCPRequest(id: id, method: method, params: params))
        } else {
            guard let id = RequestID(members["id"]) else {
                throw .invalidRequest("a message has a method, or the id of the request that it answers")
            }
            self = .response(MCPResponse(id: id, outcome: try MCPMessage.outcome(members)))
        }
    }

    private static func params(_ members: [String: JSONValue]) throws(MCPError) -> [String: JSONValue] {
        guard let params = members["params"] else { return [:] }
        guard let params = params.object else { throw .invalidRequest("params must be an object") }
        return params
    }

    private static func outcome(_ members: [String: JSONValue]) throws(MCPError) -> Result<JSONValue, MCPError> {
        switch (members["result"], members["error"]) {
        case (let result?, nil):
            return .success(result)
        case (nil, let error?):
            guard let code = error["code"]?.integer, let message = error["message"]?.string else {
                throw .invalidRequest("an error has a code and a message")
            }
            return .failure(MCPError(code: Int(clamping: code), message: message, data: error["data"]))
        default:
            throw .invalidRequest("a response has a result or an error, and not both")
        }
    }
}

/// Writes the JSON-RPC texts that the server sends.
enum MCPText {
    static func result(_ result: JSONValue, id: RequestID) -> String {
        JSONValue.object(["jsonrpc": "2.0", "id": id.json, "result": result]).text
    }

    /// - Parameter id: `nil` where it could not be read. It is null then, as JSON-RPC has it: MCP would rather leave it out,
    ///   but its official client for Python passes over an error without one.
    static func error(_ error: MCPError, id: RequestID?) -> String {
        JSONValue.object(["jsonrpc": "2.0", "id": id?.json ?? .null, "error": error.json]).text
    }

    static func answer(_ result: Result<JSONValue, MCPError>, id: RequestID) -> String {
        switch result {
        case .success(let result): self.result(result, id: id)
        case .failure(let error): self.error(error, id: id)
        }
    }

    /// Whether the JSON-RPC message `text` answers a request; a batch does when its first message does.
    ///
    /// Only the names of the outermost members are looked at, so that a large result costs little.
    static func isResponse(_ text: String) -> Bool {
        let decoder = JSONDecoder()
        let data = Data(text.utf8)
        if let envelope = try? decoder.decode(Envelope.self, from: data) { return envelope.isResponse }
        return (try? decoder.decode([Envelope].self, from: data))?.first?.isResponse ?? false
    }

    private struct Envelope: Decodable {
        var isResponse: Bool

        private enum Member: String, CodingKey {
            case result, error, method
        }

        init(from decoder: any Decoder) throws {
            let members = try decoder.container(keyedBy: Member.self)
            isResponse = !members.contains(.method) && (members.contains(.result) || members.contains(.error))
        }
    }
}
