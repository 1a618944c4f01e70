import Foundation
import Testing

@testable import PostgresClient

@Suite("Connecting", .timeLimit(.minutes(2)))
struct ConnectTests {
    /// The error of an attempt to connect.
    private func failure(_ configuration: ConnectionConfiguration) async throws -> PostgresError {
        try await withEventLoop { loop in
            try await postgresError {
                let connection = try await PostgresConnection.connect(
                    configuration: configuration,
                    on: loop,
                    logger: TestDatabase.logger
                )
                await connection.close()
            }
        }
    }

    private func failure(_ string: String) async throws -> PostgresError {
        var configuration = try ConnectionConfiguration(connectionString: string)
        configuration.connectTimeout = .seconds(60)
        return try await failure(configuration)
    }

    /// A server's message: a kind, a length, and what the kind has.
    private static func message(_ kind: Character, _ body: [UInt8]) -> [UInt8] {
        let length = UInt32(body.count + 4)
        return [kind.asciiValue ?? 0] + (0..<4).map { UInt8(truncatingIfNeeded: length >> (24 - 8 * $0)) } + body
    }

    @Test("A server that the connection string does not name is the environment's, as for psql")
    func environment() async throws {
        // Tests/cluster/with-cluster sets PGHOST and the like, too.
        let configuration = try ConnectionConfiguration(connectionString: "application_name=environment")
        try await withEventLoop { loop in
            let connection = try await PostgresConnection.connect(
                configuration: configuration,
                on: loop,
                logger: TestDatabase.logger
            )
            let local: Bool = try await connection.query("SELECT inet_server_addr() IS NULL").value()
            #expect(local, "over the unix socket of PGHOST")
            await connection.close()
        }
    }

    @Test("Every address of a host is tried, and the error tells of each")
    func everyAddress() async throws {
        // Nobody listens on a port of this host's, so none of its addresses answers.
        let port = try SocketServer { _ in }.port
        let error = try await failure("host=localhost port=\(port)")
        #expect(error.code == .connectFailed)
        #expect(error.message.contains("127.0.0.1") && error.message.contains("\(port)"), "\(error.debugDescription)")
    }

    @Test("A port that nobody listens on is an error that names the server")
    func closedPort() async throws {
        let port = try SocketServer { _ in }.port
        let error = try await failure("postgresql://me:secret@127.0.0.1:\(port)/db")
        #expect(error.code == .connectFailed)
        #expect(error.message.contains("127.0.0.1") && error.message.contains("\(port)"), "\(error.debugDescription)")
        #expect(!error.debugDescription.contains("secret"))
    }

    @Test("A host that does not exist is an error that names it")
    func wrongHost() async throws {
        let error = try await failure("host=no-such-host.invalid")
        #expect(error.code == .connectFailed)
        #expect(error.message.contains("no-such-host.invalid"))
    }

    @Test("A socket directory without a server is an error that names it")
    func wrongDirectory() async throws {
        let error = try await failure("host=/nonexistent-directory")
        #expect(error.code == .connectFailed)
        #expect(error.message.contains("/nonexistent-directory"))
    }

    @Test("An option that libpq does not take is an error of the configuration")
    func wrongOption() async throws {
        let error = try await failure("host=127.0.0.1 sslmode=perhaps")
        #expect(error.code == .invalidConfiguration)
        #expect(error.message.contains("sslmode"))
    }

    @Test("A database that does not exist is an error with the server's SQLSTATE")
    func wrongDatabase() async throws {
        var configuration = try TestDatabase.configuration()
        configuration.database = "no_such_database"
        let error = try await failure(configuration)
        #expect(error.code == .connectFailed)
        #expect(error.sqlState == "3D000")
        #expect(error.message.contains("no_such_database"))
    }

    @Test("A setting that the server does not take is an error with its SQLSTATE")
    func wrongSetting() async throws {
        var configuration = try TestDatabase.configuration()
        configuration.settings = ["no_such_setting": "1"]
        let error = try await failure(configuration)
        #expect(error.code == .server)
        #expect(error.sqlState == "42704")
    }

    @Test("A wrong password is an error with the server's SQLSTATE, and not shown; the next host is not tried")
    func wrongPassword() async throws {
        let server = try SocketServer { descriptor in
            SocketServer.readSome(descriptor)
            SocketServer.send(Self.message("R", [0, 0, 0, 3]), to: descriptor)
            SocketServer.readSome(descriptor)
            let fields = "SFATAL\0VFATAL\0C28P01\0Mpassword authentication failed for user \"somebody\"\0\0"
            SocketServer.send(Self.message("E", Array(fields.utf8)), to: descriptor)
        }
        let error = try await failure(
            "host=127.0.0.1,127.0.0.1 port=\(server.port),1 user=somebody password=secret sslmode=disable gssencmode=disable"
        )
        #expect(error.code == .connectFailed)
        #expect(error.sqlState == "28P01")
        #expect(error.message.contains("somebody"))
        #expect(!error.message.contains("refused"))
        #expect(!error.debugDescription.contains("secret"))
    }

    @Test("A server that takes the connection and never answers is given up at the connect timeout")
    func silent() async throws {
        let server = try SocketServer { SocketServer.readToEnd($0) }
        var configuration = try ConnectionConfiguration(connectionString: server.url)
        configuration.connectTimeout = .milliseconds(300)
        let start = ContinuousClock.now
        let error = try await failure(configuration)
        #expect(error.code == .connectTimeout)
        #expect(start.duration(to: .now) >= .milliseconds(300))
    }

    @Test("A server that answers nonsense is an error")
    func nonsense() async throws {
        let server = try SocketServer { descriptor in
            SocketServer.readSome(descriptor)
            SocketServer.send(Array("HTTP/1.1 400 Bad Request\r\n\r\n".utf8), to: descriptor)
            SocketServer.readToEnd(descriptor)
        }
        let error = try await failure(server.url)
        #expect(error.code == .connectFailed)
    }

    @Test("A server that says yes and then nothing is given up at the connect timeout")
    func silentAfterwards() async throws {
        let server = try SocketServer { descriptor in
            SocketServer.readSome(descriptor)
            let parameters = [
                "in_hot_standby\0off\0", "default_transaction_read_only\0off\0", "server_version\018.0\0",
            ]
            var answer = Self.message("R", [0, 0, 0, 0])
            for parameter in parameters { answer += Self.message("S", Array(parameter.utf8)) }
            answer += Self.message("K", [0, 0, 0, 1, 0, 0, 0, 2]) + Self.message("Z", Array("I".utf8))
            SocketServer.send(answer, to: descriptor)
            SocketServer.readToEnd(descriptor)
        }
        var configuration = try ConnectionConfiguration(connectionString: server.url)
        configuration.connectTimeout = .milliseconds(300)
        #expect(try await failure(configuration).code == .connectTimeout)
    }

    @Test("A host that swallows everything leaves the next one its share of the time")
    func nextHost() async throws {
        let silent = try SocketServer { SocketServer.readToEnd($0) }
        let direct = try TestDatabase.configuration()
        let host = direct.options["host"] ?? "/var/run/postgresql"
        var configuration = try ConnectionConfiguration(
            connectionString: """
                host=127.0.0.1,\(host) port=\(silent.port),\(direct.options["port"] ?? "5432") \
                sslmode=disable gssencmode=disable
                """
        )
        configuration.user = direct.user
        configuration.password = direct.password
        configuration.database = direct.database
        configuration.connectTimeout = .seconds(16)
        try await withConnection(configuration) { connection in
            let answer: Int64 = try await connection.query("SELECT 1").value()
            #expect(answer == 1)
        }
    }

    @Test("A task that is cancelled while it connects is told at once")
    func cancelled() async throws {
        let (reached, reach) = AsyncStream<Void>.makeStream()
        let server = try SocketServer { descriptor in
            SocketServer.readSome(descriptor)
            reach.yield()
            SocketServer.readToEnd(descriptor)
        }
        let configuration = try ConnectionConfiguration(connectionString: server.url)
        let attempt = Task { try await failure(configuration) }
        for await _ in reached { break }
        attempt.cancel()
        #expect(try await attempt.value.code == .cancelled)
    }

    @Test("The settings hold for the session of a direct connection, which the server's own id shows it to be")
    func settings() async throws {
        var configuration = try TestDatabase.configuration()
        configuration.statementTimeout = .seconds(7)
        configuration.synchronousCommit = .off
        configuration.applicationName = "client test"
        try await withConnection(configuration) { connection in
            #expect(await !connection.isPooled)
            #expect(await connection.serverVersion >= 140_000)
            let sql = """
                SELECT current_setting('statement_timeout'), current_setting('synchronous_commit'),
                    current_setting('application_name'), current_setting('client_encoding')
                """
            let result = try await connection.query(sql)
            #expect(try result.value(column: 0) == "7s")
            #expect(try result.value(column: 1) == "off")
            #expect(try result.value(column: 2) == "client test")
            #expect(try result.value(column: 3) == "UTF8")
        }
    }

    @Test("Behind a pooler the settings come with each call and end with it")
    func callSettings() async throws {
        var configuration = try TestDatabase.configuration()
        configuration.statementTimeout = .milliseconds(200)
        configuration.settings = ["tmcp_test.setting": "mine"]
        configuration.settingsScope = .call
        try await withConnection(configuration) { connection in
            let result = try await connection.query("SELECT current_setting('tmcp_test.setting')")
            #expect(try result.value() == "mine")
            let error = try await postgresError { _ = try await connection.query("SELECT pg_sleep(60)") }
            #expect(error.sqlState == "57014")
            // A statement that the client sends without settings, as the first of a connection is.
            try await withThrowingTaskGroup(of: Void.self) { group in
                for number in 0..<Int64(500) {
                    group.addTask {
                        let result = try await connection.query(
                            "SELECT $1, current_setting('statement_timeout'), 1 / ($1 % 2)",
                            [.int8(number * 2 + 1)]
                        )
                        #expect(try result.value(column: 0) == number * 2 + 1)
                        #expect(try result.value(column: 1) == "200ms")
                    }
                }
                try await group.waitForAll()
            }
        }
    }

    // One case after the other: each needs all threads of the pool for itself.
    @Test("Connecting needs no thread of the default pool", .serialized, arguments: ["127.0.0.1", "localhost"])
    func busyPool(host: String) async throws {
        let width = ProcessInfo.processInfo.activeProcessorCount
        let (reached, occupied) = (DispatchSemaphore(value: 0), DispatchSemaphore(value: 0))
        let settled = DispatchSemaphore(value: 0)
        let relay = try Relay {
            reached.signal()
            for _ in 0..<width { _ = Self.wait(for: occupied) }
        } onInput: { bytes in
            // The last thing that a new connection says of its own accord.
            if String(decoding: bytes, as: UTF8.self).contains("pg_backend_pid") {
                for _ in 0..<width { settled.signal() }
            }
        }
        let configuration = try relay.configuration(host: host)
        let connecting = Task { try await withConnection(configuration) { _ in } }
        let (occupants, add) = AsyncStream<Task<Bool, Never>>.makeStream()
        Thread.detachNewThread {
            _ = Self.wait(for: reached)
            for _ in 0..<width {
                // Holds a thread of the pool until the connection is settled.
                let occupant = Task.detached {
                    occupied.signal()
                    return Self.wait(for: settled)
                }
                add.yield(occupant)
            }
            add.finish()
        }
        for await occupant in occupants { #expect(await occupant.value) }
        try await connecting.value
    }

    /// Blocks the thread until the semaphore is signalled; `false` if that takes over 20 s.
    private static func wait(for semaphore: DispatchSemaphore) -> Bool {
        semaphore.wait(timeout: .now() + .seconds(20)) == .success
    }

    @Test("Two hundred connections leave no descriptor and no thread behind")
    func leaks() async throws {
        let configuration = try TestDatabase.configuration()
        let before = ProcessResources.now()
        for _ in 0..<200 {
            try await withConnection(configuration) { _ = try await $0.query("SELECT 1") }
        }
        try await ProcessResources.expectNoGrowth(since: before, below: 100)
    }
}
