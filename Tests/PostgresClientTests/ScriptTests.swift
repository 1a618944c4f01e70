import Foundation
import Testing

@testable import PostgresClient

@Suite("Scripts", .timeLimit(.minutes(2)))
struct ScriptTests {
    private func run(_ script: String) async throws {
        try await withEventLoop { loop in
            try await PostgresScript.run(
                script,
                configuration: TestDatabase.configuration(),
                on: loop,
                logger: TestDatabase.logger
            )
        }
    }

    @Test("All statements of a script are run, also in dollar quotes and over a megabyte of text")
    func complete() async throws {
        let schema = "script_\(UInt64.random(in: 0 ... .max))"
        let padding = String(repeating: "-- padding; with ; semicolons\n", count: 40_000)
        try await run(
            """
            CREATE SCHEMA \(schema);
            \(padding)
            CREATE FUNCTION \(schema).answer() RETURNS int LANGUAGE plpgsql AS $f$
            BEGIN
                RAISE NOTICE 'asked; and answered';
                RETURN 42;
            END $f$;
            SELECT \(schema).answer(), i FROM generate_series(1, 10000) i;
            """
        )
        try await withConnection { connection in
            let answer: Int64 = try await connection.query("SELECT \(schema).answer()", prepared: false).value()
            #expect(answer == 42)
            _ = try await connection.query("DROP SCHEMA \(schema) CASCADE", prepared: false)
        }
    }

    @Test("A script that fails leaves nothing behind and says why")
    func failing() async throws {
        let schema = "script_\(UInt64.random(in: 0 ... .max))"
        let error = try await postgresError { try await run("CREATE SCHEMA \(schema); SELECT 1 / 0; SELECT 2") }
        #expect(error.code == .server)
        #expect(error.sqlState == "22012")
        try await withConnection { connection in
            let exists = try await connection.query("SELECT to_regnamespace($1) IS NOT NULL", [.text(schema)])
            #expect(try exists.value() == false)
        }
    }

    @Test("A script with a NUL character or a COPY from the client is refused")
    func refused() async throws {
        #expect(try await postgresError { try await run("SELECT 1\0; SELECT 2") }.code == .invalidParameter)
        #expect(try await postgresError { try await run("COPY pg_class FROM STDIN") }.code == .invalidParameter)
    }

    @Test("An empty script does nothing")
    func empty() async throws {
        try await run("")
        try await run("-- nothing")
    }

    @Test("A cancelled script ends at once")
    func cancelled() async throws {
        let marker = "script_\(UInt64.random(in: 0 ... .max))"
        let task = Task { try await run("SELECT '\(marker)', pg_sleep(60)") }
        try await withConnection { connection in
            let sql = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND query LIKE '%' || $1 || '%'"
            var processID: Int64?
            while processID == nil {
                let result = try await connection.query(sql, [.text(marker)])
                if result.rowCount == 1 { processID = try result.value() }
            }
            task.cancel()
            #expect(try await postgresError { try await task.value }.code == .cancelled)
            _ = try await connection.query("SELECT pg_terminate_backend($1::int)", [.int8(processID)])
        }
    }
}
