import Logging
import SessionManager

/// Hands the messages of a session to the handler, and answers to whoever waits for them. What both transports share.
struct MessageRouter: Sendable {
    let handler: any MCPHandler
    let streams: any StreamSessionManager
    let info: any InfoSessionManager
    let held: HeldStreams
    let inFlight: InFlightRequests
    let clientRequests: ClientRequests

    init(
        handler: any MCPHandler,
        sessionManager: (streams: any StreamSessionManager, info: any InfoSessionManager)?
    ) {
        self.handler = handler
        if let sessionManager {
            (streams, info) = sessionManager
        } else {
            let store = InMemorySessionStore()
            streams = InMemoryStreamSessionManager(store: store)
            info = InMemoryInfoSessionManager(store: store)
        }
        held = HeldStreams(streams)
        inFlight = InFlightRequests(streams: streams, held: held)
        clientRequests = ClientRequests(streams: streams, held: held)
    }

    /// What a handler gets to know of a message.
    func context(
        of session: ActiveSession,
        caller: MCPCaller,
        request: MCPRequest?,
        exchange: Exchange?,
        logger: Logger
    ) -> MCPContext {
        MCPContext(
            sessionID: session.id,
            caller: caller,
            protocolVersion: session.protocolVersion,
            session: session.metadata,
            requestID: request?.id,
            progressToken: request?.params["_meta"]?["progressToken"],
            logger: logger,
            exchange: exchange,
            router: self
        )
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

    /// Begins to answer a request. Not as a child of the connection's task: a client that goes away does not cancel
    /// its request.
    func answering(_ request: MCPRequest, context: MCPContext) -> InFlightRequests.Handle {
        let task = Task { [self] in
            switch await outcome(of: request, context: context) {
            case .success(let result): MCPText.result(result, id: request.id)
            case .failure(let error): MCPText.error(error, id: request.id)
            }
        }
        return inFlight.add(
            InFlightRequests.Key(sessionID: context.sessionID, requestID: request.id),
            principal: context.principal,
            task: task,
            logger: context.logger
        )
    }

    /// Passes a notification on; one that cancels a request does so wherever the request is handled.
    func receive(_ notification: MCPNotification, context: MCPContext) async {
        if notification.method == "notifications/cancelled", let id = RequestID(notification.params["requestId"]) {
            await inFlight.cancel(
                InFlightRequests.Key(sessionID: context.sessionID, requestID: id),
                logger: context.logger
            )
        }
        do {
            try await handler.receive(notification, context: context)
        } catch {
            logFailure(error, of: notification.method, logger: context.logger)
        }
    }

    /// A handler's error may hold what a client sent, line breaks and terminal sequences included.
    private func logFailure(_ error: any Error, of method: String, logger: Logger) {
        logger.error(
            "A handler failed",
            metadata: [
                "tmcp.method": .string(String(method.prefix(100)).debugDescription),
                "tmcp.error": .string(String(String(describing: error).prefix(1000)).debugDescription),
            ]
        )
    }
}
