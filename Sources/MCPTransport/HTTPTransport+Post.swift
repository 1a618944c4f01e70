import HTTPTypes
import Hummingbird
import Logging
import NIOCore
import SessionManager

extension HTTPTransport {
    /// POST: one message, or a batch in the revision that has them.
    func post(_ request: Request, from caller: MCPCaller, logger: Logger) async throws(Refusal) -> Response {
        try RequestHead.requireJSONBody(request.headers)
        guard RequestHead.accepts("application/json", in: request.headers),
            RequestHead.accepts("text/event-stream", in: request.headers)
        else {
            throw Refusal(.notAcceptable, .refused("Accept must list application/json and text/event-stream"))
        }
        var request = request
        let json = try await request.collectJSON(upTo: configuration.maximumBodySize)
        if ModernRequest.isModern(json, headers: request.headers) {
            return try await answerModern(json, of: request, from: caller, logger: logger)
        }
        if let batch = json.array {
            let session = try await activeSession(of: request, caller: caller)
            let messages = try parse(batch: batch, for: session)
            return try await handle(messages, isBatch: true, of: session, caller: caller, logger: logger)
        }
        let message = try MCPMessage.parsed(json)
        if case .request(let initialize) = message, initialize.method == "initialize" {
            return try await start(initialize, caller: caller, logger: logger)
        }
        let session: ActiveSession
        do throws(Refusal) {
            session = try await activeSession(of: request, caller: caller)
        } catch {
            var refusal = error
            if case .request(let request) = message { refusal.requestID = request.id }
            throw refusal
        }
        return try await handle([message], isBatch: false, of: session, caller: caller, logger: logger)
    }

    private func parse(batch: [JSONValue], for session: ActiveSession) throws(Refusal) -> [MCPMessage] {
        guard session.protocolVersion == .march2025 else {
            throw Refusal(.badRequest, .invalidRequest("this revision of MCP has no batches"))
        }
        guard (1...configuration.maximumBatchSize).contains(batch.count) else {
            throw Refusal(
                .badRequest,
                .invalidRequest("a batch has 1 to \(configuration.maximumBatchSize) messages")
            )
        }
        var messages: [MCPMessage] = []
        for element in batch { messages.append(try MCPMessage.parsed(element)) }
        let startsSession = messages.contains { message in
            guard case .request(let request) = message else { return false }
            return request.method == "initialize"
        }
        guard !startsSession else { throw Refusal(.badRequest, .invalidRequest("initialize must stand alone")) }
        return messages
    }

    private func handle(
        _ messages: [MCPMessage],
        isBatch: Bool,
        of session: ActiveSession,
        caller: MCPCaller,
        logger: Logger
    ) async throws(Refusal) -> Response {
        var requests: [MCPRequest] = []
        for message in messages {
            switch message {
            case .request(let request):
                requests.append(request)
            case .notification(let notification):
                let context = self.messages.context(
                    of: session,
                    caller: caller,
                    request: nil,
                    exchange: nil,
                    logger: logger
                )
                await self.messages.receive(notification, context: context)
            case .response(let response):
                do throws(SessionManagerError) {
                    try await self.messages.clientRequests.deliver(response, session: session.id)
                } catch {
                    throw Refusal(error)
                }
            }
        }
        guard !requests.isEmpty else { return Response(status: .accepted) }
        return await answer(requests, isBatch: isBatch, of: session, caller: caller, logger: logger)
    }

    private func answer(
        _ requests: [MCPRequest],
        isBatch: Bool,
        of session: ActiveSession,
        caller: MCPCaller,
        logger: Logger
    ) async -> Response {
        let exchange = Exchange(
            sessionID: session.id,
            principal: caller.principal,
            streams: messages.streams,
            held: messages.held,
            bufferBytes: configuration.streamBufferSize,
            logger: logger
        )
        let handled = requests.map { request in
            messages.answering(
                request,
                of: session,
                context: messages.context(
                    of: session,
                    caller: caller,
                    request: request,
                    exchange: exchange,
                    logger: logger
                )
            )
        }
        messages.inFlight.perform {
            var answers: [String] = []
            for request in handled { answers.append(await request.answer()) }
            let failures = requests.map { MCPText.error(.internalError, id: $0.id) }
            await exchange.finish(
                HTTPTransport.joined(answers, isBatch: isBatch),
                orElse: HTTPTransport.joined(failures, isBatch: isBatch)
            )
        }
        switch await exchange.firstOutcome() {
        case .answered(let text):
            return HTTPTransport.jsonResponse(text)
        case .streaming(let stream):
            return streamResponse(stream, prelude: prelude(of: stream, after: nil, for: session), watching: nil)
        }
    }

    private static func joined(_ texts: [String], isBatch: Bool) -> String {
        isBatch ? "[" + texts.joined(separator: ",") + "]" : texts.joined()
    }
}
