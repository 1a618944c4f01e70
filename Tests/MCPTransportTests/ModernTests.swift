import Foundation
import Hummingbird
import NIOConcurrencyHelpers
import SessionManager
import Testing

@testable import MCPTransport

/// Revision 2026-07-28: requests without sessions.
@Suite struct ModernTests {
    static let version = "io.modelcontextprotocol/protocolVersion"
    static let capabilities = "io.modelcontextprotocol/clientCapabilities"
    static let meta = #""_meta":{"\#(version)":"2026-07-28","\#(capabilities)":{"elicitation":{},"x":1}}"#

    static func body(_ method: String, _ params: String = "", meta: String = meta, id: String = "1") -> String {
        let members = [meta, params].filter { !$0.isEmpty }.joined(separator: ",")
        return #"{"jsonrpc":"2.0","id":\#(id),"method":"\#(method)","params":{\#(members)}}"#
    }

    static func headers(_ method: String?, name: String? = nil, version: String? = "2026-07-28") -> String {
        TestServer.acceptBoth + (version.map { "MCP-Protocol-Version: \($0)\r\n" } ?? "")
            + (method.map { "Mcp-Method: \($0)\r\n" } ?? "") + (name.map { "Mcp-Name: \($0)\r\n" } ?? "")
    }

    /// A request as it should be.
    static func post(_ method: String, _ params: String = "", name: String? = nil, more: String = "") -> String {
        TestServer.post(body(method, params), headers: headers(method, name: name) + more)
    }

    /// A call of a tool whose name is in the body, and in a header.
    static func call(_ name: String, header: String?) -> String {
        let body = body("tools/call", #""name":"\#(name)""#)
        return TestServer.post(body, headers: headers("tools/call", name: header))
    }

    /// A call of a tool that asks its client, by a client that offers something.
    static func asking(_ name: String, offered: String) -> String {
        let meta = #""_meta":{"\#(version)":"2026-07-28","\#(capabilities)":\#(offered)}"#
        return TestServer.post(
            body("tools/call", #""name":"\#(name)""#, meta: meta),
            headers: headers("tools/call", name: name)
        )
    }

    static func region(_ arguments: String, _ fields: String) -> String {
        post("tools/call", #""name":"region","arguments":\#(arguments)"#, name: "region", more: fields)
    }

    static func rule(
        _ says: String,
        _ request: String,
        _ status: Int,
        _ body: String? = nil,
        headers: [String: String?] = [:]
    ) -> RuleTests.Rule {
        RuleTests.Rule(says: says, request: request, status: status, headers: headers, body: body)
    }

    static let rules: [RuleTests.Rule] = [
        rule(
            "a request is answered without a session, and says what the server is",
            post("echo"),
            200,
            #""io.modelcontextprotocol/serverInfo":{"name":"test","version":"1"}"#,
            headers: ["mcp-session-id": nil, "content-type": "application/json"]
        ),
        rule(
            "what a client says of a session or of an event is not looked at",
            post("echo", more: "MCP-Session-Id: \u{e9}\r\nMCP-Session-Id: b\r\nLast-Event-ID: nonsense\r\n"),
            200,
            #""resultType":"complete""#,
            headers: ["mcp-session-id": nil]
        ),
        rule("each request says what its client offers", post("client"), 200, #""x":1"#),
        rule(
            "a question that the client has not offered to answer is 400",
            post("tools/call", #""name":"ask-model""#, name: "ask-model"),
            400,
            #""code":-32021,"data":{"requiredCapabilities":{"sampling":{}}}"#
        ),
        rule(
            "a capability that is null is not offered",
            asking("ask", offered: #"{"elicitation":null}"#),
            400,
            #""code":-32021,"data":{"requiredCapabilities":{"elicitation":{"form":{}}}}"#
        ),
        rule(
            "elicitation without a mode is elicitation with a form",
            asking("ask", offered: #"{"elicitation":{}}"#),
            200,
            "input_required"
        ),
        rule(
            "elicitation with a form is not elicitation with a page",
            asking("ask-url", offered: #"{"elicitation":{"form":{}}}"#),
            400,
            #""code":-32021,"data":{"requiredCapabilities":{"elicitation":{"url":{}}}}"#
        ),
        rule(
            "elicitation with a page is not elicitation with a form",
            asking("ask", offered: #"{"elicitation":{"url":{}}}"#),
            400,
            #""code":-32021,"data":{"requiredCapabilities":{"elicitation":{"form":{}}}}"#
        ),
        rule(
            "a client that offers a page is sent to it",
            asking("ask-url", offered: #"{"elicitation":{"url":{}}}"#),
            200,
            "input_required"
        ),
        rule(
            "sampling is not sampling with tools",
            asking("ask-tools", offered: #"{"sampling":{}}"#),
            400,
            #""code":-32021,"data":{"requiredCapabilities":{"sampling":{"tools":{}}}}"#
        ),
        rule(
            "a client that offers sampling with tools is asked",
            asking("ask-tools", offered: #"{"sampling":{"tools":{}}}"#),
            200,
            "input_required"
        ),
        rule(
            "answers that are no object are an invalid parameter",
            post("tools/call", #""name":"two-questions","inputResponses":7"#, name: "two-questions"),
            200,
            #""code":-32602"#
        ),
        rule(
            "an answer that is no object is an invalid parameter",
            post("tools/call", #""name":"two-questions","inputResponses":{"question-1":7}"#, name: "two-questions"),
            200,
            #""code":-32602"#
        ),
        rule(
            "a state that the server did not give out is an invalid parameter",
            post("tools/call", #""name":"two-questions","requestState":"[]""#, name: "two-questions"),
            200,
            #""code":-32602"#
        ),
        rule(
            "a state that is no text is an invalid parameter",
            post("tools/call", #""name":"two-questions","requestState":{}"#, name: "two-questions"),
            200,
            #""code":-32602"#
        ),
        rule(
            "a state and answers are the handler's own where it does not ask with the transport",
            post("tools/call", #""name":"a","inputResponses":{"b":7},"requestState":"opaque""#, name: "a"),
            200,
            #""content":[]"#
        ),
        rule(
            "a question that this revision does not have is 404",
            post("tools/call", #""name":"ask-ping""#, name: "ask-ping"),
            404,
            #""code":-32601"#
        ),
        rule(
            "server/discover says what initialize says, and which revisions there are",
            post("server/discover"),
            200,
            #""supportedVersions":["2026-07-28","2025-11-25","2025-06-18","2025-03-26"]"#
        ),
        rule("a list says how long it may be kept", post("tools/list"), 200, #""ttlMs":0"#),
        rule("a list says for whom it may be kept", post("tools/list"), 200, #""cacheScope":"private""#),
        rule("another method is 404", post("nonsense"), 404, #""code":-32601"#),
        rule("initialize with a revision without sessions is 404", post("initialize"), 404, #""code":-32601"#),
        rule("ping is no more", post("ping"), 404, #""code":-32601"#),
        rule("resources/subscribe is no more", post("resources/subscribe"), 404, #""code":-32601"#),
        rule("a failure of the handler says no more than that", post("fail"), 200, #""code":-32603"#),
        rule("what the handler refuses is passed on", post("refuse"), 200, #""code":-32602"#),
        rule(
            "a code that is reserved and not defined is not passed on",
            post("code", #""code":-32042"#),
            200,
            "-32603"
        ),
        rule("nor is one that meant something else to everybody", post("code", #""code":-32001"#), 200, "-32603"),
        rule("a code of the handler's own is", post("code", #""code":-31000"#), 200, "-31000"),
        rule("a capability that the client lacks is 400", post("need-sampling"), 400, #""code":-32021"#),
        rule(
            "a resource that does not exist is an invalid parameter",
            post("resources/read", #""uri":"note://a""#, name: "note://a"),
            200,
            #""code":-32602"#
        ),
        rule(
            "another request than a call, a prompt or a resource asks its client nothing",
            post("ask"),
            200,
            #""code":-32603"#
        ),
        // The version
        rule(
            "an unsupported revision is 400, with those that are supported",
            TestServer.post(
                body("echo", meta: meta.replacing("2026-07-28", with: "2031-01-01")),
                headers: headers("echo", version: "2031-01-01")
            ),
            400,
            #""code":-32022,"data":{"requested":"2031-01-01","supported":["2026-07-28","#
        ),
        rule(
            "an unsupported revision in the header alone is 400",
            TestServer.post(body("echo", meta: ""), headers: headers("echo", version: "2031-01-01")),
            400,
            #""code":-32022"#
        ),
        rule(
            "a header that says another revision than the body is 400",
            TestServer.post(body("echo"), headers: headers("echo", version: "2025-11-25")),
            400,
            #""code":-32020"#
        ),
        rule(
            "a header that says a revision without sessions, and a body one that has them, are 400",
            TestServer.post(
                body("echo", meta: meta.replacing("2026-07-28", with: "2025-11-25")),
                headers: headers("echo")
            ),
            400,
            #""code":-32020"#
        ),
        rule(
            "initialize of a revision that has sessions starts none when its header says another",
            TestServer.post(
                body(
                    "initialize",
                    #""protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"t","version":"1"}"#,
                    meta: meta.replacing("2026-07-28", with: "2025-11-25")
                ),
                headers: headers("initialize")
            ),
            400,
            #""code":-32020"#,
            headers: ["mcp-session-id": nil]
        ),
        rule(
            "initialize whose body names no revision without sessions starts one, whatever its header says",
            TestServer.post(TestServer.initialize(), headers: headers("initialize")),
            200,
            #""protocolVersion":"2025-11-25""#,
            headers: ["mcp-session-id": "*"]
        ),
        rule(
            "a body without its header is 400",
            TestServer.post(body("echo"), headers: headers("echo", version: nil)),
            400,
            #""code":-32020"#
        ),
        rule(
            "a header without its body is 400",
            TestServer.post(body("echo", meta: ""), headers: headers("echo")),
            400,
            #""code":-32602"#
        ),
        rule(
            "a revision that is no text is 400",
            TestServer.post(body("echo", meta: #""_meta":{"\#(version)":7}"#), headers: headers("echo")),
            400,
            #""code":-32602"#
        ),
        rule(
            "a request that does not say what its client offers is 400",
            TestServer.post(body("echo", meta: #""_meta":{"\#(version)":"2026-07-28"}"#), headers: headers("echo")),
            400,
            #""code":-32602"#
        ),
        rule(
            "a log level that there is not is 400",
            TestServer.post(
                body("echo", meta: meta.dropLast() + #","io.modelcontextprotocol/logLevel":"loud"}"#),
                headers: headers("echo")
            ),
            400,
            #""code":-32602"#
        ),
        // The method and the name
        rule(
            "a missing Mcp-Method is 400",
            TestServer.post(body("echo"), headers: headers(nil)),
            400,
            #""code":-32020"#
        ),
        rule(
            "another Mcp-Method is 400",
            TestServer.post(body("echo"), headers: headers("Echo")),
            400,
            #""code":-32020"#
        ),
        rule("a Mcp-Name that says the name passes", call("a", header: "a"), 200, #""name":"a""#),
        rule("a missing Mcp-Name is 400", call("a", header: nil), 400, #""code":-32020"#),
        rule("another Mcp-Name is 400", call("a", header: "b"), 400, #""code":-32020"#),
        rule("two of them are 400", call("a", header: "a\r\nMcp-Name: a"), 400, #""code":-32020"#),
        rule(
            "a name that fits no header is there in base64",
            call("\u{4e16}\u{754c}", header: "=?base64?5LiW55WM?="),
            200,
            "\u{4e16}\u{754c}"
        ),
        rule(
            "a name that looks like base64 is there in base64",
            call("=?base64?eA==?=", header: "=?base64?PT9iYXNlNjQ/ZUE9PT89?="),
            200
        ),
        rule("base64 that is none is 400", call("a", header: "=?base64?*?="), 400, #""code":-32020"#),
        rule("base64 of what is no text is 400", call("a", header: "=?base64?/w==?="), 400, #""code":-32020"#),
        rule("another name in base64 is 400", call("a", header: "=?base64?Yg==?="), 400, #""code":-32020"#),
        rule("a name in other characters than ASCII is 400", call("\u{e9}", header: "\u{e9}"), 400, #""code":-32020"#),
        rule(
            "a method in base64 is 400",
            TestServer.post(body("echo"), headers: headers("=?base64?ZWNobw==?=")),
            400,
            #""code":-32020"#
        ),
        rule(
            "a name that only looks the same is 400",
            call("\u{e9}", header: "=?base64?ZcyB?="),
            400,
            #""code":-32020"#
        ),
        rule(
            "a name in the header alone is 400",
            TestServer.post(body("tools/call"), headers: headers("tools/call", name: "a")),
            400,
            #""code":-32020"#
        ),
        rule(
            "two revisions in the headers are 400",
            TestServer.post(body("echo"), headers: headers("echo") + "MCP-Protocol-Version: 2025-11-25\r\n"),
            400,
            #""code":-32020"#
        ),
        rule(
            "an id that is longer than any should be is 400",
            TestServer.post(
                body("echo", id: "\"" + String(repeating: "x", count: 1100) + "\""),
                headers: headers("echo")
            ),
            400,
            #""code":-32600"#
        ),
        rule(
            "what is refused before the body is read has a code that this revision allows",
            TestServer.post(body("echo"), headers: "Accept: text/plain\r\nMCP-Protocol-Version: 2026-07-28\r\n"),
            406,
            #""code":-32600"#
        ),
        // Parameters that headers repeat
        rule(
            "parameters that the headers repeat pass",
            region(
                #"{"region":"us-west1","count":42,"exact":true}"#,
                "Mcp-Param-Region: us-west1\r\nMcp-Param-Count: 42.0\r\nMcp-Param-Exact: true\r\n"
            ),
            200,
            #""content":[]"#
        ),
        rule("parameters that are not there need no header", region(#"{"region":null}"#, ""), 200),
        rule("a parameter without its header is 400", region(#"{"region":"a"}"#, ""), 400, #""code":-32020"#),
        rule(
            "a header without its parameter is 400",
            region("{}", "Mcp-Param-Region: a\r\n"),
            400,
            #""code":-32020"#
        ),
        rule(
            "another parameter in the header is 400",
            region(#"{"count":42}"#, "Mcp-Param-Count: 43\r\n"),
            400,
            #""code":-32020"#
        ),
        rule(
            "a number in other digits passes",
            region(#"{"count":42}"#, "Mcp-Param-Count: 42.00\r\n"),
            200,
            #""content""#
        ),
        rule(
            "a number with an exponent passes",
            region(#"{"count":42}"#, "Mcp-Param-Count: 4.2e1\r\n"),
            200,
            #""content""#
        ),
        rule("a number with a fraction is 400", region(#"{"count":42}"#, "Mcp-Param-Count: 42.5\r\n"), 400),
        rule("a header that begins with the number is 400", region(#"{"count":42}"#, "Mcp-Param-Count: 42 1\r\n"), 400),
        rule(
            "a header that there cannot be is the handler's mistake",
            post("tools/call", #""name":"no-token""#, name: "no-token"),
            200,
            #""code":-32603"#
        ),
        rule("a number in another base is 400", region(#"{"count":42}"#, "Mcp-Param-Count: 0x2A\r\n"), 400),
        rule("a number in base64 passes", region(#"{"count":42}"#, "Mcp-Param-Count: =?base64?NDI=?=\r\n"), 200),
        rule(
            "a large number that is one less is 400",
            region(#"{"count":9007199254740993}"#, "Mcp-Param-Count: 9007199254740992\r\n"),
            400
        ),
        // What else a client may send
        rule(
            "a notification of an unsupported revision is 400",
            TestServer.post(#"{"jsonrpc":"2.0","method":"hello"}"#, headers: headers(nil, version: "1900-01-01")),
            400,
            #""code":-32022"#
        ),
        rule(
            "a notification whose header does not say what its body says is 400",
            TestServer.post(
                #"{"jsonrpc":"2.0","method":"hello","params":{\#(meta)}}"#,
                headers: headers(nil, version: nil)
            ),
            400,
            #""code":-32020"#
        ),
        rule(
            "a notification is 202",
            TestServer.post(#"{"jsonrpc":"2.0","method":"hello"}"#, headers: headers(nil)),
            202,
            ""
        ),
        rule(
            "a cancellation by a notification is nothing to this revision",
            TestServer.post(
                #"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#,
                headers: headers(nil)
            ),
            202,
            ""
        ),
        rule(
            "a response is 400",
            TestServer.post(#"{"jsonrpc":"2.0","id":1,"result":{}}"#, headers: headers(nil)),
            400,
            #""code":-32600"#
        ),
        rule(
            "a body in UTF-16 is 400",
            TestServer.post(body("echo").map { "\($0)\u{0}" }.joined(), headers: headers("echo")),
            400,
            #""code":-32700"#
        ),
        rule("a batch is 400", TestServer.post("[\(body("echo"))]", headers: headers("echo")), 400, #""code":-32600"#),
        rule(
            "a GET is 405",
            TestServer.get(session: "SESSION", headers: "MCP-Protocol-Version: 2026-07-28\r\n"),
            405,
            headers: ["allow": "POST, OPTIONS", "mcp-session-id": nil]
        ),
        rule(
            "a DELETE is 405",
            TestServer.delete(session: "SESSION")
                .replacing("\r\n\r\n", with: "\r\nMCP-Protocol-Version: 2026-07-28\r\n\r\n"),
            405,
            headers: ["allow": "POST, OPTIONS"]
        ),
        // Listening
        rule("a filter that is missing is 400", post("subscriptions/listen"), 400, #""code":-32602"#),
        rule(
            "a filter that is not one is 400",
            post("subscriptions/listen", #""notifications":{"toolsListChanged":"yes"}"#),
            400,
            #""code":-32602"#
        ),
        rule(
            "uris that are not text are 400",
            post("subscriptions/listen", #""notifications":{"resourceSubscriptions":["a",1]}"#),
            400,
            #""code":-32602"#
        ),
        rule(
            "more uris than one stream may have are 400",
            post(
                "subscriptions/listen",
                #""notifications":{"resourceSubscriptions":[\#((0...1000).map { "\"\($0)\"" }.joined(separator: ","))]}"#
            ),
            400,
            #""code":-32602"#
        ),
    ]

    @Test("Each request is answered by the rules", arguments: rules)
    func rule(_ rule: RuleTests.Rule) async throws {
        try await TestServer.run { server in
            let session = try await server.startSession()
            rule.check(try await server.exchange(rule.request.replacing("SESSION", with: session)))
            // Nothing that a client of this revision does concerns the sessions of others.
            let reply = try await server.exchange(TestServer.post(RuleTests.ping, session: session))
            #expect(reply.status == 200)
        }
    }

    /// Cannot say what it is when it is asked for the first time.
    private struct LateStarter: MCPHandler {
        let greetings = NIOLockedValueBox(0)

        func respond(to request: MCPRequest, context: MCPContext) async throws -> JSONValue {
            guard request.method == "initialize" else { return [:] }
            let count = greetings.withLockedValue { greetings in
                greetings += 1
                return greetings
            }
            if count == 1 { throw CancellationError() }
            return ["capabilities": [:], "serverInfo": ["name": "late", "version": .string("\(count)")]]
        }
    }

    @Test("A server that could not say what it is at first says so afterwards, and is asked no more once it has")
    func serverInfo() async throws {
        try await TestServer.run(handler: LateStarter()) { server in
            #expect(try await !server.exchange(ModernTests.post("echo")).body.contains("serverInfo"))
            for _ in 0..<2 {
                let reply = try await server.exchange(ModernTests.post("echo"))
                #expect(reply.body.contains(#""io.modelcontextprotocol/serverInfo":{"name":"late","version":"2"}"#))
            }
        }
    }

    @Test("A message before the answer makes it a stream without ids, and log messages are for those who ask for them")
    func progress() async throws {
        try await TestServer.run { server in
            let connection = try server.connect()
            let level = #","io.modelcontextprotocol/logLevel":"warning","progressToken":7}"#
            let body = ModernTests.body("log", meta: ModernTests.meta.dropLast() + level)
            await connection.send(TestServer.post(body, headers: ModernTests.headers("log")))
            #expect(try await connection.reply().headers["content-type"] == "text/event-stream")
            let logged = try await connection.message()
            #expect(logged?.data.contains(#""level":"error""#) == true)
            #expect(logged?.id == nil)
            #expect(try await connection.message()?.data.contains(#""resultType":"complete""#) == true)
            #expect(try await connection.message() == nil)
            // Nobody has asked for it here.
            let reply = try await server.exchange(ModernTests.post("log"))
            #expect(reply.headers["content-type"] == "application/json")
        }
    }

    @Test("A client that closes its stream has cancelled its request")
    func cancellation() async throws {
        let handler = TestHandler()
        try await TestServer.run(handler: handler) { server in
            let connection = try server.connect()
            let body = ModernTests.body(
                "progress-then-wait",
                meta: ModernTests.meta.dropLast() + #","progressToken":7}"#
            )
            await connection.send(TestServer.post(body, headers: ModernTests.headers("progress-then-wait")))
            _ = try await connection.reply()
            #expect(try await connection.message() != nil)
            await connection.close()
            #expect(try await TestServer.eventually { await handler.gate.cancellations == 1 })
        }
    }

    @Test("A request that takes long becomes a stream, so that it can be cancelled")
    func longRequest() async throws {
        let handler = TestHandler()
        try await TestServer.run(handler: handler) { server in
            let (patient, impatient) = (try server.connect(), try server.connect())
            for connection in [patient, impatient] {
                await connection.send(ModernTests.post("wait"))
                #expect(try await connection.reply().headers["content-type"] == "text/event-stream")
            }
            await impatient.close()
            #expect(try await TestServer.eventually { await handler.gate.cancellations == 1 })
            await handler.gate.open()
            #expect(try await patient.message()?.data.contains(#""done":true"#) == true)
        }
    }

    @Test("An answer that is larger than the buffer arrives, behind what waits before it")
    func largeAnswer() async throws {
        try await TestServer.run(configure: { $0.streamBufferSize = 2000 }) { server in
            let connection = try server.connect()
            let text = String(repeating: "x", count: 100_000)
            let meta = ModernTests.meta.dropLast() + #","progressToken":7}"#
            let body = ModernTests.body("progress", #""text":"\#(text)""#, meta: String(meta))
            await connection.send(TestServer.post(body, headers: ModernTests.headers("progress")))
            _ = try await connection.reply()
            for _ in 0..<3 { #expect(try await connection.message() != nil) }
        }
    }

    @Test("A handler that asks its client twice is answered in three rounds")
    func rounds() async throws {
        try await TestServer.run { server in
            func call(_ more: String) async throws -> JSONValue? {
                let params = #""name":"two-questions""# + more
                let reply = try await server.exchange(ModernTests.post("tools/call", params, name: "two-questions"))
                return try JSONValue(parsing: Data(reply.body.utf8))["result"]
            }
            let first = try await call("")
            #expect(first?["resultType"] == "input_required")
            #expect(first?["inputRequests"]?["question-1"]?["params"]?["message"] == "name?")
            let second = try await call(#","inputResponses":{"question-1":{"content":"ann"}}"#)
            #expect(second?["inputRequests"]?["question-2"]?["params"]?["message"] == "colour?")
            #expect(second?["inputRequests"]?["question-1"] == nil)
            let state = second?["requestState"]?.text ?? ""
            let third = try await call(#","inputResponses":{"question-2":{"content":"red"}},"requestState":\#(state)"#)
            #expect(third?["content"] == [["content": "ann"], ["content": "red"]])
            // What it was not asked is passed over.
            let unasked = try await call(#","inputResponses":{"question-9":{}}"#)
            #expect(unasked?["inputRequests"]?["question-1"] != nil)
        }
    }
}
