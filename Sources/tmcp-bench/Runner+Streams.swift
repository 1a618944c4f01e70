import Foundation
import Glibc
import PostgresClient

extension Runner {
    /// What keeping the streams alive for a minute costs.
    func idle() async throws {
        let seconds = isFull ? 60 : 12
        func perMinute(_ database: Database, _ body: () throws -> Void) async throws -> [Double] {
            sleep(2)
            let before = try await database.counts()
            let start = monotonicNanoseconds()
            try body()
            sleep(2)
            let minutes = Double(monotonicNanoseconds() - start) / 6e10
            let spent = try await database.counts() - before
            return [spent.statements, spent.rows, spent.walBytes].map { Double($0) / minutes }
        }
        var none: [Double] = []
        var all: [Double] = []
        try await withExtension { field, _ in
            let database = try await Database("bench_tmcp", server: server.url, eventLoop: eventLoop)
            none = try await perMinute(database) { sleep(UInt32(seconds)) }
            _ = try field.open()
            all = try await perMinute(database) { sleep(UInt32(seconds)) }
            await database.close()
        }
        // One round of updates is due every 7 s.
        let field = try await field(.obvious)
        defer { field.stop() }
        _ = try field.open()
        let database = try await Database("bench_obvious", server: server.url, eventLoop: eventLoop)
        sleep(2)
        let before = try await database.counts()
        try field.askAll("keep-alive")
        // A connection that falls idle reports within 10 s.
        sleep(11)
        let spent = try await database.counts() - before
        await database.close()
        let obvious = [spent.statements, spent.rows, spent.walBytes].map { Double($0) * 60 / 7 }
        for (index, what) in ["statements", "rows written", "WAL bytes"].enumerated() {
            let name = "alive for a minute: \(what)"
            report.sample(name, .tmcp, all[index])
            report.sample(name, .obvious, obvious[index])
            // Independent of the number of streams, but for the beat that falls into one window and not the other.
            let isMet = index == 2 || all[index] <= none[index] * 1.25 + 30
            report.row(
                name,
                unit: "1/min",
                target: index == 2 ? "" : "as without streams",
                note: "without streams \(Report.text(none[index]))"
            ) { _ in isMet }
        }
    }

    /// 1,000 clients come back at once, with 100 missed messages each.
    func resume() async throws {
        let clients = min(1_000, Int64(streams / 2))
        let missed: Int64 = 100
        var seconds: [Double] = []
        var scans = ""
        for _ in 0..<(isFull ? 5 : 2) {
            try await withExtension { field, database in
                _ = try field.open()
                // The log holds as much again for others.
                _ = try sendRate(field, seconds: isFull ? 5 : 2)
                let last = try field.askAll("received").map { $0[2] }.max() ?? 0
                // An empty table is read from end to end, whatever else there is.
                try await database.query(
                    "INSERT INTO tmcp.sessions (store, id) SELECT st.store, st.id FROM tmcp.streams AS st"
                )
                try field.workers[0].ask("detach", 0, clients)
                try field.workers[0].ask("send-each", missed, 0, clients)
                try await database.query("ANALYZE")
                let before = try await sequentialScans(database)
                try field.askAll("reset")
                let start = try field.workers[1].ask("resume", 0, clients, last)[0]
                let end = try field.lastArrival(of: clients * missed) ?? .max
                seconds.append(Double(end - start) / 1e9)
                sleep(2)
                let after = try await sequentialScans(database)
                scans = after == before ? "none" : "\(before) -> \(after)"
                report.sample("resume", .tmcp, seconds.last ?? .nan)
            }
        }
        report.row(
            "resume: \(clients) clients, \(missed) missed each",
            unit: "s",
            value: seconds.median,
            target: "< 1, no seq. scan",
            isMet: seconds.median < 1 && scans == "none",
            note: "sequential scans \(scans)"
        )
    }

    /// Sequential scans of the tables that grow.
    private func sequentialScans(_ database: Database) async throws -> String {
        try await database.query("SELECT pg_stat_clear_snapshot()")
        return try await database.query(
            """
            SELECT coalesce(string_agg(concat(relname, ' ', seq_scan), ', ' ORDER BY relname), '')
            FROM pg_stat_user_tables WHERE relname ~ '^(messages_.|streams|sessions|subscriptions)$'
            """
        ).value()
    }

    /// Messages of 1 MB, and what they do to small ones.
    func large() async throws {
        var rates: [Double] = []
        var alone: [Double] = []
        var beside: [Double] = []
        var besideMany: [Double] = []
        try await withExtension { field, _ in
            _ = try field.open()
            for _ in 0..<(isFull ? 5 : 2) {
                try field.askAll("reset")
                let answer = try field.workers[0].ask("large", isFull ? 5 : 2, field.streams - 1, 0)
                let end = try field.lastArrival(of: answer[0]) ?? .max
                rates.append(Double(answer[0]) / (Double(end - answer[1]) / 1e9))
                alone.append(try latency(field, count: isFull ? 4_000 : 1_500).high)
                beside.append(try disturbed(field, perSecond: 1))
                besideMany.append(try disturbed(field, perSecond: 10))
            }
        }
        report.row("messages of 1 MB", unit: "1/s", value: rates.median)
        let ratio = zip(beside, alone).map { $0 / $1 }.median
        report.row(
            "small ones beside 1 MB a second, 99 %",
            unit: "ms",
            value: beside.median,
            target: "<= 2 times alone",
            isMet: ratio <= 2,
            note: "alone \(Report.text(alone.median)) ms; beside 10 MB a second \(Report.text(besideMany.median)) ms"
        )
    }

    /// The 99th percentile of small messages while another process sends so many large ones a second.
    private func disturbed(_ field: Field, perSecond: Int64) throws -> Double {
        try field.workers[1].ask("reset", 1)
        let seconds: Int64 = isFull ? 10 : 4
        try field.workers[1].tell("large", [seconds, field.streams - 2, perSecond])
        try field.workers[0].ask("ping", seconds * 400, field.streams - 1)
        _ = try field.workers[1].answer()
        return try measured(field.workers[1], of: seconds * 400).high
    }

    /// What a stream, and what messages leave, in the memory of a process.
    func memory() async throws {
        try await withExtension { field, _ in
            let worker = field.workers[0]
            let before = try worker.ask("memory")[0]
            let share = field.streams / Int64(field.workers.count)
            try worker.ask("open-with-buffers", field.streams, share)
            let opened = try worker.ask("memory")[0]
            let perStream = Double(opened - before) / Double(share)
            try worker.ask("detach", field.streams, share)
            _ = try field.open()
            report.row(
                "memory for each open stream, with its buffer",
                unit: "bytes",
                value: perStream,
                target: "< 4096",
                isMet: perStream < 4096
            )
            let wanted: Int64 = isFull ? 1_000_000 : 100_000
            var received: Int64 = 0
            var first: Int64 = 0
            while received < wanted {
                _ = try sendRate(field, seconds: 2)
                received += try field.askAll("received").map { $0[0] }.reduce(0, +)
                if first == 0 { first = try worker.ask("memory")[0] }
            }
            let grown = Double(try worker.ask("memory")[0] - first) / 1_048_576
            report.row(
                "memory grown from the first messages to \(wanted)",
                unit: "MiB",
                value: grown,
                target: "flat",
                isMet: grown < 4,
                note: "\(first / 1_048_576) MiB in all"
            )
        }
    }
}
