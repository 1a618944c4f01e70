import Logging
import PostgresClient

/// The notes and the tools that were added, as every server process sees them.
///
/// Changes are announced by triggers in the database: whoever changes a row, a server or someone in psql, tells the
/// subscribers with it.
actor NotesDatabase {
    struct Note: Sendable, Hashable {
        var name: String
        var text: String
        /// In UTC, as ISO 8601 has it.
        var updatedAt: String
    }

    /// What may be in a name, so that it can stand in a uri as it is. The tables check the same.
    static let nameRule = "1 to 200 letters, digits, dots, hyphens, underscores and tildes"

    private let configuration: ConnectionConfiguration
    private let logger: Logger
    private let eventLoop: EventLoop
    private var connecting: Task<PostgresConnection, any Error>?

    /// - Throws: `PostgresError` for a connection string that cannot be one.
    init(connectionString: String, logger: Logger) throws(PostgresError) {
        var configuration = try ConnectionConfiguration(connectionString: connectionString)
        configuration.applicationName = "tmcp-server notes"
        configuration.statementTimeout = .seconds(10)
        self.configuration = configuration
        self.logger = logger
        eventLoop = try EventLoop()
    }

    /// Creates the tables and the trigger of `store`. Two servers may start at once: one waits for the other.
    func install(store: String) async throws {
        try await PostgresScript.run(NotesDatabase.schema, configuration: configuration, on: eventLoop, logger: logger)
        try await query("SELECT demo.watch_notes($1)", [.text(store)])
    }

    func close() async {
        if let connection = try? await connecting?.value { await connection.close() }
        await eventLoop.closeAndWait()
    }

    // MARK: Notes

    private static let columns = """
        name, text, to_char(updated_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')
        """

    /// At most `limit` notes whose names come after `name`, by name.
    func notes(after name: String, limit: Int) async throws -> [Note] {
        let result = try await query(
            "SELECT \(NotesDatabase.columns) FROM demo.notes WHERE name > $1 ORDER BY name LIMIT $2",
            [.text(name), .int8(Int64(limit))]
        )
        return try result.rows.map(NotesDatabase.note)
    }

    func note(_ name: String) async throws -> Note? {
        let result = try await query(
            "SELECT \(NotesDatabase.columns) FROM demo.notes WHERE name = $1",
            [.text(name)]
        )
        return try result.rows.first.map(NotesDatabase.note)
    }

    func write(_ name: String, text: String) async throws {
        try await query(
            """
            INSERT INTO demo.notes AS n (name, text) VALUES ($1, $2)
            ON CONFLICT (name) DO UPDATE SET text = excluded.text, updated_at = clock_timestamp()
            """,
            [.text(name), .text(text)]
        )
    }

    // MARK: Tools

    func addedTools() async throws -> [String] {
        try await query("SELECT name FROM demo.tools ORDER BY name").rows.map { try $0.value(0) }
    }

    func hasTool(_ name: String) async throws -> Bool {
        try await query("SELECT FROM demo.tools WHERE name = $1", [.text(name)]).rowCount > 0
    }

    /// Adds a tool, and returns whether it is new.
    func addTool(_ name: String) async throws -> Bool {
        let result = try await query(
            "INSERT INTO demo.tools (name) VALUES ($1) ON CONFLICT (name) DO NOTHING",
            [.text(name)]
        )
        return result.affectedRowCount == 1
    }

    // MARK: Connection

    private static func note(_ row: PostgresRow) throws -> Note {
        Note(name: try row.value(0), text: try row.value(1), updatedAt: try row.value(2))
    }

    @discardableResult
    private func query(_ sql: String, _ parameters: [PostgresParameter] = []) async throws -> PostgresResult {
        do {
            return try await connection().query(sql, parameters)
        } catch let error as PostgresError where error.code == .notExecuted {
            // The connection was lost earlier, and nothing was done: once more on a new one.
            return try await connection().query(sql, parameters)
        }
    }

    /// The connection, made anew when the last one is gone. Callers that come at the same time share it.
    private func connection() async throws -> PostgresConnection {
        while let current = connecting {
            if let connection = try? await current.value, await !connection.isClosed { return connection }
            // While this call waited, another one may have begun to connect.
            if connecting == current { connecting = nil }
        }
        let task = Task { [configuration, eventLoop, logger] () throws -> PostgresConnection in
            try await PostgresConnection.connect(configuration: configuration, on: eventLoop, logger: logger)
        }
        connecting = task
        return try await task.value
    }
}
