import Foundation
import PostgresClient

extension Runner {
    /// 5,000 messages a second for a while, with a retention of which several fit into it.
    func steady() async throws {
        let seconds: Int64 = isFull ? 600 : 30
        let steps: Int64 = isFull ? 20 : 6
        var sizes: [Double] = []
        var dead: [Int64] = []
        var latencies: [(median: Double, high: Double)] = []
        try await withExtension { field, database in
            _ = try field.open()
            // All that is due now and then comes as much more often as the run is shorter: the log is rotated, and the
            // marks that this leaves on streams are vacuumed a minute later, where the retention is five.
            let retention = seconds / 10
            try await database.query("SELECT tmcp.set_retention(make_interval(secs => $1::int8))", [.int8(retention)])
            try await database.query("ALTER SYSTEM SET autovacuum_naptime = \(max(1, retention / 5))")
            try await database.query("SELECT pg_reload_conf()")
            for _ in 0..<steps {
                try field.askAll("reset") { [$0] }
                try field.workers[0].tell("pace", [seconds / steps, 5_000, field.streams])
                // Often, since the log shrinks and grows with each rotation.
                let end = monotonicNanoseconds() + seconds / steps * 1_000_000_000
                var greatest = 0.0
                while monotonicNanoseconds() < end {
                    greatest = max(greatest, try await size(database))
                    try await Task.sleep(for: .milliseconds(200))
                }
                _ = try field.workers[0].answer()
                _ = try field.lastArrival(of: seconds / steps * 5_000)
                latencies.append(try measured(field.workers[1], of: 1))
                sizes.append(greatest)
                dead.append(
                    try await database.query(
                        "SELECT sum(n_dead_tup)::int8 FROM pg_stat_user_tables WHERE schemaname = 'tmcp'"
                    ).value()
                )
                report.sample("size", .tmcp, sizes.last ?? .nan)
            }
        }
        // The log is full when all three partitions have been used.
        let half = sizes.count / 2
        let early = sizes[..<half].max() ?? .nan
        let late = sizes[half...].max() ?? .nan
        report.row(
            "5,000 messages a second for \(seconds) s: size at most",
            unit: "MiB",
            value: late,
            target: "flat",
            isMet: late <= early * 1.1,
            note: "in steps: \(sizes.map { Report.text($0) }.joined(separator: " ")); dead tuples "
                + dead.map(String.init).joined(separator: " ")
        )
        let firstHalf = latencies[..<half].map(\.median).median
        let lastHalf = latencies[half...].map(\.median).median
        report.row(
            "the same: send to consumer, median",
            unit: "ms",
            value: lastHalf,
            target: "flat",
            isMet: lastHalf <= firstHalf * 1.25,
            note: "median and 99 % in steps: "
                + latencies.map { "\(Report.text($0.median))/\(Report.text($0.high))" }.joined(separator: " ")
        )
    }

    /// MiB of all tables and indexes.
    private func size(_ database: Database) async throws -> Double {
        let bytes: Int64 = try await database.query(
            """
            SELECT sum(pg_total_relation_size(c.oid))::int8 FROM pg_class AS c
            WHERE c.relnamespace = 'tmcp'::regnamespace AND c.relkind = 'r'
            """
        ).value()
        return Double(bytes) / 1_048_576
    }

    /// What the number of listening processes and of streams does.
    func curves() async throws {
        for listeners in [2, 4, 16, 64] {
            try await withExtension(nodes: listeners / 2) { field, _ in
                let opening = try field.open()
                try await point("\(listeners) listeners", field, opening)
            }
        }
        for streams in isFull ? [1_000, 10_000, 100_000] : [1_000, 10_000] {
            try await withExtension(streams: streams) { field, _ in
                let opening = try field.open()
                try await point("\(streams) streams", field, opening)
            }
        }
    }

    private func point(_ name: String, _ field: Field, _ opening: Double) async throws {
        _ = try sendRate(field, seconds: 1)
        let rates = try (0..<(isFull ? 3 : 1)).map { _ in try sendRate(field, seconds: 2) }
        let alone = try latency(field, count: 500)
        let broadcast = try (0..<3).map { _ in try spread(field, "broadcast", to: field.streams) }
        report.row("\(name): direct sends", unit: "1/s", value: rates.median)
        report.row("\(name): send to consumer, median", unit: "ms", value: alone.median)
        report.row("\(name): broadcast", unit: "ms", value: broadcast.median)
        report.row("\(name): opening", unit: "s", value: opening)
    }
}
