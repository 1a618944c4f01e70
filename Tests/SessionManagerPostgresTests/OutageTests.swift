import PostgresClient
import SessionManager
import Testing

@testable import SessionManagerPostgres

@Suite("An outage of the server", .serialized, .timeLimit(.minutes(3)))
struct OutageTests {
    @Test("A restart, and a crash, while messages flow", arguments: ["fast", "immediate"])
    func restart(mode: String) async throws {
        try await TestCluster.with { cluster in
            let database = TestDatabase(url: try await cluster.url)
            try await database.withManagers(2, configure: { $1.durability = .full }) { managers in
                try await expectSurvival(of: managers) { traffic in
                    await traffic.progress(by: 20)
                    try await cluster.restart(mode: mode)
                    await traffic.progress(by: 20)
                    try await cluster.restart(mode: mode)
                    await traffic.progress(by: 20)
                }
            }
        }
    }

    @Test("A send that is under way when its connection ends is made again, or unknown if nobody knows")
    func sendUnderWay() async throws {
        try await TestCluster.with { cluster in
            let database = TestDatabase(url: try await cluster.url)
            try await database.withManagers(
                1,
                configure: {
                    $1.applicationName = database.store
                    $1.durability = .full
                }
            ) { managers in
                let stream = MessageStream()
                try await managers[0].create("a", controller: stream.controller)
                // The server says that it ends the session, and so that nothing was done.
                let undone = try await Self.send("1", from: managers[0], in: database) {
                    try await cluster.run("psql --quiet --tuples-only --command='SELECT pg_terminate_backend(\($0))'")
                }
                guard case .sent = try undone.get().first else { Issue.record("\(undone)"); return }
                #expect(await stream.next(1) == ["1"])
                // It says nothing any more.
                let unknown = try await Self.send("2", from: managers[0], in: database, crashing: true) {
                    try await cluster.run("kill -KILL \($0)")
                }
                let error = #expect(throws: SessionManagerError.self) { try unknown.get() }
                #expect(error?.code == .outcomeUnknown)
                // No connection outlives a crash, and the manager may have opened one before the server noticed it.
                try await cluster.run("until pg_isready --quiet; do :; done")
                while (try? await managers[0].has("a")) != true {}
                try await managers[0].send(["a"], data: "3")
                #expect(await stream.next(1) == ["3"])
            }
        }
    }

    /// Sends while nobody can, and ends the session that does it on the server by the number of its process.
    private static func send(
        _ data: String,
        from manager: PostgresStreamSessionManager,
        in database: TestDatabase,
        crashing: Bool = false,
        endingBy end: (Int64) async throws -> Void
    ) async throws -> Result<[SendReceipt], any Error> {
        try await database.withConnection { holder in
            _ = try await holder.query("BEGIN")
            _ = try await holder.query("SELECT pg_advisory_xact_lock(1953326960, 1)")
            let send = Task { try await manager.send(["a"], data: data) }
            let waits = "FROM pg_stat_activity WHERE application_name = '\(database.store)' AND wait_event = 'advisory'"
            try await database.wait(until: "EXISTS (SELECT \(waits))")
            try await end(try await database.query("SELECT pid::bigint \(waits)").value())
            if crashing {
                // Until the server has noticed.
                while (try? await holder.query("SELECT 1")) != nil {}
            } else {
                _ = try await holder.query("ROLLBACK")
            }
            return await send.result
        }
    }

    @Test("A failover to a standby that the connection string names, while messages flow")
    func failover() async throws {
        try await TestCluster.with { cluster in
            let primary = TestDatabase(url: try await cluster.url)
            let standbyPort = try await cluster.addStandby()
            let parts = primary.url.split(separator: "@", maxSplits: 1)
            let address = try #require(parts.last?.split(separator: "/").first)
            let host = try #require(address.split(separator: ":").first)
            let database = TestDatabase(
                url: "\(parts[0])@\(address),\(host):\(standbyPort)/postgres?target_session_attrs=read-write"
            )
            try await database.withManagers(2, configure: { $1.durability = .full }) { managers in
                try await expectSurvival(of: managers) { traffic in
                    await traffic.progress(by: 20)
                    try await cluster.failOver()
                    await traffic.progress(by: 40)
                }
            }
            try await cluster.removeStandby()
        }
    }
}
