import HTTPTypes
import Hummingbird
import Logging
import NIOCore
import SessionManager

extension HTTPTransport {
    /// How long a request may take before its answer becomes a stream, whose connection is watched.
    private static let patience: Duration = .seconds(1)

    /// What these revisions have no more, though the handler may answer it for others.
    private static let removedMethods: Set<String> = [
        "initialize", "ping", "logging/setLevel", "resources/subscribe", "resources/unsubscribe",
    ]

    /// Answers a POST of a revision without sessions. Ids of sessions and events are not looked at.
    func answerModern(
        _ json: JSONValue,
        of request: Request,
        from caller: MCPCaller,
        logger: Logger
    ) async throws(Refusal) -> Response {
        var request = request
        // What was read of it is not kept for as long as the answer is a stream.
        request.body = RequestBody(buffer: ByteBuffer())
        switch try MCPMessage.parsed(json) {
        case .response:
            throw Refusal(.badRequest, .invalidRequest("a client of this revision sends no responses"))
        case .notification(let notification):
            try ModernRequest.check(notification, headers: request.headers)
            let context = messages.context(
                of: nil,
                caller: caller,
                answer: nil,
                headers: request.headers,
                logger: logger
            )
            await messages.receive(notification, context: context)
            return Response(status: .accepted)
        case .request(let message):
            let modern = try ModernRequest(message, headers: request.headers)
            guard !HTTPTransport.removedMethods.contains(message.method) else {
                throw Refusal(.notFound, .methodNotFound(message.method), requestID: message.id)
            }
            if message.method == "subscriptions/listen" {
                return try await listen(modern, on: request, caller: caller, logger: logger)
            }
            return await answer(modern, on: request, caller: caller, logger: logger)
        }
    }

    private func answer(
        _ modern: ModernRequest,
        on request: Request,
        caller: MCPCaller,
        logger: Logger
    ) async -> Response {
        let buffer = MessageStream(byteLimit: configuration.streamBufferSize)
        let controller = ConnectionController(buffer.controller)
        let answer = DirectAnswer(to: modern.request.id, stream: controller)
        let context = messages.context(
            of: modern,
            caller: caller,
            answer: answer,
            headers: request.headers,
            logger: logger
        )
        let drainTime = configuration.drainTime
        let task = Task {
            await answer.finish(await result(of: modern.request, context: context), within: drainTime)
        }
        // A shutdown waits for it, even when it has not become a stream.
        messages.inFlight.perform { await task.value }
        let patience = Task {
            try await Task.sleep(for: HTTPTransport.patience)
            await answer.becomeStream()
        }
        defer { patience.cancel() }
        switch await answer.firstOutcome() {
        case .answered(let result):
            return HTTPTransport.jsonResponse(
                MCPText.answer(result, id: modern.request.id),
                status: HTTPTransport.status(of: result)
            )
        case .streaming:
            return respond(
                with: EventStreamResponse(
                    stream: OutgoingStream(
                        messages: buffer,
                        controller: controller,
                        lease: StreamLease { task.cancel() }
                    ),
                    prelude: ServerSentEvent.comment("open"),
                    endsWithAnswer: false,
                    closesOnShutdown: false,
                    timing: timing,
                    encode: { ServerSentEvent.message($0.data) }
                ),
                watching: request
            )
        }
    }

    private func result(of request: MCPRequest, context: MCPContext) async -> Result<JSONValue, MCPError> {
        let outcome: Result<JSONValue, MCPError>
        if request.method == "server/discover" {
            outcome = await messages.greeting(context).map(ModernResult.discovery(from:))
        } else {
            outcome = await messages.outcome(of: request, context: context)
        }
        let serverInfo = await messages.serverInfo(context)
        return
            outcome
            .map { ModernResult.completed($0, of: request.method, serverInfo: serverInfo) }
            .mapError(ModernResult.error)
    }

    /// Revisions without sessions tell these errors by the status too, for those who do not read the body.
    static func status(of result: Result<JSONValue, MCPError>) -> HTTPResponse.Status {
        guard case .failure(let error) = result else { return .ok }
        switch error.code {
        case -32601: return .notFound
        case -32022 ... -32020: return .badRequest
        default: return .ok
        }
    }
}
