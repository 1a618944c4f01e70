import HTTPTypes
public import Hummingbird
public import Logging
public import SessionManager

/// MCP over HTTP+SSE, the transport of revision 2024-11-05, for clients that know no other.
///
/// A GET opens the stream, and its first event says where to POST. Every POST is answered with 202, and what it asks
/// for travels on the stream, whichever process holds it. The session ends with its stream: this transport has no way
/// to resume one.
public struct SSETransport: Sendable {
    /// How the transport behaves.
    public let configuration: SSETransportConfiguration

    let messages: MessageRouter

    /// A transport that carries the messages of `handler`.
    ///
    /// - Parameters:
    ///   - handler: what answers the messages.
    ///   - sessionManager: where streams and sessions are kept. Default: `nil`, in memory. It may be the one of an
    ///     ``HTTPTransport``.
    ///   - configuration: how the transport behaves.
    public init(
        handler: any MCPHandler,
        sessionManager: (streams: any StreamSessionManager, info: any InfoSessionManager)? = nil,
        configuration: SSETransportConfiguration = SSETransportConfiguration()
    ) {
        self.configuration = configuration
        messages = MessageRouter(handler: handler, sessionManager: sessionManager)
    }

    /// Whether a request is for one of the two paths.
    func serves(_ path: String) -> Bool {
        path == configuration.path || path == configuration.endpoint
    }

    /// Answers one request to either path, whatever its method.
    ///
    /// - Parameters:
    ///   - request: the request, its body not yet read.
    ///   - caller: who sends it.
    ///   - logger: where failures are logged. Nothing that a client controls is logged unescaped.
    public func respond(to request: Request, caller: MCPCaller = MCPCaller(), logger: Logger) async -> Response {
        let rules = AccessRules(
            allowedOrigins: configuration.allowedOrigins,
            allowedHosts: configuration.allowedHosts,
            cors: configuration.cors
        )
        return await rules.respond(to: request) { () throws(Refusal) in
            let isStream = request.uri.path == configuration.path
            let method: HTTPRequest.Method = isStream ? .get : .post
            switch request.method {
            case .options:
                return Response(status: .noContent, headers: [.allow: "\(method.rawValue), OPTIONS"])
            case method where isStream:
                return try await open(request, caller: caller, logger: logger)
            case method:
                return try await post(request, caller: caller, logger: logger)
            default:
                throw Refusal(
                    .methodNotAllowed,
                    .refused("Method not allowed"),
                    headers: [.allow: "\(method.rawValue), OPTIONS"]
                )
            }
        }
    }

    private func open(_ request: Request, caller: MCPCaller, logger: Logger) async throws(Refusal) -> Response {
        guard RequestHead.accepts("text/event-stream", in: request.headers) else {
            throw Refusal(.notAcceptable, .refused("Accept must list text/event-stream"))
        }
        var request = request
        try await request.collectWholeBody(upTo: 1024)
        let id = try RequestHead.newSessionID(configuration.makeSessionID, logger: logger)
        let stream: Exchange.OpenStream
        do throws(SessionManagerError) {
            let version = ProtocolVersion.november2024.rawValue
            let metadata = SessionMetadata(protocolVersion: version)
            try await messages.info.start(id, metadata: metadata, principal: caller.principal)
            stream = try await openStream(id, caller: caller, logger: logger)
        } catch {
            throw Refusal(error)
        }
        let info = messages.info
        let reconnectDelay = configuration.reconnectDelay
        let response = EventStreamResponse(
            stream: stream.outgoing,
            prelude: ServerSentEvent.named("endpoint", data: "\(configuration.endpoint)?session_id=\(escaped(id))"),
            endsWithAnswer: false,
            closesOnShutdown: true,
            timing: StreamTiming(
                keepAliveInterval: configuration.keepAliveInterval,
                drainTime: configuration.drainTime
            ),
            encode: { ServerSentEvent.named("message", data: $0.data) },
            onEnd: {
                do throws(SessionManagerError) {
                    try await info.delete(id, principal: caller.principal)
                } catch {
                    logger.warning("A session was left to expire", metadata: ["tmcp.error": "\(error)"])
                }
            },
            epilogue: { $0.comesBack ? ServerSentEvent.retry(reconnectDelay) : nil }
        )
        return Response(
            status: .ok,
            headers: ServerSentEvent.headers(closing: !configuration.servesHTTP2),
            body: response.body(watching: request)
        )
    }

    private func openStream(
        _ id: String,
        caller: MCPCaller,
        logger: Logger
    ) async throws(SessionManagerError) -> Exchange.OpenStream {
        try await messages.held.openStream(
            .standalone,
            of: id,
            bufferBytes: configuration.streamBufferSize,
            options: StreamOptions(principal: caller.principal),
            logger: logger
        )
    }

    /// A session id as it can stand in the query of a uri.
    private func escaped(_ id: String) -> String {
        id.utf8.map { byte in
            SecureRandom.isBase64URL(byte)
                ? String(UnicodeScalar(byte)) : "%" + SecureRandom.hex(CollectionOfOne(byte)).uppercased()
        }.joined()
    }
}
