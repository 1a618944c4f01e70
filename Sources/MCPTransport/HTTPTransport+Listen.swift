import Hummingbird
import Logging
import NIOCore
import SessionManager

extension HTTPTransport {
    /// `subscriptions/listen`: a stream of the changes that the client asks for and may hear of.
    ///
    /// Source: MCP 2026-07-28, `basic/patterns/subscriptions`.
    func listen(
        _ modern: ModernRequest,
        on request: Request,
        caller: MCPCaller,
        logger: Logger
    ) async throws(Refusal) -> Response {
        let requestID = modern.request.id
        let context = messages.context(
            of: modern,
            caller: caller,
            answer: nil,
            headers: request.headers,
            logger: logger
        )
        let requested: ChangeFilter
        do throws(MCPError) {
            requested = try ChangeFilter(modern.request.params["notifications"])
        } catch {
            throw Refusal(.badRequest, error, requestID: requestID)
        }
        let filter: ChangeFilter
        switch await messages.authorized(requested, context: context) {
        case .success(let allowed): filter = allowed
        case .failure(let error):
            let failure = Result<JSONValue, MCPError>.failure(ModernResult.error(error))
            return HTTPTransport.jsonResponse(
                MCPText.answer(failure, id: requestID),
                status: HTTPTransport.status(of: failure)
            )
        }
        let serverInfo = await messages.serverInfo(context)
        let stream: OutgoingStream
        do throws(SessionManagerError) {
            stream = try await openListeningStream(filter, principal: caller.principal, logger: logger)
        } catch {
            throw Refusal(listening: error, requestID: requestID)
        }
        let lastChange = messages.lastChange
        let subscription = Subscription(id: requestID, filter: filter, serverInfo: serverInfo)
        return respond(
            with: EventStreamResponse(
                stream: stream,
                prelude: ServerSentEvent.message(subscription.acknowledgement),
                endsWithAnswer: false,
                closesOnShutdown: true,
                timing: timing,
                encode: { message in
                    let change = lastChange.change(message.data)
                    if let data = subscription.tagged(change) { return ServerSentEvent.message(data) }
                    logger.error("A change was published with a message that does not tell of it; it was left out")
                    return ServerSentEvent.comment("left out")
                },
                // Nobody takes such a stream over, so that the result need not wait until it has been let go of.
                completion: { closing in
                    // A stream that lost something just breaks off: the client listens again, and reads again. The
                    // result is all that is sent at an orderly end; notifications/cancelled is for stdio.
                    switch closing {
                    case .ended, .detached: ServerSentEvent.message(subscription.completion)
                    case .purged, .tooSlow, .takenOver: nil
                    }
                }
            ),
            watching: request
        )
    }

    private func openListeningStream(
        _ filter: ChangeFilter,
        principal: String?,
        logger: Logger
    ) async throws(SessionManagerError) -> OutgoingStream {
        // No session has an id with a slash.
        let id = "listen/" + SecureRandom.base64URL(bytes: 16)
        let buffer = MessageStream(byteLimit: configuration.streamBufferSize)
        let controller = ConnectionController(buffer.controller)
        let streams = messages.streams
        try await streams.listen(id, controller: controller, filter: filter, principal: principal)
        let lease = StreamLease {
            do throws(SessionManagerError) {
                try await streams.detach(id)
            } catch {
                logger.warning("A listening stream was not let go of", metadata: ["tmcp.error": "\(error)"])
            }
        }
        return OutgoingStream(messages: buffer, controller: controller, lease: lease)
    }
}

extension Refusal {
    /// What a failure to open a listening stream means to the client.
    fileprivate init(listening error: SessionManagerError, requestID: RequestID) {
        switch error.code {
        case .invalidArgument, .streamHeld:
            let reason = MCPError.invalidParams("a filter that the server cannot listen for")
            self.init(.badRequest, reason, requestID: requestID)
        case .sessionLimitReached, .principalSessionLimitReached:
            self.init(error, requestID: requestID)
            self.error.message = "As many streams listen as may: close one, or try again later"
        default:
            self.init(error, requestID: requestID)
        }
        self = withModernCode
    }
}
