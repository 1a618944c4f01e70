import Hummingbird
import NIOConcurrencyHelpers
import ServiceLifecycle
import SessionManager
import Testing

@testable import MCPTransport

/// Streams: priming, delivery, resumption on any process, and their ends.
@Suite struct StreamTests {
    @Test("A stream begins with a priming event, and a message carries an id to resume from")
    func delivery() async throws {
        try await TestServer.run { server in
            let session = try await server.startSession()
            let connection = try await server.openStream(session)
            #expect(try await connection.event() == [": open"])
            let priming = try #require(try await connection.event())
            #expect(priming.count == 2)
            #expect(priming[0].hasPrefix("id: session/"))
            #expect(priming[1] == "data:")
            let receipts = try await server.streams.send([session], data: #"{"n":1}"#)
            guard case .sent(let id) = receipts[0] else { throw TestConnection.Timeout(description: "not sent") }
            #expect(try await connection.event() == ["id: session/\(id)", #"data: {"n":1}"#])
        }
    }

    @Test("A client of an older revision gets an id without an event that it would take for a message")
    func primingOfOlderRevisions() async throws {
        try await TestServer.run { server in
            let session = try await server.startSession(version: "2025-06-18")
            let connection = try await server.openStream(session)
            #expect(try await connection.event() == [": open"])
            #expect(try await connection.event()?.count == 1)
        }
    }

    @Test("A message with line breaks stays one message and cannot pass for another field")
    func lineBreaks() async throws {
        try await TestServer.run { server in
            let session = try await server.startSession()
            let connection = try await server.openStream(session)
            try await server.streams.send([session], data: "{\n\"a\":1}\r\nid: forged\revent: forged")
            _ = try await connection.event()
            _ = try await connection.event()
            let lines = try #require(try await connection.event())
            #expect(
                lines.dropFirst() == ["data: {", "data: \"a\":1}", "data: ", "data: id: forged", "data: event: forged"]
            )
        }
    }

    @Test("A client resumes on another process: what it missed once and in order, then what is live")
    func resumption() async throws {
        let store = InMemorySessionStore()
        try await TestServer.run(store: store) { first in
            try await TestServer.run(store: store) { second in
                let session = try await first.startSession()
                let other = try await first.startSession()
                let connection = try await first.openStream(session)
                try await second.streams.send([session], data: "1")
                let seen = try #require(try await connection.message())
                await connection.reset()
                try await first.streams.send([session], data: "2")
                try await second.streams.send([other], data: "another session's")
                try await second.streams.send(nil, data: "3")
                let resumed = try await second.openStream(session, lastEventID: seen.id)
                try await first.streams.send([session], data: "4")
                #expect(try await resumed.event() == [": resumed"])
                #expect(try await resumed.message()?.data == "2")
                #expect(try await resumed.message()?.data == "3")
                #expect(try await resumed.message()?.data == "4")
            }
        }
    }

    @Test("A client that resumes elsewhere ends its old connection without being asked to come back")
    func takeOver() async throws {
        let store = InMemorySessionStore()
        try await TestServer.run(store: store) { first in
            try await TestServer.run(store: store) { second in
                let session = try await first.startSession()
                let old = try await first.openStream(session)
                _ = try await old.event()
                let id = try #require(try await old.event()).first { $0.hasPrefix("id: ") }?.dropFirst(4)
                let resumed = try await second.openStream(session, lastEventID: id.map(String.init))
                #expect(try await old.event() == nil)
                try await first.streams.send([session], data: "after")
                #expect(try await resumed.message()?.data == "after")
            }
        }
    }

    @Test("A second stream on another process is 409 and names a way out")
    func conflict() async throws {
        let store = InMemorySessionStore()
        try await TestServer.run(store: store) { first in
            try await TestServer.run(store: store) { second in
                let session = try await first.startSession()
                let old = try await first.openStream(session)
                let reply = try await second.exchange(TestServer.get(session: session))
                #expect(reply.status == 409)
                #expect(reply.headers["retry-after"] != nil)
                try await first.streams.send([session], data: "still here")
                #expect(try await old.message()?.data == "still here")
            }
        }
    }

    @Test("A client that comes back to the same process is not locked out by its own dead stream")
    func deadStream() async throws {
        try await TestServer.run { server in
            let session = try await server.startSession()
            let dead = try await server.openStream(session)
            let alive = try await server.openStream(session)
            #expect(try await dead.message() == nil)
            // The end of the dead connection must not let go of the stream that is open now.
            await dead.close()
            try await server.streams.send([session], data: "hello")
            #expect(try await alive.message()?.data == "hello")
            #expect(try await server.streams.has(session))
        }
    }

    @Test("Many reconnects in a row leave the last one connected")
    func reconnects() async throws {
        try await TestServer.run { server in
            let session = try await server.startSession()
            for _ in 0..<100 {
                let connection = try await server.openStream(session)
                await connection.reset()
            }
            let connection = try await server.openStream(session)
            // The ends of those connections may be noticed late; they must not take the last one's stream away.
            for number in 0..<20 {
                try await server.streams.send([session], data: "\(number)")
                #expect(try await connection.message()?.data == "\(number)")
            }
        }
    }

    @Test("A client that goes away leaves its stream at once")
    func clientCloses() async throws {
        try await TestServer.run { server in
            let session = try await server.startSession()
            let connection = try await server.openStream(session)
            #expect(try await server.streams.has(session))
            await connection.close()
            #expect(try await TestServer.eventually { try await !server.streams.has(session) })
        }
    }

    @Test("DELETE on one process closes the stream on another for good, and the session is 404 everywhere")
    func deletion() async throws {
        let store = InMemorySessionStore()
        try await TestServer.run(store: store) { first in
            try await TestServer.run(store: store) { second in
                let session = try await first.startSession()
                let connection = try await first.openStream(session)
                _ = try await connection.event()
                _ = try await connection.event()
                #expect(try await second.exchange(TestServer.delete(session: session)).status == 204)
                #expect(try await connection.event() == nil)
                #expect(try await first.exchange(TestServer.get(session: session)).status == 404)
                #expect(try await first.exchange(TestServer.post(RuleTests.ping, session: session)).status == 404)
                #expect(try await first.exchange(TestServer.delete(session: session)).status == 404)
            }
        }
    }

    @Test("A session that ends while its stream is being opened leaves no stream behind")
    func deletionWhileOpening() async throws {
        let store = InMemorySessionStore()
        let info = InMemoryInfoSessionManager(store: store)
        let base = InMemoryStreamSessionManager(store: store)
        let streams = EndingStreams(base: base) { id, _ in _ = try? await info.delete(id, principal: nil) }
        try await TestServer.run(store: store, streams: streams) { server in
            let session = try await server.startSession()
            #expect(try await server.exchange(TestServer.get(session: session)).status == 404)
            #expect(try await !base.has(session))
        }
    }

    @Test("A stream whose messages are gone says so and goes on live")
    func purged() async throws {
        var limits = InMemorySessionStore.Limits()
        limits.retainedMessages = 2
        try await TestServer.run(store: InMemorySessionStore(limits: limits)) { server in
            let session = try await server.startSession()
            let connection = try await server.openStream(session)
            try await server.streams.send([session], data: "1")
            let seen = try #require(try await connection.message())
            await connection.close()
            #expect(try await TestServer.eventually { try await !server.streams.has(session) })
            for number in 2...5 { try await server.streams.send([session], data: "\(number)") }
            let resumed = try await server.openStream(session, lastEventID: seen.id)
            #expect(try await resumed.event() == [": purged"])
            try await server.streams.send([session], data: "6")
            #expect(try await resumed.message()?.data == "6")
        }
    }

    @Test("A silent stream is kept alive with comments")
    func keepAlive() async throws {
        try await TestServer.run(configure: { $0.keepAliveInterval = .milliseconds(20) }) { server in
            let session = try await server.startSession()
            let connection = try await server.openStream(session)
            _ = try await connection.event()
            _ = try await connection.event()
            #expect(try await connection.event() == [": ping"])
            #expect(try await connection.event() == [": ping"])
        }
    }

    @Test("A shutdown tells the client when to come back, lets go of its stream, and does not hang")
    func shutdown() async throws {
        let store = InMemorySessionStore()
        try await TestServer.run(store: store) { second in
            try await TestServer.run(store: store) { first in
                let session = try await first.startSession()
                let connection = try await first.openStream(session)
                try await first.streams.send([session], data: "1")
                let seen = try #require(try await connection.message())
                await first.services.triggerGracefulShutdown()
                #expect(try await connection.event() == ["retry: 300"])
                #expect(try await connection.event() == nil)
                #expect(try await !first.streams.has(session))
                try await second.streams.send([session], data: "2")
                let resumed = try await second.openStream(session, lastEventID: seen.id)
                #expect(try await resumed.message()?.data == "2")
            }
        }
    }

    @Test("A slow client is cut off, others are not held up, and it can resume where it stopped")
    func slowClient() async throws {
        let configure: (inout HTTPTransportConfiguration) -> Void = {
            $0.streamBufferSize = 100_000
            $0.drainTime = .milliseconds(100)
        }
        try await TestServer.run(configure: configure) { server in
            let slow = try await server.startSession()
            let quick = try await server.startSession()
            let slowConnection = try server.connect()
            await slowConnection.shrinkReceiveBuffer()
            await slowConnection.send(TestServer.get(session: slow))
            _ = try await slowConnection.reply()
            let quickConnection = try await server.openStream(quick)
            let text = String(repeating: "x", count: 50_000)
            var sent = 0
            while try await server.streams.has(slow), sent < 2000 {
                try await server.streams.send([slow], data: "\(sent) \(text)")
                sent += 1
            }
            #expect(sent < 2000)
            try await server.streams.send([quick], data: "in time")
            #expect(try await quickConnection.message()?.data == "in time")
            // What the kernels had taken in still arrives; then the connection ends in the middle of a message.
            var last: String?
            while let message = try? await slowConnection.message(within: 5) { last = message.id }
            #expect(await slowConnection.isClosedByServer())
            let resumed = try await server.openStream(slow, lastEventID: last)
            #expect(try await resumed.message()?.data.hasSuffix(text) == true)
        }
    }

    @Test("A message that is larger than the buffer is delivered")
    func largeMessage() async throws {
        try await TestServer.run { server in
            let session = try await server.startSession()
            let connection = try await server.openStream(session)
            let text = String(repeating: "é", count: 2_000_000)
            try await server.streams.send([session], data: text)
            #expect(try await connection.message(within: 30)?.data == text)
        }
    }

    // MARK: Streams of a POST

    @Test("A message before the answer makes the answer a stream, which ends with the answer")
    func postStream() async throws {
        try await TestServer.run { server in
            let session = try await server.startSession()
            let connection = try server.connect()
            let request = TestServer.request("progress", id: 5, params: #"{"_meta":{"progressToken":"p"}}"#)
            await connection.send(TestServer.post(request, session: session))
            #expect(try await connection.reply().headers["content-type"] == "text/event-stream")
            #expect(try await connection.event() == [": open"])
            #expect(try await connection.event()?.last == "data:")
            let first = try #require(try await connection.message())
            #expect(first.data.contains(#""progress":1,"progressToken":"p","total":2"#))
            #expect(first.id?.hasPrefix("session/") == false)
            #expect(try await connection.message()?.data.contains(#""progress":2"#) == true)
            #expect(try await connection.message()?.data == #"{"id":5,"jsonrpc":"2.0","result":{"done":true}}"#)
            #expect(try await connection.event() == nil)
            // The connection serves the next request.
            await connection.send(TestServer.post(RuleTests.ping, session: session))
            #expect(try await connection.reply().status == 200)
        }
    }

    @Test("Progress that the client did not ask for is not sent, and the answer is JSON")
    func unwantedProgress() async throws {
        try await TestServer.run { server in
            let session = try await server.startSession()
            let reply = try await server.exchange(TestServer.post(TestServer.request("progress"), session: session))
            #expect(reply.headers["content-type"] == "application/json")
        }
    }

    @Test("A request that is answered without a message does not touch the streams")
    func quietRequest() async throws {
        let spy = SpyStreams()
        try await TestServer.run(streams: spy) { server in
            let session = try await server.startSession()
            let reply = try await server.exchange(TestServer.post(RuleTests.ping, session: session))
            #expect(reply.status == 200)
            #expect(spy.calls.withLockedValue { $0 } == 0)
        }
    }

    @Test("A client that loses the stream of its POST finds the answer on another process")
    func postStreamResumed() async throws {
        let store = InMemorySessionStore()
        let handler = TestHandler()
        try await TestServer.run(handler: handler, store: store) { first in
            try await TestServer.run(store: store) { second in
                let session = try await first.startSession()
                let connection = try first.connect()
                let request = TestServer.request("progress-then-wait", params: #"{"_meta":{"progressToken":1}}"#)
                await connection.send(TestServer.post(request, session: session))
                _ = try await connection.reply()
                let seen = try #require(try await connection.message())
                await connection.reset()
                let standalone = try await second.openStream(session)
                let resumed = try await second.openStream(session, lastEventID: seen.id)
                await handler.gate.open()
                #expect(try await resumed.message()?.data.contains(#""done":true"#) == true)
                #expect(try await resumed.event() == nil)
                // Nothing of the POST's went to the other stream.
                try await first.streams.send([session], data: "only this")
                #expect(try await standalone.message()?.data == "only this")
                // And the answer is there again for a client that lost it on the way.
                let again = try await first.openStream(session, lastEventID: seen.id)
                #expect(try await again.message()?.data.contains(#""done":true"#) == true)
                #expect(try await again.event() == nil)
            }
        }
    }

    @Test("A POST's stream of another session, or one that never was, gives nothing away")
    func foreignPostStream() async throws {
        try await TestServer.run { server in
            let mine = try await server.startSession()
            let other = try await server.startSession()
            let connection = try server.connect()
            let request = TestServer.request("progress", params: #"{"_meta":{"progressToken":1}}"#)
            await connection.send(TestServer.post(request, session: other))
            _ = try await connection.reply()
            let seen = try #require(try await connection.message())
            while try await connection.message() != nil {}
            let reply = try await server.exchange(TestServer.get(session: mine, lastEventID: seen.id))
            #expect(reply.status == 400)
        }
    }

    @Test("A client that goes away does not cancel its request")
    func disconnectIsNoCancellation() async throws {
        let handler = TestHandler()
        try await TestServer.run(handler: handler) { server in
            let session = try await server.startSession()
            let connection = try server.connect()
            await connection.send(TestServer.post(TestServer.request("wait"), session: session))
            await handler.gate.waitForArrival()
            await connection.reset()
            #expect(try await server.exchange(TestServer.post(RuleTests.ping, session: session)).status == 200)
            #expect(await handler.gate.cancellations == 0)
            await handler.gate.open()
        }
    }

    @Test("A shutdown waits for answers whose clients have gone away", .timeLimit(.minutes(1)))
    func shutdownWaitsForAnswers() async throws {
        let store = InMemorySessionStore()
        let streams = InMemoryStreamSessionManager(store: store)
        let requests = InFlightRequests(streams: streams, held: HeldStreams(streams))
        let gate = Gate()
        let isAnswered = NIOLockedValueBox(false)
        requests.perform {
            await gate.entered()
            try? await gate.wait()
            isAnswered.withLockedValue { $0 = true }
        }
        await gate.waitForArrival()
        async let opened: Void = gate.open()
        await requests.waitUntilAnswered()
        #expect(isAnswered.withLockedValue { $0 })
        await opened
        // With nothing under way there is nothing to wait for.
        await requests.waitUntilAnswered()
    }

    @Test("notifications/cancelled cancels the request, and only within its session")
    func cancellation() async throws {
        let handler = TestHandler()
        try await TestServer.run(handler: handler) { server in
            let session = try await server.startSession()
            let other = try await server.startSession()
            let connection = try server.connect()
            await connection.send(TestServer.post(TestServer.request("wait", id: 9), session: session))
            await handler.gate.waitForArrival()
            let cancel = #"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":9}}"#
            #expect(try await server.exchange(TestServer.post(cancel, session: other)).status == 202)
            #expect(await handler.gate.cancellations == 0)
            #expect(try await server.exchange(TestServer.post(cancel, session: session)).status == 202)
            #expect(try await connection.reply().body.contains("-32800"))
            #expect(await handler.gate.cancellations == 1)
        }
    }

    @Test("A message for the session goes to its standalone stream")
    func sessionNotification() async throws {
        try await TestServer.run { server in
            let session = try await server.startSession()
            let connection = try await server.openStream(session)
            let tell = #"{"jsonrpc":"2.0","method":"tell-session","params":{"x":1}}"#
            #expect(try await server.exchange(TestServer.post(tell, session: session)).status == 202)
            let message = try await connection.message()
            #expect(message?.data == #"{"jsonrpc":"2.0","method":"told","params":{"x":1}}"#)
        }
    }
}

/// Counts what is asked of the streams.
struct SpyStreams: StreamSessionManager {
    let calls = NIOLockedValueBox(0)

    private func count() { calls.withLockedValue { $0 += 1 } }

    func create(
        _ id: String,
        controller: any StreamController,
        options: StreamOptions
    ) async throws(SessionManagerError) -> StreamOpening {
        count()
        throw SessionManagerError(.unreachable, "not here")
    }

    func detach(_ id: String) async throws(SessionManagerError) { count() }

    func delete(_ id: String) async throws(SessionManagerError) { count() }

    func has(_ id: String) async throws(SessionManagerError) -> Bool {
        count()
        return false
    }

    func send(_ sessions: [String]?, data: String) async throws(SessionManagerError) -> [SendReceipt] {
        count()
        throw SessionManagerError(.unreachable, "not here")
    }

    func listen(
        _ id: String,
        controller: any StreamController,
        filter: ChangeFilter,
        principal: String?
    ) async throws(SessionManagerError) -> EventID {
        count()
        throw SessionManagerError(.unreachable, "not here")
    }

    func broadcast(_ list: ServerList, data: String) async throws(SessionManagerError) -> EventID {
        count()
        throw SessionManagerError(.unreachable, "not here")
    }

    func publish(_ uri: String, data: String, principal: String?) async throws(SessionManagerError) -> Int {
        count()
        return 0
    }

    func log(_ level: LogLevel, data: String) async throws(SessionManagerError) -> Int {
        count()
        return 0
    }
}

/// Does something between the moment when a stream is asked for and the moment when it is opened, and before it is let go
/// of.
struct EndingStreams: StreamSessionManager {
    let base: InMemoryStreamSessionManager
    var beforeOpening: @Sendable (String, any StreamController) async -> Void = { _, _ in }
    var beforeLettingGo: @Sendable (String) async -> Void = { _ in }

    func create(
        _ id: String,
        controller: any StreamController,
        options: StreamOptions
    ) async throws(SessionManagerError) -> StreamOpening {
        await beforeOpening(id, controller)
        return try await base.create(id, controller: controller, options: options)
    }

    func detach(_ id: String) async throws(SessionManagerError) {
        await beforeLettingGo(id)
        try await base.detach(id)
    }

    func delete(_ id: String) async throws(SessionManagerError) { try await base.delete(id) }

    func has(_ id: String) async throws(SessionManagerError) -> Bool { try await base.has(id) }

    func send(_ sessions: [String]?, data: String) async throws(SessionManagerError) -> [SendReceipt] {
        try await base.send(sessions, data: data)
    }

    func listen(
        _ id: String,
        controller: any StreamController,
        filter: ChangeFilter,
        principal: String?
    ) async throws(SessionManagerError) -> EventID {
        await beforeOpening(id, controller)
        return try await base.listen(id, controller: controller, filter: filter, principal: principal)
    }

    func broadcast(_ list: ServerList, data: String) async throws(SessionManagerError) -> EventID {
        try await base.broadcast(list, data: data)
    }

    func publish(_ uri: String, data: String, principal: String?) async throws(SessionManagerError) -> Int {
        try await base.publish(uri, data: data, principal: principal)
    }

    func log(_ level: LogLevel, data: String) async throws(SessionManagerError) -> Int {
        try await base.log(level, data: data)
    }
}
