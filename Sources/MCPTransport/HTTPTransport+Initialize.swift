import HTTPTypes
import Hummingbird
import Logging
import NIOCore
import SessionManager

extension HTTPTransport {
    /// `initialize`: the one request that begins a session. An id that the client sends is not looked at, so that
    /// nobody chooses the id of a session but the server.
    func start(_ request: MCPRequest, caller: MCPCaller, logger: Logger) async throws(Refusal) -> Response {
        guard let requested = request.params["protocolVersion"]?.string,
            let clientInfo = request.params["clientInfo"], clientInfo.object != nil,
            let capabilities = request.params["capabilities"], capabilities.object != nil
        else {
            let error = MCPError.invalidParams("initialize has protocolVersion, capabilities and clientInfo")
            return HTTPTransport.jsonResponse(MCPText.error(error, id: request.id))
        }
        let id = configuration.makeSessionID()
        guard RequestHead.isSessionID(id), !id.contains("/") else {
            logger.critical("makeSessionID returned an id that is not visible ASCII without a slash")
            throw Refusal(.internalServerError, .internalError, requestID: request.id)
        }
        let version = ProtocolVersion.negotiated(requested: requested)
        var session = ActiveSession(
            id: id,
            metadata: SessionMetadata(
                clientInfo: clientInfo,
                clientCapabilities: capabilities,
                protocolVersion: version.rawValue
            ),
            protocolVersion: version
        )
        let context = messages.context(of: session, caller: caller, request: request, exchange: nil, logger: logger)
        switch await messages.outcome(of: request, context: context) {
        case .failure(let error):
            return HTTPTransport.jsonResponse(MCPText.error(error, id: request.id))
        case .success(let result):
            let result = HTTPTransport.adding(version, to: result)
            session.metadata.protocolVersion = result["protocolVersion"]?.string
            do throws(SessionManagerError) {
                try await messages.info.start(id, metadata: session.metadata, principal: caller.principal)
            } catch {
                throw Refusal(error, requestID: request.id)
            }
            return HTTPTransport.jsonResponse(
                MCPText.result(result, id: request.id),
                headers: [.mcpSessionID: id]
            )
        }
    }

    static func jsonResponse(_ text: String, headers: HTTPFields = HTTPFields()) -> Response {
        var headers = headers
        headers[.contentType] = "application/json"
        return Response(status: .ok, headers: headers, body: ResponseBody(byteBuffer: ByteBuffer(string: text)))
    }

    private static func adding(_ version: ProtocolVersion, to result: JSONValue) -> JSONValue {
        guard var members = result.object, members["protocolVersion"] == nil else { return result }
        members["protocolVersion"] = .string(version.rawValue)
        return .object(members)
    }
}
