import Foundation
import Hummingbird
import NIOCore
import SessionManager

extension Request {
    /// Reads the whole body.
    ///
    /// It must be `collectBody(upTo:)`: with `body.collect(upTo:)`, which leaves the request as it was, a client that
    /// closes the connection brings the process down as soon as the connection is watched.
    ///
    /// So does a body that is not the connection's own but a middleware's, such as one that decompresses. The one that a
    /// client can bring about, with an encoded body, is refused; MCP knows of no such bodies.
    @discardableResult
    mutating func collectWholeBody(upTo limit: Int) async throws(Refusal) -> ByteBuffer {
        try RequestHead.requirePlainBody(headers)
        do {
            return try await collectBody(upTo: limit)
        } catch is NIOTooManyBytesError {
            throw Refusal(.contentTooLarge, .refused("The body may have \(limit) bytes"))
        } catch {
            throw Refusal(.badRequest, .invalidRequest("the body ended early"))
        }
    }

    /// Reads the whole body, which must be JSON.
    mutating func collectJSON(upTo limit: Int) async throws(Refusal) -> JSONValue {
        let body = try await collectWholeBody(upTo: limit)
        guard let json = try? JSONValue(parsing: Data(body.readableBytesView)) else {
            throw Refusal(.badRequest, .parseError)
        }
        return json
    }
}

extension MCPMessage {
    /// The message that `json` is, or the refusal that names the request.
    static func parsed(_ json: JSONValue) throws(Refusal) -> MCPMessage {
        do throws(MCPError) {
            return try MCPMessage(json)
        } catch {
            throw Refusal(.badRequest, error, requestID: RequestID(json["id"]))
        }
    }
}
