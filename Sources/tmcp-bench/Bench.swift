import ArgumentParser
import Foundation
import Glibc
import Logging
import PostgresClient

/// Measures the extension and its client against what a user would pick instead.
@main
struct Bench: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "tmcp-bench",
        abstract: "Measures distributed sessions, and prints one table.",
        subcommands: [Measure.self, WorkerCommand.self],
        defaultSubcommand: Measure.self
    )
}

/// A server process of a contestant; started by the benchmark itself.
struct WorkerCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(commandName: "worker", shouldDisplay: false)

    @Argument var design: Design
    @Argument var nodes: Int
    @Argument var databaseURL: String
    @Argument var redisPort: UInt16

    func run() async throws {
        try await Worker.run(design, nodes: nodes, databaseURL: databaseURL, redisPort: redisPort)
    }
}

extension Design: ExpressibleByArgument {}

/// The parts of the benchmark.
enum Part: String, CaseIterable, ExpressibleByArgument {
    case compare, idle, resume, large, memory, steady, curves
}

/// Measures, and prints the table.
struct Measure: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "measure",
        abstract: "Measures on the server of $TMCP_TEST_DATABASE_URL, in databases that it makes."
    )

    @Flag(help: "Take the time that the statements about long runs need: about half an hour instead of three minutes.")
    var full = false

    @Option(help: "Measure this part only; may be repeated.")
    var part: [Part] = []

    @Option(help: "How many streams there are.")
    var streams = 10_000

    @Option(help: "How often each comparison is made. Default: 3, with --full 7.")
    var rounds: Int?

    func run() async throws {
        let environment = ProcessInfo.processInfo.environment
        guard let url = environment["TMCP_TEST_DATABASE_URL"] else {
            throw ValidationError("TMCP_TEST_DATABASE_URL is not set; run make bench.")
        }
        LoggingSystem.bootstrap { label in
            var handler = StreamLogHandler.standardError(label: label)
            handler.logLevel = .error
            return handler
        }
        let eventLoop = try EventLoop()
        let runner = Runner(
            server: try await Database("postgres", server: url, eventLoop: eventLoop),
            eventLoop: eventLoop,
            redisPort: environment["BENCH_REDIS_PORT"].flatMap { UInt16($0) },
            isFull: full,
            rounds: rounds ?? (full ? 7 : 3),
            streams: streams
        )
        let report = try await runner.run(part.isEmpty ? Part.allCases : part)
        print(report.table)
        if let path = environment["BENCH_JSON"], !path.isEmpty {
            let encoder = JSONEncoder()
            encoder.outputFormatting = [.prettyPrinted, .sortedKeys]
            encoder.nonConformingFloatEncodingStrategy = .convertToString(
                positiveInfinity: "Infinity",
                negativeInfinity: "-Infinity",
                nan: "NaN"
            )
            try encoder.encode(report).write(to: URL(fileURLWithPath: path))
        }
    }
}
