import PostgresClient
import SessionManager
import Testing

@testable import SessionManagerPostgres

@Suite("What is known of a session", .serialized, .timeLimit(.minutes(3)))
struct InfoTests {
    @Test("set in one process is read in another, with members that nobody here knows", arguments: Backend.allCases)
    func roundTrip(backend: Backend) async throws {
        try await backend.with { _, infos in
            let clientInfo: JSONValue = [
                "name": "example", "version": "1", "x": ["nested": [1, 2.5, nil, "\u{0}'\""]],
            ]
            try await infos[0].start(
                "a",
                metadata: SessionMetadata(
                    clientInfo: clientInfo,
                    clientCapabilities: ["sampling": [:], "unknown": true],
                    protocolVersion: "2025-11-25"
                ),
                principal: nil
            )
            #expect(try await infos[1].getClientInfo("a", principal: nil) == clientInfo)
            #expect(try await infos[1].getClientCapabilities("a", principal: nil)?["unknown"] == true)
            #expect(try await infos[1].getLogLevel("a", principal: nil) == nil)
            try await infos[1].setLogLevel("a", .warning, principal: nil)
            try await infos[1].setClientCapabilities("a", ["roots": [:]], principal: nil)
            try await infos[0].setClientInfo("a", ["name": "renamed"], principal: nil)
            let metadata = try await infos[0].metadata("a", principal: nil)
            #expect(
                metadata
                    == SessionMetadata(
                        clientInfo: ["name": "renamed"],
                        clientCapabilities: ["roots": [:]],
                        logLevel: .warning,
                        protocolVersion: "2025-11-25"
                    )
            )
            #expect(try await infos[0].delete("a", principal: nil))
            #expect(try await infos[1].metadata("a", principal: nil) == nil)
            #expect(try await !infos[1].delete("a", principal: nil))
        }
    }

    @Test("is as if it did not exist for another principal", arguments: Backend.allCases)
    func principals(backend: Backend) async throws {
        try await backend.with { managers, infos in
            let info = infos[0]
            try await info.start("a", metadata: SessionMetadata(clientInfo: ["name": "x"]), principal: "ann")
            for stranger in ["bob", nil] {
                #expect(try await info.metadata("a", principal: stranger) == nil)
                #expect(try await info.getClientInfo("a", principal: stranger) == nil)
                #expect(try await !info.delete("a", principal: stranger))
                let error = await #expect(throws: SessionManagerError.self) {
                    try await info.setLogLevel("a", .info, principal: stranger)
                }
                #expect(error?.code == .sessionNotFound)
                let attach = await #expect(throws: SessionManagerError.self) {
                    try await managers[0].create(
                        "a",
                        controller: MessageStream().controller,
                        options: StreamOptions(principal: stranger)
                    )
                }
                #expect(attach?.code == .sessionNotFound)
            }
            #expect(try await info.metadata("a", principal: "ann")?.clientInfo == ["name": "x"])
        }
    }

    @Test("can be in a database connection of its own, without listening")
    func ownConnection() async throws {
        let database = try TestDatabase()
        let info = PostgresInfoSessionManager(configuration: database.configuration, logger: database.logger)
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { try await info.run() }
            try await info.waitUntilReady()
            try await info.addSubscription("a", uri: "note://x", principal: nil)
            try await info.addSubscription("a", uri: "note://x", principal: nil)
            #expect(try await info.getSubscriptions("note://x") == ["a"])
            try await info.removeSubscription("a", uri: "note://x", principal: nil)
            #expect(try await info.getSubscriptions("note://x") == [])
            group.cancelAll()
        }
    }

    @Test("can be in another database than the streams, and is shared by the processes all the same")
    func twoDatabases() async throws {
        try await TestDatabase.withEmptyDatabase { other in
            let database = try TestDatabase()
            let infos = (0..<2).map { _ in
                PostgresInfoSessionManager(configuration: other.configuration, logger: other.logger)
            }
            try await database.withManagers(2) { managers in
                try await withThrowingTaskGroup(of: Void.self) { group in
                    for info in infos { group.addTask { try await info.run() } }
                    for info in infos { try await info.waitUntilReady() }
                    let stream = MessageStream()
                    try await infos[0].start(
                        "a",
                        metadata: SessionMetadata(clientInfo: ["name": "x"], logLevel: .error),
                        principal: "ann"
                    )
                    try await managers[0].create("a", controller: stream.controller, options: .init(principal: "ann"))
                    try await infos[0].addSubscription("a", uri: "note://x", principal: "ann")
                    #expect(try await infos[1].metadata("a", principal: "ann")?.clientInfo == ["name": "x"])
                    #expect(try await infos[1].getLogLevel("a", principal: "ann") == .error)
                    // The database of the streams knows no subscriptions: they are asked for where they are.
                    #expect(try await managers[1].publish("note://x", data: "nobody") == 0)
                    let subscribers = try await infos[1].getSubscriptions("note://x")
                    #expect(subscribers == ["a"])
                    try await managers[1].send(subscribers, data: "1")
                    #expect(await stream.next(1) == ["1"])
                    #expect(try await infos[1].delete("a", principal: "ann"))
                    #expect(try await infos[0].metadata("a", principal: "ann") == nil)
                    #expect(try await managers[1].has("a"))
                    try await managers[1].delete("a")
                    for await _ in stream {}
                    #expect(stream.closing == .ended)
                    group.cancelAll()
                }
            }
            let tables: Int64 = try await database.query(
                "SELECT count(*) FROM tmcp.session_status WHERE store = $1",
                [.text(other.store)]
            ).value()
            #expect(tables == 0)
        }
    }

    @Test("that others have written, and that JSON here cannot hold, is an error and no crash")
    func foreignMetadata() async throws {
        let database = try TestDatabase()
        try await database.withManagers(1) { managers in
            let info = PostgresInfoSessionManager(sharing: managers[0])
            // PostgreSQL takes a number of any size.
            try await database.query(
                "SELECT tmcp.set_client_info($1, 'a', '{\"version\": 1e999}')",
                [.text(database.store)]
            )
            let error = await #expect(throws: SessionManagerError.self) {
                try await info.getClientInfo("a", principal: nil)
            }
            #expect(error?.code == .database)
            try await info.setClientInfo("a", ["name": "x"], principal: nil)
            #expect(try await info.getClientInfo("a", principal: nil) == ["name": "x"])
        }
    }
}
