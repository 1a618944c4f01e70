import Foundation
@testable import PostgresClient
import Testing

/// Looks at, and ends, other sessions of the test server.
enum ServerObserver {
    struct TimedOut: Error {}

    /// Returns when the backend runs `pg_sleep`.
    static func waitUntilSleeping(_ processID: Int32) async throws {
        try await waitUntil("SELECT wait_event = 'PgSleep' FROM pg_stat_activity WHERE pid = $1", processID)
    }

    /// Returns when the backend is gone.
    static func waitUntilGone(_ processID: Int32) async throws {
        try await waitUntil("SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $1)", processID)
    }

    static func terminate(_ processID: Int32) async throws {
        try await withConnection { connection in
            let result = try await connection.query("SELECT pg_terminate_backend($1::int)", [.int8(Int64(processID))])
            #expect(try result.value() == true)
        }
    }

    private static func waitUntil(_ condition: String, _ processID: Int32) async throws {
        try await withConnection { connection in
            let deadline = ContinuousClock.now + .seconds(30)
            while ContinuousClock.now < deadline {
                let result = try await connection.query(condition, [.int8(Int64(processID))])
                if result.rowCount == 1, try result.value(as: Bool?.self) == true { return }
            }
            throw TimedOut()
        }
    }
}
