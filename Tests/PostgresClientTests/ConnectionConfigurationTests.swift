import Testing

@testable import PostgresClient

@Suite("Connection configuration")
struct ConnectionConfigurationTests {
    @Test("A URI and keywords say the same")
    func forms() throws {
        let uri = try ConnectionConfiguration(
            connectionString: "postgresql://me:pass%20word@db:5433/app?sslmode=require"
        )
        let keywords = try ConnectionConfiguration(
            connectionString: "host=db port=5433 user=me password='pass word' dbname=app sslmode=require"
        )
        #expect(uri.options == keywords.options)
        #expect(uri.password == "pass word")
        #expect(uri.user == "me")
    }

    @Test("What the string does not say has a default, and what it says stays")
    func defaults() throws {
        let silent = try ConnectionConfiguration(connectionString: "", environment: { _ in nil })
        #expect(silent.options["target_session_attrs"] == "read-write")
        #expect(silent.options["keepalives_idle"] == "10")
        #expect(silent.applicationName == "tmcp")
        #expect(silent.connectTimeout == .seconds(10))
        let outspoken = try ConnectionConfiguration(
            connectionString: """
                target_session_attrs=any keepalives_idle=99 application_name=mine connect_timeout=3 client_encoding=latin1
                """,
            environment: { _ in "9" }
        )
        #expect(outspoken.options["target_session_attrs"] == "any")
        #expect(outspoken.options["keepalives_idle"] == "99")
        #expect(outspoken.applicationName == "mine")
        #expect(outspoken.connectTimeout == .seconds(3))
        #expect(outspoken.options["client_encoding"] == "UTF8", "texts are UTF-8, whatever the string says")
    }

    @Test("What only the environment says counts, as for libpq")
    func environment() throws {
        let variables = ["PGAPPNAME": "mine", "PGCONNECT_TIMEOUT": "3", "PGTARGETSESSIONATTRS": "standby"]
        let configuration = try ConnectionConfiguration(connectionString: "", environment: { variables[$0] })
        #expect(configuration.applicationName == "mine")
        #expect(configuration.connectTimeout == .seconds(3))
        #expect(configuration.options["target_session_attrs"] == "standby")
        #expect(configuration.options["keepalives_idle"] == "10")
        #expect(configuration.options["connect_timeout"] == nil)
    }

    @Test("A connect timeout of 0 or less is none for libpq, and the default here", arguments: ["0", "-1", "''"])
    func noConnectTimeout(text: String) throws {
        let configuration = try ConnectionConfiguration(connectionString: "connect_timeout=\(text)")
        #expect(configuration.connectTimeout == .seconds(10))
    }

    @Test(
        "A wrong connection string is named",
        arguments: [
            ("postgresql://host/db?sslmoed=require", "\"sslmoed\""),
            ("postgresql://me:secret@host/db?sslmoed=require", "\"sslmoed\""),
            ("hots=localhost", "\"hots\""),
            ("host", "missing \"=\""),
            ("postgresql://host:70000/db", "1 to 65535"),
            ("host=a port=5432x", "1 to 65535"),
            ("host='a", "unterminated"),
            ("connect_timeout=soon", "connect_timeout"),
            ("postgresql://[::1/db", "IPv6"),
            ("host=a\0b", "NUL"),
        ]
    )
    func wrong(string: String, expected: String) async throws {
        let error = try await postgresError { _ = try ConnectionConfiguration(connectionString: string) }
        #expect(error.code == .invalidConfiguration)
        #expect(error.message.contains(expected), "\(error.debugDescription)")
    }

    @Test(
        "No error about a wrong connection string shows any part of the password",
        arguments: [
            "postgresql://me:secret@host:5432x/db",
            "postgresql://me:sec/secret@host/db",
            "postgresql://me:12/secret?secret=1@host/db",
            "postgresql://me:%zzsecret@host/db",
            "postgresql://me:secret\"secret@[::1/db",
            "postgresql://host/db?password=a&secret=b",
            "postgresql://host/db?password=%zzsecret",
            "host=a password=my secret",
            "host=a password=my secret=b",
            "host=a password='secret",
            "host=a PASSWORD=my secret=1",
        ]
    )
    func redaction(string: String) async throws {
        let error = try await postgresError { _ = try ConnectionConfiguration(connectionString: string) }
        #expect(!error.debugDescription.contains("secret"), "\(error.debugDescription)")
        #expect(error.code == .invalidConfiguration)
    }

    @Test("Neither the description nor a dump of a configuration shows the password")
    func dumped() throws {
        let configuration = try ConnectionConfiguration(connectionString: "postgresql://me:secret@db/app")
        var output = "\(configuration) \(String(reflecting: configuration))"
        dump(configuration, to: &output)
        #expect(!output.contains("secret"))
        #expect(output.contains("host=db"))
    }

    @Test("Timeouts become milliseconds, and one above zero never becomes the zero that switches it off")
    func settings() throws {
        var configuration = try ConnectionConfiguration(connectionString: "")
        configuration.statementTimeout = .seconds(5)
        configuration.lockTimeout = .microseconds(10)
        configuration.idleInTransactionTimeout = .seconds(-3)
        configuration.synchronousCommit = .off
        configuration.settings = ["work_mem": "8MB", "statement_timeout": "1h"]
        #expect(
            configuration.sessionSettings.map { "\($0.name)=\($0.value)" } == [
                "idle_in_transaction_session_timeout=0ms",
                "lock_timeout=1ms",
                "statement_timeout=5000ms",
                "synchronous_commit=off",
                "work_mem=8MB",
            ]
        )
    }
}

@Suite("Host candidates")
struct HostCandidateTests {
    @Test("Lists are taken apart, with one port for all or one for each")
    func lists() {
        #expect(
            HostCandidate.list(["host": "a,b", "port": "1,2"])?.map(\.name) == ["a, port 1", "b, port 2"]
        )
        #expect(HostCandidate.list(["host": "a,b", "port": "1"])?.map(\.name) == ["a, port 1", "b, port 1"])
        #expect(HostCandidate.list(["hostaddr": "::1,10.0.0.1"])?.map(\.address) == ["::1", "10.0.0.1"])
        #expect(HostCandidate.list([:])?.map(\.name) == ["the default host"])
    }

    @Test("What only libpq can go through is left to it")
    func left() {
        #expect(HostCandidate.list(["host": "a,b", "port": "1,2,3"]) == nil)
        #expect(HostCandidate.list(["service": "x"]) == nil)
        #expect(HostCandidate.list(["host": "a,b", "target_session_attrs": "prefer-standby"]) == nil)
    }

    @Test("Names are resolved; sockets, addresses and the default are not")
    func resolution() {
        #expect(HostCandidate(host: "db", address: "", port: "").needsResolution)
        #expect(!HostCandidate(host: "127.0.0.1", address: "", port: "").needsResolution)
        #expect(!HostCandidate(host: "::1", address: "", port: "").needsResolution)
        #expect(!HostCandidate(host: "/run", address: "", port: "").needsResolution)
        #expect(!HostCandidate(host: "@abstract", address: "", port: "").needsResolution)
        #expect(!HostCandidate(host: "db", address: "::1", port: "").needsResolution)
        #expect(!HostCandidate(host: "", address: "", port: "").needsResolution)
    }
}

@Suite("Verbose messages")
struct VerboseMessageTests {
    @Test("The SQLSTATE is found whatever the language, and the source location left out")
    func parsing() {
        let english = VerboseMessage(
            """
            connection to server at "127.0.0.1", port 5432 failed: FATAL:  28P01: password authentication failed
            LOCATION:  auth_failed, auth.c:334

            """
        )
        #expect(english.sqlState == "28P01")
        #expect(!english.message.contains("LOCATION"))
        #expect(VerboseMessage("FATALE:  3D000: il database non esiste").sqlState == "3D000")
        #expect(VerboseMessage("connection refused: is the server running?").sqlState == nil)
        #expect(VerboseMessage("").error(.connectFailed).message == "libpq gave no reason")
    }

    @Test("A text is free of the secrets before it is logged")
    func redaction() throws {
        var configuration = try ConnectionConfiguration(connectionString: "host=a password=s3cret sslpassword=k3y")
        #expect(configuration.redacted("no s3cret, no k3y, no s3cret") == "no ***, no ***, no ***")
        configuration.password = ""
        #expect(configuration.redacted("as it is") == "as it is")
    }
}
