extension Runner {
    /// The rows that compare: all contestants run at once, and each row is measured on one after the other.
    func compare() async throws {
        let rows = (
            sends: "direct sends, 64 callers",
            preferring: "the same, callers on the client's executor",
            median: "send to consumer, median",
            high: "send to consumer, 99 %",
            broadcast: "broadcast to all streams",
            update: "resource update to half of them",
            open: "opening the streams"
        )
        let seconds: Int64 = isFull ? 5 : 2
        for round in 0..<rounds {
            let designs = turn(round)
            var fields: [Design: Field] = [:]
            defer { for field in fields.values { field.stop() } }
            for design in designs { fields[design] = try await field(design) }
            func each(_ designs: [Design], _ body: (Design, Field) throws -> Void) rethrows {
                for design in designs {
                    if let field = fields[design] { try body(design, field) }
                }
            }
            let withStreams = designs.filter { $0 != .floor }
            try each(withStreams) { report.sample(rows.open, $0, try $1.open()) }
            if let floor = fields[.floor] { try floor.workers[1].ask("open", 0, 1) }
            try each(withStreams) { design, field in
                _ = try sendRate(field, seconds: 1)
                report.sample(rows.sends, design, try sendRate(field, seconds: seconds))
                try field.askAll("prefer-executor") { _ in [1] }
                report.sample(rows.preferring, design, try sendRate(field, seconds: seconds))
                try field.askAll("prefer-executor") { _ in [0] }
            }
            try each(designs) { design, field in
                let latency = try latency(field, count: isFull ? 2_000 : 700)
                report.sample(rows.median, design, latency.median)
                report.sample(rows.high, design, latency.high)
            }
            try each(withStreams) { design, field in
                _ = try spread(field, "broadcast", to: field.streams)
                report.sample(rows.broadcast, design, try spread(field, "broadcast", to: field.streams))
            }
            let half = Int64(streams / 2)
            try each(withStreams) { design, field in
                try field.workers[0].ask("subscribe", half / 2, half)
                _ = try spread(field, "publish", to: half)
                report.sample(rows.update, design, try spread(field, "publish", to: half))
            }
        }
        report.row(rows.sends, unit: "1/s", target: ">= 15 (a), >= (b)") { $0(.obvious) >= 15 && $0(.redis) >= 1 }
        report.row(rows.preferring, unit: "1/s", target: ">= 15 (a), >= (b)") { $0(.obvious) >= 15 && $0(.redis) >= 1 }
        report.row(rows.median, unit: "ms", target: "<= 1.4 (c), < (a)") { $0(.floor) <= 1.4 && $0(.obvious) < 1 }
        report.row(rows.high, unit: "ms", target: "< (a)") { $0(.obvious) < 1 }
        report.row(rows.broadcast, unit: "ms", target: "<= (a)/100, (b)/10") {
            $0(.obvious) <= 0.01 && $0(.redis) <= 0.1
        }
        report.row(rows.update, unit: "ms", target: "<= (a)/20") { $0(.obvious) <= 0.05 }
        report.row(rows.open, unit: "s", target: "<= (a)/15, <= (b)") { $0(.obvious) <= 1.0 / 15 && $0(.redis) <= 1 }
    }

    /// The contestants, another one first in each round.
    private func turn(_ round: Int) -> [Design] {
        let designs = Design.allCases.filter { $0 != .redis || redisPort != nil }
        let first = round % designs.count
        return Array(designs[first...] + designs[..<first])
    }
}
