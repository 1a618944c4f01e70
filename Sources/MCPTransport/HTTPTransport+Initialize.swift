import HTTPTypes
import Hummingbird
import Logging
import NIOCore
import SessionManager

extension HTTPTransport {
    /// `initialize`: the one request that begins a session. An id that the client sends is not looked at, so that
    /// nobody chooses the id of a session but the server.
    func start(_ request: MCPRequest, caller: MCPCaller, logger: Logger) async throws(Refusal) -> Response {
        let greeting: Greeting
        do throws(MCPError) {
            greeting = try Greeting(request, served: HTTPTransport.versionsWithSessions)
        } catch {
            return HTTPTransport.jsonResponse(MCPText.error(error, id: request.id))
        }
        let id = try RequestHead.newSessionID(configuration.makeSessionID, logger: logger)
        let version = greeting.version
        var session = ActiveSession(id: id, metadata: greeting.metadata, protocolVersion: version)
        let context = messages.context(of: session, caller: caller, request: request, exchange: nil, logger: logger)
        switch await messages.outcome(of: request, context: context) {
        case .failure(let error):
            return HTTPTransport.jsonResponse(MCPText.error(error, id: request.id))
        case .success(let result):
            let result = greeting.completed(result)
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

    static func jsonResponse(
        _ text: String,
        status: HTTPResponse.Status = .ok,
        headers: HTTPFields = HTTPFields()
    ) -> Response {
        var headers = headers
        headers[.contentType] = "application/json"
        return Response(status: status, headers: headers, body: ResponseBody(byteBuffer: ByteBuffer(string: text)))
    }
}
