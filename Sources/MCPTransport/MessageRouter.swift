import HTTPTypes
import Logging
import NIOConcurrencyHelpers
import SessionManager

/// Hands the messages of a session to the handler, and answers to whoever waits for them. What both transports share.
struct MessageRouter: Sendable {
    let handler: any MCPHandler
    let streams: any StreamSessionManager
    let info: any InfoSessionManager
    let held: HeldStreams
    let inFlight: InFlightRequests
    let clientRequests: ClientRequests
    let lastChange = LastChange()
    private let knownServerInfo = NIOLockedValueBox<JSONValue?>(nil)

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
            answer: exchange,
            router: self
        )
    }

    /// What a handler gets to know of a message of a revision without sessions; of a notification nothing else.
    func context(
        of modern: ModernRequest?,
        caller: MCPCaller,
        answer: DirectAnswer?,
        headers: HTTPFields,
        logger: Logger
    ) -> MCPContext {
        MCPContext(
            sessionID: nil,
            caller: caller,
            protocolVersion: .july2026,
            session: modern?.metadata ?? SessionMetadata(protocolVersion: ProtocolVersion.july2026.rawValue),
            requestID: modern?.request.id,
            progressToken: modern?.request.params["_meta"]?["progressToken"],
            logger: logger,
            answer: answer,
            headers: headers,
            rounds: modern.flatMap(InputRounds.init),
            router: self
        )
    }

    /// What the handler says of the server, as to a client that begins a session.
    func greeting(_ context: MCPContext) async -> Result<JSONValue, MCPError> {
        let request = MCPRequest(
            id: context.requestID ?? .integer(0),
            method: "initialize",
            params: [
                "protocolVersion": .string(context.protocolVersion.rawValue),
                "capabilities": context.session.clientCapabilities ?? [:],
                "clientInfo": context.session.clientInfo ?? [:],
            ]
        )
        let greeting = await outcome(of: request, context: context)
        if case .success(let result) = greeting {
            knownServerInfo.withLockedValue { $0 = $0 ?? result["serverInfo"] ?? .null }
        }
        return greeting
    }

    /// The handler's name and version, which it is asked for until it has answered once; `nil` if it has none for those who
    /// did not begin with `initialize`.
    func serverInfo(_ context: MCPContext) async -> JSONValue? {
        if let known = knownServerInfo.withLockedValue({ $0 }) { return known == .null ? nil : known }
        return try? await greeting(context).get()["serverInfo"]
    }

    /// What of `filter` the server announces that it tells of, and the handler lets a client hear of.
    func authorized(_ filter: ChangeFilter, context: MCPContext) async -> Result<ChangeFilter, MCPError> {
        do {
            let announced = filter.announced(by: try await greeting(context).get()["capabilities"])
            return .success(announced.limited(to: try await handler.authorize(announced, context: context)))
        } catch {
            return .failure(clientError(error, of: "subscriptions/listen", logger: context.logger))
        }
    }

    /// Lets the handler answer; whatever it throws becomes an error that a client may see.
    func outcome(of request: MCPRequest, context: MCPContext) async -> Result<JSONValue, MCPError> {
        do {
            return .success(try await handler.respond(to: request, context: context))
        } catch let question as InputRounds.InputRequired {
            return .success(question.result)
        } catch {
            return .failure(clientError(error, of: request.method, logger: context.logger))
        }
    }

    /// What a client may see of a handler's error.
    private func clientError(_ error: any Error, of method: String, logger: Logger) -> MCPError {
        if let error = error as? MCPError { return error }
        if error is CancellationError { return .cancelled }
        logFailure(error, of: method, logger: logger)
        return .internalError
    }

    /// Begins to answer a request. Not as a child of the connection's task: a client that goes away does not cancel
    /// its request.
    func answering(_ request: MCPRequest, of session: ActiveSession, context: MCPContext) -> InFlightRequests.Handle {
        let task = Task { [self] in
            MCPText.answer(await outcome(of: request, context: context), id: request.id)
        }
        return inFlight.add(
            InFlightRequests.Key(sessionID: session.id, requestID: request.id),
            principal: context.principal,
            task: task,
            logger: context.logger
        )
    }

    /// Passes a notification on; one that cancels a request does so wherever the request is handled.
    func receive(_ notification: MCPNotification, context: MCPContext) async {
        if notification.method == "notifications/cancelled", let sessionID = context.sessionID,
            let id = RequestID(notification.params["requestId"])
        {
            await inFlight.cancel(
                InFlightRequests.Key(sessionID: sessionID, requestID: id),
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
