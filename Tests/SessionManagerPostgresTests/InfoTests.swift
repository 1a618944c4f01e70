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
