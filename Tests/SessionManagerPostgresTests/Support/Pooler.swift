import Foundation
import SessionManagerPostgres
import Testing

/// A PgBouncer in transaction mode before the test server.
struct Pooler {
    /// Runs `body` with the database as it is to be had through a pooler.
    static func with(_ database: TestDatabase, _ body: (_ url: String) async throws -> Void) async throws {
        let server = try #require(URLComponents(string: database.url))
        let folder = FileManager.default.temporaryDirectory.appending(path: database.store)
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        // Below the ports that the kernel hands out to connections, and those of the test clusters.
        let port = Int.random(in: 10_000..<20_000)
        let configuration = """
            [databases]
            * = host=\(server.host ?? "127.0.0.1") port=\(server.port ?? 5432) user=\(server.user ?? "") \
            password=\(server.password ?? "")
            [pgbouncer]
            listen_addr = 127.0.0.1
            listen_port = \(port)
            unix_socket_dir =
            pool_mode = transaction
            default_pool_size = 4
            auth_type = any
            logfile = /dev/null
            """
        let file = folder.appending(path: "pgbouncer.ini")
        try Data(configuration.utf8).write(to: file)
        for path in [folder.path, file.path] {
            try FileManager.default.setAttributes([.posixPermissions: 0o755], ofItemAtPath: path)
        }
        // PgBouncer refuses to run as root.
        let asUser = getuid() == 0 ? ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"] : []
        let process = try ChildProcess("/usr/bin/env", asUser + ["/usr/sbin/pgbouncer", "--quiet", file.path])
        let url = database.replacing(host: "127.0.0.1", port: port)
        let result = await Result {
            let deadline = ContinuousClock.now + .seconds(20)
            while (try? await TestDatabase(url: url).query("SELECT 1")) == nil {
                try #require(ContinuousClock.now < deadline)
            }
            try await body(url)
        }
        process.signal(SIGKILL)
        await process.waitUntilExit()
        try result.get()
    }

    /// Runs `body` with managers whose calls go through a pooler, and who listen past it.
    static func withManagers(
        _ database: TestDatabase,
        _ count: Int = 2,
        _ body: @Sendable ([PostgresStreamSessionManager]) async throws -> Void
    ) async throws {
        try await with(database) { url in
            try await database.withManagers(
                count,
                configure: {
                    $1.connectionString = url
                    $1.listenerConnectionString = database.url
                },
                body
            )
        }
    }
}
