import Foundation
import Logging
import PostgresClient

/// The server as its administrator sees it.
struct Database {
    /// What the server counts for a database.
    struct Counts {
        let statements: Int64
        let rows: Int64
        let walBytes: Int64

        static func - (left: Counts, right: Counts) -> Counts {
            Counts(
                statements: left.statements - right.statements,
                rows: left.rows - right.rows,
                walBytes: left.walBytes - right.walBytes
            )
        }
    }

    let url: String
    let name: String
    private let connection: PostgresConnection

    /// Connects to a database of the server that a URL names.
    init(_ name: String, server: String, eventLoop: EventLoop) async throws {
        guard var components = URLComponents(string: server) else { throw URLError(.badURL) }
        components.path = "/" + name
        url = components.string ?? server
        self.name = name
        connection = try await PostgresConnection.connect(
            configuration: try ConnectionConfiguration(connectionString: url),
            on: eventLoop,
            logger: Logger(label: "tmcp-bench")
        )
    }

    func close() async {
        await connection.close()
    }

    @discardableResult
    func query(_ sql: String, _ parameters: [PostgresParameter] = []) async throws -> PostgresResult {
        try await connection.query(sql, parameters, prepared: false)
    }

    /// A database of that name with nothing in it but what the statements make.
    func makeDatabase(_ name: String, _ sql: String = "", eventLoop: EventLoop) async throws -> Database {
        try await query("DROP DATABASE IF EXISTS \(name) WITH (FORCE)")
        try await query("CREATE DATABASE \(name) TEMPLATE template0")
        let database = try await Database(name, server: url, eventLoop: eventLoop)
        for statement in sql.split(separator: ";\n") { try await database.query(String(statement)) }
        return database
    }

    func counts() async throws -> Counts {
        let result = try await query(
            """
            SELECT xact_commit, tup_inserted + tup_updated + tup_deleted, (pg_current_wal_lsn() - '0/0')::bigint
            FROM pg_stat_database WHERE datname = $1
            """,
            [.text(name)]
        )
        return Counts(
            statements: try result.value(column: 0),
            rows: try result.value(column: 1),
            walBytes: try result.value(column: 2)
        )
    }
}
