import Foundation
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
            #expect(error?.message.contains("create is false") == true)
            for statement in [
                "CREATE EXTENSION tmcp_session_manager;", "SELECT tmcp.create_store('\(database.store)');",
                "SELECT tmcp.grant_usage('\(database.store)', 'postgres');", "plain.sql",
            ] {
                #expect(error?.hint?.contains(statement) == true, "\(statement)")
            }
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
        #expect(error?.message.contains("create is false") == true)
        #expect(error?.hint?.contains("SELECT tmcp.create_store('missing');") == true)
    }

    @Test("as a role that was granted less than the client calls names what is missing, and how to grant it")
    func missingGrants() async throws {
        try await TestDatabase.withEmptyDatabase { database in
            try await database.withManagers(1) { _ in }
            let role = "\"\(database.store) Role\""
            try await database.query("CREATE ROLE \(role) LOGIN PASSWORD 's3cret'")
            let grant = "SELECT tmcp.grant_usage('\(database.store)', '\(role)');"
            try await database.query(grant)
            for function in [
                "publish(text, text, text, text)", "attach_batch(text, bigint, text[], bigint[], text[], text[])",
            ] {
                try await database.query("REVOKE EXECUTE ON FUNCTION tmcp.\(function) FROM \(role)")
            }
            for create in [false, true] {
                var configuration = database.configuration
                configuration.user = "\(database.store) Role"
                configuration.password = "s3cret"
                configuration.create = create
                let error = await startError(configuration)
                #expect(error?.code == .notInstalled)
                #expect(error?.message.hasSuffix("tmcp.attach_batch, tmcp.publish") == true)
                #expect(error?.hint?.contains(grant) == true)
            }
            // What it says is what helps.
            try await database.query(grant)
            try await database.withManagers(
                1,
                configure: {
                    $1.user = "\(database.store) Role"
                    $1.password = "s3cret"
                    $1.create = false
                }
            ) { managers in
                let count = try await managers[0].publish("note://x", data: "1")
                #expect(count == 0)
            }
            try await database.query("DROP OWNED BY \(role)")
            try await database.query("DROP ROLE \(role)")
        }
    }

    @Test("in a database from which somebody has removed functions names them")
    func missingFunctions() async throws {
        try await TestDatabase.withEmptyDatabase { database in
            try await database.withManagers(1) { _ in }
            for function in ["log(text, tmcp.log_level, text)", "publish(text, text, text, text)"] {
                try await database.query("ALTER EXTENSION tmcp_session_manager DROP FUNCTION tmcp.\(function)")
                try await database.query("DROP FUNCTION tmcp.\(function)")
            }
            let error = await startError(database.configuration)
            #expect(error?.code == .notInstalled)
            #expect(error?.message.hasSuffix("tmcp.log, tmcp.publish") == true)
        }
    }

    @Test("checks exactly the functions that the client calls")
    func calledFunctions() throws {
        let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent().appending(path: "Sources/SessionManagerPostgres")
        var called: Set<String> = []
        for file in try FileManager.default.contentsOfDirectory(atPath: folder.path)
        where !["InstallScript.swift", "Installation.swift", "SessionMetrics.swift"].contains(file) {
            let path = folder.appending(path: file)
            guard path.pathExtension == "swift" else { continue }
            let text = try String(contentsOf: path, encoding: .utf8)
            called.formUnion(text.matches(of: #/tmcp\.([a-z_]+)(?:\(|",)/#).map { String($0.output.1) })
        }
        #expect(called.union(["version"]) == Set(Installation.functions))
    }

    @Test("with a listening connection that leads to another database names both")
    func otherDatabase() async throws {
        try await TestDatabase.withEmptyDatabase { other in
            let database = try TestDatabase()
            var configuration = database.configuration
            configuration.connectTimeout = .seconds(3)
            configuration.listenerConnectionString = other.url
            let error = await startError(configuration)
            #expect(error?.code == .configuration)
            let name: String = try await other.query("SELECT current_database()").value()
            #expect(error?.message.contains(name) == true)
            #expect(error?.hint?.contains("listenerConnectionString") == true)
        }
    }

    @Test("with an older version of the plain script does not say how to update an extension")
    func olderScript() async throws {
        try await TestDatabase.withEmptyDatabase { database in
            try await database.query("CREATE SCHEMA tmcp")
            try await database.query(
                "CREATE FUNCTION tmcp.version() RETURNS text LANGUAGE sql AS $$ SELECT '\(InstallScript.version)-beta' $$"
            )
            let error = await startError(database.configuration)
            #expect(error?.code == .notInstalled)
            #expect(error?.hint?.contains("ALTER EXTENSION") == false)
            #expect(error?.hint?.contains("plain script") == true)
        }
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
        let prefix = database.store
        try await database.withManagers(
            1,
            configure: {
                $1.relationNames = PostgresSessionConfiguration.RelationNames(
                    sessions: "public.\(prefix)_mine",
                    clientCapabilities: "\(prefix)_can",
                    clientInfo: "public.\"\(prefix) Who\"",
                    logLevel: "public.\(prefix)_levels",
                    subscriptions: "public.\(prefix)_wanted"
                )
                $1.inlineLimit = 0
            }
        ) { managers in
            let stream = MessageStream()
            let info = PostgresInfoSessionManager(sharing: managers[0])
            let metadata = SessionMetadata(clientInfo: ["name": "x"], clientCapabilities: [:], logLevel: .error)
            try await info.start("a", metadata: metadata, principal: nil)
            try await info.addSubscription("a", uri: "note://x", principal: nil)
            try await managers[0].create("a", controller: stream.controller)
            try await managers[0].send(["a"], data: "1")
            #expect(await stream.next(1) == ["1"])
            try await database.withConnection { connection in
                for (relation, value) in [
                    ("tmcp.\(prefix)_can", "{}"), ("public.\"\(prefix) Who\"", #"{"name":"x"}"#),
                    ("public.\(prefix)_levels", "error"), ("public.\(prefix)_wanted", "note://x"),
                ] {
                    let rows = try await connection.query("SELECT id || ' ' || value FROM \(relation)")
                    #expect(try rows.value() == "a \(value)", "\(relation)")
                    #expect(rows.rowCount == 1)
                }
                #expect(try await connection.query("SELECT id FROM public.\(prefix)_mine").value() == "a")
                let limit: Int64 = try await connection.query(
                    "SELECT inline_limit::bigint FROM tmcp.stores WHERE name = $1",
                    [.text(prefix)]
                ).value()
                #expect(limit == 0)
                _ = try await connection.query("DELETE FROM public.\(prefix)_mine WHERE id = 'a'")
            }
            for await _ in stream {}
            #expect(stream.closing == .ended)
        }
    }

    @Test("that cannot create the store as it is told creates none")
    func storeAtOnce() async throws {
        let database = try TestDatabase()
        try await database.withManagers(1) { _ in }
        var configuration = database.configuration
        configuration.store += "_2"
        configuration.inlineLimit = 100
        // Taken already, by the view of another store.
        configuration.relationNames.subscriptions = "\(database.store)_sessions"
        let error = await startError(configuration)
        #expect(error?.sqlState == "TM013")
        let exists: Bool = try await database.query(
            "SELECT EXISTS (SELECT FROM tmcp.stores WHERE name = $1)",
            [.text(configuration.store)]
        ).value()
        #expect(!exists)
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
