import Foundation
import PostgresClient
import SessionManager
import Testing

@testable import SessionManagerPostgres

@Suite("A network or a server that fails at a bad moment", .serialized, .timeLimit(.minutes(3)))
struct NetworkTests {
    /// Runs `body` with a process whose calls go through a relay, and another one that is not disturbed.
    private static func with(
        configure: (_ configuration: inout PostgresSessionConfiguration) -> Void = { _ in },
        _ body:
            @Sendable (_ database: TestDatabase, _ relay: Relay, _ managers: [PostgresStreamSessionManager])
            async throws -> Void
    ) async throws {
        let database = try TestDatabase()
        let relay = try Relay(to: database)
        try await database.withManagers(
            2,
            configure: { index, configuration in
                guard index == 0 else { return }
                configuration.connectionString = relay.url
                configuration.listenerConnectionString = database.url
                configuration.applicationName = database.store
                configure(&configuration)
            }
        ) { managers in
            try await body(database, relay, managers)
        }
    }

    private static func node(_ manager: PostgresStreamSessionManager) async throws -> StreamNode {
        try #require(await manager.client.running().node)
    }

    /// Opens a stream that listens for changes of the list of tools.
    private static func listen(_ id: String, _ manager: PostgresStreamSessionManager) async throws -> MessageStream {
        let stream = MessageStream()
        let filter = ChangeFilter(lists: [.tools])
        try await manager.listen(id, controller: stream.controller, filter: filter, principal: nil)
        return stream
    }

    @Test("An answer that is lost when the process makes sure of its streams costs none of them")
    func lostReattach() async throws {
        try await Self.with { configuration in
            // Else another call of the process would follow that one.
            configuration.heartbeatInterval = .seconds(3600)
        } _: { database, relay, managers in
            let stream = MessageStream()
            try await managers[0].create("a", controller: stream.controller)
            let listening = try await Self.listen("l", managers[0])
            relay.loseAnswers(to: "tmcp.reattach")
            let calls = "pg_stat_activity WHERE application_name = '\(database.store)' AND query LIKE '%tmcp.reattach%'"
            try await database.query(
                """
                SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                WHERE application_name = '\(database.store)'
                  AND (query LIKE 'LISTEN%' OR query LIKE '%pg_listening_channels%')
                """
            )
            // Done by the server, and nobody knows.
            try await database.wait(until: "SELECT bool_or(state = 'idle') FROM \(calls)")
            try await managers[1].send(["a"], data: "1")
            relay.cut()
            try await managers[1].broadcast(.tools, data: "2")
            #expect(await stream.next(2) == ["1", "2"])
            #expect(await listening.next(1) == ["2"])
            #expect(stream.closing == nil && listening.closing == nil)
        }
    }

    @Test("An answer that is lost when a stream is opened costs none of those that are open")
    func lostAttach() async throws {
        try await Self.with { database, relay, managers in
            let listening = try await Self.listen("l", managers[0])
            let node = try await Self.node(managers[0])
            let number = try #require(await node.number)
            relay.loseAnswers(to: "tmcp.attach_batch")
            let opening = Task { try await managers[0].create("a", controller: MessageStream().controller) }
            try await database.wait(until: "tmcp.has('\(database.store)', 'a')")
            relay.cut()
            let error = await #expect(throws: SessionManagerError.self) { try await opening.value }
            #expect(error?.code == .outcomeUnknown)
            // The process lets go of what it may hold without knowing.
            try await database.wait(until: "NOT EXISTS (SELECT FROM tmcp.nodes WHERE node = \(number))")
            #expect(try await !managers[1].has("a"))
            try await managers[1].broadcast(.tools, data: "1")
            #expect(await listening.next(1) == ["1"])
            #expect(listening.closing == nil)
        }
    }

    @Test("A connection for calls that swallows everything is given up, and what was under way is unknown")
    func silentCalls() async throws {
        try await Self.with { configuration in
            configuration.answerTimeout = .seconds(2)
        } _: { _, relay, managers in
            let stream = MessageStream()
            try await managers[0].create("a", controller: stream.controller)
            relay.swallow()
            let error = await #expect(throws: SessionManagerError.self) {
                try await managers[0].send(["a"], data: "1")
            }
            #expect(error?.code == .outcomeUnknown)
            try await managers[0].send(["a"], data: "2")
            #expect(await stream.next(1) == ["2"])
        }
    }

    @Test("A listening connection that swallows everything is given up, and nothing is missed")
    func silentListener() async throws {
        let database = try TestDatabase()
        let relay = try Relay(to: database)
        try await database.withManagers(1, configure: { $1.listenerConnectionString = relay.url }) { managers in
            let stream = MessageStream()
            try await managers[0].create("a", controller: stream.controller)
            let number = try await Self.node(managers[0]).number
            relay.swallow()
            try await managers[0].send(["a"], data: "1")
            #expect(await stream.next(1) == ["1"])
            #expect(try await Self.node(managers[0]).number == number, "it was not fenced")
        }
    }

    @Test("A listening connection that has lost its channels is opened again, and nothing is missed")
    func unlistened() async throws {
        let database = try TestDatabase()
        try await database.withManagers(1) { managers in
            let stream = MessageStream()
            try await managers[0].create("a", controller: stream.controller)
            let listener = try #require(await Self.node(managers[0]).listener)
            _ = try await listener.query("UNLISTEN *")
            try await managers[0].send(["a"], data: "1")
            #expect(await stream.next(1) == ["1"])
            #expect(await listener.isClosed)
        }
    }

    @Test("Somebody who holds up all calls for longer than the freshness window has no process fenced")
    func heldUpCalls() async throws {
        // Of its own, since there is one order lock for all stores.
        try await TestDatabase.withEmptyDatabase { database in
            try await database.withManagers(1) { managers in
                try await database.query(
                    "SELECT tmcp.configure_store('\(database.store)', freshness_window => '3 seconds')"
                )
                let stream = MessageStream()
                try await managers[0].create("a", controller: stream.controller)
                let number = try await Self.node(managers[0]).number
                try await database.withConnection { holder in
                    _ = try await holder.query("BEGIN")
                    _ = try await holder.query("SELECT pg_advisory_xact_lock(1953326960, 1)")
                    await withTaskGroup(of: SessionManagerError.Code?.self) { group in
                        for _ in 0..<2 {
                            group.addTask {
                                do throws(SessionManagerError) {
                                    try await managers[0].publish("note://a", data: "1")
                                    return nil
                                } catch {
                                    return error.code
                                }
                            }
                        }
                        for await code in group { #expect(code == .timeout) }
                    }
                    _ = try await holder.query("ROLLBACK")
                }
                #expect(try await Self.node(managers[0]).number == number)
                #expect(try await managers[0].has("a"))
                try await managers[0].send(["a"], data: "2")
                #expect(await stream.next(1) == ["2"])
            }
        }
    }

    @Test("A stream that somebody has locked holds up neither those who leave nor those who come")
    func lockedStreams() async throws {
        let database = try TestDatabase()
        try await database.withManagers(1) { managers in
            let node = try await Self.node(managers[0])
            for id in ["locked", "a", "b"] {
                try await managers[0].create(id, controller: MessageStream().controller)
            }
            try await database.withConnection { holder in
                _ = try await holder.query("BEGIN")
                _ = try await holder.query("SELECT FROM tmcp.streams WHERE id = 'locked' FOR UPDATE")
                for id in ["locked", "a", "b"] { try await managers[0].detach(id) }
                #expect(try await !managers[0].has("a"))
                #expect(try await !managers[0].has("b"))
                #expect(try await managers[0].has("locked"))

                // All in one call.
                let outcomes = try await node.attach(
                    ["locked", "a", "new"].map {
                        StreamAttachment(id: $0, options: StreamOptions(), controller: MessageStream().controller)
                    }
                )
                guard case .refused(let error) = outcomes[0] else { Issue.record("\(outcomes[0])"); return }
                #expect(error.code == .timeout)
                for outcome in outcomes.dropFirst() {
                    guard case .opened = outcome else { Issue.record("\(outcome)"); return }
                }
                _ = try await holder.query("COMMIT")
            }
            try await database.wait(until: "NOT tmcp.has('\(database.store)', 'locked')")
            #expect(try await managers[0].has("a"))
        }
    }

    @Test("A server that is a standby for good is tried now and then, and the caller is told why nothing is done")
    func standby() async throws {
        try await TestDatabase.withEmptyDatabase { database in
            var options = database.configuration
            options.connectionString += "?target_session_attrs=any"
            options.connectTimeout = .seconds(2)
            let configuration = options
            try await database.withManagers(
                1,
                configure: {
                    $1.connectionString = configuration.connectionString
                    $1.connectTimeout = configuration.connectTimeout
                }
            ) { managers in
                let name: String = try await database.query("SELECT current_database()").value()
                try await database.query("ALTER DATABASE \(name) SET default_transaction_read_only = on")
                try await TestDatabase().query(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '\(name)'"
                )
                let error = await #expect(throws: SessionManagerError.self) {
                    try await managers[0].send(["a"], data: "1")
                }
                #expect(error?.code == .unreachable)
                #expect(error?.sqlState == "25006")
                // And a process that starts now says so at once.
                let late = PostgresStreamSessionManager(configuration: configuration, logger: database.logger)
                let failure = await #expect(throws: SessionManagerError.self) { try await late.run() }
                #expect(failure?.code == .unreachable)
                #expect(failure?.sqlState == "25006")
            }
        }
    }

    @Test("A warning says why there is no connection")
    func reasons() async throws {
        try await TestDatabase.withEmptyDatabase { database in
            let recorder = LogRecorder()
            let manager = PostgresStreamSessionManager(configuration: database.configuration, logger: recorder.logger)
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask { try await manager.run() }
                try await manager.waitUntilReady()
                try await database.cutOff {
                    for message in ["The database cannot be reached", "Notifications cannot be heard"] {
                        while recorder.metadata(of: message).isEmpty { await Task.yield() }
                        let reason = recorder.metadata(of: message)[0]["tmcp.reason"]
                        #expect(reason?.contains("not currently accepting connections") == true, "\(reason ?? "")")
                    }
                }
                group.cancelAll()
                try await group.waitForAll()
            }
        }
    }

    @Test("Answers that are lost again and again while messages flow")
    func lostAnswers() async throws {
        try await Self.with { _, relay, managers in
            try await expectSurvival(of: managers) { traffic in
                for _ in 0..<10 {
                    relay.cut()
                    await traffic.progress(by: 20)
                }
            }
        }
    }
}
