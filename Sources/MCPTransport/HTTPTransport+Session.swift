import Hummingbird
import SessionManager

/// A session that a request may use.
struct ActiveSession: Sendable {
    var id: String
    var metadata: SessionMetadata
    var protocolVersion: ProtocolVersion
}

extension HTTPTransport {
    static let versionsWithSessions = ProtocolVersion.streamableHTTP.filter(\.hasSessions)

    /// The session that the headers name.
    func activeSession(of request: Request, caller: MCPCaller) async throws(Refusal) -> ActiveSession {
        let requested = try protocolVersion(of: request)
        guard let id = try RequestHead.single(.mcpSessionID, in: request.headers) else {
            throw Refusal(.badRequest, .invalidRequest("MCP-Session-Id is missing: begin with initialize"))
        }
        guard RequestHead.isSessionID(id) else {
            throw Refusal(.badRequest, .invalidRequest("MCP-Session-Id must be visible ASCII characters, at most 255"))
        }
        do throws(SessionManagerError) {
            guard let metadata = try await messages.info.metadata(id, principal: caller.principal) else {
                throw SessionManagerError(.sessionNotFound, "there is no such session")
            }
            let agreed = metadata.protocolVersion.flatMap(ProtocolVersion.init(rawValue:))
            return ActiveSession(id: id, metadata: metadata, protocolVersion: agreed ?? requested ?? .assumed)
        } catch {
            throw Refusal(error)
        }
    }

    private func protocolVersion(of request: Request) throws(Refusal) -> ProtocolVersion? {
        guard let text = try RequestHead.single(.mcpProtocolVersion, in: request.headers) else { return nil }
        guard let version = ProtocolVersion(rawValue: text), HTTPTransport.versionsWithSessions.contains(version) else {
            throw Refusal(.badRequest, .unsupportedProtocolVersion(text))
        }
        return version
    }

    /// DELETE: ends the session, and its streams wherever they are.
    func delete(_ request: Request, from caller: MCPCaller) async throws(Refusal) -> Response {
        let session = try await activeSession(of: request, caller: caller)
        do throws(SessionManagerError) {
            // Whoever else ended the session in the meantime did what was asked for.
            try await messages.info.delete(session.id, principal: caller.principal)
        } catch {
            throw Refusal(error)
        }
        return Response(status: .noContent)
    }
}
