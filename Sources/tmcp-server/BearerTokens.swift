import Foundation
import Hummingbird
import MCPTransport

/// Who may use the server, by the token that a request carries. The simplest there is; an application that has users
/// already asks its own middleware instead.
struct BearerTokens: Sendable {
    private var names: [String: String] = [:]

    /// - Parameter path: a file of lines with a token and the name of its user, a space in between.
    init(contentsOfFile path: String) throws(StartFailure) {
        guard let text = try? String(contentsOfFile: path, encoding: .utf8) else {
            throw StartFailure(sentence: "the file of --tokens cannot be read: give one with a token and a name a line")
        }
        for (index, line) in text.split(separator: "\n", omittingEmptySubsequences: false).enumerated() {
            if line.isEmpty || line.hasPrefix("#") { continue }
            let words = line.split(separator: " ")
            guard words.count == 2, names.updateValue(String(words[1]), forKey: String(words[0])) == nil else {
                throw StartFailure(
                    sentence: "line \(index + 1) of the file of --tokens is not a new token and a name: correct it"
                )
            }
        }
    }

    /// Finds out who sends a request.
    func caller(of request: Request) throws -> MCPCaller {
        let header = request.headers[.authorization] ?? ""
        guard header.hasPrefix("Bearer "), let name = names[String(header.dropFirst("Bearer ".count))] else {
            throw HTTPError(.unauthorized, headers: [.wwwAuthenticate: "Bearer"])
        }
        return MCPCaller(principal: name)
    }
}
