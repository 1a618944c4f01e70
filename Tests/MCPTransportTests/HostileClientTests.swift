import Hummingbird
import SessionManager
import Testing

@testable import MCPTransport

/// What no well-behaved client would do. The server must answer the next client as if nothing had happened.
@Suite struct HostileClientTests {
    static func stillServes(_ server: TestServer) async throws -> Bool {
        try await server.exchange("GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n").status == 200
    }

    @Test("A client that closes in the middle of its body does not bring the server down")
    func closeDuringUpload() async throws {
        try await TestServer.run { server in
            let session = try await server.startSession()
            for length in [0, 1, 100] {
                for orderly in [true, false] {
                    let connection = try server.connect()
                    let body = String(repeating: "x", count: length)
                    await connection.send(
                        TestServer.post("", session: session)
                            .replacing("Content-Length: 0", with: "Content-Length: 1000") + body
                    )
                    if orderly { await connection.close() } else { await connection.reset() }
                }
            }
            #expect(try await HostileClientTests.stillServes(server))
        }
    }

    @Test("A client that closes in the middle of the body of a GET does not bring the server down")
    func closeDuringBodyOfGET() async throws {
        try await TestServer.run { server in
            let early = try await server.startSession()
            let session = try await server.startSession()
            for sent in ["", "12", "12345"] {
                let connection = try server.connect()
                await connection.send(TestServer.get(session: early, headers: "Content-Length: 5\r\n") + sent)
                await connection.close()
            }
            let connection = try server.connect()
            await connection.send(TestServer.get(session: session, headers: "Content-Length: 5\r\n") + "12345")
            #expect(try await connection.reply().status == 200)
            try await server.streams.send([session], data: "hello")
            #expect(try await connection.message()?.data == "hello")
            await connection.close()
            #expect(try await TestServer.eventually { try await !server.streams.has(session) })
            #expect(try await HostileClientTests.stillServes(server))
        }
    }

    /// Replaces an encoded body, as a middleware does that decompresses it. What it would be is not looked at here.
    private struct Decoding: RouterMiddleware {
        func handle(
            _ request: Request,
            context: BasicRequestContext,
            next: (Request, BasicRequestContext) async throws -> Response
        ) async throws -> Response {
            guard request.headers[.contentEncoding] != nil else { return try await next(request, context) }
            var request = request
            request.body = RequestBody(asyncSequence: request.body)
            return try await next(request, context)
        }
    }

    @Test("An encoded body is refused, and does not bring the server down behind a middleware that decodes it")
    func encodedBody() async throws {
        let transport = HTTPTransport(handler: TestHandler())
        let router = Router()
        router.add(middleware: Decoding())
        router.add(middleware: transport.middleware())
        router.add(middleware: SSETransport(handler: TestHandler()).middleware())
        try await TestServer.run(router: router) { port in
            func reply(_ request: String) async throws -> TestConnection.Reply {
                let connection = try TestConnection(port: port)
                await connection.send(request)
                return try await connection.reply()
            }
            let start = try await reply(TestServer.post(TestServer.initialize()))
            let session = try #require(start.headers["mcp-session-id"])
            let stream = TestServer.get(session: session)
            for request in [
                ModernTests.post("subscriptions/listen", #""notifications":{"toolsListChanged":true}"#),
                ModernTests.post("wait"), TestServer.post(RuleTests.ping, session: session),
                stream, stream.replacing("GET /mcp", with: "GET /sse"),
            ] {
                for encoding in ["gzip", "GZIP", "identity, br", "identity\r\nContent-Encoding: deflate"] {
                    let encoded = request.replacing(
                        "Host: localhost\r\n",
                        with: "Host: localhost\r\nContent-Encoding: \(encoding)\r\n"
                    )
                    let refused = try await reply(encoded)
                    #expect(refused.status == 415)
                    #expect(refused.headers["accept-encoding"] == "identity")
                }
            }
            #expect(try await reply(TestServer.post(RuleTests.ping, session: session)).status == 200)
        }
    }

    @Test("A header with a line break in it sets no header")
    func headerInjection() async throws {
        try await TestServer.run(configure: { $0.cors = CORS(origin: .only(["https://app.example"])) }) { server in
            let session = try await server.startSession()
            for value in ["a\rX-Injected: 1", "a\u{0}b", "a\u{1}b"] {
                let reply = try? await server.exchange(
                    TestServer.post(
                        RuleTests.ping,
                        session: session,
                        headers: TestServer.acceptBoth + "Origin: \(value)\r\n"
                    )
                )
                if let reply {
                    #expect((400..<500).contains(reply.status))
                    #expect(reply.headers["x-injected"] == nil)
                }
            }
            #expect(try await HostileClientTests.stillServes(server))
        }
    }

    @Test(
        "Garbage is refused",
        arguments: [
            "\r\n\r\n\r\n", "GET\r\n\r\n", "POST /mcp HTTP/9.9\r\n\r\n", "\u{16}\u{3}\u{1}\u{2}\u{0}\u{1}",
            "POST /mcp HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
            "POST /mcp HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
            "POST /mcp HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
            "GET /mcp HTTP/1.1\r\nHost: a\r\nX: \(String(repeating: "x", count: 200_000))\r\n\r\n",
        ]
    )
    func garbage(_ bytes: String) async throws {
        try await TestServer.run { server in
            let connection = try server.connect()
            await connection.send(bytes)
            let reply = try? await connection.reply(within: 0.3)
            await connection.close()
            if let reply { #expect((400..<500).contains(reply.status)) }
            #expect(try await HostileClientTests.stillServes(server))
        }
    }

    @Test("Requests that are sent one after the other without waiting are answered in order")
    func pipelining() async throws {
        try await TestServer.run { server in
            let session = try await server.startSession()
            let connection = try server.connect()
            let requests = (1...20).map { TestServer.post(TestServer.request("echo", id: $0), session: session) }
            await connection.send(requests.joined())
            for id in 1...20 {
                #expect(try await connection.reply().body.contains(#""id":\#(id),"#))
            }
        }
    }

    @Test("A request behind a GET's stream does not disturb the stream")
    func pipelinedBehindStream() async throws {
        try await TestServer.run(configure: { $0.keepAliveInterval = .milliseconds(20) }) { server in
            let session = try await server.startSession()
            let connection = try server.connect()
            await connection.send(TestServer.get(session: session) + TestServer.post(RuleTests.ping, session: session))
            #expect(try await connection.reply().status == 200)
            try await server.streams.send([session], data: "hello")
            #expect(try await connection.message()?.data == "hello")
            // That its client is gone is now found out by a comment that cannot be written.
            await connection.reset()
            #expect(try await TestServer.eventually { try await !server.streams.has(session) })
            #expect(try await HostileClientTests.stillServes(server))
        }
    }

    @Test("Whatever a method is called, its failure is logged and the server goes on")
    func strangeMethods() async throws {
        try await TestServer.run { server in
            let session = try await server.startSession()
            for method in [#"a\u0000b"#, #"\u001b[31m"#, #"\r\nX: 1"#, "", String(repeating: "m", count: 10_000)] {
                let body = #"{"jsonrpc":"2.0","id":1,"method":"\#(method)"}"#
                let reply = try await server.exchange(TestServer.post(body, session: session))
                #expect(reply.status == 200)
                #expect(reply.body.contains("-32601"))
            }
        }
    }
}
