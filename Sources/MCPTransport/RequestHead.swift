import HTTPTypes
import Logging

/// The header fields of MCP.
extension HTTPField.Name {
    static let mcpSessionID = known("MCP-Session-Id")
    static let mcpProtocolVersion = known("MCP-Protocol-Version")
    static let mcpMethod = known("Mcp-Method")
    static let mcpName = known("Mcp-Name")
    static let lastEventID = known("Last-Event-ID")
    static let accelBuffering = known("X-Accel-Buffering")

    private static func known(_ name: StaticString) -> HTTPField.Name {
        guard let name = HTTPField.Name(String(describing: name)) else {
            preconditionFailure("\(name) is no header field name")
        }
        return name
    }
}

/// What the headers of a request say, as far as the rules of the transport go.
enum RequestHead {
    /// The value of a header that may be there once.
    static func single(_ name: HTTPField.Name, in headers: HTTPFields) throws(Refusal) -> String? {
        let values = headers[values: name]
        guard values.count < 2 else {
            throw Refusal(.badRequest, .invalidRequest("more than one \(name.rawName)"))
        }
        return values.first
    }

    /// Whether a media type of the `Accept` header covers `type`, as in `text/event-stream`, `text/*` or `*/*`.
    static func accepts(_ type: String, in headers: HTTPFields) -> Bool {
        let family = type.prefix { $0 != "/" } + "/*"
        return headers[values: .accept].contains { value in
            value.split(separator: ",").contains { range in
                let parts = range.split(separator: ";").map { $0.trimming(" \t").lowercased() }
                guard let name = parts.first, name == type || name == family || name == "*/*" else { return false }
                // A quality of zero excludes the type.
                return !parts.dropFirst().contains { isZeroQuality($0) }
            }
        }
    }

    /// Refuses a body that is not declared to be JSON. A page of another origin cannot send one that is without asking
    /// first, so that this keeps out forged requests too.
    static func requireJSONBody(_ headers: HTTPFields) throws(Refusal) {
        let type = headers[.contentType]?.prefix { $0 != ";" }.trimming(" \t").lowercased()
        guard type == "application/json" else {
            throw Refusal(.unsupportedMediaType, .refused("Content-Type must be application/json"))
        }
    }

    /// Refuses a body that is compressed, or declared to be.
    static func requirePlainBody(_ headers: HTTPFields) throws(Refusal) {
        let encodings = headers[values: .contentEncoding].flatMap { $0.split(separator: ",") }
        guard encodings.allSatisfy({ $0.trimming(" \t").lowercased() == "identity" }) else {
            throw Refusal(
                .unsupportedMediaType,
                .refused("Content-Encoding must be identity"),
                headers: [.acceptEncoding: "identity"]
            )
        }
    }

    /// Whether `text` can be a session id: visible ASCII.
    static func isSessionID(_ text: String) -> Bool {
        (1...255).contains(text.utf8.count) && text.utf8.allSatisfy { (0x21...0x7E).contains($0) }
    }

    /// A new session id from the application. A slash would let a session name another's streams.
    static func newSessionID(_ make: () -> String, logger: Logger) throws(Refusal) -> String {
        let id = make()
        guard isSessionID(id), !id.contains("/") else {
            logger.critical("makeSessionID returned an id that is not visible ASCII without a slash")
            throw Refusal(.internalServerError, .internalError)
        }
        return id
    }

    private static func isZeroQuality(_ parameter: String) -> Bool {
        let parts = parameter.split(separator: "=", maxSplits: 1).map { $0.trimming(" \t") }
        guard parts.count == 2, parts[0] == "q", let quality = Double(parts[1]) else { return false }
        return quality == 0
    }
}

extension StringProtocol {
    fileprivate func trimming(_ characters: Set<Character>) -> String {
        String(drop { characters.contains($0) }.reversed().drop { characters.contains($0) }.reversed())
    }

    fileprivate func trimming(_ characters: String) -> String { trimming(Set(characters)) }

    private func drop(_ condition: (Character) -> Bool) -> SubSequence { self.drop(while: condition) }
}
