import Hummingbird
import SessionManager
import Testing

@testable import MCPTransport

/// What the transport answers to one request, by the rules of revision 2025-11-25.
@Suite struct RuleTests {
    struct Rule: Sendable, CustomTestStringConvertible {
        var says: String
        /// `SESSION` stands for the id of a session.
        var request: String
        var status: Int
        /// Lower-case names. A value of `*` means that the header must be there; `nil` that it must not.
        var headers: [String: String?] = [:]
        var body: String?

        var testDescription: String { says }

        func check(_ reply: TestConnection.Reply) {
            #expect(reply.status == status)
            for (name, value) in headers {
                if value == "*" {
                    #expect(reply.headers[name] != nil)
                } else {
                    #expect(reply.headers[name] == value)
                }
            }
            if let body {
                if body.isEmpty { #expect(reply.body.isEmpty) } else { #expect(reply.body.contains(body)) }
            }
            #expect(!reply.body.contains("hunter2"))
        }
    }

    static let json = "Content-Type: application/json\r\n"
    static let ping = TestServer.request("echo", params: #"{"a":1}"#)
    static let both = TestServer.acceptBoth

    static let rules: [Rule] = [
        // Sessions
        Rule(
            says: "initialize is answered as JSON with a session id",
            request: TestServer.post(TestServer.initialize()),
            status: 200,
            headers: ["mcp-session-id": "*", "content-type": "application/json"],
            body:
                #"{"id":0,"jsonrpc":"2.0","result":{"capabilities":\#(TestHandler.capabilities.text),"protocolVersion":"2025-11-25","serverInfo":{"name":"test","version":"1"}}}"#
        ),
        Rule(
            says: "initialize with an unknown revision is offered the latest",
            request: TestServer.post(TestServer.initialize(version: "1999-01-01")),
            status: 200,
            body: #""protocolVersion":"2025-11-25""#
        ),
        Rule(
            says: "initialize with a revision that has no sessions is offered the latest that has them",
            request: TestServer.post(TestServer.initialize(version: "2026-07-28")),
            status: 200,
            headers: ["mcp-session-id": "*"],
            body: #""protocolVersion":"2025-11-25""#
        ),
        Rule(
            says: "initialize with an older revision gets it",
            request: TestServer.post(TestServer.initialize(version: "2025-03-26")),
            status: 200,
            body: #""protocolVersion":"2025-03-26""#
        ),
        Rule(
            says: "initialize without clientInfo starts no session",
            request: TestServer.post(TestServer.request("initialize")),
            status: 200,
            headers: ["mcp-session-id": nil],
            body: #""code":-32602"#
        ),
        Rule(
            says: "a request with a session is answered as JSON, without the session id",
            request: TestServer.post(ping, session: "SESSION"),
            status: 200,
            headers: ["mcp-session-id": nil, "content-type": "application/json"],
            body: #"{"id":1,"jsonrpc":"2.0","result":{"a":1}}"#
        ),
        Rule(
            says: "a request without a session id is 400",
            request: TestServer.post(ping),
            status: 400,
            body: #"{"error":{"code":-32600"#
        ),
        Rule(
            says: "a request of an unknown session is 404 and names the request",
            request: TestServer.post(ping, session: "nobody"),
            status: 404,
            body: #""id":1"#
        ),
        Rule(
            says: "a session id with a space is 400",
            request: TestServer.post(ping, session: "a b"),
            status: 400
        ),
        Rule(
            says: "a session id of another alphabet is 400",
            request: TestServer.post(ping, session: "sésame"),
            status: 400
        ),
        Rule(
            says: "a session id of 256 characters is 400",
            request: TestServer.post(ping, session: String(repeating: "a", count: 256)),
            status: 400
        ),
        Rule(
            says: "the name of a stream is no session",
            request: TestServer.post(ping, session: "SESSION/AAAAAAAAAAAAAAAAAAAAAA"),
            status: 404
        ),
        Rule(
            says: "two session ids are 400",
            request: TestServer.post(ping, session: "SESSION", headers: both + "MCP-Session-Id: other\r\n"),
            status: 400
        ),
        Rule(
            says: "SQL in a session id finds no session",
            request: TestServer.post(ping, session: "';DROP/**/TABLE/**/tmcp_sessions;--"),
            status: 404
        ),
        // Protocol version
        Rule(
            says: "a supported revision passes",
            request: TestServer.post(ping, session: "SESSION", headers: both + "MCP-Protocol-Version: 2025-06-18\r\n"),
            status: 200
        ),
        Rule(
            says: "an unsupported revision is 400 and the supported ones are listed",
            request: TestServer.post(ping, session: "SESSION", headers: both + "MCP-Protocol-Version: 1.0\r\n"),
            status: 400,
            body: #""supported":["2026-07-28","2025-11-25","2025-06-18","2025-03-26"]"#
        ),
        Rule(
            says: "an unsupported revision is 400 on GET too",
            request: TestServer.get(session: "SESSION", headers: "MCP-Protocol-Version: 1.0\r\n"),
            status: 400
        ),
        // Accept and Content-Type
        Rule(
            says: "a POST that accepts no events is 406",
            request: TestServer.post(ping, session: "SESSION", headers: "Accept: application/json\r\n"),
            status: 406
        ),
        Rule(
            says: "a POST that accepts no JSON is 406",
            request: TestServer.post(ping, session: "SESSION", headers: "Accept: text/event-stream\r\n"),
            status: 406
        ),
        Rule(
            says: "a POST that does not say what it accepts is 406",
            request: TestServer.post(ping, session: "SESSION", headers: ""),
            status: 406
        ),
        Rule(
            says: "a POST that refuses events with quality zero is 406",
            request: TestServer.post(
                ping,
                session: "SESSION",
                headers: "Accept: application/json, text/event-stream;q=0\r\n"
            ),
            status: 406
        ),
        Rule(
            says: "a POST that accepts anything passes",
            request: TestServer.post(ping, session: "SESSION", headers: "Accept: */*\r\n"),
            status: 200
        ),
        Rule(
            says: "a POST with two Accept lines passes",
            request: TestServer.post(
                ping,
                session: "SESSION",
                headers: "Accept: application/json\r\nAccept: Text/Event-Stream ; q=0.5\r\n"
            ),
            status: 200
        ),
        Rule(
            says: "a POST of another type is 415",
            request: "POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\n\(both)"
                + "MCP-Session-Id: SESSION\r\nContent-Length: 2\r\n\r\n{}",
            status: 415
        ),
        Rule(
            says: "a POST of JSON with a charset passes",
            request: "POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json; charset=utf-8\r\n\(both)"
                + "MCP-Session-Id: SESSION\r\nContent-Length: \(ping.utf8.count)\r\n\r\n\(ping)",
            status: 200
        ),
        Rule(
            says: "a GET that accepts no events is 406",
            request: "GET /mcp HTTP/1.1\r\nHost: localhost\r\nAccept: text/html\r\nMCP-Session-Id: SESSION\r\n\r\n",
            status: 406
        ),
        // Messages
        Rule(
            says: "a notification is 202 without a body",
            request: TestServer.post(#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#, session: "SESSION"),
            status: 202,
            headers: ["content-length": "0"],
            body: ""
        ),
        Rule(
            says: "a response is 202 without a body",
            request: TestServer.post(#"{"jsonrpc":"2.0","id":"x","result":{}}"#, session: "SESSION"),
            status: 202,
            body: ""
        ),
        Rule(
            says: "text that is not JSON is 400 with a parse error",
            request: TestServer.post("{", session: "SESSION"),
            status: 400,
            body: #"{"error":{"code":-32700"#
        ),
        Rule(says: "no body is 400", request: TestServer.post("", session: "SESSION"), status: 400, body: "-32700"),
        Rule(
            says: "JSON that is no message is 400",
            request: TestServer.post("42", session: "SESSION"),
            status: 400,
            body: "-32600"
        ),
        Rule(
            says: "a message of another JSON-RPC is 400",
            request: TestServer.post(#"{"jsonrpc":"1.0","id":1,"method":"echo"}"#, session: "SESSION"),
            status: 400,
            body: #""id":1"#
        ),
        Rule(
            says: "a request whose id is null is 400",
            request: TestServer.post(#"{"jsonrpc":"2.0","id":null,"method":"echo"}"#, session: "SESSION"),
            status: 400
        ),
        Rule(
            says: "a request whose id is an object is 400",
            request: TestServer.post(#"{"jsonrpc":"2.0","id":{},"method":"echo"}"#, session: "SESSION"),
            status: 400
        ),
        Rule(
            says: "params that are no object are 400",
            request: TestServer.post(#"{"jsonrpc":"2.0","id":1,"method":"echo","params":[1]}"#, session: "SESSION"),
            status: 400
        ),
        Rule(
            says: "a response with a result and an error is 400",
            request: TestServer.post(
                #"{"jsonrpc":"2.0","id":1,"result":{},"error":{"code":1,"message":""}}"#,
                session: "SESSION"
            ),
            status: 400
        ),
        Rule(
            says: "a batch is 400 in this revision",
            request: TestServer.post("[\(ping)]", session: "SESSION"),
            status: 400
        ),
        Rule(
            says: "JSON that is nested too deeply is 400",
            request: TestServer.post(
                String(repeating: "[", count: 100_000) + String(repeating: "]", count: 100_000),
                session: "SESSION"
            ),
            status: 400
        ),
        Rule(
            says: "an unknown method is answered with -32601",
            request: TestServer.post(TestServer.request("nonsense"), session: "SESSION"),
            status: 200,
            body: #"{"error":{"code":-32601"#
        ),
        Rule(
            says: "an error that a handler means for the client reaches it",
            request: TestServer.post(TestServer.request("refuse"), session: "SESSION"),
            status: 200,
            body: #"{"error":{"code":-32602,"message":"Invalid params: no"},"id":1,"jsonrpc":"2.0"}"#
        ),
        Rule(
            says: "any other error of a handler is -32603 and says nothing more",
            request: TestServer.post(TestServer.request("fail"), session: "SESSION"),
            status: 200,
            body: #"{"error":{"code":-32603,"message":"Internal error"},"id":1,"jsonrpc":"2.0"}"#
        ),
        Rule(
            says: "a string id comes back as it was",
            request: TestServer.post(#"{"jsonrpc":"2.0","id":"é\n","method":"echo"}"#, session: "SESSION"),
            status: 200,
            body: #""id":"é\n""#
        ),
        // GET
        Rule(
            says: "a GET opens a stream that no proxy holds back",
            request: TestServer.get(session: "SESSION"),
            status: 200,
            headers: [
                "content-type": "text/event-stream", "x-accel-buffering": "no",
                "cache-control": "no-cache, no-transform", "connection": "close",
            ]
        ),
        Rule(says: "a GET without a session is 400", request: TestServer.get(session: nil), status: 400),
        Rule(says: "a GET of an unknown session is 404", request: TestServer.get(session: "nobody"), status: 404),
        Rule(
            says: "a Last-Event-ID of another server is 400",
            request: TestServer.get(session: "SESSION", lastEventID: "42"),
            status: 400
        ),
        Rule(
            says: "a Last-Event-ID that leads out of the session is 400",
            request: TestServer.get(session: "SESSION", lastEventID: "../other/1"),
            status: 400
        ),
        Rule(
            says: "a GET with a large body is 413",
            request: "GET /mcp HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\nMCP-Session-Id: SESSION\r\n"
                + "Content-Length: 5000\r\n\r\n" + String(repeating: "x", count: 5000),
            status: 413
        ),
        // DELETE and other methods
        Rule(says: "a DELETE ends the session", request: TestServer.delete(session: "SESSION"), status: 204),
        Rule(says: "a DELETE without a session is 400", request: TestServer.delete(session: nil), status: 400),
        Rule(says: "a DELETE of an unknown session is 404", request: TestServer.delete(session: "nobody"), status: 404),
        Rule(
            says: "PUT is 405 and the methods are listed",
            request: "PUT /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n",
            status: 405,
            headers: ["allow": "GET, POST, DELETE, OPTIONS"]
        ),
        Rule(says: "HEAD is 405", request: "HEAD /mcp HTTP/1.1\r\nHost: localhost\r\n\r\n", status: 405),
        Rule(
            says: "a method of WebDAV is 405",
            request: "PROPFIND /mcp HTTP/1.1\r\nHost: localhost\r\n\r\n",
            status: 405
        ),
        Rule(
            says: "OPTIONS lists the methods",
            request: "OPTIONS /mcp HTTP/1.1\r\nHost: localhost\r\n\r\n",
            status: 204,
            headers: ["allow": "GET, POST, DELETE, OPTIONS", "access-control-allow-origin": nil]
        ),
        Rule(says: "another path is not ours", request: "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n", status: 200),
        // Origin
        Rule(
            says: "a page of another origin is 403",
            request: TestServer.post(ping, session: "SESSION", headers: both + "Origin: https://evil.example\r\n"),
            status: 403
        ),
        Rule(
            says: "a page of another origin is 403 on GET",
            request: TestServer.get(session: "SESSION", headers: "Origin: https://evil.example\r\n"),
            status: 403
        ),
        Rule(
            says: "an origin that only begins like this machine is 403",
            request: TestServer.post(ping, session: "SESSION", headers: both + "Origin: http://localhost.evil\r\n"),
            status: 403
        ),
        Rule(
            says: "an origin that hides another host behind this machine's name is 403",
            request: TestServer.post(ping, session: "SESSION", headers: both + "Origin: http://localhost@evil\r\n"),
            status: 403
        ),
        Rule(
            says: "the origin null is 403",
            request: TestServer.post(ping, session: "SESSION", headers: both + "Origin: null\r\n"),
            status: 403
        ),
        Rule(
            says: "a page of this machine passes",
            request: TestServer.post(ping, session: "SESSION", headers: both + "Origin: http://localhost:6274\r\n"),
            status: 200
        ),
        Rule(
            says: "a page of this machine by its address passes",
            request: TestServer.post(ping, session: "SESSION", headers: both + "Origin: http://[::1]:6274\r\n"),
            status: 200
        ),
    ]

    @Test("Each request is answered by the rules", arguments: rules)
    func rule(_ rule: Rule) async throws {
        try await TestServer.run { server in
            let session = try await server.startSession()
            rule.check(try await server.exchange(rule.request.replacing("SESSION", with: session)))
        }
    }

    @Test("A body over the limit is 413")
    func bodyOverTheLimit() async throws {
        try await TestServer.run(configure: { $0.maximumBodySize = 1000 }) { server in
            let session = try await server.startSession()
            let params = #"{"a":"\#(String(repeating: "x", count: 2000))"}"#
            let reply = try await server.exchange(
                TestServer.post(TestServer.request("echo", params: params), session: session)
            )
            #expect(reply.status == 413)
            #expect(try await server.exchange(TestServer.post(RuleTests.ping, session: session)).status == 200)
        }
    }

    @Test("A batch of revision 2025-03-26 is answered in the order of its requests")
    func batch() async throws {
        try await TestServer.run { server in
            let session = try await server.startSession(version: "2025-03-26")
            let notification = #"{"jsonrpc":"2.0","method":"notifications/initialized"}"#
            let batch = "[\(TestServer.request("echo", id: 7)),\(notification),\(TestServer.request("none", id: 8))]"
            let reply = try await server.exchange(TestServer.post(batch, session: session))
            #expect(reply.status == 200)
            #expect(reply.body.hasPrefix(#"[{"id":7,"jsonrpc":"2.0","result":{}},{"error":{"code":-32601"#))
            let quiet = try await server.exchange(TestServer.post("[\(notification)]", session: session))
            #expect(quiet.status == 202)
            #expect(try await server.exchange(TestServer.post("[]", session: session)).status == 400)
            let hidden = "[\(TestServer.initialize())]"
            #expect(try await server.exchange(TestServer.post(hidden, session: session)).status == 400)
        }
    }

    @Test("initialize never takes over a session id that the client chose")
    func chosenSessionID() async throws {
        try await TestServer.run { server in
            let reply = try await server.exchange(TestServer.post(TestServer.initialize(), session: "chosen"))
            #expect(reply.status == 200)
            #expect(reply.headers["mcp-session-id"] != "chosen")
            #expect(reply.headers["mcp-session-id"]?.utf8.count == 32)
        }
    }

    @Test("A session is as if it did not exist for another principal")
    func principals() async throws {
        let caller: MCPCallerOf<BasicRequestContext> = { request, _ in
            MCPCaller(principal: request.headers[.authorization])
        }
        try await TestServer.run(caller: caller) { server in
            let alice = TestServer.acceptBoth + "Authorization: alice\r\n"
            let start = try await server.exchange(TestServer.post(TestServer.initialize(), headers: alice))
            let session = try #require(start.headers["mcp-session-id"])
            let request = TestServer.request("principal")
            let mine = try await server.exchange(TestServer.post(request, session: session, headers: alice))
            #expect(mine.body.contains(#""principal":"alice""#))
            let mallory = TestServer.acceptBoth + "Authorization: mallory\r\n"
            #expect(
                try await server.exchange(TestServer.post(request, session: session, headers: mallory)).status == 404
            )
            #expect(try await server.exchange(TestServer.post(request, session: session)).status == 404)
            #expect(try await server.exchange(TestServer.get(session: session)).status == 404)
            #expect(try await server.exchange(TestServer.delete(session: session)).status == 404)
        }
    }

    @Test("Members of the capabilities that nobody knows survive")
    func unknownMembers() async throws {
        try await TestServer.run { server in
            let session = try await server.startSession()
            let reply = try await server.exchange(TestServer.post(TestServer.request("client"), session: session))
            #expect(reply.body.contains(#""result":{"x-unknown":[1]}"#))
        }
    }

    @Test("A full store asks the client to come back later")
    func fullStore() async throws {
        var limits = InMemorySessionStore.Limits()
        limits.sessions = 1
        try await TestServer.run(store: InMemorySessionStore(limits: limits)) { server in
            _ = try await server.startSession()
            let reply = try await server.exchange(TestServer.post(TestServer.initialize()))
            #expect(reply.status == 503)
            #expect(reply.headers["retry-after"] == "30")
            #expect(reply.headers["mcp-session-id"] == nil)
        }
    }

    @Test("A page that CORS lets in may read the session id; another page is refused")
    func cors() async throws {
        let cors = CORS(origin: .only(["https://app.example"]), credentials: true, maxAge: 60)
        try await TestServer.run(configure: { $0.cors = cors }) { server in
            let options = "OPTIONS /mcp HTTP/1.1\r\nHost: localhost\r\nOrigin: https://app.example\r\n\r\n"
            let preflight = try await server.exchange(options)
            #expect(preflight.status == 204)
            #expect(preflight.headers["access-control-allow-origin"] == "https://app.example")
            #expect(preflight.headers["access-control-allow-methods"] == "GET, POST, DELETE, OPTIONS")
            #expect(preflight.headers["access-control-expose-headers"] == "MCP-Session-Id")
            #expect(preflight.headers["access-control-allow-credentials"] == "true")
            #expect(preflight.headers["access-control-max-age"] == "60")
            #expect(
                preflight.headers["access-control-allow-headers"]
                    == "*, Authorization, Content-Type, Last-Event-ID, MCP-Protocol-Version, MCP-Session-Id, Mcp-Method, Mcp-Name"
            )
            let evil = try await server.exchange(options.replacing("app.example", with: "evil.example"))
            #expect(evil.status == 403)
            #expect(evil.headers["access-control-allow-origin"] == nil)
        }
    }

    @Test("Nobody is asked who a browser is that asks whether it may send a request")
    func preflight() async throws {
        let nobody: MCPCallerOf<BasicRequestContext> = { _, _ in throw HTTPError(.unauthorized) }
        try await TestServer.run(caller: nobody, configure: { $0.cors = CORS() }) { server in
            let options = "OPTIONS /mcp HTTP/1.1\r\nHost: localhost\r\nOrigin: https://app.example\r\n\r\n"
            let preflight = try await server.exchange(options)
            #expect(preflight.status == 204)
            #expect(preflight.headers["access-control-allow-origin"] == "*")
            let message = options.replacing("/mcp", with: "/message").replacing(
                "https://app.example",
                with: "http://localhost"
            )
            #expect(try await server.exchange(message).status == 204)
            #expect(try await server.exchange(TestServer.post(TestServer.initialize())).status == 401)
        }
    }

    @Test("An error whose request could not be read has an id that is null")
    func errorWithoutID() async throws {
        try await TestServer.run { server in
            let withoutID = ModernTests.body("echo", id: "[]")
            for request in [TestServer.post("{"), TestServer.post(withoutID, headers: ModernTests.headers("echo"))] {
                let reply = try await server.exchange(request)
                #expect(reply.status == 400)
                #expect(reply.body.contains(#""id":null"#))
            }
        }
    }

    @Test("Without SSE a GET is 405")
    func withoutSSE() async throws {
        try await TestServer.run(configure: { $0.disableSSE = true }) { server in
            let session = try await server.startSession()
            let reply = try await server.exchange(TestServer.get(session: session))
            #expect(reply.status == 405)
            #expect(reply.headers["allow"] == "POST, DELETE, OPTIONS")
        }
    }

    @Test(
        "A host that is not allowed is 403, and one that is may be in capitals",
        arguments: ["example.com", "EXAMPLE.com"]
    )
    func hosts(allowed: String) async throws {
        try await TestServer.run(configure: { $0.allowedHosts = [allowed] }) { server in
            #expect(try await server.exchange(TestServer.post(TestServer.initialize())).status == 403)
            let reply = try await server.exchange(
                TestServer.post(TestServer.initialize()).replacing("Host: localhost", with: "Host: Example.com")
            )
            #expect(reply.status == 200)
        }
    }
}
