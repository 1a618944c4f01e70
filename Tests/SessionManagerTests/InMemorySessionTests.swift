import SessionManager
import Synchronization
import Testing

/// The semantics that both managers promise, shown on the ones in memory.
@Suite struct InMemorySessionTests {
    let store: InMemorySessionStore
    let streams: InMemoryStreamSessionManager
    let info: InMemoryInfoSessionManager

    init() {
        self.init(limits: InMemorySessionStore.Limits())
    }

    init(
        limits: InMemorySessionStore.Limits,
        clock: @escaping @Sendable () -> ContinuousClock.Instant = { .now }
    ) {
        store = InMemorySessionStore(limits: limits, clock: clock)
        streams = InMemoryStreamSessionManager(store: store)
        info = InMemoryInfoSessionManager(store: store)
    }

    /// Everything that is in the stream now.
    static func drain(_ stream: MessageStream) async -> [String] {
        stream.controller.close(.detached)
        var data: [String] = []
        for await message in stream { data.append(message.data) }
        return data
    }

    @Test("A message goes to the sessions that are named, a broadcast to every standalone stream once")
    func recipients() async throws {
        let (a, b, post) = (MessageStream(), MessageStream(), MessageStream())
        try await streams.create("a", controller: a.controller)
        try await streams.create("b", controller: b.controller)
        try await streams.create("a/post", controller: post.controller, options: StreamOptions(sessionID: "a"))
        let receipts = try await streams.send(["b", "nobody"], data: "1")
        #expect(receipts.count == 2)
        #expect(receipts[1] == .unknownSession)
        #expect(try await streams.send(nil, data: "2").count == 1)
        try await streams.send(["a/post"], data: "3")
        #expect(await InMemorySessionTests.drain(a) == ["2"])
        #expect(await InMemorySessionTests.drain(b) == ["1", "2"])
        #expect(await InMemorySessionTests.drain(post) == ["3"])
    }

    @Test("A resumed stream replays what followed, without gap or duplicate, and only its own")
    func resumption() async throws {
        let old = MessageStream()
        try await streams.create("a", controller: old.controller)
        let receipts = try await streams.send(["a"], data: "1")
        guard case .sent(let seen) = receipts[0] else { throw SessionManagerError(.database, "not sent") }
        try await streams.detach("a")
        #expect(old.closing == .detached)
        try await streams.create("a/x", controller: MessageStream().controller, options: StreamOptions(sessionID: "a"))
        try await streams.send(["a"], data: "2")
        try await streams.send(["a/x"], data: "not for a")
        try await streams.send(nil, data: "3")
        let new = MessageStream()
        let opening = try await streams.create("a", controller: new.controller, options: .init(lastEventID: seen))
        #expect(opening.replay == .complete)
        try await streams.send(["a"], data: "4")
        #expect(await InMemorySessionTests.drain(new) == ["2", "3", "4"])
    }

    @Test("A stream that is opened anew is live from now on")
    func newStream() async throws {
        try await streams.create("a", controller: MessageStream().controller)
        try await streams.detach("a")
        try await streams.send(["a"], data: "before")
        let stream = MessageStream()
        let opening = try await streams.create("a", controller: stream.controller)
        #expect(opening.replay == .none)
        #expect(opening.start == opening.position)
        try await streams.send(["a"], data: "after")
        #expect(await InMemorySessionTests.drain(stream) == ["after"])
    }

    @Test("What was sent to a session before it opened its stream waits for it")
    func waitingMessages() async throws {
        try await info.start("a", metadata: SessionMetadata(), principal: nil)
        let receipts = try await streams.send(["a"], data: "1")
        try await streams.send(["a"], data: "2")
        let stream = MessageStream()
        let opening = try await streams.create("a", controller: stream.controller)
        #expect(opening.replay == .complete)
        guard case .sent(let first) = receipts[0] else { throw SessionManagerError(.database, "not sent") }
        #expect(opening.start < first)
        #expect(await InMemorySessionTests.drain(stream) == ["1", "2"])
        // A client whose connection broke before it saw anything resumes from there.
        let again = MessageStream()
        try await streams.create("a", controller: again.controller, options: .init(lastEventID: opening.start))
        #expect(await InMemorySessionTests.drain(again) == ["1", "2"])
    }

    @Test("A stream that another process holds is taken over by a resume and by nothing else")
    func takeOver() async throws {
        let other = InMemoryStreamSessionManager(store: store)
        let old = MessageStream()
        let opening = try await streams.create("a", controller: old.controller)
        let new = MessageStream()
        await #expect(throws: SessionManagerError.self) { try await other.create("a", controller: new.controller) }
        try await other.detach("a")
        #expect(old.closing == nil)
        try await other.create("a", controller: new.controller, options: .init(lastEventID: opening.position))
        #expect(old.closing == .takenOver)
        try await streams.detach("a")
        #expect(try await streams.has("a"))
    }

    @Test("What the log no longer holds is purged, stream by stream")
    func purge() async throws {
        var limits = InMemorySessionStore.Limits()
        limits.retainedMessages = 3
        let test = InMemorySessionTests(limits: limits)
        let quiet = try await test.streams.create("quiet", controller: MessageStream().controller)
        let busy = try await test.streams.create("busy", controller: MessageStream().controller)
        for number in 0..<10 { try await test.streams.send(["busy"], data: "\(number)") }
        let purged = try await test.streams.create(
            "busy",
            controller: MessageStream().controller,
            options: .init(lastEventID: busy.position)
        )
        #expect(purged.replay == .purged)
        let complete = try await test.streams.create(
            "quiet",
            controller: MessageStream().controller,
            options: .init(lastEventID: quiet.position)
        )
        #expect(complete.replay == .complete)
        // A stream that nobody knows any more has lost what it had.
        let unknown = try await test.streams.create(
            "unknown",
            controller: MessageStream().controller,
            options: .init(lastEventID: quiet.position)
        )
        #expect(unknown.replay == .purged)
    }

    @Test("A consumer that reads too slowly is cut off and can resume")
    func slowConsumer() async throws {
        let slow = MessageStream(byteLimit: 1)
        let opening = try await streams.create("a", controller: slow.controller)
        try await streams.send(["a"], data: "1")
        try await streams.send(["a"], data: "2")
        #expect(slow.closing == .tooSlow)
        #expect(try await !streams.has("a"))
        let new = MessageStream()
        try await streams.create("a", controller: new.controller, options: .init(lastEventID: opening.position))
        #expect(await InMemorySessionTests.drain(new) == ["1", "2"])
    }

    @Test("A replay that waits for its reader ends when the log has lost what comes next, and says so")
    func purgedReplay() async throws {
        var limits = InMemorySessionStore.Limits()
        limits.retainedMessages = 3
        let test = InMemorySessionTests(limits: limits)
        let position = try await test.streams.create("a", controller: MessageStream().controller).position
        try await test.streams.detach("a")
        for number in 1...3 { try await test.streams.send(["a"], data: "\(number)") }
        let stream = MessageStream(byteLimit: 1)
        try await test.streams.create("a", controller: stream.controller, options: .init(lastEventID: position))
        #expect(stream.closing == nil)
        for number in 4...6 { try await test.streams.send(["a"], data: "\(number)") }
        var received: [String] = []
        for await message in stream { received.append(message.data) }
        #expect(received == ["1"])
        #expect(stream.closing == .purged)
    }

    @Test("A replay to a reader that is gone, or that never takes anything, ends")
    func hopelessReplay() async throws {
        let position = try await streams.create("a", controller: MessageStream().controller).position
        try await streams.detach("a")
        try await streams.send(["a"], data: "1")
        let stubborn = Stubborn()
        try await streams.create("a", controller: stubborn, options: .init(lastEventID: position))
        for await closing in stubborn.closings {
            #expect(closing == .tooSlow)
            break
        }
        #expect(try await !streams.has("a"))
    }

    /// Takes nothing.
    private final class Stubborn: StreamController {
        let closings: AsyncStream<StreamClosing>
        private let closed: AsyncStream<StreamClosing>.Continuation

        init() {
            (closings, closed) = AsyncStream.makeStream()
        }

        func enqueue(_ message: StreamMessage) -> Bool { false }
        func close(_ closing: StreamClosing) { closed.yield(closing) }
    }

    @Test("A message that is too large is refused and goes to nobody")
    func largeMessage() async throws {
        var limits = InMemorySessionStore.Limits()
        limits.messageBytes = 3
        let test = InMemorySessionTests(limits: limits)
        let stream = MessageStream()
        try await test.streams.create("a", controller: stream.controller)
        let error = await #expect(throws: SessionManagerError.self) {
            try await test.streams.send(nil, data: "four")
        }
        #expect(error?.code == .messageTooLarge)
        #expect(error?.message == "a message may have 3 bytes")
        #expect(error?.hint != nil)
        #expect(await InMemorySessionTests.drain(stream).isEmpty)
    }

    @Test("An update reaches the subscribers, a log message those whose level lets it through")
    func publishing() async throws {
        var open: [String: MessageStream] = [:]
        for id in ["a", "b", "c"] {
            let stream = MessageStream()
            open[id] = stream
            try await info.start(id, metadata: SessionMetadata(), principal: nil)
            try await streams.create(id, controller: stream.controller)
        }
        try await info.addSubscription("a", uri: "note://x", principal: nil)
        try await info.addSubscription("a", uri: "note://x", principal: nil)
        try await info.addSubscription("b", uri: "note://x", principal: nil)
        try await info.removeSubscription("b", uri: "note://x", principal: nil)
        try await info.setLogLevel("b", .error, principal: nil)
        #expect(try await info.getSubscriptions("note://x") == ["a"])
        #expect(try await streams.publish("note://x", data: "update") == 1)
        #expect(try await streams.publish("note://y", data: "nobody's") == 0)
        #expect(try await streams.log(.warning, data: "warning") == 2)
        #expect(try await streams.log(.error, data: "error") == 3)
        var received: [String: [String]] = [:]
        for (id, stream) in open { received[id] = await InMemorySessionTests.drain(stream) }
        #expect(received == ["a": ["update", "warning", "error"], "b": ["error"], "c": ["warning", "error"]])
    }

    @Test("A session is as if it did not exist for another principal")
    func principals() async throws {
        try await info.start("a", metadata: SessionMetadata(protocolVersion: "2025-11-25"), principal: "alice")
        #expect(try await info.metadata("a", principal: "alice")?.protocolVersion == "2025-11-25")
        for stranger in ["mallory", nil] {
            #expect(try await info.metadata("a", principal: stranger) == nil)
            #expect(try await !info.delete("a", principal: stranger))
            await expectCode(.sessionNotFound) { () throws(SessionManagerError) in
                try await info.setLogLevel("a", .debug, principal: stranger)
            }
            await expectCode(.sessionNotFound) { () throws(SessionManagerError) in
                try await streams.create(
                    "a",
                    controller: MessageStream().controller,
                    options: .init(principal: stranger)
                )
            }
        }
        #expect(try await info.delete("a", principal: "alice"))
    }

    @Test("The end of a session ends its streams and its subscriptions")
    func end() async throws {
        let (standalone, post) = (MessageStream(), MessageStream())
        try await info.setClientInfo("a", ["name": "x", "unknown": [1]], principal: nil)
        #expect(try await info.getClientInfo("a", principal: nil) == ["name": "x", "unknown": [1]])
        try await info.addSubscription("a", uri: "note://x", principal: nil)
        try await streams.create("a", controller: standalone.controller)
        try await streams.create("a/post", controller: post.controller, options: .init(sessionID: "a"))
        #expect(try await info.delete("a", principal: nil))
        #expect(standalone.closing == .ended)
        #expect(post.closing == .ended)
        #expect(try await info.metadata("a", principal: nil) == nil)
        #expect(try await info.getSubscriptions("note://x").isEmpty)
        #expect(try await streams.send(["a"], data: "late") == [.unknownSession])
        #expect(try await !info.delete("a", principal: nil))
    }

    @Test("Caps are kept, per store and per principal")
    func caps() async throws {
        var limits = InMemorySessionStore.Limits()
        limits.sessions = 2
        limits.sessionsPerPrincipal = 1
        let info = InMemorySessionTests(limits: limits).info
        try await info.start("a", metadata: SessionMetadata(), principal: "alice")
        await expectCode(.sessionExists) {
            () throws(SessionManagerError) in
            try await info.start("a", metadata: SessionMetadata(), principal: "bob")
        }
        await expectCode(.principalSessionLimitReached) {
            () throws(SessionManagerError) in
            try await info.start("b", metadata: SessionMetadata(), principal: "alice")
        }
        try await info.start("b", metadata: SessionMetadata(), principal: "bob")
        await expectCode(.sessionLimitReached) {
            () throws(SessionManagerError) in
            try await info.start("c", metadata: SessionMetadata(), principal: "carol")
        }
        try await info.delete("a", principal: "alice")
        try await info.start("c", metadata: SessionMetadata(), principal: "carol")
    }

    @Test("A session that is silent for too long ends, unless its stream is open")
    func idleExpiry() async throws {
        var limits = InMemorySessionStore.Limits()
        limits.idleTime = .seconds(60)
        let start = ContinuousClock.now
        let seconds = Atomic<Int>(0)
        let test = InMemorySessionTests(limits: limits, clock: { start + .seconds(seconds.load(ordering: .relaxed)) })
        try await test.info.start("idle", metadata: SessionMetadata(), principal: nil)
        try await test.info.start("open", metadata: SessionMetadata(), principal: nil)
        try await test.streams.create("open", controller: MessageStream().controller)
        // Asking counts as activity.
        seconds.store(59, ordering: .relaxed)
        #expect(try await test.info.metadata("idle", principal: nil) != nil)
        seconds.store(118, ordering: .relaxed)
        #expect(try await test.info.metadata("idle", principal: nil) != nil)
        seconds.store(200, ordering: .relaxed)
        #expect(try await test.info.metadata("open", principal: nil) != nil)
        #expect(try await test.info.metadata("idle", principal: nil) == nil)
    }

    @Test("An id that cannot be one is refused")
    func ids() async throws {
        for id in ["", "a\u{0}b", String(repeating: "x", count: 1025)] {
            await expectCode(.invalidArgument) { () throws(SessionManagerError) in
                try await streams.create(id, controller: MessageStream().controller)
            }
        }
    }

    private func expectCode(
        _ code: SessionManagerError.Code,
        _ body: () async throws(SessionManagerError) -> Void
    ) async {
        do throws(SessionManagerError) {
            try await body()
            Issue.record("nothing was thrown")
        } catch {
            #expect(error.code == code)
            #expect(error.hint?.isEmpty == false, "\(error.message)")
        }
    }
}
