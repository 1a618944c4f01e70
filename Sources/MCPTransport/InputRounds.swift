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

    /// What a client can be asked, and the capability that says so.
    private static let capabilities = [
        "sampling/createMessage": "sampling", "elicitation/create": "elicitation", "roots/list": "roots",
    ]

    private let clientCapabilities: JSONValue?
    private let answers: [String: JSONValue]
    private let asked = NIOLockedValueBox(0)

    /// `nil` for a request whose client cannot be asked anything.
    init?(_ modern: ModernRequest) {
        let request = modern.request
        guard InputRounds.methods.contains(request.method) else { return nil }
        clientCapabilities = modern.metadata.clientCapabilities
        let state = request.params["requestState"]?.string.flatMap { try? JSONValue(parsing: Data($0.utf8)) }
        let earlier = state?.object ?? [:]
        answers = earlier.merging(request.params["inputResponses"]?.object ?? [:]) { $1 }
    }

    /// The client's answer to the next question of the handler.
    ///
    /// - Throws: ``InputRequired``, or ``MCPError`` for what the client cannot be asked.
    func ask(_ method: String, params: [String: JSONValue]) throws -> JSONValue {
        guard let capability = InputRounds.capabilities[method] else { throw MCPError.methodNotFound(method) }
        guard clientCapabilities?[capability] != nil else {
            throw MCPError.missingClientCapability(.object([capability: [:]]))
        }
        let key = asked.withLockedValue { asked in
            asked += 1
            return "question-\(asked)"
        }
        if let answer = answers[key] { return answer }
        var result: [String: JSONValue] = [
            "resultType": "input_required",
            "inputRequests": .object([key: ["method": .string(method), "params": .object(params)]]),
        ]
        if !answers.isEmpty { result["requestState"] = .string(JSONValue.object(answers).text) }
        throw InputRequired(result: .object(result))
    }
}
