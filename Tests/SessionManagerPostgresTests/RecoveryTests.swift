import PostgresClient
import SessionManager
import Testing

@testable import SessionManagerPostgres

@Suite("What a process survives", .serialized, .timeLimit(.minutes(3)))
struct RecoveryTests {
    /// A way to tell the two connections of a process apart from outside.
    enum Connections: String, CaseIterable {
        case calls = "query NOT LIKE 'LISTEN%' AND query NOT LIKE '%pg_listening_channels%'"
        case listener = "(query LIKE 'LISTEN%' OR query LIKE '%pg_listening_channels%')"
        case both = "true"
    }

    /// Has the server end connections, as an administrator would.
    private static func terminate(_ connections: Connections, _ application: String, _ observer: PostgresConnection)
        async throws
    {
        _ = try await observer.query(
            """
            SELECT pg_terminate_backend(pid) FROM pg_stat_activity
            WHERE application_name = $1 AND \(connections.rawValue)
            """,
            [.text(application)]
        )
    }

    @Test("Connections that are ended again and again while messages flow", arguments: Connections.allCases)
    func terminatedConnections(connections: Connections) async throws {
        let database = try TestDatabase()
        try await database.withManagers(3, configure: { $1.applicationName = database.store }) { managers in
            try await expectSurvival(of: managers) { traffic in
                try await database.withConnection { observer in
                    for _ in 0..<10 {
                        try await Self.terminate(connections, database.store, observer)
                        await traffic.progress(by: 10)
                    }
                }
            }
        }
    }

    @Test("A message that is too large for a notification, while connections are ended")
    func terminatedConnectionsAndLargeMessages() async throws {
        let database = try TestDatabase()
        try await database.withManagers(
            2,
            configure: {
                $1.applicationName = database.store
                $1.inlineLimit = 0
            }
        ) { managers in
            try await expectSurvival(of: managers) { traffic in
                try await database.withConnection { observer in
                    for _ in 0..<10 {
                        try await Self.terminate(.both, database.store, observer)
                        await traffic.progress(by: 10)
                    }
                }
            }
        }
    }

    @Test("What became of streams while notifications could not be heard is found out")
    func lossesWhileDeaf() async throws {
        let database = try TestDatabase()
        let relay = try Relay(to: database)
        try await database.withManagers(
            2,
            configure: { index, configuration in
                if index == 0 { configuration.listenerConnectionString = relay.url }
            }
        ) { managers in
            let streams = (0..<3).map { _ in MessageStream() }
            var openings: [StreamOpening] = []
            for (id, stream) in zip(["kept", "taken", "ended"], streams) {
                openings.append(try await managers[0].create(id, controller: stream.controller))
            }
            let taken = MessageStream()
            // Until the connection is found out, which takes a few seconds, nothing is heard.
            relay.swallow()
            try await managers[1].create(
                "taken",
                controller: taken.controller,
                options: StreamOptions(lastEventID: openings[1].position)
            )
            try await managers[1].delete("ended")
            try await managers[1].send(["kept", "taken"], data: "1")
            #expect(try await managers[0].client.running().node?.isSettled == true)
            #expect(streams.allSatisfy { $0.closing == nil })
            #expect(await streams[0].next(1) == ["1"])
            #expect(await taken.next(1) == ["1"])
            #expect(await streams[1].next(1) == [])
            #expect(streams[1].closing == .takenOver)
            #expect(await streams[2].next(1) == [])
            #expect(streams[2].closing == .ended)
            #expect(streams[0].closing == nil)
        }
    }

    @Test("An event id that somebody made up keeps no message from a stream where none travels in notifications")
    func madeUpEventIDs() async throws {
        let database = try TestDatabase()
        try await database.withManagers(2, configure: { $1.inlineLimit = 0 }) { managers in
            let stream = MessageStream()
            try await managers[0].create("a", controller: stream.controller)
            let number = try #require(await managers[0].client.running().node?.registry.stream(id: "a")?.number)
            for (index, targets) in ["\(number)", "*", "*tools"].enumerated() {
                try await database.query(
                    """
                    SELECT pg_notify(n.channel, $1) FROM tmcp.nodes AS n JOIN tmcp.stores AS s USING (store)
                    WHERE s.name = $2
                    """,
                    [.text("999999999999999999 \(targets) -\n"), .text(database.store)]
                )
                try await managers[1].send(["a"], data: "\(index)")
                #expect(await stream.next(1) == ["\(index)"])
            }
        }
    }

    @Test("What somebody who has found out a channel writes on it does no harm: the log is read instead")
    func misheard() async throws {
        let database = try TestDatabase()
        try await database.withManagers(2) { managers in
            let stream = MessageStream()
            try await managers[0].create("a", controller: stream.controller)
            var expected: [String] = []
            for (index, rubbish) in ["", "17", "1 * -", "1 * 3\nabcd", "\u{1F600}", "taken", "ended x"].enumerated() {
                for prefix in ["", "delete:"] {
                    try await database.query(
                        """
                        SELECT pg_notify($1 || n.channel, $2) FROM tmcp.nodes AS n JOIN tmcp.stores AS s USING (store)
                        WHERE s.name = $3
                        """,
                        [.text(prefix), .text(rubbish), .text(database.store)]
                    )
                }
                try await managers[1].send(["a"], data: "\(index)")
                expected.append("\(index)")
            }
            #expect(await stream.next(expected.count) == expected)
            #expect(stream.closing == nil)
        }
    }

    @Test("What there is to clean up is cleaned up at once, in short calls, and not a batch with each heartbeat")
    func cleanup() async throws {
        // Of its own, since every process cleans up for all stores.
        try await TestDatabase.withEmptyDatabase { database in
            try await database.withManagers(1, configure: { $1.heartbeatInterval = .seconds(3) }) { _ in
                try await database.query(
                    """
                    INSERT INTO tmcp.streams (store, id, session_id, starts_after, detached_at)
                    SELECT s.store, 's' || n, 's' || n, 0, now() - interval '1 day'
                    FROM tmcp.stores AS s, generate_series(1, 3500) AS n
                    """
                )
                try await database.wait(until: "SELECT count(*) < 3500 FROM tmcp.streams")
                let lastBeat = "SELECT max(heartbeat_at)::text FROM tmcp.nodes"
                let first: String = try await database.query(lastBeat).value()
                try await database.wait(until: "NOT EXISTS (SELECT FROM tmcp.streams)")
                // With the heartbeats it would have been three more of these, each 2.7 s after the last at the least.
                try await database.wait(until: "(\(lastBeat))::timestamptz < '\(first)'::timestamptz + interval '5 s'")
            }
        }
    }

    @Test("A process that was silent for too long finds out what it has lost, and keeps the rest")
    func fencing() async throws {
        let database = try TestDatabase()
        // It notices when it opens a stream, so that the test says when.
        try await database.withManagers(
            2,
            configure: { index, configuration in if index == 0 { configuration.heartbeatInterval = .seconds(3600) } }
        ) { managers in
            let ids = ["a", "b", "taken", "ended"]
            let streams = ids.map { _ in MessageStream() }
            var position: EventID?
            for (id, stream) in zip(ids, streams) {
                position = try await managers[0].create(id, controller: stream.controller).position
            }
            try await managers[1].send(nil, data: "0")
            #expect(await streams[0].next(1) == ["0"])

            try await database.silenceNodes(except: managers[1])
            try await managers[1].send(["a"], data: "1")
            try await managers[1].send(nil, data: "2")
            let taken = MessageStream()
            try await managers[1].create(
                "taken",
                controller: taken.controller,
                options: StreamOptions(lastEventID: position)
            )
            try await managers[1].delete("ended")
            try await managers[1].send(["b"], data: "3")
            try await managers[0].create("new", controller: MessageStream().controller)
            try await managers[1].send(nil, data: "4")

            #expect(await streams[0].next(3) == ["1", "2", "4"])
            #expect(await streams[1].next(4) == ["0", "2", "3", "4"])
            #expect(await taken.next(3) == ["0", "2", "4"])
            for await _ in streams[2] {}
            #expect(streams[2].closing == .takenOver)
            for await _ in streams[3] {}
            #expect(streams[3].closing == .ended)
        }
    }

    @Test("A process that is fenced again and again while messages flow")
    func repeatedFencing() async throws {
        let database = try TestDatabase()
        try await database.withManagers(3) { managers in
            try await expectSurvival(of: managers) { traffic in
                for index in 0..<6 {
                    try await database.silenceNodes(except: managers[index % 3])
                    await traffic.progress(by: 20)
                }
            }
        }
    }

    @Test("A process that is fenced and cut off at once")
    func fencingWhileCutOff() async throws {
        let database = try TestDatabase()
        try await database.withManagers(2, configure: { $1.applicationName = database.store }) { managers in
            try await expectSurvival(of: managers) { traffic in
                try await database.withConnection { observer in
                    for _ in 0..<6 {
                        try await database.silenceNodes(except: managers[0])
                        try await Self.terminate(.both, database.store, observer)
                        await traffic.progress(by: 20)
                    }
                }
            }
        }
    }

    @Test("What a quiet process got from the log before it was removed is not missing", arguments: [false, true])
    func quiet(isCutOff: Bool) async throws {
        // Of its own, since there is one log for all stores.
        try await TestDatabase.withEmptyDatabase { database in
            try await database.withManagers(1, configure: { $1.applicationName = database.store }) { managers in
                let info = PostgresInfoSessionManager(sharing: managers[0])
                let quiet = MessageStream()
                try await managers[0].create("quiet", controller: quiet.controller)
                // Sent before the client has opened its stream, as after initialize.
                try await info.start("a", metadata: SessionMetadata(), principal: nil)
                try await managers[0].send(["a"], data: "1")
                let stream = MessageStream()
                try await managers[0].create("a", controller: stream.controller)
                #expect(await stream.next(1) == ["1"])
                for _ in 0..<3 { try await database.rotate() }
                if isCutOff {
                    try await database.withConnection {
                        try await Self.terminate(.listener, database.store, $0)
                    }
                }
                let large = String(repeating: "x", count: 8_000)
                try await managers[0].send(nil, data: large)
                try await managers[0].send(["a", "quiet"], data: "2")
                for stream in [stream, quiet] {
                    #expect(await stream.next(2).map(\.utf8.count) == [8_000, 1])
                    #expect(stream.closing == nil)
                }
            }
        }
    }

    @Test("What the log lacks for one stream costs no other, also where it is found out while all are listened for")
    func lackForOne() async throws {
        // Of its own, since there is one log for all stores.
        try await TestDatabase.withEmptyDatabase { database in
            try await database.withManagers(1) { managers in
                let missing = MessageStream()
                try await managers[0].create("missing", controller: missing.controller)
                let complete = MessageStream()
                try await managers[0].create("complete", controller: complete.controller)
                // As if a message for it had been removed that the process never heard of.
                try await database.query(
                    """
                    WITH gone AS (
                        UPDATE tmcp.streams SET purged_through = (SELECT last_value FROM tmcp.event_id)
                        WHERE id = 'missing' RETURNING purged_through
                    )
                    UPDATE tmcp.rotation SET purged_through = gone.purged_through FROM gone
                    """
                )
                let large = String(repeating: "x", count: 8_000)
                try await managers[0].send(nil, data: large)
                try await managers[0].send(["complete"], data: "2")
                #expect(await complete.next(2).map(\.utf8.count) == [8_000, 1])
                #expect(complete.closing == nil)
                #expect(await missing.next(1) == [])
                #expect(missing.closing == .purged)
            }
        }
    }

    @Test("Being cut off for longer than the log reaches back: each client gets an exact answer")
    func purged() async throws {
        // Of its own, since there is one log for all stores.
        try await TestDatabase.withEmptyDatabase { database in
            try await database.withManagers(1) { sender in
                let role = database.store
                try await database.query("CREATE ROLE \(role) LOGIN PASSWORD 'of no use'")
                try await database.query("SELECT tmcp.grant_usage('\(database.store)', '\(role)')")
                try await database.withManagers(
                    1,
                    configure: {
                        $1.user = role
                        $1.password = "of no use"
                        $1.create = false
                    }
                ) { managers in
                    let missing = MessageStream()
                    let quiet = MessageStream()
                    let opening = try await managers[0].create("missing", controller: missing.controller)
                    try await managers[0].create(
                        "quiet",
                        controller: quiet.controller,
                        options: StreamOptions(sessionID: "missing")
                    )
                    try await database.query("ALTER ROLE \(role) NOLOGIN")
                    try await database.query(
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '\(role)'"
                    )
                    try await sender[0].send(["missing"], data: "1")
                    for _ in 0..<3 { try await database.rotate() }
                    try await sender[0].send(["quiet"], data: "2")
                    try await database.query("ALTER ROLE \(role) LOGIN")
                    #expect(await missing.next(1) == [])
                    #expect(missing.closing == .purged)
                    #expect(await quiet.next(1) == ["2"])

                    let resumed = MessageStream()
                    let answer = try await managers[0].create(
                        "missing",
                        controller: resumed.controller,
                        options: StreamOptions(lastEventID: opening.position)
                    )
                    #expect(answer.replay == .purged)
                    try await sender[0].send(["missing"], data: "3")
                    #expect(await resumed.next(1) == ["3"])
                }
                try await database.query("SELECT tmcp.revoke_usage('\(database.store)', '\(role)')")
                try await database.query("DROP ROLE \(role)")
            }
        }
    }
}

extension TestDatabase {
    /// Has the oldest third of the log removed.
    func rotate() async throws {
        try await query("UPDATE tmcp.rotation SET rotated_at = now() - interval '1 hour'")
        try await wait(
            until: "SELECT r.rotated_at > now() - interval '1 minute' FROM tmcp.cleanup(), tmcp.rotation AS r"
        )
    }

    /// Makes the database believe that all processes but one have been silent for an hour, and clean up after them.
    func silenceNodes(except manager: PostgresStreamSessionManager) async throws {
        let node = try #require(await manager.client.running().node)
        try await withConnection { connection in
            var number = await node.number
            while number == nil {
                // It is about to register, having been silenced itself, and has to ask the same server.
                _ = try await connection.query("SELECT 1")
                number = await node.number
            }
            _ = try await connection.query(
                """
                UPDATE tmcp.nodes AS n SET heartbeat_at = n.heartbeat_at - interval '1 hour'
                FROM tmcp.stores AS s WHERE s.store = n.store AND s.name = $1 AND n.node <> $2
                """,
                [.text(store), .int8(number)]
            )
        }
        try await wait(until: "SELECT detached_streams IS NOT NULL FROM tmcp.cleanup()")
    }
}
