import PostgresClient
import SessionManager
import Testing

@testable import SessionManagerPostgres

@Suite("A pooler in transaction mode", .serialized, .timeLimit(.minutes(3)))
struct PoolerTests {
    @Test("before the connection for calls: everything works, also while messages flow from several processes")
    func calls() async throws {
        let database = try TestDatabase()
        try await Pooler.withManagers(database, 3) { managers in
            #expect(try await managers[0].client.running().calls.isPooled)
            try await expectSurvival(of: managers) { await $0.progress(by: 300) }
            let info = PostgresInfoSessionManager(sharing: managers[1])
            try await info.start("a", metadata: SessionMetadata(clientInfo: ["name": "x"]), principal: "ann")
            try await info.addSubscription("a", uri: "note://x", principal: "ann")
            let stream = MessageStream()
            try await managers[0].create(
                "a",
                controller: stream.controller,
                options: StreamOptions(principal: "ann")
            )
            #expect(try await managers[2].publish("note://x", data: "1") == 1)
            #expect(await stream.next(1) == ["1"])
            #expect(try await info.metadata("a", principal: "ann")?.clientInfo == ["name": "x"])
            try await managers[2].delete("a")
            for await _ in stream {}
            #expect(stream.closing == .ended)
        }
    }

    @Test(
        "brings the settings along with each call, and leaves none behind",
        arguments: [
            PostgresSessionConfiguration.Durability.asynchronous, .full,
        ]
    )
    func settings(durability: PostgresSessionConfiguration.Durability) async throws {
        let database = try TestDatabase()
        try await Pooler.with(database) { url in
            try await database.withManagers(
                1,
                configure: {
                    $1.connectionString = url
                    $1.listenerConnectionString = database.url
                    $1.durability = durability
                    $1.statementTimeout = .seconds(7)
                }
            ) { managers in
                let calls = try await managers[0].client.running().calls
                for _ in 0..<8 {
                    let row = try await calls.query(
                        "SELECT current_setting('statement_timeout'), current_setting('synchronous_commit')"
                    )
                    #expect(try row.value() == "7s")
                    #expect(try row.value(column: 1) == (durability == .asynchronous ? "off" : "on"))
                }
                let others: String = try await TestDatabase(url: url).query(
                    "SELECT current_setting('statement_timeout')"
                ).value()
                #expect(others == "0")
            }
        }
    }

    @Test("before the connection that listens is found out at the start, with what to do about it")
    func listener() async throws {
        let database = try TestDatabase()
        try await Pooler.with(database) { url in
            var configuration = database.configuration
            configuration.connectionString = url
            let manager = PostgresStreamSessionManager(configuration: configuration, logger: database.logger)
            let error = await #expect(throws: SessionManagerError.self) { try await manager.run() }
            #expect(error?.code == .listenerPooled)
            #expect(error?.hint?.contains("listenerConnectionString") == true)
        }
    }
}
