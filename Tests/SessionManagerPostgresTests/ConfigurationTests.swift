import Foundation
import PostgresClient
import SessionManager
import Testing

@testable import SessionManagerPostgres

@Suite("The configuration of a session manager", .timeLimit(.minutes(1)))
struct ConfigurationTests {
    // MARK: Secrets

    private func printed(_ value: Any) -> String {
        var output = "\(value) \(String(reflecting: value)) "
        dump(value, to: &output)
        return output
    }

    @Test(
        "shows no password, wherever it is",
        arguments: [
            "postgresql://me:s3cret@db/app?sslmode=require&sslpassword=s3cret",
            "postgresql://me@db/app?password=s3cret&options=-csearch_path%3Ds3cret",
            "host=db dbname=app user=me sslmode=require password='s3cret s3cret' sslpassword=s3cret passfile=s3cret",
            // Wrong in ways that happen.
            "postgresql://me:p@s3cret@db/app",
            "postgresql://me:s3cret/s3cret@db/app", "postgresql://me:12/s3cret@db/app", "host=db password=x s3cret",
        ]
    )
    func redaction(connectionString: String) {
        var configuration = PostgresSessionConfiguration(connectionString: connectionString)
        configuration.listenerConnectionString = connectionString
        configuration.password = "s3cret"
        let manager = PostgresStreamSessionManager(configuration: configuration)
        let info = PostgresInfoSessionManager(configuration: configuration)
        for output in [printed(configuration), printed([configuration]), printed(manager), printed(info)] {
            #expect(!output.contains("s3cret"), "\(output)")
        }
    }

    @Test("shows what it connects to, and its options")
    func description() {
        var configuration = PostgresSessionConfiguration(connectionString: "postgresql://me:s3cret@db:5433/app")
        configuration.listenerConnectionString = "host=direct sslmode=verify-full"
        configuration.store = "shop"
        configuration.inlineLimit = 0
        for text in [
            "host=db", "port=5433", "dbname=app", "user=me", "host=direct", "verify-full", "shop", "inlineLimit: 0",
        ] {
            #expect(configuration.description.contains(text), "\(text)")
        }
        #expect(configuration.debugDescription == configuration.description)
        #expect(PostgresSessionConfiguration(connectionString: "host=a b").description.contains("not valid"))
    }

    // MARK: What overrides what

    private static let environment = [
        "PGAPPNAME": "from the environment", "PGCONNECT_TIMEOUT": "7", "PGTARGETSESSIONATTRS": "any",
    ]

    /// Application name, connect timeout and kind of server, of both connections.
    private func resolved(
        _ configuration: PostgresSessionConfiguration,
        environment: [String: String] = [:]
    ) throws -> [[String]] {
        try [
            ConnectionConfiguration.calls(configuration, environment: { environment[$0] }),
            ConnectionConfiguration.listener(configuration, environment: { environment[$0] }),
        ].map { connection in
            [
                connection.applicationName, "\(connection.connectTimeout)",
                connection.publicOptions.split(separator: "target_session_attrs=").last.map(String.init) ?? "",
            ]
        }
    }

    @Test("names application, connect timeout and kind of server; else the connection string, else the environment")
    func precedence() throws {
        let silent = PostgresSessionConfiguration(connectionString: "host=db")
        #expect(try resolved(silent) == Array(repeating: ["tmcp", "10.0 seconds", "read-write"], count: 2))
        #expect(
            try resolved(silent, environment: Self.environment)
                == Array(repeating: ["from the environment", "7.0 seconds", "any"], count: 2)
        )

        var configuration = PostgresSessionConfiguration(
            connectionString: "host=db application_name=calls connect_timeout=3 target_session_attrs=primary"
        )
        configuration.listenerConnectionString = "postgresql://db?application_name=listener"
        #expect(
            try resolved(configuration, environment: Self.environment) == [
                ["calls", "3.0 seconds", "primary"], ["listener", "7.0 seconds", "any"],
            ]
        )

        configuration.applicationName = "mine"
        configuration.connectTimeout = .seconds(5)
        #expect(
            try resolved(configuration, environment: Self.environment) == [
                ["mine", "5.0 seconds", "primary"], ["mine", "5.0 seconds", "any"],
            ]
        )
    }

    @Test("gives user and password to both connections")
    func credentials() throws {
        var configuration = PostgresSessionConfiguration(connectionString: "postgresql://a:b@pooler/app")
        configuration.listenerConnectionString = "postgresql://c:d@db/app"
        configuration.user = "me"
        configuration.password = "mine"
        for connection in [
            try ConnectionConfiguration.calls(configuration), try ConnectionConfiguration.listener(configuration),
        ] {
            #expect(connection.user == "me")
            #expect(connection.password == "mine")
        }
    }

    @Test("says what a process is called in the database's views")
    func names() async throws {
        let database = try TestDatabase()
        try await database.withManagers(
            1,
            configure: {
                $1.connectionString += "?application_name=\(database.store)_c"
                $1.listenerConnectionString = database.url + "?application_name=\(database.store)_l"
            }
        ) { _ in
            let names: String = try await database.query(
                """
                SELECT string_agg(application_name, ' ' ORDER BY application_name) FROM pg_stat_activity
                WHERE application_name LIKE $1
                """,
                [.text(database.store + "%")]
            ).value()
            #expect(names == "\(database.store)_c \(database.store)_l")
            let node: String = try await database.query(
                "SELECT name FROM tmcp.node_status WHERE store = $1 AND registered",
                [.text(database.store)]
            ).value()
            #expect(node == "\(database.store)_l")
        }
    }

    // MARK: Ranges

    private func refusal(
        _ set: (inout PostgresSessionConfiguration) -> Void
    ) async -> SessionManagerError? {
        var configuration = PostgresSessionConfiguration(connectionString: "host=nowhere.invalid")
        set(&configuration)
        let manager = PostgresStreamSessionManager(configuration: configuration)
        return await #expect(throws: SessionManagerError.self) { try await manager.run() }
    }

    @Test("with a duration that makes no sense is refused before anything is done, with the range")
    func durations() async {
        for wrong in [Duration.zero, .seconds(-1), .microseconds(1), .seconds(1_000_000)] {
            for (name, error) in [
                ("heartbeatInterval", await refusal { $0.heartbeatInterval = wrong }),
                ("connectTimeout", await refusal { $0.connectTimeout = wrong }),
                ("statementTimeout", await refusal { $0.statementTimeout = wrong }),
                ("answerTimeout", await refusal { $0.answerTimeout = wrong }),
            ] {
                #expect(error?.code == .configuration)
                #expect(error?.message.contains("\(name) is \(wrong), and can be") == true)
                #expect(error?.hint?.contains("default") == true)
            }
        }
    }

    @Test("with an inline limit that no notification can hold is refused", arguments: [-1, 7901, .max])
    func inlineLimit(limit: Int) async {
        let error = await refusal { $0.inlineLimit = limit }
        #expect(error?.code == .configuration)
        #expect(error?.message.contains("0 to 7900") == true)
    }

    @Test("with heartbeats that the store would not wait for is refused, where the role may know")
    func heartbeats() async throws {
        let database = try TestDatabase()
        try await database.withManagers(1) { _ in }
        try await database.query(
            "SELECT tmcp.configure_store($1, freshness_window => '2 seconds')",
            [.text(database.store)]
        )
        var configuration = database.configuration
        configuration.heartbeatInterval = .seconds(2)
        configuration.checksHeartbeatInterval = true
        let manager = PostgresStreamSessionManager(configuration: configuration, logger: database.logger)
        let error = await #expect(throws: SessionManagerError.self) { try await manager.run() }
        #expect(error?.code == .configuration)
        #expect(error?.message.contains("2.0 seconds") == true)
        #expect(error?.hint?.contains("freshness_window") == true)
        try await database.withManagers(
            1,
            configure: {
                $1.heartbeatInterval = .milliseconds(600)
                $1.checksHeartbeatInterval = true
            }
        ) { _ in }
    }
}
