import Hummingbird
import Logging
import NIOConcurrencyHelpers
import ServiceLifecycle
import SessionManager
import Testing

@testable import MCPTransport

/// Revision 2026-07-28: `subscriptions/listen`.
@Suite struct ListenTests {
    private static func listen(_ filter: String, id: String = "1", headers: String = "") -> String {
        TestServer.post(
            ModernTests.body("subscriptions/listen", #""notifications":\#(filter)"#, id: id),
            headers: ModernTests.headers("subscriptions/listen") + headers
        )
    }

    /// Opens a stream and returns its connection and the acknowledgement.
    private func open(
        _ server: TestServer,
        _ filter: String,
        id: String = "1",
        headers: String = ""
    ) async throws -> (TestConnection, String?) {
        let connection = try server.connect()
        await connection.send(ListenTests.listen(filter, id: id, headers: headers))
        let reply = try await connection.reply()
        #expect(reply.status == 200)
        #expect(reply.headers["content-type"] == "text/event-stream")
        #expect(reply.headers["x-accel-buffering"] == "no")
        #expect(reply.headers["mcp-session-id"] == nil)
        return (connection, try await connection.message()?.data)
    }

    private static let asPrincipal: MCPCallerOf<BasicRequestContext> = { request, _ in
        MCPCaller(principal: request.headers[.authorization])
    }

    @Test("The acknowledgement comes first, and says what of the filter is honoured")
    func acknowledgement() async throws {
        try await TestServer.run { server in
            let (_, acknowledgement) = try await open(
                server,
                #"{"toolsListChanged":true,"promptsListChanged":true,"resourcesListChanged":false,"x":1,"resourceSubscriptions":["note://a","note://secret"]}"#,
                id: #""seven""#
            )
            #expect(
                acknowledgement
                    == #"{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{"_meta":{"io.modelcontextprotocol/subscriptionId":"seven"},"notifications":{"resourceSubscriptions":["note://a"],"toolsListChanged":true}}}"#
            )
        }
    }

    @Test("A uri that no resource can have is left out, and one that is there twice counts once")
    func uris() async throws {
        try await TestServer.run { server in
            let uris = ["", String(repeating: "x", count: 2049), #"a\u0000b"#] + Array(repeating: "a", count: 1001)
            let list = (uris + ["note://\u{e9}", "note://e\u{301}"]).map { "\"\($0)\"" }.joined(separator: ",")
            let (connection, acknowledgement) = try await open(server, #"{"resourceSubscriptions":[\#(list)]}"#)
            let honoured = #""resourceSubscriptions":["a","note://\#u{e9}","note://e\#u{301}"]"#
            #expect(acknowledgement.map { Array($0.utf8).firstRange(of: Array(honoured.utf8)) != nil } == true)
            try await server.streams.resourceUpdated("a")
            #expect(try await connection.message()?.data.contains(#""uri":"a""#) == true)
        }
    }

    private static let everything =
        #"{"toolsListChanged":true,"promptsListChanged":true,"resourcesListChanged":true,"resourceSubscriptions":["a"]}"#

    private struct ToolsOnly: MCPHandler {
        func respond(to request: MCPRequest, context: MCPContext) async throws -> JSONValue {
            ["capabilities": ["tools": ["listChanged": true], "prompts": [:], "resources": ["listChanged": false]]]
        }
    }

    private struct ResourcesOnly: MCPHandler {
        func respond(to request: MCPRequest, context: MCPContext) async throws -> JSONValue {
            ["capabilities": ["resources": ["subscribe": true, "listChanged": true]]]
        }
    }

    /// Allows everything.
    private struct Generous: MCPHandler {
        let base: any MCPHandler

        func respond(to request: MCPRequest, context: MCPContext) async throws -> JSONValue {
            try await base.respond(to: request, context: context)
        }

        func authorize(_ filter: ChangeFilter, context: MCPContext) async throws -> ChangeFilter { filter }
    }

    @Test("A handler that does not say who may hear of what lets everybody hear of the lists that it announces")
    func announced() async throws {
        try await TestServer.run(handler: ToolsOnly()) { server in
            let (_, acknowledgement) = try await open(server, ListenTests.everything)
            #expect(acknowledgement?.contains(#""notifications":{"toolsListChanged":true}"#) == true)
        }
        try await TestServer.run(handler: ResourcesOnly()) { server in
            let (_, acknowledgement) = try await open(server, ListenTests.everything)
            #expect(acknowledgement?.contains(#""notifications":{"resourcesListChanged":true}"#) == true)
        }
    }

    @Test("What a server does not announce cannot be listened for, whatever its handler allows")
    func notAnnounced() async throws {
        try await TestServer.run(handler: Generous(base: ToolsOnly())) { server in
            let (_, acknowledgement) = try await open(server, ListenTests.everything)
            #expect(acknowledgement?.contains(#""notifications":{"toolsListChanged":true}"#) == true)
        }
        try await TestServer.run(handler: Generous(base: ResourcesOnly())) { server in
            let (_, acknowledgement) = try await open(server, ListenTests.everything)
            #expect(acknowledgement?.contains(#"{"resourceSubscriptions":["a"],"resourcesListChanged":true}"#) == true)
        }
    }

    @Test("Each message says which subscription it is for, and is no other than what was asked for")
    func messages() async throws {
        try await TestServer.run { server in
            let filter = #"{"toolsListChanged":true,"resourceSubscriptions":["note://a"]}"#
            let (first, _) = try await open(server, filter)
            let (second, _) = try await open(server, filter, id: "2")
            try await server.streams.send(nil, data: ChangeNotification.resourceUpdated("note://not-for-it"))
            try await server.streams.listChanged(.prompts)
            try await server.streams.listChanged(.resources)
            try await server.streams.resourceUpdated("note://unasked")
            try await server.streams.publish("note://a", data: "no JSON")
            try await server.streams.publish("note://a", data: #"{"jsonrpc":"2.0","id":1,"result":{}}"#)
            try await server.streams.publish("note://a", data: ChangeNotification.listChanged(.prompts))
            try await server.streams.broadcast(.tools, data: #"{"jsonrpc":"2.0","method":"notifications/message"}"#)
            try await server.streams.listChanged(.tools)
            try await server.streams.publish(
                "note://a",
                data:
                    #"{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"note://a","_meta":{"io.modelcontextprotocol/subscriptionId":"another","x":18446744073709551615}}}"#
            )
            for (id, connection) in [(1, first), (2, second)] {
                #expect(
                    try await connection.message()?.data
                        == #"{"jsonrpc":"2.0","method":"notifications/tools/list_changed","params":{"_meta":{"io.modelcontextprotocol/subscriptionId":\#(id)}}}"#
                )
                let message = try await connection.message()
                #expect(
                    message?.data
                        == #"{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"note://a","_meta":{"io.modelcontextprotocol/subscriptionId":\#(id),"x":18446744073709551615}}}"#
                )
                #expect(message?.id == nil)
            }
        }
    }

    @Test("A principal hears of what its handler lets it hear of, and of what is its own")
    func principals() async throws {
        try await TestServer.run(caller: ListenTests.asPrincipal) { server in
            let filter = #"{"resourceSubscriptions":["note://secret","note://mine"]}"#
            let (alice, ofAlice) = try await open(server, filter, headers: "Authorization: alice\r\n")
            let (bob, ofBob) = try await open(server, filter, headers: "Authorization: bob\r\n")
            #expect(ofAlice?.contains("note://secret") == true)
            #expect(ofBob?.contains("note://secret") == false)
            try await server.streams.resourceUpdated("note://secret")
            try await server.streams.resourceUpdated("note://mine", principal: "alice")
            try await server.streams.resourceUpdated("note://mine", principal: "bob")
            #expect(try await alice.message()?.data.contains("note://secret") == true)
            #expect(try await alice.message()?.data.contains("note://mine") == true)
            #expect(try await bob.message()?.data.contains("note://mine") == true)
            let refused = try await server.exchange(ListenTests.listen(filter, headers: "Authorization: banned\r\n"))
            #expect(refused.status == 200)
            #expect(refused.body.contains("-32602"))
        }
    }

    @Test("As many streams of a principal may listen as it may have sessions")
    func limits() async throws {
        var limits = InMemorySessionStore.Limits()
        limits.sessionsPerPrincipal = 1
        let store = InMemorySessionStore(limits: limits)
        try await TestServer.run(store: store, caller: ListenTests.asPrincipal) { server in
            let filter = #"{"toolsListChanged":true}"#
            let (connection, _) = try await open(server, filter, headers: "Authorization: alice\r\n")
            _ = try await open(server, filter, headers: "Authorization: bob\r\n")
            let refused = try await server.exchange(ListenTests.listen(filter, headers: "Authorization: alice\r\n"))
            #expect(refused.status == 429)
            #expect(refused.headers["retry-after"] != nil)
            #expect(refused.body.contains("-32600"))
            await connection.close()
            #expect(
                try await TestServer.eventually {
                    let connection = try server.connect()
                    await connection.send(ListenTests.listen(filter, headers: "Authorization: alice\r\n"))
                    defer { Task { await connection.close() } }
                    return try await connection.reply().status == 200
                }
            )
        }
    }

    @Test("A uri that only looks like an allowed one is not listened for")
    func lookalikes() async throws {
        let allowed = ChangeFilter(lists: [.tools], resources: ["note://\u{e9}"])
        let asked = ChangeFilter(
            lists: [.tools, .prompts],
            resources: ["note://e\u{301}", "note://\u{e9}", "note://x"]
        )
        let both = asked.limited(to: allowed)
        #expect(both.lists == [.tools])
        #expect(both.resources.map { Array($0.utf8) } == [Array("note://\u{e9}".utf8)])
    }

    @Test("A client that closes its stream is forgotten")
    func close() async throws {
        try await TestServer.run { server in
            let filter = #"{"resourceSubscriptions":["note://a"]}"#
            let (connection, _) = try await open(server, filter)
            let (other, _) = try await open(server, filter)
            #expect(try await server.streams.resourceUpdated("note://a") == 2)
            await connection.close()
            #expect(try await TestServer.eventually { try await server.streams.resourceUpdated("note://a") == 1 })
            await other.reset()
            #expect(try await TestServer.eventually { try await server.streams.resourceUpdated("note://a") == 0 })
        }
    }

    @Test("A shutdown ends a stream with the result of its request")
    func shutdown() async throws {
        try await TestServer.run { server in
            let (connection, _) = try await open(server, #"{"toolsListChanged":true}"#, id: "3")
            await server.services.triggerGracefulShutdown()
            #expect(
                try await connection.message()?.data
                    == #"{"id":3,"jsonrpc":"2.0","result":{"_meta":{"io.modelcontextprotocol/serverInfo":{"name":"test","version":"1"},"io.modelcontextprotocol/subscriptionId":3},"resultType":"complete"}}"#
            )
            #expect(try await connection.message() == nil)
        }
    }

    @Test("A shutdown ends a stream with its result though the session manager is out of reach")
    func shutdownOutOfReach() async throws {
        let gate = Gate()
        let streams = EndingStreams(
            base: InMemoryStreamSessionManager(),
            beforeLettingGo: { _ in try? await gate.wait() }
        )
        try await TestServer.run(streams: streams) { server in
            let (connection, _) = try await open(server, #"{"toolsListChanged":true}"#, id: "3")
            await server.services.triggerGracefulShutdown()
            #expect(try await connection.message()?.data.contains(#""resultType":"complete""#) == true)
            await gate.open()
            #expect(try await connection.message() == nil)
        }
    }

    @Test("A stream that lost a message breaks off without a result, so that its client listens again")
    func loss() async throws {
        let controllers = NIOLockedValueBox<[any StreamController]>([])
        let streams = EndingStreams(base: InMemoryStreamSessionManager()) { _, controller in
            controllers.withLockedValue { $0.append(controller) }
        }
        try await TestServer.run(streams: streams) { server in
            let (connection, _) = try await open(server, #"{"toolsListChanged":true}"#)
            for controller in controllers.withLockedValue({ $0 }) { controller.close(.purged) }
            #expect(try await connection.message() == nil)
        }
    }

    @Test("A silent stream is kept alive with comments")
    func keepAlive() async throws {
        try await TestServer.run(configure: { $0.keepAliveInterval = .milliseconds(20) }) { server in
            let (connection, _) = try await open(server, #"{"toolsListChanged":true}"#)
            for _ in 0..<3 { #expect(try await connection.event() == [": ping"]) }
        }
    }

    @Test("A session manager that is out of reach is 503, with a code that this revision knows")
    func outOfReach() async throws {
        try await TestServer.run(streams: SpyStreams()) { server in
            let reply = try await server.exchange(ListenTests.listen(#"{"toolsListChanged":true}"#))
            #expect(reply.status == 503)
            #expect(reply.headers["retry-after"] != nil)
            #expect(reply.body.contains("-32603"))
        }
    }
}
