import Foundation
import Glibc
import PostgresClient

/// Runs the parts of the benchmark, one after the other, and the contestants of each in turns.
final class Runner {
    let server: Database
    let eventLoop: EventLoop
    let redisPort: UInt16?
    let isFull: Bool
    let rounds: Int
    let streams: Int
    var report = Report()

    init(server: Database, eventLoop: EventLoop, redisPort: UInt16?, isFull: Bool, rounds: Int, streams: Int) {
        self.server = server
        self.eventLoop = eventLoop
        self.redisPort = redisPort
        self.isFull = isFull
        self.rounds = rounds
        self.streams = streams
    }

    func run(_ parts: [Part]) async throws -> Report {
        let version: String = try await server.query("SELECT current_setting('server_version')").value()
        report.conditions["PostgreSQL"] = version
        report.conditions["processors"] = String(ProcessInfo.processInfo.activeProcessorCount)
        report.conditions["load before"] = load()
        if redisPort == nil { report.conditions["(b)"] = "redis-server is not installed" }
        for part in parts {
            FileHandle.standardError.write(Data("\(part)\n".utf8))
            switch part {
            case .compare: try await compare()
            case .idle: try await idle()
            case .resume: try await resume()
            case .large: try await large()
            case .memory: try await memory()
            case .steady: try await steady()
            case .curves: try await curves()
            }
        }
        report.conditions["load after"] = load()
        return report
    }

    private func load() -> String {
        (try? String(contentsOfFile: "/proc/loadavg", encoding: .utf8))?.split(separator: " ").prefix(3)
            .joined(separator: " ") ?? "?"
    }

    /// The server processes of a contestant, with a database of their own: a process that listens is woken for every
    /// notification in its database.
    func field(_ design: Design, streams: Int? = nil, nodes: Int = 1) async throws -> Field {
        let database = try await server.makeDatabase(
            "bench_\(design)",
            design == .obvious ? ObviousContestant.tables : "",
            eventLoop: eventLoop
        )
        await database.close()
        return try Field(
            design,
            streams: streams ?? self.streams,
            nodes: nodes,
            databaseURL: database.url,
            redisPort: redisPort ?? 0
        )
    }

    /// The contestant alone, with its streams open, and the database to look at.
    func withExtension(
        streams: Int? = nil,
        nodes: Int = 1,
        _ body: (Field, Database) async throws -> Void
    ) async throws {
        let field = try await field(.tmcp, streams: streams, nodes: nodes)
        defer { field.stop() }
        let database = try await Database("bench_tmcp", server: server.url, eventLoop: eventLoop)
        try await body(field, database)
        await database.close()
    }

    // MARK: What several parts measure

    /// Messages a second that 64 callers send, until the last has arrived.
    func sendRate(_ field: Field, seconds: Int64, senders: Int64 = 64) throws -> Double {
        try field.askAll("reset")
        let share = senders / Int64(field.workers.count)
        let answers = try field.askAll("send") { _ in [seconds, share, field.streams] }
        let start = answers.map { $0[0] }.min() ?? 0
        let sent = answers.map { $0[1] }.reduce(0, +)
        guard let end = try field.lastArrival(of: sent) else { return .nan }
        return Double(sent) / (Double(end - start) / 1e9)
    }

    /// Milliseconds from a send to the consumer in another process: the median and the 99th percentile.
    func latency(_ field: Field, count: Int64) throws -> (median: Double, high: Double) {
        let other = field.workers[field.workers.count - 1]
        try other.ask("reset", 1)
        try field.workers[0].ask("ping", count, field.streams - 1)
        return try measured(other, of: count)
    }

    /// What the messages of the usual size took, once so many have arrived.
    func measured(_ worker: WorkerProcess, of count: Int64) throws -> (median: Double, high: Double) {
        let answer = try worker.ask("latencies", count)
        guard answer[2] > 0, answer[2] >= count else { return (.nan, .nan) }
        return (Double(answer[0]) / 1e6, Double(answer[1]) / 1e6)
    }

    /// Milliseconds until the last of `count` streams has what the command sends.
    func spread(_ field: Field, _ command: String, to count: Int64) throws -> Double {
        try field.askAll("reset")
        let start = try field.workers[0].ask(command)[0]
        guard let end = try field.lastArrival(of: count) else { return .nan }
        return Double(end - start) / 1e6
    }
}
