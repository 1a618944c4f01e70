import Hummingbird
import SessionManager
import Testing

@testable import MCPTransport

/// How an application binds sessions to its users: its own middleware finds out who calls, the transport is told.
@Suite struct BearerTokenTests {
    struct User: Sendable {
        var name: String
        var mayWrite: Bool
    }

    struct UserContext: RequestContext {
        var coreContext: CoreRequestContextStorage
        var user: User?

        init(source: ApplicationRequestContextSource) {
            coreContext = .init(source: source)
        }
    }

    struct Authentication: RouterMiddleware {
        let users: [String: User]

        func handle(
            _ request: Request,
            context: UserContext,
            next: (Request, UserContext) async throws -> Response
        ) async throws -> Response {
            let header = request.headers[.authorization] ?? ""
            guard header.hasPrefix("Bearer "), let user = users[String(header.dropFirst("Bearer ".count))] else {
                throw HTTPError(.unauthorized, headers: [.wwwAuthenticate: "Bearer"])
            }
            var context = context
            context.user = user
            return try await next(request, context)
        }
    }

    struct Handler: MCPHandler {
        func respond(to request: MCPRequest, context: MCPContext) async throws -> JSONValue {
            if request.method == "initialize" { return ["capabilities": [:]] }
            return [
                "principal": .string(context.principal ?? ""),
                "write": .bool(context.custom(User.self)?.mayWrite ?? false),
            ]
        }
    }

    @Test("A bearer token decides whose session it is, and the handler hears of its user")
    func tokens() async throws {
        let transport = HTTPTransport(handler: Handler())
        let router = Router(context: UserContext.self)
        router.add(
            middleware: Authentication(users: [
                "token-a": User(name: "alice", mayWrite: true), "token-b": User(name: "bob", mayWrite: false),
            ])
        )
        transport.addRoutes(to: router) { _, context in
            MCPCaller(principal: context.user?.name, custom: context.user)
        }
        try await TestServer.run(router: router) { port in
            func reply(_ request: String) async throws -> TestConnection.Reply {
                let connection = try TestConnection(port: port)
                await connection.send(request)
                return try await connection.reply()
            }
            func headers(_ token: String) -> String { TestServer.acceptBoth + "Authorization: Bearer \(token)\r\n" }
            let anonymous = try await reply(TestServer.post(TestServer.initialize()))
            #expect(anonymous.status == 401)
            #expect(anonymous.headers["www-authenticate"] == "Bearer")
            let start = try await reply(TestServer.post(TestServer.initialize(), headers: headers("token-a")))
            let session = try #require(start.headers["mcp-session-id"])
            let mine = try await reply(
                TestServer.post(TestServer.request("who"), session: session, headers: headers("token-a"))
            )
            #expect(mine.body.contains(#"{"principal":"alice","write":true}"#))
            let stolen = try await reply(
                TestServer.post(TestServer.request("who"), session: session, headers: headers("token-b"))
            )
            #expect(stolen.status == 404)
        }
    }

    @Test("The example of a bearer token in the documentation lets in who has one, as its user")
    func bearerTokenExample() async throws {
        let users = ["token-a": "alice", "token-b": "bob"]
        let caller: MCPCallerOf<BasicRequestContext> = { request, _ in
            let header = request.headers[.authorization] ?? ""
            guard header.hasPrefix("Bearer "), let user = users[String(header.dropFirst("Bearer ".count))] else {
                throw HTTPError(.unauthorized, headers: [.wwwAuthenticate: "Bearer"])
            }
            return MCPCaller(principal: user)
        }
        try await TestServer.run(caller: caller) { server in
            let start = TestServer.initialize()
            #expect(try await server.exchange(TestServer.post(start)).status == 401)
            let headers = TestServer.acceptBoth + "Authorization: Bearer token-b\r\n"
            let session = try await server.exchange(TestServer.post(start, headers: headers)).headers["mcp-session-id"]
            let reply = try await server.exchange(
                TestServer.post(TestServer.request("principal"), session: session, headers: headers)
            )
            #expect(reply.body.contains("bob"))
        }
    }
}
