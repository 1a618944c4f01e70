import Foundation
import HTTPTypes
import Hummingbird
import Logging
import NIOCore
import SessionManager

extension HTTPTransport {
    /// POST: one message, or a batch in the revision that has them.
    func post(_ request: Request, from caller: MCPCaller, logger: Logger) async throws(Refusal) -> Response {
        guard RequestHead.hasJSONBody(request.headers) else {
            throw Refusal(.unsupportedMediaType, .refused("Content-Type must be application/json"))
        }
        guard RequestHead.accepts("application/json", in: request.headers),
            RequestHead.accepts("text/event-stream", in: request.headers)
        else {
            throw Refusal(.notAcceptable, .refused("Accept must list application/json and text/event-stream"))
        }
        var request = request
        let body = try await collectBody(of: &request, upTo: configuration.maximumBodySize)
        guard let json = try? JSONValue(parsing: Data(body.readableBytesView)) else {
            throw Refusal(.badRequest, .parseError)
        }
        if let batch = json.array {
            let session = try await activeSession(of: request, caller: caller)
            let messages = try parse(batch: batch, for: session)
            return await handle(messages, isBatch: true, of: session, caller: caller, logger: logger)
        }
        let message = try parse(json)
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
        return await handle([message], isBatch: false, of: session, caller: caller, logger: logger)
    }

    private func parse(_ json: JSONValue) throws(Refusal) -> MCPMessage {
        do throws(MCPError) {
            return try MCPMessage(json)
        } catch {
            throw Refusal(.badRequest, error, requestID: RequestID(json["id"]))
        }
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
        for element in batch { messages.append(try parse(element)) }
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
    ) async -> Response {
        var requests: [MCPRequest] = []
        for message in messages {
            switch message {
            case .request(let request): requests.append(request)
            case .notification(let notification):
                await receive(notification, of: session, caller: caller, logger: logger)
            case .response: break
            }
        }
        guard !requests.isEmpty else { return Response(status: .accepted) }
        return await answer(requests, isBatch: isBatch, of: session, caller: caller, logger: logger)
    }

    private func receive(
        _ notification: MCPNotification,
        of session: ActiveSession,
        caller: MCPCaller,
        logger: Logger
    ) async {
        if notification.method == "notifications/cancelled", let id = RequestID(notification.params["requestId"]) {
            inFlight.cancel(InFlightRequests.Key(sessionID: session.id, requestID: id))
        }
        let context = context(of: session, caller: caller, request: nil, exchange: nil, logger: logger)
        do {
            try await handler.receive(notification, context: context)
        } catch {
            logFailure(error, of: notification.method, logger: logger)
        }
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
            streams: streams,
            held: held,
            bufferBytes: configuration.streamBufferSize,
            logger: logger
        )
        // Not children of the connection's task: a client that goes away does not cancel its request.
        let handled = requests.map { request in
            let context = context(of: session, caller: caller, request: request, exchange: exchange, logger: logger)
            let task = Task { await answer(to: request, context: context) }
            let key = InFlightRequests.Key(sessionID: session.id, requestID: request.id)
            return (task: task, key: key, number: inFlight.add(key) { task.cancel() })
        }
        Task {
            var answers: [String] = []
            for (task, key, number) in handled {
                answers.append(await task.value)
                inFlight.remove(key, number: number)
            }
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
            let response = EventStreamResponse(
                stream: stream,
                prelude: prelude(of: stream, after: nil, for: session),
                endsWithAnswer: true,
                closesOnShutdown: false,
                configuration: configuration
            )
            return Response(status: .ok, headers: HTTPTransport.streamHeaders, body: response.body(watching: nil))
        }
    }

    private func answer(to request: MCPRequest, context: MCPContext) async -> String {
        switch await outcome(of: request, context: context) {
        case .success(let result): MCPText.result(result, id: request.id)
        case .failure(let error): MCPText.error(error, id: request.id)
        }
    }

    /// Lets the handler answer; whatever it throws becomes an error that a client may see.
    func outcome(of request: MCPRequest, context: MCPContext) async -> Result<JSONValue, MCPError> {
        do {
            return .success(try await handler.respond(to: request, context: context))
        } catch let error as MCPError {
            return .failure(error)
        } catch is CancellationError {
            return .failure(.cancelled)
        } catch {
            logFailure(error, of: request.method, logger: context.logger)
            return .failure(.internalError)
        }
    }

    private static func joined(_ texts: [String], isBatch: Bool) -> String {
        isBatch ? "[" + texts.joined(separator: ",") + "]" : texts.joined()
    }

    /// A handler's error may hold what a client sent, line breaks and terminal sequences included.
    private func logFailure(_ error: any Error, of method: String, logger: Logger) {
        logger.error(
            "A handler failed",
            metadata: [
                "tmcp.method": .string(method.prefix(100).debugDescription),
                "tmcp.error": .string(String(describing: error).prefix(1000).debugDescription),
            ]
        )
    }
}
