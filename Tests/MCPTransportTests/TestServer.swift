import Hummingbird
import Logging
import NIOConcurrencyHelpers
import NIOCore
import ServiceLifecycle
import SessionManager

@testable import MCPTransport

/// Servers over real sockets. Several over one store are like several processes over one database.
struct TestServer: Sendable {
    let port: Int
    let store: InMemorySessionStore
    let streams: any StreamSessionManager
    let services: ServiceGroup

    /// Runs a server while `body` does.
    static func run(
        handler: any MCPHandler = TestHandler(),
        store: InMemorySessionStore = InMemorySessionStore(),
        streams: (any StreamSessionManager)? = nil,
        caller: @escaping MCPCallerOf<BasicRequestContext> = { _, _ in MCPCaller() },
        configure: (inout HTTPTransportConfiguration) -> Void = { _ in },
        _ body: (TestServer) async throws -> Void
    ) async throws {
        var configuration = HTTPTransportConfiguration()
        configure(&configuration)
        let streams = streams ?? InMemoryStreamSessionManager(store: store)
        let transport = HTTPTransport(
            handler: handler,
            sessionManager: (streams, InMemoryInfoSessionManager(store: store)),
            configuration: configuration
        )
        let router = Router()
        router.add(middleware: transport.middleware(caller: caller))
        let legacy = SSETransport(handler: handler, sessionManager: (streams, InMemoryInfoSessionManager(store: store)))
        router.add(middleware: legacy.middleware(caller: caller))
        router.get("/health") { _, _ in "ok" }
        let services = NIOLockedValueBox<ServiceGroup?>(nil)
        try await run(router: router, services: services) { port in
            guard let services = services.withLockedValue({ $0 }) else { return }
            try await body(TestServer(port: port, store: store, streams: streams, services: services))
        }
    }

    /// Runs any router on a free port while `body` does.
    static func run<Context: RequestContext & InitializableFromSource<ApplicationRequestContextSource>>(
        router: Router<Context>,
        services: NIOLockedValueBox<ServiceGroup?> = NIOLockedValueBox(nil),
        _ body: (_ port: Int) async throws -> Void
    ) async throws {
        var logger = Logger(label: "test")
        logger.logLevel = .critical
        let (ports, continuation) = AsyncStream.makeStream(of: Int.self)
        let application = Application(
            router: router,
            configuration: .init(address: .hostname("127.0.0.1", port: 0)),
            onServerRunning: { continuation.yield($0.localAddress?.port ?? 0) },
            logger: logger
        )
        let group = ServiceGroup(configuration: .init(services: [.init(service: application)], logger: logger))
        services.withLockedValue { $0 = group }
        try await withThrowingTaskGroup(of: Void.self) { tasks in
            tasks.addTask { try await group.run() }
            var iterator = ports.makeAsyncIterator()
            try await body(await iterator.next() ?? 0)
            tasks.cancelAll()
        }
    }

    func connect() throws -> TestConnection { try TestConnection(port: port) }

    // MARK: Requests

    static let acceptBoth = "Accept: application/json, text/event-stream\r\n"

    static func post(_ body: String, session: String? = nil, headers: String = acceptBoth) -> String {
        "POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            + "Content-Length: \(body.utf8.count)\r\n" + sessionHeader(session) + headers + "\r\n" + body
    }

    static func get(session: String?, lastEventID: String? = nil, headers: String = "") -> String {
        "GET /mcp HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n" + sessionHeader(session)
            + (lastEventID.map { "Last-Event-ID: \($0)\r\n" } ?? "") + headers + "\r\n"
    }

    static func delete(session: String?) -> String {
        "DELETE /mcp HTTP/1.1\r\nHost: localhost\r\n" + sessionHeader(session) + "\r\n"
    }

    private static func sessionHeader(_ session: String?) -> String {
        session.map { "MCP-Session-Id: \($0)\r\n" } ?? ""
    }

    static func initialize(version: String = "2025-11-25") -> String {
        request(
            "initialize",
            id: 0,
            params: """
                {"protocolVersion":"\(version)","capabilities":{"x-unknown":[1]},"clientInfo":{"name":"t","version":"1"}}
                """
        )
    }

    static func request(_ method: String, id: Int = 1, params: String = "{}") -> String {
        #"{"jsonrpc":"2.0","id":\#(id),"method":"\#(method)","params":\#(params)}"#
    }

    // MARK: Steps

    /// Sends one request on a connection of its own and returns the reply.
    func exchange(_ request: String) async throws -> TestConnection.Reply {
        let connection = try connect()
        await connection.send(request)
        let reply = try await connection.reply()
        await connection.close()
        return reply
    }

    /// Begins a session and returns its id.
    func startSession(version: String = "2025-11-25") async throws -> String {
        let reply = try await exchange(TestServer.post(TestServer.initialize(version: version)))
        guard let id = reply.headers["mcp-session-id"] else {
            throw TestConnection.Timeout(description: "initialize gave no session: \(reply)")
        }
        return id
    }

    /// Opens or resumes a stream and returns its connection, its head read.
    func openStream(_ session: String, lastEventID: String? = nil) async throws -> TestConnection {
        let connection = try connect()
        await connection.send(TestServer.get(session: session, lastEventID: lastEventID))
        let reply = try await connection.reply()
        guard reply.status == 200 else { throw TestConnection.Timeout(description: "no stream: \(reply)") }
        return connection
    }

    /// Waits until `condition` holds. There is nothing to await for what happens on the other side of a socket.
    static func eventually(_ condition: () async throws -> Bool) async throws -> Bool {
        for _ in 0..<500 {
            if try await condition() { return true }
            try await Task.sleep(for: .milliseconds(10))
        }
        return false
    }
}
