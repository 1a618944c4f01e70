import Foundation
import Testing

@testable import PostgresClient

@Suite("Calls", .timeLimit(.minutes(2)))
struct CallTests {
    @Test("Values of every type come back as they were sent")
    func roundTrip() async throws {
        let hostile = ["", "'; DROP TABLE x; --", "\\", "\"", "{a,\"b\"}", "NULL", "\u{1}\n\r\t", "🐘é", "$1", "%s%n"]
        try await withConnection { connection in
            for text in hostile {
                let result = try await connection.query("SELECT $1", [.text(text)])
                #expect(try result.value() == text)
            }
            let arrays = try await connection.query(
                "SELECT $1, $2, $3, $4",
                [.textArray(hostile + [nil]), .int8Array([.min, nil, .max]), .textArray([]), .int8Array([])]
            )
            #expect(try arrays.value(column: 0) == hostile + [nil])
            #expect(try arrays.value(column: 1) == [Int64.min, nil, .max])
            #expect(try arrays.value(column: 2) == [String]())
            #expect(try arrays.value(column: 3) == [Int64]())
            let scalars = try await connection.query(
                "SELECT $1, $2, $3, $4, $5, $6::interval::text, '{\"a\": 1}'::jsonb, 0.25::float8, 7::int2",
                [.int8(.min), .bool(true), .bool(false), .text(nil), .int8Array(nil), .inferred("1 day")]
            )
            #expect(try scalars.value(column: 0) == Int64.min)
            #expect(try scalars.value(column: 1) == true)
            #expect(try scalars.value(column: 2) == false)
            #expect(try scalars.value(column: 3, as: String?.self) == nil)
            #expect(try scalars.value(column: 4, as: [Int64]?.self) == nil)
            #expect(try scalars.value(column: 5) == "1 day")
            #expect(try scalars.value(column: 6) == "{\"a\": 1}")
            #expect(try scalars.value(column: 7) == 0.25)
            #expect(try scalars.value(column: 8) == Int64(7))
        }
    }

    @Test("PostgreSQL sees the elements of an array, not a text that looks like one")
    func elements() async throws {
        try await withConnection { connection in
            let result = try await connection.query(
                "SELECT cardinality($1), $1[2] IS NULL, $1[3], $2[1] + $2[3], array_position($2, NULL)",
                [.textArray(["a", nil, "NULL"]), .int8Array([1, nil, 2])]
            )
            #expect(try result.value(column: 0) == 3)
            #expect(try result.value(column: 1) == true)
            #expect(try result.value(column: 2) == "NULL")
            #expect(try result.value(column: 3) == 3)
            #expect(try result.value(column: 4) == 2)
        }
    }

    @Test("A NUL character in a text is refused, not cut off")
    func nul() async throws {
        try await withConnection { connection in
            let value = try await postgresError { _ = try await connection.query("SELECT $1", [.text("a\0b")]) }
            #expect(value.sqlState == "22021")
            let element = try await postgresError {
                _ = try await connection.query("SELECT $1", [.textArray(["a\0b"])])
            }
            #expect(element.sqlState == "22021")
            let statement = try await postgresError { _ = try await connection.query("SELECT 1\0; SELECT 2") }
            #expect(statement.code == .invalidParameter)
            let answer: Int64 = try await connection.query("SELECT 1").value()
            #expect(answer == 1)
        }
    }

    @Test("Rows, columns, counts and tags are those of the server")
    func rows() async throws {
        try await withConnection { connection in
            let result = try await connection.query("SELECT i, i::text FROM generate_series(1, 1000) i ORDER BY 1")
            #expect(result.rowCount == 1_000)
            #expect(result.columnCount == 2)
            #expect(result.commandTag == "SELECT 1000")
            #expect(result.affectedRowCount == 1_000)
            var sum: Int64 = 0
            for row in result.rows {
                let number: Int64 = try row.value(0)
                #expect(try row.value(1) == String(number))
                sum += number
            }
            #expect(sum == 500_500)
        }
    }

    @Test("A row or column that is not there is an error, not a trap")
    func outOfRange() async throws {
        try await withConnection { connection in
            let result = try await connection.query("SELECT 1")
            for (row, column) in [(1, 0), (0, 1), (-1, 0), (0, -1), (.max, .max)] {
                let error = try await postgresError { _ = try result.value(row: row, column: column, as: Int64.self) }
                #expect(error.code == .unexpectedResult)
            }
            let error = try await postgresError { _ = try result.value(as: String.self) }
            #expect(error.code == .unexpectedResult)
        }
    }

    @Test("A result stays readable after its connection and loop are closed")
    func outlives() async throws {
        let result = try await withConnection { try await $0.query("SELECT repeat('x', 1000)") }
        #expect(try result.value(as: String.self).count == 1_000)
    }

    @Test("Ten thousand calls at once each get their own answer", arguments: [true, false])
    func pipelined(prepared: Bool) async throws {
        try await withConnection { connection in
            let sum = try await withThrowingTaskGroup(of: Int64.self) { group in
                for number in 0..<Int64(10_000) {
                    group.addTask {
                        let result = try await connection.query("SELECT $1", [.int8(number)], prepared: prepared)
                        let answer: Int64 = try result.value()
                        #expect(answer == number)
                        return answer
                    }
                }
                return try await group.reduce(0, +)
            }
            #expect(sum == 49_995_000)
        }
    }

    @Test("An error does not touch the calls before and after it", arguments: [true, false])
    func neighbours(prepared: Bool) async throws {
        try await withConnection { connection in
            try await withThrowingTaskGroup(of: Void.self) { group in
                for number in 0..<Int64(900) {
                    group.addTask {
                        switch number % 3 {
                        case 0:
                            let result = try await connection.query("SELECT 10 / $1", [.int8(5)], prepared: prepared)
                            #expect(try result.value() == 2)
                        case 1:
                            let error = try await postgresError {
                                _ = try await connection.query("SELECT 10 / $1", [.int8(0)], prepared: prepared)
                            }
                            #expect(error.code == .server)
                            #expect(error.sqlState == "22012")
                        default:
                            let error = try await postgresError {
                                _ = try await connection.query("SELEKT", prepared: prepared)
                            }
                            #expect(error.sqlState == "42601")
                        }
                    }
                }
                try await group.waitForAll()
            }
        }
    }

    @Test("A call whose commit fails has failed")
    func commitFails() async throws {
        try await withConnection { connection in
            let name = "client_test_\(UInt64.random(in: 0 ... .max))"
            _ = try await connection.query(
                "CREATE TEMP TABLE \(name) (id int PRIMARY KEY, parent int)",
                prepared: false
            )
            _ = try await connection.query(
                """
                ALTER TABLE \(name) ADD FOREIGN KEY (parent) REFERENCES \(name) DEFERRABLE INITIALLY DEFERRED
                """,
                prepared: false
            )
            let failing = Task { try await connection.query("INSERT INTO \(name) VALUES (1, 2) RETURNING id") }
            let next = Task { try await connection.query("SELECT count(*) FROM \(name)") }
            let error = try await postgresError { _ = try await failing.value }
            #expect(error.sqlState == "23503")
            let count: Int64 = try await next.value.value()
            #expect(count == 0)
            let answer: Int64 = try await connection.query("SELECT 1").value()
            #expect(answer == 1)
        }
    }

    @Test("An error tells everything in its debug description and no data in its description")
    func errorDetails() async throws {
        try await withConnection { connection in
            let error = try await postgresError {
                let raise = "DO $$ BEGIN RAISE 'm-secret' USING ERRCODE = 'TM007', DETAIL = 'd', HINT = 'h'; END $$"
                _ = try await connection.query(raise, prepared: false)
            }
            #expect(error.sqlState == "TM007")
            #expect(error.message == "m-secret")
            #expect(error.detail == "d")
            #expect(error.hint == "h")
            #expect(!error.endsSession)
            #expect("\(error)" == "PostgresError(server, SQLSTATE TM007)")
            #expect(error.debugDescription.contains("m-secret"))
        }
    }

    @Test("Fifty megabytes go there and back while other calls go on")
    func big() async throws {
        let big = String(repeating: "0123456789", count: 5_000_000)
        try await withConnection { connection in
            async let echoed = connection.query("SELECT $1 AS big", [.text(big)])
            async let after = connection.query("SELECT 'after'")
            async let arrayed = connection.query("SELECT $1", [.textArray([big, nil])])
            let (echo, word, array) = try await (echoed, after, arrayed)
            #expect(try echo.value(as: String.self) == big)
            #expect(try word.value() == "after")
            #expect(try array.value(as: [String?].self) == [big, nil])
        }
    }

    @Test(
        "COPY from or to the client ends the connection",
        arguments: ["COPY (SELECT 1) TO STDOUT", "COPY x FROM STDIN"]
    )
    func copy(statement: String) async throws {
        try await withConnection { connection in
            _ = try await connection.query("CREATE TEMP TABLE x (y int)", prepared: false)
            let error = try await postgresError { _ = try await connection.query(statement) }
            #expect(error.code == .outcomeUnknown)
            #expect(error.message.contains("COPY"))
            #expect(await connection.isClosed)
        }
    }

    @Test("A statement is prepared once, and survives that its result type changes")
    func prepared() async throws {
        try await withConnection { connection in
            _ = try await connection.query("CREATE TEMP TABLE shape AS SELECT 1 AS a", prepared: false)
            let sql = "SELECT * FROM shape"
            for _ in 0..<5 { _ = try await connection.query(sql) }
            let prepared = "SELECT count(*) FROM pg_prepared_statements WHERE statement = $1"
            let count: Int64 = try await connection.query(prepared, [.text(sql)], prepared: false).value()
            #expect(count == 1)
            _ = try await connection.query("ALTER TABLE shape ADD COLUMN b text DEFAULT 'b'", prepared: false)
            let error = try await postgresError { _ = try await connection.query(sql) }
            #expect(error.sqlState == "0A000")
            let anew: String = try await connection.query(sql).value(column: 1)
            #expect(anew == "b")
            _ = try await connection.query("DEALLOCATE ALL", prepared: false)
            _ = try? await connection.query(sql)
            let answer: String = try await connection.query(sql).value(column: 1)
            #expect(answer == "b")
        }
    }

    @Test("A cancelled caller is told while its call still runs, and the connection goes on")
    func cancellation() async throws {
        try await withConnection { connection in
            let processID = await connection.backendProcessID
            let sleeping = Task { try await connection.query("SELECT pg_sleep(600)") }
            try await ServerObserver.waitUntilSleeping(processID)
            let next = Task { try await connection.query("SELECT 'next'") }
            sleeping.cancel()
            let error = try await postgresError { _ = try await sleeping.value }
            #expect(error.code == .cancelled)
            try await ServerObserver.waitUntilSleeping(processID)
            try await ServerObserver.cancelCall(processID)
            let answer: String = try await next.value.value()
            #expect(answer == "next")
        }
    }

    @Test("A task that is cancelled already sends nothing")
    func cancelledBefore() async throws {
        try await withConnection { connection in
            _ = try await connection.query("CREATE TEMP SEQUENCE calls", prepared: false)
            let task = Task {
                withUnsafeCurrentTask { $0?.cancel() }
                return try await connection.query("SELECT nextval('calls')")
            }
            #expect(try await postgresError { _ = try await task.value }.code == .cancelled)
            let answer: Int64 = try await connection.query("SELECT nextval('calls')").value()
            #expect(answer == 1)
        }
    }

    @Test("Calls that are cancelled at random leave every other call its own answer")
    func cancellationStorm() async throws {
        try await withConnection { connection in
            try await withThrowingTaskGroup(of: Void.self) { group in
                for number in 0..<Int64(2_000) {
                    group.addTask {
                        let task = Task {
                            try await connection.query("SELECT $1", [.int8(number)]).value(as: Int64.self)
                        }
                        if number % 2 == 0 { task.cancel() }
                        switch await task.result {
                        case .success(let answer):
                            #expect(answer == number)
                        case .failure(let error):
                            #expect((error as? PostgresError)?.code == .cancelled)
                            #expect(number % 2 == 0)
                        }
                    }
                }
                try await group.waitForAll()
            }
            let answer: Int64 = try await connection.query("SELECT 1").value()
            #expect(answer == 1)
        }
    }
}
