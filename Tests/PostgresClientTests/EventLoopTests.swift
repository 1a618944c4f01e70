import Foundation
import Glibc
import Testing

@testable import PostgresClient

@Suite("Event loop", .timeLimit(.minutes(2)))
struct EventLoopTests {
    private actor Counter {
        nonisolated let loop: EventLoop
        nonisolated var unownedExecutor: UnownedSerialExecutor { loop.asUnownedSerialExecutor() }
        var count = 0

        init(loop: EventLoop) { self.loop = loop }

        func increment() { count += 1 }
        func isOnLoop() -> Bool { loop.isCurrent }
        func timersInOrder() async -> [Int] {
            let (stream, continuation) = AsyncStream<Int>.makeStream()
            let now = ContinuousClock.now
            _ = loop.schedule(at: now + .milliseconds(20)) { continuation.yield(2) }
            _ = loop.schedule(at: now + .milliseconds(5)) { continuation.yield(1) }
            let cancelled = loop.schedule(at: now + .milliseconds(10)) { continuation.yield(0) }
            _ = loop.schedule(at: now + .milliseconds(40)) { continuation.finish() }
            loop.cancel(cancelled)
            var order: [Int] = []
            for await number in stream { order.append(number) }
            return order
        }

        func readiness(of descriptor: Int32, within time: Duration) async throws -> EventLoop.Readiness? {
            try await loop.readiness(of: descriptor, for: .readable, until: .now + time)
        }
    }

    @Test("An actor on a loop runs on its thread, one job at a time, whoever calls it")
    func serial() async throws {
        try await withEventLoop { loop in
            let counter = Counter(loop: loop)
            await withTaskGroup(of: Void.self) { group in
                for _ in 0..<1_000 { group.addTask { await counter.increment() } }
            }
            #expect(await counter.count == 1_000)
            #expect(await counter.isOnLoop())
            #expect(!loop.isCurrent)
        }
    }

    @Test("A task that prefers a loop runs on its thread")
    func preference() async throws {
        try await withEventLoop { loop in
            let isCurrent = await Task(executorPreference: loop) { loop.isCurrent }.value
            #expect(isCurrent)
        }
    }

    @Test("Timers fire in the order of their deadlines, and a cancelled one never")
    func timers() async throws {
        try await withEventLoop { loop in
            #expect(await Counter(loop: loop).timersInOrder() == [1, 2])
        }
    }

    @Test("A descriptor that can be read is reported, one that cannot is given up at the deadline or when cancelled")
    func descriptors() async throws {
        var pipes: [Int32] = [0, 0]
        #expect(pipe(&pipes) == 0)
        let (readEnd, writeEnd) = (pipes[0], pipes[1])
        defer {
            close(readEnd)
            close(writeEnd)
        }
        try await withEventLoop { loop in
            let counter = Counter(loop: loop)
            let early = try await counter.readiness(of: readEnd, within: .milliseconds(10))
            #expect(early == nil)
            let waiting = Task { try await counter.readiness(of: readEnd, within: .seconds(60)) }
            waiting.cancel()
            let cancelled = try await waiting.value
            #expect(cancelled == nil)
            #expect(write(writeEnd, "x", 1) == 1)
            let ready = try await counter.readiness(of: readEnd, within: .seconds(60))
            #expect(ready == .readable)
        }
    }

    @Test("A loop that closes tells the descriptors that are still registered")
    func closing() async throws {
        var pipes: [Int32] = [0, 0]
        #expect(pipe(&pipes) == 0)
        let readEnd = pipes[0]
        defer { pipes.forEach { close($0) } }
        let loop = try EventLoop()
        let (stream, continuation) = AsyncStream<EventLoop.Readiness>.makeStream()
        try await Task(executorPreference: loop) {
            try loop.register(readEnd, for: .readable) { readiness in
                continuation.yield(readiness)
                loop.unregister(readEnd)
                continuation.finish()
            }
        }.value
        await loop.closeAndWait()
        var seen: [EventLoop.Readiness] = []
        for await readiness in stream { seen.append(readiness) }
        #expect(seen == [.closing])
    }

    @Test("An actor still works, alone, after its loop was closed")
    func late() async throws {
        let loop = try EventLoop()
        let counter = Counter(loop: loop)
        await loop.closeAndWait()
        await loop.closeAndWait()
        await withTaskGroup(of: Void.self) { group in
            for _ in 0..<500 { group.addTask { await counter.increment() } }
        }
        #expect(await counter.count == 500)
        #expect(await counter.isOnLoop())
        await #expect(throws: PostgresError.self) { try await counter.readiness(of: 0, within: .seconds(1)) }
    }

    @Test("Two thousand loops leave no thread and no descriptor behind")
    func leaks() async throws {
        let before = ProcessResources.now()
        for _ in 0..<2_000 {
            try await withEventLoop { loop in await Counter(loop: loop).increment() }
        }
        try await ProcessResources.expectNoGrowth(since: before, below: 200)
    }

    @Test("Jobs from many threads while the loop falls asleep and wakes are all run")
    func wakeUps() async throws {
        try await withEventLoop { loop in
            let counter = Counter(loop: loop)
            await withTaskGroup(of: Void.self) { group in
                for _ in 0..<4 {
                    group.addTask {
                        for _ in 0..<2_000 { await counter.increment() }
                    }
                }
            }
            #expect(await counter.count == 8_000)
        }
    }
}
