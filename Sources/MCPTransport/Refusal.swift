import HTTPTypes
import Hummingbird
import NIOCore
import SessionManager

/// A request that the transport does not pass on, and the response that says why.
struct Refusal: Error {
    var status: HTTPResponse.Status
    var error: MCPError
    var headers: HTTPFields
    var requestID: RequestID?

    init(
        _ status: HTTPResponse.Status,
        _ error: MCPError,
        headers: HTTPFields = HTTPFields(),
        requestID: RequestID? = nil
    ) {
        self.status = status
        self.error = error
        self.headers = headers
        self.requestID = requestID
    }

    /// What a failure of the session manager means to the client.
    init(_ error: SessionManagerError, requestID: RequestID? = nil) {
        switch error.code {
        case .sessionNotFound:
            self.init(.notFound, .sessionNotFound)
        case .streamHeld:
            self.init(
                .conflict,
                .refused("Another connection has the stream: resume it with Last-Event-ID, or try again"),
                headers: [.retryAfter: "5"]
            )
        case .sessionLimitReached:
            self.init(
                .serviceUnavailable,
                .refused("The server has as many sessions as it may: try again later"),
                headers: [.retryAfter: "30"]
            )
        case .principalSessionLimitReached:
            self.init(
                .tooManyRequests,
                .refused("You have as many sessions as you may: end one with DELETE, or try again later"),
                headers: [.retryAfter: "30"]
            )
        case .messageTooLarge:
            self.init(.contentTooLarge, .refused("The message is larger than the session store takes"))
        case .invalidArgument:
            self.init(.badRequest, .invalidRequest("an id or another value cannot be what it should be"))
        case .unreachable, .outcomeUnknown, .notRunning, .timeout, .nodeFenced, .cancelled:
            self.init(
                .serviceUnavailable,
                .refused("The session store is out of reach: try again"),
                headers: [.retryAfter: "1"]
            )
        default:
            self.init(.internalServerError, .internalError)
        }
        self.requestID = requestID
    }

    /// The same with a code that revision 2026-07-28 allows; it keeps those that were used before for them.
    var withModernCode: Refusal {
        guard (-32019 ... -32000).contains(error.code) else { return self }
        var refusal = self
        let code = status.kind == .serverError ? MCPError.internalError.code : MCPError.invalidRequest("").code
        refusal.error.code = code
        return refusal
    }

    var response: Response {
        var headers = headers
        headers[.contentType] = "application/json"
        let text = MCPText.error(error, id: requestID)
        return Response(status: status, headers: headers, body: ResponseBody(byteBuffer: ByteBuffer(string: text)))
    }
}
