import Logging
import PostgresClient

/// A fixture, not a product: the obvious design, which the original npm package has.
///
/// A table with a row for each session, which its process updates every 7 s; two channels for each session; one
/// `NOTIFY` statement for each message; no log. One connection does it all, one statement at a time, as the driver of
/// the original does. It is spared the wait for the disk where it writes rows; a bare `NOTIFY` never waits for it.
final class ObviousContestant: Contestant {
    private struct Statement: Sendable {
        let sql: String
        let parameters: [PostgresParameter]
        let isPrepared: Bool
        let continuation: CheckedContinuation<Result<PostgresResult, PostgresError>, Never>
    }

    private let ids = SessionIDs()
    private let statements: AsyncStream<Statement>.Continuation
    private let eventLoop: EventLoop

    static let tables = """
        CREATE TABLE sessions (id text PRIMARY KEY, updated_at timestamp DEFAULT now());
        CREATE TABLE session_subscriptions (id text, value text);
        """

    init(databaseURL: String, reception: Reception) async throws {
        var configuration = try ConnectionConfiguration(connectionString: databaseURL)
        configuration.synchronousCommit = .off
        eventLoop = try EventLoop()
        let connection = try await PostgresConnection.connect(
            configuration: configuration,
            on: eventLoop,
            logger: Logger(label: "tmcp-bench"),
            onNotification: { notification in
                if notification.channel.hasPrefix("session:") { reception.received(notification.payload) }
            }
        )
        let (queue, statements) = AsyncStream<Statement>.makeStream()
        self.statements = statements
        Task(executorPreference: eventLoop) {
            for await statement in queue {
                let result: Result<PostgresResult, PostgresError>
                do throws(PostgresError) {
                    result = .success(
                        try await connection.query(statement.sql, statement.parameters, prepared: statement.isPrepared)
                    )
                } catch {
                    result = .failure(error)
                }
                statement.continuation.resume(returning: result)
            }
        }
    }

    @discardableResult
    private func query(
        _ sql: String,
        _ parameters: [PostgresParameter] = [],
        isPrepared: Bool = true
    ) async throws -> PostgresResult {
        try await withCheckedContinuation { continuation in
            statements.yield(
                Statement(sql: sql, parameters: parameters, isPrepared: isPrepared, continuation: continuation)
            )
        }.get()
    }

    private func notify(_ id: String, _ data: String) async throws {
        try await query("NOTIFY \"session:\(id)\", '\(data)'", isPrepared: false)
    }

    var executor: (any TaskExecutor)? { eventLoop }

    func open(_ ids: [String]) async throws {
        for id in ids {
            try await query("INSERT INTO sessions (id) VALUES ($1)", [.text(id)])
            try await query("LISTEN \"session:\(id)\"", isPrepared: false)
            try await query("LISTEN \"delete:session:\(id)\"", isPrepared: false)
        }
        await self.ids.add(ids)
    }

    func send(_ id: String, _ data: String) async throws {
        try await notify(id, data)
    }

    func broadcast(_ data: String) async throws {
        let result = try await query("SELECT id FROM sessions WHERE updated_at > now() - interval '1 hour'")
        for row in result.rows { try await notify(try row.value(0), data) }
    }

    func subscribe(_ ids: [String], to uri: String) async throws {
        for id in ids { try await query("INSERT INTO session_subscriptions VALUES ($1, $2)", [.text(id), .text(uri)]) }
    }

    func publish(_ uri: String, _ data: String) async throws {
        let result = try await query("SELECT id FROM session_subscriptions WHERE value = $1", [.text(uri)])
        for row in result.rows { try await notify(try row.value(0), data) }
    }

    func keepAlive() async throws {
        for id in await ids.all {
            try await query("UPDATE sessions SET updated_at = now() WHERE id = $1", [.text(id)])
        }
    }
}

/// The ids of the sessions that a process has open.
actor SessionIDs {
    private(set) var all: [String] = []
    func add(_ ids: [String]) { all += ids }
}
