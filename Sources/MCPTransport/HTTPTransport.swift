import HTTPTypes
public import Hummingbird
public import Logging
public import SessionManager

/// MCP over Streamable HTTP, revisions 2025-03-26, 2025-06-18, 2025-11-25 and 2026-07-28 on one endpoint, on a
/// Hummingbird router.
///
/// ```swift
/// let transport = HTTPTransport(handler: MyServer(), sessionManager: (streams, info))
/// router.add(middleware: transport.middleware())
/// ```
///
/// Any request of a session may reach any process, as long as the processes share their session managers. The default
/// managers are in memory: for one process.
///
/// Give the application a limit to idle connections, since Hummingbird has none by default and keeps a connection on
/// which half a request came for as long as its client likes:
/// `Application(router: router, server: .http1(configuration: .init(idleTimeout: .seconds(60))))`. Streams are not idle.
public struct HTTPTransport: Sendable {
    /// How the transport behaves.
    public let configuration: HTTPTransportConfiguration

    let messages: MessageRouter

    /// A transport that carries the messages of `handler`.
    ///
    /// - Parameters:
    ///   - handler: what answers the messages.
    ///   - sessionManager: where streams and sessions are kept. Default: `nil`, in memory.
    ///   - configuration: how the transport behaves.
    public init(
        handler: any MCPHandler,
        sessionManager: (streams: any StreamSessionManager, info: any InfoSessionManager)? = nil,
        configuration: HTTPTransportConfiguration = HTTPTransportConfiguration()
    ) {
        self.configuration = configuration
        messages = MessageRouter(handler: handler, sessionManager: sessionManager)
    }

    /// Answers one request to the endpoint, whatever its method and path.
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
            do throws(Refusal) {
                return try await dispatch(request, from: caller, logger: logger)
            } catch {
                throw ModernRequest.namesServedModern(request.headers) ? error.withModernCode : error
            }
        }
    }

    private func dispatch(
        _ request: Request,
        from caller: MCPCaller,
        logger: Logger
    ) async throws(Refusal) -> Response {
        if [.get, .delete].contains(request.method), ModernRequest.namesServedModern(request.headers) {
            throw Refusal(
                .methodNotAllowed,
                .invalidRequest("this revision has POST only"),
                headers: [.allow: "POST, OPTIONS"]
            )
        }
        return switch request.method {
        case .post: try await post(request, from: caller, logger: logger)
        case .get where !configuration.disableSSE: try await get(request, from: caller, logger: logger)
        case .delete: try await delete(request, from: caller)
        case .options: Response(status: .noContent, headers: [.allow: allowedMethods])
        default:
            throw Refusal(.methodNotAllowed, .refused("Method not allowed"), headers: [.allow: allowedMethods])
        }
    }

    private var allowedMethods: String {
        configuration.disableSSE ? "POST, DELETE, OPTIONS" : "GET, POST, DELETE, OPTIONS"
    }
}
