// The code of AddingMCP.md. Tests/docs/snippets compares it with the article.

import Hummingbird
import Logging
import MCPTransport
import SessionManager

// snippet: handler
struct Countdown: MCPHandler {
    func respond(to request: MCPRequest, context: MCPContext) async throws -> JSONValue {
        switch request.method {
        case "initialize":
            return ["capabilities": ["tools": [:]], "serverInfo": ["name": "countdown", "version": "1.0.0"]]
        case "ping":
            return [:]
        case "tools/list":
            return ["tools": [["name": "count", "inputSchema": ["type": "object"]]]]
        case "tools/call":
            guard request.params["name"] == "count" else { throw MCPError.invalidParams("there is no such tool") }
            for step in 1...3 {
                try await context.reportProgress(Double(step), total: 3)
                try await Task.sleep(for: .seconds(1))
            }
            return ["content": [["type": "text", "text": "Lift-off"]]]
        default:
            throw MCPError.methodNotFound(request.method)
        }
    }
}
// end

struct Library: MCPHandler {
    let mayRead: @Sendable (_ uri: String, _ principal: String?) async -> Bool

    func respond(to request: MCPRequest, context: MCPContext) async throws -> JSONValue {
        throw MCPError.methodNotFound(request.method)
    }

    // snippet: authorize
    func authorize(_ filter: ChangeFilter, context: MCPContext) async throws -> ChangeFilter {
        var allowed = ChangeFilter(lists: filter.lists)
        for uri in filter.resources where await mayRead(uri, context.principal) {
            allowed.resources.append(uri)
        }
        return allowed
    }
    // end
}

// snippet: users
struct User: Sendable {
    var name: String
}

struct UserContext: RequestContext {
    var coreContext: CoreRequestContextStorage
    var user: User?

    init(source: ApplicationRequestContextSource) {
        coreContext = .init(source: source)
    }
}

struct BearerTokens: RouterMiddleware {
    /// Whose token it is; `nil` for one that is not, or no longer, good.
    let user: @Sendable (_ token: Substring) async throws -> User?

    func handle(
        _ request: Request,
        context: UserContext,
        next: (Request, UserContext) async throws -> Response
    ) async throws -> Response {
        // A browser asks without a token whether it may send one.
        guard request.method != .options else { return try await next(request, context) }
        let header = request.headers[.authorization] ?? ""
        guard header.hasPrefix("Bearer "), let user = try await user(header.dropFirst("Bearer ".count)) else {
            throw HTTPError(.unauthorized, headers: [.wwwAuthenticate: "Bearer"])
        }
        var context = context
        context.user = user
        return try await next(request, context)
    }
}
// end

func countdownRouter() -> Router<BasicRequestContext> {
    // snippet: middleware
    let router = Router()
    let transport = HTTPTransport(handler: Countdown())
    router.add(middleware: transport.middleware())
    router.get("/health") { _, _ in "ok" }
    // end
    return router
}

func authenticatedRouter(
    _ transport: HTTPTransport,
    user: @escaping @Sendable (Substring) async throws -> User?
) -> Router<UserContext> {
    // snippet: caller
    let router = Router(context: UserContext.self)
    router.add(middleware: BearerTokens(user: user))
    transport.addRoutes(to: router) { _, context in
        MCPCaller(principal: context.user?.name, custom: context.user)
    }
    // end
    return router
}

// snippet: ask
func confirm(_ question: String, context: MCPContext) async throws -> Bool {
    guard context.session.clientCapabilities?["elicitation"]?.object != nil else { return false }
    let answer = try await context.request(
        "elicitation/create",
        params: ["message": .string(question), "requestedSchema": ["type": "object", "properties": [:]]],
        timeout: .seconds(60)
    )
    return answer["action"] == "accept"
}
// end

// snippet: configuration
func browserConfiguration() -> HTTPTransportConfiguration {
    var configuration = HTTPTransportConfiguration()
    configuration.allowedHosts = ["mcp.example.com"]
    configuration.cors = CORS(origin: .only(["https://app.example.com"]), maxAge: 600)
    return configuration
}
// end
