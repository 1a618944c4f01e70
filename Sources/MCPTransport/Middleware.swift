import HTTPTypes
public import Hummingbird

/// Finds out who sends a request, from what the application's own middleware left in its context. What it throws
/// becomes the response: `HTTPError(.unauthorized)`, for instance. It is not asked for `OPTIONS`, which browsers send
/// without credentials.
public typealias MCPCallerOf<Context> = @Sendable (Request, Context) async throws -> MCPCaller

extension Request {
    /// Who sends the request; nobody in particular where a browser asks whether it may send one.
    fileprivate func sender<Context>(by caller: MCPCallerOf<Context>, _ context: Context) async throws -> MCPCaller {
        method == .options ? MCPCaller() : try await caller(self, context)
    }
}

extension HTTPTransport {
    /// Middleware that answers the requests to the endpoint's path and passes on all others.
    ///
    /// - Parameter caller: who sends a request. Default: nobody in particular.
    public func middleware<Context: RequestContext>(
        caller: @escaping MCPCallerOf<Context> = { _, _ in MCPCaller() }
    ) -> HTTPTransportMiddleware<Context> {
        HTTPTransportMiddleware(transport: self, caller: caller)
    }

    /// Adds the endpoint to a router or to a group of one, for every method that HTTP itself defines.
    ///
    /// - Parameters:
    ///   - router: the router or group.
    ///   - path: the path of the endpoint. Default: `nil`, the path of the configuration.
    ///   - caller: who sends a request. Default: nobody in particular.
    public func addRoutes<Router: RouterMethods>(
        to router: Router,
        path: RouterPath? = nil,
        caller: @escaping MCPCallerOf<Router.Context> = { _, _ in MCPCaller() }
    ) {
        let path = path ?? RouterPath(configuration.path ?? "/**")
        let methods: [HTTPRequest.Method] = [.get, .head, .post, .put, .delete, .connect, .options, .trace, .patch]
        for method in methods {
            router.on(path, method: method) { request, context in
                await respond(
                    to: request,
                    caller: try await request.sender(by: caller, context),
                    logger: context.logger
                )
            }
        }
    }
}

/// Answers the requests to an ``HTTPTransport`` endpoint. See ``HTTPTransport/middleware(caller:)``.
public struct HTTPTransportMiddleware<Context: RequestContext>: RouterMiddleware {
    let transport: HTTPTransport
    let caller: MCPCallerOf<Context>

    /// Answers a request to the endpoint; passes on any other.
    public func handle(
        _ request: Request,
        context: Context,
        next: (Request, Context) async throws -> Response
    ) async throws -> Response {
        guard transport.configuration.path.map({ $0 == request.uri.path }) ?? true else {
            return try await next(request, context)
        }
        return await transport.respond(
            to: request,
            caller: try await request.sender(by: caller, context),
            logger: context.logger
        )
    }
}

extension SSETransport {
    /// Middleware that answers the requests to the transport's two paths and passes on all others.
    ///
    /// - Parameter caller: who sends a request. Default: nobody in particular.
    public func middleware<Context: RequestContext>(
        caller: @escaping MCPCallerOf<Context> = { _, _ in MCPCaller() }
    ) -> SSETransportMiddleware<Context> {
        SSETransportMiddleware(transport: self, caller: caller)
    }
}

/// Answers the requests to an ``SSETransport``. See ``SSETransport/middleware(caller:)``.
public struct SSETransportMiddleware<Context: RequestContext>: RouterMiddleware {
    let transport: SSETransport
    let caller: MCPCallerOf<Context>

    /// Answers a request to the transport; passes on any other.
    public func handle(
        _ request: Request,
        context: Context,
        next: (Request, Context) async throws -> Response
    ) async throws -> Response {
        guard transport.serves(request.uri.path) else { return try await next(request, context) }
        return await transport.respond(
            to: request,
            caller: try await request.sender(by: caller, context),
            logger: context.logger
        )
    }
}
