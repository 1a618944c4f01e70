import Foundation
import NIOConcurrencyHelpers
import SessionManager

/// What a request of a revision without sessions has asked its client so far, and been told.
///
/// The server cannot ask while it answers: it answers that it needs to know something, and the client sends its request
/// again with that. The handler then runs again from its start. What the client was asked in earlier rounds comes back
/// in `requestState`; it is the client's own word, and trusted no more than that.
///
/// Source: MCP 2026-07-28, `basic/patterns/mrtr`.
final class InputRounds: Sendable {
    /// The handler cannot go on without an answer of the client's.
    struct InputRequired: Error {
        var result: JSONValue
    }

    private static let methods: Set<String> = ["tools/call", "prompts/get", "resources/read"]

    private let clientCapabilities: JSONValue
    /// What the client sent back. Looked at when the handler asks, since a handler that does without may have a state and
    /// questions of its own.
    private let answers: Result<[String: JSONValue], MCPError>
    private let asked = NIOLockedValueBox(0)

    /// `nil` for a request whose client cannot be asked anything.
    init?(_ modern: ModernRequest) {
        guard InputRounds.methods.contains(modern.request.method) else { return nil }
        clientCapabilities = modern.metadata.clientCapabilities ?? [:]
        answers = Result { () throws(MCPError) in try InputRounds.answers(in: modern.request.params) }
    }

    /// The client's answers, by the question.
    private static func answers(in params: [String: JSONValue]) throws(MCPError) -> [String: JSONValue] {
        var earlier: JSONValue? = [:]
        if let state = params["requestState"] {
            earlier = state.string.flatMap { try? JSONValue(parsing: Data($0.utf8)) }
        }
        guard let earlier = earlier?.object else {
            throw .invalidParams("requestState is not what the server gave out")
        }
        guard let latest = (params["inputResponses"] ?? [:]).object else {
            throw .invalidParams("inputResponses must be an object")
        }
        return earlier.merging(latest) { $1 }
    }

    /// The capability that a client must offer to be asked something: its name, and in it the name of what it needs of it.
    private static func capability(_ method: String, _ params: [String: JSONValue]) throws(MCPError) -> [String] {
        switch method {
        case "roots/list": ["roots"]
        case "sampling/createMessage" where params["tools"] != nil || params["toolChoice"] != nil:
            ["sampling", "tools"]
        case "sampling/createMessage": ["sampling"]
        case "elicitation/create": ["elicitation", params["mode"]?.string ?? "form"]
        default: throw .methodNotFound(method)
        }
    }

    private func isOffered(_ capability: [String]) -> Bool {
        // A client that names no mode of elicitation has forms.
        if capability == ["elicitation", "form"], let modes = clientCapabilities["elicitation"]?.object,
            modes["url"] == nil
        {
            return true
        }
        return capability.reduce(clientCapabilities) { $0[$1] ?? .null }.object != nil
    }

    /// The client's answer to the next question of the handler.
    ///
    /// - Throws: ``InputRequired``, or ``MCPError`` for what the client cannot be asked.
    func ask(_ method: String, params: [String: JSONValue]) throws -> JSONValue {
        let capability = try InputRounds.capability(method, params)
        guard isOffered(capability) else {
            throw MCPError.missingClientCapability(capability.reversed().reduce([:]) { .object([$1: $0]) })
        }
        let key = asked.withLockedValue { asked in
            asked += 1
            return "question-\(asked)"
        }
        let answers = try answers.get()
        if let answer = answers[key] {
            guard answer.object != nil else { throw MCPError.invalidParams("the answer to \(key) must be an object") }
            return answer
        }
        var result: [String: JSONValue] = [
            "resultType": "input_required",
            "inputRequests": .object([key: ["method": .string(method), "params": .object(params)]]),
        ]
        if !answers.isEmpty { result["requestState"] = .string(JSONValue.object(answers).text) }
        throw InputRequired(result: .object(result))
    }
}
