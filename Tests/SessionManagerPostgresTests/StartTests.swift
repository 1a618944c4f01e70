import Logging
import PostgresClient
import SessionManager
import Testing

@testable import SessionManagerPostgres

@Suite("A start", .serialized, .timeLimit(.minutes(3)))
struct StartTests {
    /// The error with which `run()` ends; it must come soon, and tell no password.
    private func startError(
        _ configuration: PostgresSessionConfiguration,
        sourceLocation: SourceLocation = #_sourceLocation
    ) async -> SessionManagerError? {
        let manager = PostgresStreamSessionManager(
            configuration: configuration,
            logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
        )
        let error = await #expect(throws: SessionManagerError.self, sourceLocation: sourceLocation) {
            try await manager.run()
        }
        guard let error else { return nil }
        #expect(error.hint?.isEmpty == false, sourceLocation: sourceLocation)
        for text in ["\(error)", String(reflecting: error)] {
            #expect(!text.contains("s3cret"), sourceLocation: sourceLocation)
        }
        let ready = await #expect(throws: SessionManagerError.self) { try await manager.waitUntilReady() }
        #expect(ready == error, sourceLocation: sourceLocation)
        return error
    }

    @Test(
        "with a connection string that is none says so",
        arguments: ["postgresql://a:s3cret/x@b/c", "nonsense", "host=x bad=1"]
    )
    func wrongURL(url: String) async {
        let error = await startError(PostgresSessionConfiguration(connectionString: url))
        #expect(error?.code == .configuration)
    }

    @Test("with a server that is not there says where it looked")
    func unreachable() async throws {
        let database = try TestDatabase()
        var configuration = PostgresSessionConfiguration(
            connectionString: database.replacing(user: "u", password: "s3cret", port: 1)
        )
        configuration.connectTimeout = .seconds(5)
        let error = await startError(configuration)
        #expect(error?.code == .unreachable)
        #expect(error?.message.contains("127.0.0.1") == true)
    }

    @Test("with a host that does not exist names it")
    func unknownHost() async throws {
        var configuration = PostgresSessionConfiguration(connectionString: "postgresql://u:s3cret@nowhere.invalid/x")
        configuration.connectTimeout = .seconds(5)
        let error = await startError(configuration)
        #expect(error?.code == .unreachable)
        #expect(error?.message.contains("nowhere.invalid") == true)
    }

    @Test("with a wrong password says whose")
    func wrongPassword() async throws {
        let database = try TestDatabase()
        let error = await startError(
            PostgresSessionConfiguration(connectionString: database.replacing(user: "postgres", password: "s3cret"))
        )
        #expect(error?.code == .configuration)
        #expect(error?.sqlState == "28P01")
        #expect(error?.message.contains("postgres") == true)
    }

    @Test("with a database that does not exist names it")
    func unknownDatabase() async throws {
        let error = await startError(
            PostgresSessionConfiguration(connectionString: try TestDatabase().replacing(path: "no_such_database"))
        )
        #expect(error?.code == .configuration)
        #expect(error?.sqlState == "3D000")
        #expect(error?.message.contains("no_such_database") == true)
    }

    @Test("without the extension, and told to create nothing, says how to get it")
    func notInstalled() async throws {
        try await TestDatabase.withEmptyDatabase { database in
            var configuration = database.configuration
            configuration.create = false
            let error = await startError(configuration)
            #expect(error?.code == .notInstalled)
            #expect(error?.message.contains("tmcp_session_manager") == true)
            #expect(error?.hint?.contains("CREATE EXTENSION") == true)
        }
    }

    @Test("without the store, and told to create nothing, names the store")
    func noStore() async throws {
        let database = try TestDatabase()
        try await database.withManagers(1) { _ in }
        var configuration = database.configuration
        configuration.store = "missing"
        configuration.create = false
        let error = await startError(configuration)
        #expect(error?.code == .storeNotFound)
        #expect(error?.message.contains("missing") == true)
        #expect(error?.hint?.contains("create_store") == true)
    }

    @Test("as a role without rights says which function grants them")
    func noRights() async throws {
        try await TestDatabase.withEmptyDatabase { database in
            let role = database.store
            try await database.query("CREATE ROLE \(role) LOGIN PASSWORD 's3cret'")
            var configuration = database.configuration
            configuration.user = role
            configuration.password = "s3cret"
            // Where it cannot install.
            var error = await startError(configuration)
            #expect(error?.code == .notInstalled)
            #expect(error?.sqlState == "42501")
            #expect(error?.hint?.contains("owner") == true)
            // Where it is installed, and was granted to nobody.
            try await database.withManagers(1) { _ in }
            error = await startError(configuration)
            #expect(error?.code == .notInstalled)
            #expect(error?.hint?.contains("grant_usage") == true)
            // Where it was granted another store.
            configuration.store = "other"
            try await database.query("SELECT tmcp.grant_usage('\(database.store)', '\(role)')")
            error = await startError(configuration)
            #expect(error?.code == .storeNotFound)
            #expect(error?.message.contains("other") == true)
            #expect(error?.hint?.contains("grant_usage") == true)
            // Where it may look, and nothing else.
            try await database.query("SELECT tmcp.revoke_usage('\(database.store)', '\(role)')")
            try await database.query("SELECT tmcp.grant_monitoring('\(role)')")
            error = await startError(configuration)
            #expect(error?.code == .storeNotFound)
            #expect(error?.hint?.contains("grant_usage") == true)
            try await database.query("DROP OWNED BY \(role)")
            try await database.query("DROP ROLE \(role)")
        }
    }

    @Test("with another version names both", arguments: ["2.0.0", "0.9.0"])
    func wrongVersion(version: String) async throws {
        try await TestDatabase.withEmptyDatabase { database in
            try await database.query("CREATE SCHEMA tmcp")
            try await database.query(
                "CREATE FUNCTION tmcp.version() RETURNS text LANGUAGE sql AS $$ SELECT '\(version)' $$"
            )
            let error = await startError(database.configuration)
            #expect(error?.code == .notInstalled)
            #expect(error?.message.contains(version) == true)
            #expect(error?.message.contains(InstallScript.version) == true)
            #expect(error?.hint != nil)
        }
    }

    @Test("in a database whose schema tmcp is somebody else's says so")
    func foreignSchema() async throws {
        try await TestDatabase.withEmptyDatabase { database in
            try await database.query("CREATE SCHEMA tmcp")
            let error = await startError(database.configuration)
            #expect(error?.code == .notInstalled)
            #expect(error?.message.contains("schema tmcp") == true)
        }
    }

    @Test("in a database that is not in UTF-8 says so, and leaves nothing behind")
    func wrongEncoding() async throws {
        try await TestDatabase.withEmptyDatabase(options: "ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0") {
            database in
            let error = await startError(database.configuration)
            #expect(error?.code == .notInstalled)
            #expect(error?.message.contains("UTF8") == true)
            let exists: Bool = try await database.query("SELECT to_regnamespace('tmcp') IS NOT NULL").value()
            #expect(!exists)
        }
    }

    @Test("of eight processes at once installs once")
    func concurrentInstallation() async throws {
        try await TestDatabase.withEmptyDatabase { database in
            try await database.withManagers(8) { managers in
                let stream = MessageStream()
                try await managers[0].create("a", controller: stream.controller)
                try await managers[7].send(["a"], data: "1")
                #expect(await stream.next(1) == ["1"])
            }
            #expect(
                try await database.query("SELECT count(*) FROM pg_extension WHERE extname LIKE 'tmcp%'").value()
                    == Int64(1)
            )
        }
    }

    @Test("of eight processes at once installs once, also where the server has no extension files")
    func concurrentScript() async throws {
        try await TestDatabase.withEmptyDatabase { database in
            try await withThrowingTaskGroup(of: Void.self) { group in
                for _ in 0..<8 {
                    group.addTask {
                        let components = try SessionComponents(
                            configuration: database.configuration,
                            holdsStreams: false,
                            logger: database.logger
                        )
                        let outcome = await Result {
                            try await components.calls.start()
                            let installation = Installation(
                                configuration: database.configuration,
                                calls: components.calls,
                                logger: database.logger,
                                usesExtensionFiles: false
                            )
                            try await installation.ensure()
                        }
                        await components.calls.stop()
                        await components.eventLoop.closeAndWait()
                        try outcome.get()
                    }
                }
                try await group.waitForAll()
            }
            #expect(
                try await database.query("SELECT count(*) FROM pg_extension WHERE extname LIKE 'tmcp%'").value()
                    == Int64(0)
            )
            // It is the same thing: what finds it installed works with it.
            try await database.withManagers { managers in
                let stream = MessageStream()
                try await managers[0].create("a", controller: stream.controller)
                try await managers[1].send(["a"], data: "1")
                #expect(await stream.next(1) == ["1"])
            }
        }
    }

    @Test("creates the store with the names and the limit that it is given")
    func store() async throws {
        let database = try TestDatabase()
        try await database.withManagers(
            1,
            configure: {
                $1.relationNames.sessions = "public.\(database.store)_mine"
                $1.inlineLimit = 0
            }
        ) { managers in
            let stream = MessageStream()
            try await managers[0].create("a", controller: stream.controller)
            try await managers[0].send(["a"], data: "1")
            #expect(await stream.next(1) == ["1"])
            #expect(try await database.query("SELECT id FROM public.\(database.store)_mine").value() == "a")
        }
    }

    @Test(
        "needs the same major version, and one that is not older",
        arguments: [
            ("1.0.0", "1.0.0", true), ("1.0.1", "1.0.0", true), ("1.1.0", "1.0.5", true), ("1.10.0", "1.9.0", true),
            ("1.0.0", "1.0.1", false), ("1.0.9", "1.1.0", false), ("2.0.0", "1.0.0", false), ("0.9.0", "1.0.0", false),
            ("1.0", "1.0.0", false), ("", "1.0.0", false), ("1.0.x", "1.0.0", false), ("1.0.0-beta", "1.0.0", false),
        ]
    )
    func compatibility(installed: String, needed: String, expected: Bool) {
        #expect(Installation.isCompatible(installed, with: needed) == expected)
    }
}
