import Foundation
import SessionManager
import Testing

@testable import MCPTransport

/// Requests of the server to the client, answered through any process.
@Suite struct ClientRequestTests {
    /// A client that was asked something: its connection, its session and the id of the question.
    struct Asked {
        var session: String
        var connection: TestConnection
        var question: JSONValue
        var eventID: String?

        var id: String { question["id"]?.string ?? "" }

        func answer(_ result: String = #"{"text":"yes"}"#) -> String {
            #"{"jsonrpc":"2.0","id":"\#(id)","result":\#(result)}"#
        }
    }

    static func ask(_ server: TestServer, method: String = "ask") async throws -> Asked {
        let session = try await server.startSession()
        let connection = try server.connect()
        await connection.send(TestServer.post(TestServer.request(method, params: #"{"q":1}"#), session: session))
        _ = try await connection.reply()
        let message = try #require(try await connection.message())
        let question = try JSONValue(parsing: Data(message.data.utf8))
        return Asked(session: session, connection: connection, question: question, eventID: message.id)
    }

    @Test("An answer that is posted to another process resumes the handler that asked")
    func acrossProcesses() async throws {
        let store = InMemorySessionStore()
        try await TestServer.run(store: store) { first in
            try await TestServer.run(store: store) { second in
                let asked = try await ClientRequestTests.ask(first)
                #expect(asked.question["method"] == "sampling/createMessage")
                #expect(asked.question["params"] == ["q": 1])
                let reply = try await second.exchange(TestServer.post(asked.answer(), session: asked.session))
                #expect(reply.status == 202)
                let answer = try await asked.connection.message()
                #expect(answer?.data == #"{"id":1,"jsonrpc":"2.0","result":{"text":"yes"}}"#)
                #expect(try await asked.connection.event() == nil)
            }
        }
    }

    @Test("An error of the client reaches the handler")
    func clientError() async throws {
        try await TestServer.run { server in
            let asked = try await ClientRequestTests.ask(server)
            let refusal = #"{"jsonrpc":"2.0","id":"\#(asked.id)","error":{"code":-1,"message":"User rejected"}}"#
            #expect(try await server.exchange(TestServer.post(refusal, session: asked.session)).status == 202)
            #expect(try await asked.connection.message()?.data.contains("User rejected") == true)
        }
    }

    @Test("Another session cannot answer, and what nobody asked for is taken without harm")
    func foreignAnswer() async throws {
        try await TestServer.run { server in
            let asked = try await ClientRequestTests.ask(server)
            let other = try await server.startSession()
            let forged = asked.answer(#"{"text":"forged"}"#)
            #expect(try await server.exchange(TestServer.post(forged, session: other)).status == 202)
            for id in [#""../x""#, "1", #""AAAAAAAAAAAAAAAAAAAAAA""#] {
                let stray = #"{"jsonrpc":"2.0","id":\#(id),"result":{}}"#
                #expect(try await server.exchange(TestServer.post(stray, session: asked.session)).status == 202)
            }
            #expect(try await server.exchange(TestServer.post(asked.answer(), session: asked.session)).status == 202)
            #expect(try await asked.connection.message()?.data.contains("yes") == true)
        }
    }

    @Test("A client that lost the question finds it again elsewhere, and its answer counts")
    func resumed() async throws {
        let store = InMemorySessionStore()
        try await TestServer.run(store: store) { first in
            try await TestServer.run(store: store) { second in
                let asked = try await ClientRequestTests.ask(first)
                await asked.connection.reset()
                let resumed = try await second.openStream(asked.session, lastEventID: asked.eventID)
                _ = try await second.exchange(TestServer.post(asked.answer(), session: asked.session))
                #expect(try await resumed.message()?.data.contains("yes") == true)
                #expect(try await resumed.event() == nil)
            }
        }
    }

    @Test("A client that does not answer in time is told that nobody waits any more")
    func timeout() async throws {
        try await TestServer.run { server in
            let asked = try await ClientRequestTests.ask(server, method: "ask-briefly")
            var messages: [String] = []
            while let message = try await asked.connection.message() { messages.append(message.data) }
            #expect(
                messages == [
                    #"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"reason":"timed out","#
                        + #""requestId":"\#(asked.id)"}}"#,
                    #"{"id":1,"jsonrpc":"2.0","result":"timed out"}"#,
                ]
            )
        }
    }

    @Test("The end of the session ends the wait")
    func sessionEnds() async throws {
        let store = InMemorySessionStore()
        try await TestServer.run(store: store) { first in
            try await TestServer.run(store: store) { second in
                let asked = try await ClientRequestTests.ask(first)
                #expect(try await second.exchange(TestServer.delete(session: asked.session)).status == 204)
                #expect(try await asked.connection.event() == nil)
            }
        }
    }

    @Test("No client can resume the stream on which an answer arrives")
    func answerStreamIsPrivate() async throws {
        try await TestServer.run { server in
            let asked = try await ClientRequestTests.ask(server)
            for name in ["answer-\(asked.id)", "cancel-31"] {
                let reply = try await server.exchange(TestServer.get(session: asked.session, lastEventID: "\(name)/0"))
                #expect(reply.status == 400)
            }
        }
    }

    @Test("A cancellation that reaches another process cancels the request")
    func cancellationAcrossProcesses() async throws {
        let store = InMemorySessionStore()
        let handler = TestHandler()
        try await TestServer.run(handler: handler, store: store) { first in
            try await TestServer.run(store: store) { second in
                let session = try await first.startSession()
                let connection = try first.connect()
                await connection.send(TestServer.post(TestServer.request("wait", id: 9), session: session))
                await handler.gate.waitForArrival()
                let cancel = #"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":9}}"#
                // A request listens to the other processes once it has taken a second.
                #expect(
                    try await TestServer.eventually {
                        _ = try await second.exchange(TestServer.post(cancel, session: session))
                        return await handler.gate.cancellations == 1
                    }
                )
                #expect(try await connection.reply().body.contains("-32800"))
            }
        }
    }
}
