import HTTPTypes
import Hummingbird
import Logging
import SessionManager

extension SSETransport {
    /// POST: takes messages. What they ask for is answered on the session's stream.
    func post(_ request: Request, caller: MCPCaller, logger: Logger) async throws(Refusal) -> Response {
        try RequestHead.requireJSONBody(request.headers)
        let session = try await activeSession(of: request, caller: caller)
        var request = request
        let json = try await request.collectJSON(upTo: configuration.maximumBodySize)
        let batch = json.array ?? [json]
        guard (1...configuration.maximumBatchSize).contains(batch.count) else {
            throw Refusal(
                .badRequest,
                .invalidRequest("a batch has 1 to \(configuration.maximumBatchSize) messages")
            )
        }
        var parsed: [MCPMessage] = []
        for element in batch { parsed.append(try MCPMessage.parsed(element)) }
        for message in parsed {
            try await handle(message, of: session, caller: caller, logger: logger)
        }
        return Response(status: .accepted)
    }

    private func activeSession(of request: Request, caller: MCPCaller) async throws(Refusal) -> ActiveSession {
        let ids = request.uri.queryParameters.getAll("session_id")
        guard let id = ids.first.map({ String($0) }), ids.count == 1, RequestHead.isSessionID(id) else {
            throw Refusal(.badRequest, .invalidRequest("session_id is missing: POST to the uri of the endpoint event"))
        }
        do throws(SessionManagerError) {
            guard let metadata = try await messages.info.metadata(id, principal: caller.principal) else {
                throw SessionManagerError(.sessionNotFound, "there is no such session")
            }
            let version = metadata.protocolVersion.flatMap(ProtocolVersion.init(rawValue:))
            return ActiveSession(id: id, metadata: metadata, protocolVersion: version ?? .november2024)
        } catch {
            throw Refusal(error)
        }
    }

    private func handle(
        _ message: MCPMessage,
        of session: ActiveSession,
        caller: MCPCaller,
        logger: Logger
    ) async throws(Refusal) {
        switch message {
        case .request(let request) where request.method == "initialize":
            greet(request, of: session, caller: caller, logger: logger)
        case .request(let request):
            let context = messages.context(of: session, caller: caller, request: request, exchange: nil, logger: logger)
            let handled = messages.answering(request, of: session, context: context)
            messages.inFlight.perform { await send(await handled.answer(), to: request, of: session, logger: logger) }
        case .notification(let notification):
            let context = messages.context(of: session, caller: caller, request: nil, exchange: nil, logger: logger)
            await messages.receive(notification, context: context)
        case .response(let response):
            do throws(SessionManagerError) {
                try await messages.clientRequests.deliver(response, session: session.id)
            } catch {
                throw Refusal(error)
            }
        }
    }

    private func greet(_ request: MCPRequest, of session: ActiveSession, caller: MCPCaller, logger: Logger) {
        messages.inFlight.perform {
            let answer: String
            do {
                let greeting = try Greeting(request, served: ProtocolVersion.withSessions)
                let greeted = ActiveSession(
                    id: session.id,
                    metadata: greeting.metadata,
                    protocolVersion: greeting.version
                )
                let context = messages.context(
                    of: greeted,
                    caller: caller,
                    request: request,
                    exchange: nil,
                    logger: logger
                )
                let result = try await messages.outcome(of: request, context: context).get()
                try await record(greeting.metadata, of: session, caller: caller)
                answer = MCPText.result(greeting.completed(result), id: request.id)
            } catch let error as MCPError {
                answer = MCPText.error(error, id: request.id)
            } catch {
                logger.error("A session could not be recorded", metadata: ["tmcp.error": "\(error)"])
                answer = MCPText.error(.internalError, id: request.id)
            }
            await send(answer, to: request, of: session, logger: logger)
        }
    }

    private func record(
        _ metadata: SessionMetadata,
        of session: ActiveSession,
        caller: MCPCaller
    ) async throws(SessionManagerError) {
        if let clientInfo = metadata.clientInfo {
            try await messages.info.setClientInfo(session.id, clientInfo, principal: caller.principal)
        }
        if let capabilities = metadata.clientCapabilities {
            try await messages.info.setClientCapabilities(session.id, capabilities, principal: caller.principal)
        }
    }

    private func send(_ answer: String, to request: MCPRequest, of session: ActiveSession, logger: Logger) async {
        do throws(SessionManagerError) {
            try await messages.streams.send([session.id], data: answer)
        } catch {
            logger.error("An answer could not be sent", metadata: ["tmcp.error": "\(error)"])
            // The answer may have been too large: the client should not wait for it for ever.
            _ = try? await messages.streams.send([session.id], data: MCPText.error(.internalError, id: request.id))
        }
    }
}
