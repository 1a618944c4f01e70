import CLibPQ
import Foundation
import Logging

/// A server process of a contestant: does what it reads on its standard input, one command a line, and answers each
/// with a line of numbers.
struct Worker {
    let contestants: [any Contestant]
    let reception: Reception

    static func run(_ design: Design, nodes: Int, databaseURL: String, redisPort: UInt16) async throws {
        LoggingSystem.bootstrap { label in
            var handler = StreamLogHandler.standardError(label: label)
            handler.logLevel = .error
            return handler
        }
        let reception = Reception()
        var contestants: [any Contestant] = []
        for _ in 0..<nodes {
            switch design {
            case .tmcp:
                contestants.append(try await ExtensionContestant(databaseURL: databaseURL, reception: reception))
            case .obvious:
                contestants.append(try await ObviousContestant(databaseURL: databaseURL, reception: reception))
            case .redis: contestants.append(try await RedisContestant(port: redisPort, reception: reception))
            case .floor: contestants.append(try FloorContestant(databaseURL: databaseURL, reception: reception))
            }
        }
        let worker = Worker(contestants: contestants, reception: reception)
        let (lines, continuation) = AsyncStream<String>.makeStream()
        Thread.detachNewThread {
            while let line = readLine() { continuation.yield(line) }
            continuation.finish()
        }
        answer([])
        var executor: (any TaskExecutor)?
        for await line in lines {
            let words = line.split(separator: " ").map(String.init)
            let numbers = words.dropFirst().map { Int64($0) ?? 0 }
            if words[0] == "prefer-executor" {
                executor = numbers[0] == 1 ? try await contestants[0].executor : nil
            }
            // The callers are child tasks, and prefer it as well.
            let answers = try await withTaskExecutorPreference(executor) {
                try await worker.perform(words[0], numbers)
            }
            answer(answers)
        }
    }

    private static func answer(_ numbers: [Int64]) {
        let line = numbers.map(String.init).joined(separator: " ") + "\n"
        FileHandle.standardOutput.write(Data(line.utf8))
    }

    private func perform(_ command: String, _ numbers: [Int64]) async throws -> [Int64] {
        let start = monotonicNanoseconds()
        switch command {
        case "open":
            try await each(ids(numbers)) { try await $0.open($1) }
            return [start, monotonicNanoseconds()]
        case "open-with-buffers":
            try await each(ids(numbers)) { try await $0.openWithBuffers($1) }
        case "subscribe":
            try await contestants[0].subscribe(ids(numbers), to: "note://plan")
        case "send":
            return [start, try await send(seconds: numbers[0], senders: numbers[1], streams: numbers[2])]
        case "send-each":
            try await sendEach(ids(Array(numbers.dropFirst())), messages: numbers[0])
        case "pace":
            try await pace(seconds: numbers[0], rate: numbers[1], streams: numbers[2])
        case "ping":
            for _ in 0..<numbers[0] {
                try await contestants[0].send("s\(numbers[1])", Payload.make())
                try await Task.sleep(for: .microseconds(500))
            }
        case "large":
            // Messages of 1 MB, as many as one caller can send or so many a second.
            var count: Int64 = 0
            let data = Payload.make(size: 1_000_000)
            while monotonicNanoseconds() < start + numbers[0] * 1_000_000_000 {
                try await contestants[0].send("s\(numbers[1])", data)
                count += 1
                if numbers[2] > 0 { try await Task.sleep(for: .seconds(1) / Int(numbers[2])) }
            }
            return [count, start]
        case "broadcast":
            try await contestants[0].broadcast(Payload.make())
            return [start]
        case "publish":
            try await contestants[0].publish("note://plan", Payload.make())
            return [start]
        case "keep-alive":
            for contestant in contestants { try await contestant.keepAlive() }
            return [monotonicNanoseconds() - start]
        case "detach":
            try await each(ids(numbers)) { try await $0.detach($1) }
        case "resume":
            try await each(ids(numbers)) { try await $0.resume($1, after: numbers[2]) }
            return [start, monotonicNanoseconds()]
        case "reset":
            reception.reset(measuringLatency: numbers.first == 1)
        case "received":
            let summary = reception.current
            return [Int64(summary.count), summary.lastArrival, summary.lastEventID]
        case "latencies":
            let latencies = await reception.latencies(of: Int(numbers[0])).sorted()
            return [latencies.percentile(0.5), latencies.percentile(0.99), Int64(latencies.count)]
        case "memory":
            return [try residentBytes()]
        default:
            break
        }
        return []
    }

    private func ids(_ numbers: [Int64]) -> [String] {
        (numbers[0]..<numbers[0] + numbers[1]).map { "s\($0)" }
    }

    /// Each contestant gets its share of the ids, all at once.
    private func each(
        _ ids: [String],
        _ action: @escaping @Sendable (any Contestant, [String]) async throws -> Void
    ) async throws {
        let share = (ids.count + contestants.count - 1) / contestants.count
        try await withThrowingTaskGroup(of: Void.self) { group in
            for (index, contestant) in contestants.enumerated() {
                let part = Array(ids.dropFirst(index * share).prefix(share))
                group.addTask { try await action(contestant, part) }
            }
            try await group.waitForAll()
        }
    }

    /// Has so many callers send one message after the other, to streams by chance; returns how many were sent.
    private func send(seconds: Int64, senders: Int64, streams: Int64) async throws -> Int64 {
        let end = monotonicNanoseconds() + seconds * 1_000_000_000
        let contestant = contestants[0]
        return try await withThrowingTaskGroup(of: Int64.self) { group in
            for sender in 0..<senders {
                group.addTask {
                    var count: Int64 = 0
                    var stream = sender * 7919
                    while monotonicNanoseconds() < end {
                        stream = (stream &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407) & 0xFFFF_FFFF
                        try await contestant.send("s\(stream % streams)", Payload.make())
                        count += 1
                    }
                    return count
                }
            }
            return try await group.reduce(0, +)
        }
    }

    private func sendEach(_ ids: [String], messages: Int64) async throws {
        let contestant = contestants[0]
        try await withThrowingTaskGroup(of: Void.self) { group in
            for id in ids {
                group.addTask {
                    for _ in 0..<messages { try await contestant.send(id, Payload.make()) }
                }
            }
            try await group.waitForAll()
        }
    }

    /// Sends so many messages a second, in steps of 10 ms.
    private func pace(seconds: Int64, rate: Int64, streams: Int64) async throws {
        let start = ContinuousClock.now
        let contestant = contestants[0]
        for step in 0..<seconds * 100 {
            try await Task.sleep(until: start + .milliseconds(10 * step))
            try await withThrowingTaskGroup(of: Void.self) { group in
                for message in 0..<rate / 100 {
                    let id = "s\((step * 7919 + message * 104_729) % streams)"
                    group.addTask { try await contestant.send(id, Payload.make()) }
                }
                try await group.waitForAll()
            }
        }
    }

    /// What is in use; what opening thousands of streams at once has left to be used again is given back before.
    private func residentBytes() throws -> Int64 {
        malloc_trim(0)
        let fields = try String(contentsOfFile: "/proc/self/statm", encoding: .utf8).split(separator: " ")
        return (Int64(fields[1]) ?? 0) * Int64(sysconf(Int32(_SC_PAGESIZE)))
    }
}
