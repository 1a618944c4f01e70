import Foundation
import Testing

@testable import PostgresClient

/// Looks at, and ends, other sessions of the test server.
enum ServerObserver {
    struct TimedOut: Error {}

    /// Returns when the backend runs `pg_sleep`.
    static func waitUntilSleeping(_ processID: Int32) async throws {
        try await waitUntil("SELECT wait_event = 'PgSleep' FROM pg_stat_activity WHERE pid = $1", processID)
    }

    static func terminate(_ processID: Int32) async throws {
        try await signal("SELECT pg_terminate_backend($1::int)", processID)
    }

    static func cancelCall(_ processID: Int32) async throws {
        try await signal("SELECT pg_cancel_backend($1::int)", processID)
    }

    private static func signal(_ statement: String, _ processID: Int32) async throws {
        try await withConnection { connection in
            let result = try await connection.query(statement, [.int8(Int64(processID))])
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
