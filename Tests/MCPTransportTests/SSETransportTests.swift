import SessionManager
import Testing

@testable import MCPTransport

/// HTTP+SSE, the transport of revision 2024-11-05.
@Suite struct SSETransportTests {
    static let open = "GET /sse HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n"

    static func post(_ body: String, to endpoint: String, headers: String = "") -> String {
        "POST \(endpoint) HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\(headers)"
            + "Content-Length: \(body.utf8.count)\r\n\r\n\(body)"
    }

    /// Opens a stream and returns its connection and where to POST.
    static func open(_ server: TestServer) async throws -> (connection: TestConnection, endpoint: String) {
        let connection = try server.connect()
        await connection.send(SSETransportTests.open)
        let reply = try await connection.reply()
        #expect(reply.status == 200)
        #expect(reply.headers["content-type"] == "text/event-stream")
        let event = try #require(try await connection.event())
        #expect(event.first == "event: endpoint")
        return (connection, String(event[1].dropFirst("data: ".count)))
    }

    @Test("A POST to another process than the stream's is answered on the stream")
    func acrossProcesses() async throws {
        let store = InMemorySessionStore()
        try await TestServer.run(store: store) { first in
            try await TestServer.run(store: store) { second in
                let (connection, endpoint) = try await SSETransportTests.open(first)
                #expect(endpoint.hasPrefix("/message?session_id="))
                let initialize = TestServer.initialize(version: "2024-11-05")
                let accepted = try await second.exchange(SSETransportTests.post(initialize, to: endpoint))
                #expect(accepted.status == 202)
                #expect(
                    try await connection.event() == [
                        "event: message",
                        #"data: {"id":0,"jsonrpc":"2.0","result":{"capabilities":\#(TestHandler.capabilities.text),"#
                            + #""protocolVersion":"2024-11-05","#
                            + #""serverInfo":{"name":"test","version":"1"}}}"#,
                    ]
                )
                _ = try await first.exchange(SSETransportTests.post(TestServer.request("client"), to: endpoint))
                #expect(try await connection.message()?.data.contains(#""x-unknown":[1]"#) == true)
            }
        }
    }

    @Test("A client that asks for a revision without sessions is offered the latest that has them")
    func revisionWithoutSessions() async throws {
        try await TestServer.run { server in
            let (connection, endpoint) = try await SSETransportTests.open(server)
            let initialize = TestServer.initialize(version: "2026-07-28")
            _ = try await server.exchange(SSETransportTests.post(initialize, to: endpoint))
            #expect(try await connection.message()?.data.contains(#""protocolVersion":"2025-11-25""#) == true)
        }
    }

    @Test("Messages before the answer, broadcasts and questions to the client travel on the one stream")
    func oneStream() async throws {
        try await TestServer.run { server in
            let (connection, endpoint) = try await SSETransportTests.open(server)
            let progress = TestServer.request("progress", params: #"{"_meta":{"progressToken":1}}"#)
            _ = try await server.exchange(SSETransportTests.post(progress, to: endpoint))
            #expect(try await connection.message()?.data.contains(#""progress":1"#) == true)
            #expect(try await connection.message()?.data.contains(#""progress":2"#) == true)
            #expect(try await connection.message()?.data.contains(#""done":true"#) == true)
            try await server.streams.send(nil, data: "to all")
            #expect(try await connection.message()?.data == "to all")
            _ = try await server.exchange(SSETransportTests.post(TestServer.request("ask"), to: endpoint))
            let question = try #require(try await connection.message()).data
            let id = try #require(question.split(separator: #""id":""#).last?.prefix { $0 != "\"" })
            let answer = #"{"jsonrpc":"2.0","id":"\#(id)","result":{"text":"yes"}}"#
            #expect(try await server.exchange(SSETransportTests.post(answer, to: endpoint)).status == 202)
            #expect(try await connection.message()?.data == #"{"id":1,"jsonrpc":"2.0","result":{"text":"yes"}}"#)
        }
    }

    @Test("The session ends with its stream")
    func end() async throws {
        try await TestServer.run { server in
            let (connection, endpoint) = try await SSETransportTests.open(server)
            await connection.close()
            #expect(
                try await TestServer.eventually {
                    try await server.exchange(SSETransportTests.post(RuleTests.ping, to: endpoint)).status == 404
                }
            )
        }
    }

    @Test(
        "Each request is answered by the rules",
        arguments: [
            (post(RuleTests.ping, to: "/message"), 400),
            (post(RuleTests.ping, to: "/message?session_id=nobody"), 404),
            (post(RuleTests.ping, to: "/message?session_id=a&session_id=b"), 400),
            (post(RuleTests.ping, to: "/message?session_id="), 400),
            (post(RuleTests.ping, to: "/message?session_id=%00%0a"), 400),
            (post("{", to: "ENDPOINT"), 400),
            (post("[]", to: "ENDPOINT"), 400),
            (post("7", to: "ENDPOINT"), 400),
            (post(RuleTests.ping, to: "ENDPOINT"), 202),
            (post(RuleTests.ping, to: "ENDPOINT", headers: "Origin: https://evil.example\r\n"), 403),
            (post(RuleTests.ping, to: "ENDPOINT").replacing("application/json", with: "text/plain"), 415),
            (open.replacing("GET", with: "POST"), 405),
            (open.replacing("text/event-stream", with: "text/html"), 406),
            (open.replacing("Accept", with: "Origin: https://evil.example\r\nAccept"), 403),
            (open.replacing("/sse", with: "/message"), 405),
            (open.replacing("GET", with: "OPTIONS"), 204),
        ]
    )
    func rule(_ request: String, _ status: Int) async throws {
        try await TestServer.run { server in
            let (connection, endpoint) = try await SSETransportTests.open(server)
            #expect(try await server.exchange(request.replacing("ENDPOINT", with: endpoint)).status == status)
            // The session lasts as long as the connection.
            await connection.close()
        }
    }
}
