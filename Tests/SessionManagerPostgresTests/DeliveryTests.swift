import PostgresClient
import SessionManager
import Testing

@testable import SessionManagerPostgres

/// What the documentation of both managers promises, whatever they keep their sessions in.
@Suite("Messages between processes", .serialized, .timeLimit(.minutes(3)))
struct DeliveryTests {
    @Test("A message reaches the stream in the process that holds it, from any process", arguments: Backend.allCases)
    func send(backend: Backend) async throws {
        try await backend.with { managers, _ in
            let stream = MessageStream()
            try await managers[0].create("a", controller: stream.controller)
            let receipts = try await managers[1].send(["a", "nobody"], data: "hello")
            guard case .sent = receipts[0] else { Issue.record("not sent"); return }
            #expect(receipts[1] == .unknownSession)
            try await managers[0].send(["a"], data: "again")
            #expect(await stream.next(2) == ["hello", "again"])
        }
    }

    @Test("A broadcast reaches every open stream once", arguments: Backend.allCases)
    func broadcast(backend: Backend) async throws {
        try await backend.with { managers, _ in
            let streams = (0..<10).map { _ in MessageStream() }
            for (index, stream) in streams.enumerated() {
                try await managers[index % 2].create("s\(index)", controller: stream.controller)
            }
            try await managers[0].send(nil, data: "all")
            try await managers[1].send((0..<10).map { "s\($0)" }, data: "each")
            for stream in streams { #expect(await stream.next(2) == ["all", "each"]) }
        }
    }

    @Test(
        "A message to many sessions reaches each of them once, also one that is named twice",
        arguments: Backend.allCases
    )
    func many(backend: Backend) async throws {
        try await backend.with { managers, _ in
            let streams = (0..<4).map { _ in MessageStream() }
            for (index, stream) in streams.enumerated() {
                try await managers[index % 2].create("s\(index)", controller: stream.controller)
            }
            for data in ["short", String(repeating: "x", count: 9_000)] {
                let receipts = try await managers[0].send(["s3", "nobody", "s0", "s3", "s1"], data: data)
                #expect(receipts.map { $0 != .unknownSession } == [true, false, true, true, true])
                #expect(receipts[0] == receipts[3])
            }
            try await managers[0].send(nil, data: "end")
            let lengths = [[5, 9_000, 3], [5, 9_000, 3], [3], [5, 9_000, 3]]
            for (stream, lengths) in zip(streams, lengths) {
                #expect(await stream.next(lengths.count).map(\.utf8.count) == lengths)
            }
        }
    }

    @Test("A large message to many sessions is one call, which holds it once")
    func manyLarge() async throws {
        try await TestDatabase().withManagers(1) { managers in
            // A copy for each of them would be 2 GB, and more than a call can hold.
            let ids = (0..<2_000).map { "nobody \($0)" } + ["a"]
            let data = String(repeating: "x", count: 1_000_000)
            let stream = MessageStream(byteLimit: 16_000_000)
            try await managers[0].create("a", controller: stream.controller)
            let receipts = try await managers[0].send(ids, data: data)
            #expect(receipts.count == ids.count)
            #expect(receipts.filter { $0 != .unknownSession }.count == 1)
            #expect(await stream.next(1).map(\.utf8.count) == [1_000_000])
        }
    }

    @Test(
        "A message that does not fit a notification arrives, in its place among the others",
        arguments: [7_900, 7_901, 1_000_000],
        Backend.allCases
    )
    func large(size: Int, backend: Backend) async throws {
        let large = String(repeating: "x", count: size)
        try await backend.with { managers, _ in
            let stream = MessageStream(byteLimit: 16_000_000)
            try await managers[0].create("a", controller: stream.controller)
            for data in ["1", large, "3", large, "5"] { try await managers[1].send(["a"], data: data) }
            try await managers[1].send(nil, data: large)
            try await managers[1].send(nil, data: "7")
            // Lengths first: a failure would print all of it.
            let received = await stream.next(7)
            #expect(received.map(\.utf8.count) == [1, size, 1, size, 1, size, 1])
            let isEqual = received == ["1", large, "3", large, "5", large, "7"]
            #expect(isEqual)
        }
    }

    @Test(
        "A message over the size limit is refused, and those that were sent at the same time are not",
        arguments: Backend.allCases
    )
    func tooLarge(backend: Backend) async throws {
        try await backend.with { managers, _ in
            let stream = MessageStream()
            try await managers[0].create("a", controller: stream.controller)
            await withTaskGroup(of: SessionManagerError.Code?.self) { group in
                for size in [10, 5_000_000, 20] {
                    group.addTask {
                        do throws(SessionManagerError) {
                            try await managers[1].send(["a"], data: String(repeating: "x", count: size))
                            return nil
                        } catch {
                            return error.code
                        }
                    }
                }
                let codes = await group.reduce(into: []) { $0.append($1) }
                #expect(codes.compactMap { $0 } == [.messageTooLarge])
            }
            #expect(Set(await stream.next(2).map(\.count)) == [10, 20])
        }
    }

    @Test("Text of any kind arrives as it was sent", arguments: Backend.allCases)
    func text(backend: Backend) async throws {
        try await backend.with { managers, _ in
            let stream = MessageStream()
            let id = "it's \"odd\"; \\ \n %s $1 \u{202E}\u{1F600}"
            let data = [
                "", "\n", "'; DROP TABLE tmcp.streams; --", "17 1 3\nabc", "\u{1F468}\u{200D}\u{1F469}", "e\u{301}",
            ]
            try await managers[0].create(id, controller: stream.controller)
            for text in data { try await managers[1].send([id], data: text) }
            let received = await stream.next(data.count)
            #expect(received.map { Array($0.utf8) } == data.map { Array($0.utf8) })
            await #expect(throws: SessionManagerError.self) { try await managers[1].send([id], data: "a\u{0}b") }
        }
    }

    @Test("A message to a session that is between two connections waits for it", arguments: Backend.allCases)
    func detached(backend: Backend) async throws {
        try await backend.with { managers, _ in
            let first = MessageStream()
            try await managers[0].create("a", controller: first.controller)
            let receipt = try await managers[1].send(["a"], data: "1")
            guard case .sent(let eventID) = receipt[0] else { Issue.record("not sent"); return }
            #expect(await first.next(1) == ["1"])
            try await managers[0].detach("a")
            #expect(try await managers[1].has("a") == false)
            try await managers[1].send(["a"], data: "2")
            try await managers[1].send(nil, data: "3")

            let second = MessageStream()
            let opening = try await managers[1].create(
                "a",
                controller: second.controller,
                options: StreamOptions(lastEventID: eventID)
            )
            #expect(opening.replay == .complete)
            try await managers[0].send(["a"], data: "4")
            #expect(await second.next(3) == ["2", "3", "4"])
        }
    }

    @Test(
        "A stream that a live process holds is refused without a last event id, and taken over with one",
        arguments: Backend.allCases
    )
    func takeOver(backend: Backend) async throws {
        try await backend.with { managers, _ in
            let first = MessageStream()
            let opening = try await managers[0].create("a", controller: first.controller)
            let second = MessageStream()
            let error = await #expect(throws: SessionManagerError.self) {
                try await managers[1].create("a", controller: second.controller)
            }
            #expect(error?.code == .streamHeld)
            try await managers[1].create(
                "a",
                controller: second.controller,
                options: StreamOptions(lastEventID: opening.position)
            )
            #expect(await first.next(1) == [])
            #expect(first.closing == .takenOver)
            try await managers[0].send(["a"], data: "1")
            #expect(await second.next(1) == ["1"])
        }
    }

    @Test(
        "A stream that is deleted anywhere, or ended with its session, closes where it is held",
        arguments: Backend.allCases
    )
    func delete(backend: Backend) async throws {
        try await backend.with { managers, infos in
            let info = infos[1]
            let streams = [MessageStream(), MessageStream(), MessageStream()]
            for (id, stream) in zip(["a", "b", "c"], streams) {
                try await managers[0].create(id, controller: stream.controller)
            }
            try await managers[1].delete("a")
            try await info.delete("b", principal: nil)
            try await managers[0].delete("c")
            for stream in streams {
                #expect(await stream.next(1) == [])
                #expect(stream.closing == .ended)
            }
            #expect(try await managers[0].has("a") == false)
        }
    }

    @Test("A resource update reaches its subscribers, and nobody else", arguments: Backend.allCases)
    func publish(backend: Backend) async throws {
        try await backend.with { managers, infos in
            let info = infos[1]
            let subscribed = MessageStream()
            let other = MessageStream()
            try await managers[0].create("a", controller: subscribed.controller)
            try await managers[1].create("b", controller: other.controller)
            try await info.addSubscription("a", uri: "note://plan", principal: nil)
            #expect(try await info.getSubscriptions("note://plan") == ["a"])
            #expect(try await managers[1].publish("note://plan", data: "1") == 1)
            #expect(try await managers[0].publish("note://plan", data: "2") == 1)
            #expect(await subscribed.next(2) == ["1", "2"])
            try await managers[1].send(["b"], data: "only this")
            #expect(await other.next(1) == ["only this"])
        }
    }

    @Test("A log message reaches the sessions that want to hear of its level", arguments: Backend.allCases)
    func log(backend: Backend) async throws {
        try await backend.with { managers, infos in
            let info = infos[1]
            let quiet = MessageStream()
            let all = MessageStream()
            try await managers[0].create("quiet", controller: quiet.controller)
            try await managers[1].create("all", controller: all.controller)
            try await info.setLogLevel("quiet", .error, principal: nil)
            #expect(try await managers[1].log(.info, data: "1") == 1)
            #expect(try await managers[0].log(.error, data: "2") == 2)
            #expect(await quiet.next(1) == ["2"])
            #expect(await all.next(2) == ["1", "2"])
        }
    }

    @Test("A client that does not read is cut off, can resume, and nobody else waits", arguments: Backend.allCases)
    func slowConsumer(backend: Backend) async throws {
        let data = String(repeating: "x", count: 1_000)
        try await backend.with { managers, _ in
            let slow = MessageStream(byteLimit: 5_000)
            let fast = MessageStream()
            try await managers[0].create("slow", controller: slow.controller)
            try await managers[0].create("fast", controller: fast.controller)
            for index in 0..<20 { try await managers[1].send(["slow", "fast"], data: data + "\(index)") }
            #expect(await fast.next(20).count == 20)

            var last: EventID?
            var received: [String] = []
            for await message in slow {
                last = message.eventID
                received.append(message.data)
            }
            #expect(slow.closing == .tooSlow)
            let resumed = MessageStream()
            try await managers[1].create(
                "slow",
                controller: resumed.controller,
                options: StreamOptions(lastEventID: last)
            )
            received += await resumed.next(20 - received.count)
            let isComplete = received == (0..<20).map { data + "\($0)" }
            #expect(isComplete)
        }
    }

    @Test(
        "A client that missed more than its buffer holds catches up as fast as it reads, also while more comes",
        arguments: Backend.allCases
    )
    func longReplay(backend: Backend) async throws {
        let data = String(repeating: "x", count: 100_000)
        try await backend.with { managers, _ in
            let position = try await managers[0].create("a", controller: MessageStream().controller).position
            try await managers[0].detach("a")
            for index in 0..<30 { try await managers[1].send(["a"], data: data + "\(index)") }
            let stream = MessageStream(byteLimit: 1_048_576)
            let opening = try await managers[0].create(
                "a",
                controller: stream.controller,
                options: StreamOptions(lastEventID: position)
            )
            #expect(opening.replay == .complete)
            for index in 30..<40 { try await managers[1].send(["a"], data: data + "\(index)") }
            let received = await stream.next(40)
            #expect(received.map { $0.dropFirst(data.count) } == (0..<40).map { "\($0)" })
            #expect(stream.closing == nil)
            // It is live again.
            try await managers[1].send(["a"], data: "live")
            #expect(await stream.next(1) == ["live"])
        }
    }

    @Test("A large message for many streams arrives at each of them, once, though no page of the log holds it for all")
    func pagesWithinEvent() async throws {
        try await Backend.postgres.with { managers, infos in
            let ids = (0..<40).map { "s\($0)" }
            let streams = ids.map { _ in MessageStream() }
            for (id, stream) in zip(ids, streams) {
                try await infos[0].addSubscription(id, uri: "note://a", principal: nil)
                try await managers[0].create(id, controller: stream.controller)
            }
            // Beyond the 256 KiB of a page three times.
            let large = String(repeating: "x", count: 20_000)
            #expect(try await managers[1].publish("note://a", data: large) == 40)
            try await managers[1].send(nil, data: "2")
            for stream in streams { #expect(await stream.next(2).map(\.utf8.count) == [20_000, 1]) }
        }
    }

    @Test(
        "A client that reads gets all of what it missed, however small its buffer and large the messages",
        arguments: Backend.allCases
    )
    func smallBuffer(backend: Backend) async throws {
        try await backend.with { managers, _ in
            let opening = try await managers[0].create("a", controller: MessageStream().controller)
            try await managers[0].detach("a")
            var sent: [String] = []
            for index in 0..<30 {
                // Each tenth is larger than the whole buffer.
                sent.append(String(repeating: "x", count: index % 10 == 9 ? 2_000 : 300) + "\(index)")
                try await managers[1].send(["a"], data: sent[index])
            }
            let stream = MessageStream(byteLimit: 1_000)
            let options = StreamOptions(lastEventID: opening.position)
            try await managers[0].create("a", controller: stream.controller, options: options)
            let isComplete = await stream.next(30) == sent
            #expect(isComplete)
            #expect(stream.closing == nil)
        }
    }

    @Test("A message to a session that has not opened its stream yet waits for it", arguments: Backend.allCases)
    func notYetOpened(backend: Backend) async throws {
        try await backend.with { managers, infos in
            try await infos[0].start("a", metadata: SessionMetadata(), principal: nil)
            try await managers[1].send(["a"], data: "1")
            let stream = MessageStream()
            let opening = try await managers[0].create("a", controller: stream.controller)
            #expect(opening.replay == .complete)
            #expect(opening.start < opening.position)
            try await managers[1].send(["a"], data: "2")
            #expect(await stream.next(2) == ["1", "2"])
        }
    }

    @Test("A stream beside the standalone one gets its own messages alone", arguments: Backend.allCases)
    func otherStreams(backend: Backend) async throws {
        try await backend.with { managers, infos in
            let post = MessageStream()
            try await managers[0].create("a", controller: MessageStream().controller)
            try await managers[1].create("a/1", controller: post.controller, options: StreamOptions(sessionID: "a"))
            try await managers[0].send(nil, data: "all")
            try await managers[0].send(["a"], data: "standalone")
            try await managers[0].send(["a/1"], data: "its own")
            #expect(await post.next(1) == ["its own"])
            // It ends with its session.
            try await infos[1].setLogLevel("a", .info, principal: nil)
            try await infos[0].delete("a", principal: nil)
            for await _ in post {}
            #expect(post.closing == .ended)
            #expect(try await managers[0].send(["a"], data: "late") == [.unknownSession])
        }
    }

    @Test("A stream that is let go of is closed for whoever still reads it", arguments: Backend.allCases)
    func letGo(backend: Backend) async throws {
        try await backend.with { managers, _ in
            let stream = MessageStream()
            try await managers[0].create("a", controller: stream.controller)
            // That of another process is left alone.
            try await managers[1].detach("a")
            #expect(try await managers[0].has("a"))
            try await managers[0].detach("a")
            for await _ in stream {}
            #expect(stream.closing == .detached)
        }
    }

    @Test("A stream that nobody knows any more, resumed, has lost what it had", arguments: Backend.allCases)
    func unknownStream(backend: Backend) async throws {
        try await backend.with { managers, _ in
            let position = try await managers[0].create("a", controller: MessageStream().controller).position
            try await managers[0].send(["a"], data: "1")
            try await managers[0].delete("a")
            let opening = try await managers[1].create(
                "a",
                controller: MessageStream().controller,
                options: StreamOptions(lastEventID: position)
            )
            #expect(opening.replay == .purged)
        }
    }

    @Test(
        "Ids that cannot be one are refused",
        arguments: ["", "a\u{0}b", String(repeating: "x", count: 1025)],
        Backend.allCases
    )
    func ids(id: String, backend: Backend) async throws {
        try await backend.with { managers, infos in
            let opening = await #expect(throws: SessionManagerError.self) {
                try await managers[0].create(id, controller: MessageStream().controller)
            }
            #expect(opening?.code == .invalidArgument)
            let level = await #expect(throws: SessionManagerError.self) {
                try await infos[0].setLogLevel(id, .info, principal: nil)
            }
            #expect(level?.code == .invalidArgument)
            let end = await #expect(throws: SessionManagerError.self) { try await managers[0].delete(id) }
            #expect(end?.code == .invalidArgument)
            // Twice as long as an id may be.
            let update = await #expect(throws: SessionManagerError.self) {
                try await managers[0].publish(id + id, data: "1")
            }
            #expect(update?.code == .invalidArgument)
            for error in [opening, level, end, update] { #expect(error?.hint?.isEmpty == false) }
        }
    }
}

@Suite("What SQL does to streams", .serialized, .timeLimit(.minutes(3)))
struct SQLTests {
    @Test("An update that a transaction has enqueued reaches its subscribers")
    func enqueue() async throws {
        let database = try TestDatabase()
        try await database.withManagers { managers in
            let info = PostgresInfoSessionManager(sharing: managers[1])
            let stream = MessageStream()
            try await managers[0].create("a", controller: stream.controller)
            try await info.addSubscription("a", uri: "note://plan", principal: nil)
            try await database.query("SELECT tmcp.enqueue_publish($1, 'note://plan', '1')", [.text(database.store)])
            #expect(await stream.next(1) == ["1"])
        }
    }

    @Test("A row that is deleted from the relation of sessions closes its stream")
    func delete() async throws {
        let database = try TestDatabase()
        try await database.withManagers { managers in
            let stream = MessageStream()
            try await managers[0].create("a", controller: stream.controller)
            try await database.query("DELETE FROM tmcp.\(database.store)_sessions WHERE id = 'a'")
            for await _ in stream {}
            #expect(stream.closing == .ended)
        }
    }
}
