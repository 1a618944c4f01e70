import Foundation

/// A process that runs a ``Worker``.
final class WorkerProcess {
    struct Failure: Error {
        let message: String
    }

    private let process = Process()
    private let input = Pipe()
    private let output = Pipe()
    private var received = Data()

    init(_ design: Design, nodes: Int = 1, databaseURL: String, redisPort: UInt16) throws {
        process.executableURL = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath()
        process.arguments = ["worker", design.rawValue, String(nodes), databaseURL, String(redisPort)]
        process.standardInput = input
        process.standardOutput = output
        try process.run()
    }

    func tell(_ command: String, _ numbers: [Int64]) throws {
        let line = ([command] + numbers.map(String.init)).joined(separator: " ") + "\n"
        try input.fileHandleForWriting.write(contentsOf: Data(line.utf8))
    }

    /// Waits for the line that answers the last command, or says that the process is ready.
    func answer() throws -> [Int64] {
        while true {
            if let end = received.firstIndex(of: UInt8(ascii: "\n")) {
                let line = String(decoding: received[..<end], as: UTF8.self)
                received = Data(received[received.index(after: end)...])
                return line.split(separator: " ").compactMap { Int64($0) }
            }
            let data = output.fileHandleForReading.availableData
            guard !data.isEmpty else { throw Failure(message: "a worker ended: \(process.arguments ?? [])") }
            received.append(data)
        }
    }

    @discardableResult
    func ask(_ command: String, _ numbers: Int64...) throws -> [Int64] {
        try tell(command, numbers)
        return try answer()
    }

    func stop() {
        process.terminate()
        process.waitUntilExit()
    }
}

/// The server processes of one contestant, which share its streams.
struct Field {
    let workers: [WorkerProcess]
    /// How many streams all processes have together.
    let streams: Int64

    init(
        _ design: Design,
        streams: Int,
        processes: Int = 2,
        nodes: Int = 1,
        databaseURL: String,
        redisPort: UInt16
    ) throws {
        workers = try (0..<processes).map { _ in
            try WorkerProcess(design, nodes: nodes, databaseURL: databaseURL, redisPort: redisPort)
        }
        self.streams = Int64(streams)
        for worker in workers { _ = try worker.answer() }
    }

    func stop() {
        for worker in workers { worker.stop() }
    }

    /// Has all processes do something at once.
    @discardableResult
    func askAll(_ command: String, _ numbers: (_ worker: Int64) -> [Int64] = { _ in [] }) throws -> [[Int64]] {
        for (index, worker) in workers.enumerated() { try worker.tell(command, numbers(Int64(index))) }
        return try workers.map { try $0.answer() }
    }

    /// Opens all streams, each process its share; returns the seconds that it took.
    func open() throws -> Double {
        let share = streams / Int64(workers.count)
        return Self.seconds(try askAll("open") { [$0 * share, share] })
    }

    /// From the first start to the last end.
    static func seconds(_ spans: [[Int64]]) -> Double {
        let start = spans.map { $0[0] }.min() ?? 0
        let end = spans.map { $0[1] }.max() ?? 0
        return Double(end - start) / 1e9
    }

    /// Waits until so many messages have arrived in all; returns when the last one did, or `nil` if some never do.
    func lastArrival(of count: Int64) throws -> Int64? {
        let deadline = monotonicNanoseconds() + 60_000_000_000
        while monotonicNanoseconds() < deadline {
            let answers = try askAll("received")
            if answers.map({ $0[0] }).reduce(0, +) >= count { return answers.map { $0[1] }.max() }
            usleep(2_000)
        }
        return nil
    }
}
