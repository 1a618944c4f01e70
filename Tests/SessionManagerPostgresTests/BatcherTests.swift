import PostgresClient
import SessionManager
import Synchronization
import Testing

@testable import SessionManagerPostgres

@Suite("Requests that are batched", .timeLimit(.minutes(1)))
struct BatcherTests {
    /// Does what it is asked when the test lets it, and remembers the batches.
    private actor Performer {
        private(set) var batches: [[Int]] = []
        private(set) var undone: [Int] = []
        private var isOpen: Bool
        private var waiting: [CheckedContinuation<Void, Never>] = []
        private var arrivals: [(count: Int, continuation: CheckedContinuation<Void, Never>)] = []

        init(isOpen: Bool = true) {
            self.isOpen = isOpen
        }

        func open() {
            isOpen = true
            letThrough()
        }

        /// Does what has arrived, and nothing that comes later.
        func letThrough() {
            for continuation in waiting { continuation.resume() }
            waiting = []
        }

        /// Returns when so many batches have arrived.
        func arrived(_ count: Int) async {
            if batches.count < count { await withCheckedContinuation { arrivals.append((count, $0)) } }
        }

        func perform(_ requests: [Int]) async throws(SessionManagerError) -> [String] {
            batches.append(requests)
            for arrival in arrivals where arrival.count <= batches.count { arrival.continuation.resume() }
            arrivals.removeAll { $0.count <= batches.count }
            if !isOpen { await withCheckedContinuation { waiting.append($0) } }
            if requests.contains(13) { throw SessionManagerError(.messageTooLarge, "13") }
            if requests.contains(99) { throw SessionManagerError(.database, "99") }
            if requests.contains(55) { throw SessionManagerError(.unreachable, "55") }
            if requests.contains(66) { throw SessionManagerError(.outcomeUnknown, "66") }
            return requests.filter { $0 != 0 }.map { "\($0)" }
        }

        func undo(_ request: Int) { undone.append(request) }
    }

    private func withBatcher(
        _ performer: Performer,
        maximumCount: Int = 100,
        maximumWeight: Int = .max,
        patience: Duration = .zero,
        _ body: (Batcher<Int, String>) async throws -> Void
    ) async throws {
        let eventLoop = try EventLoop()
        let batcher = Batcher<Int, String>(
            eventLoop: eventLoop,
            maximumCount: maximumCount,
            maximumWeight: maximumWeight,
            patience: patience,
            perform: { (requests) async throws(SessionManagerError) in try await performer.perform(requests) },
            undo: { request, _ in await performer.undo(request) }
        )
        let running = Task { await batcher.run() }
        let result = await Result { try await body(batcher) }
        await performer.open()
        await batcher.stop()
        await running.value
        await eventLoop.closeAndWait()
        try result.get()
    }

    @Test("A request that comes alone goes out alone, and those that come meanwhile go out together, in order")
    func batching() async throws {
        let performer = Performer(isOpen: false)
        try await withBatcher(performer, maximumCount: 3) { batcher in
            async let first = batcher.submit(1)
            await performer.arrived(1)
            var others: [Task<String, any Error>] = []
            for number in 2...6 {
                others.append(Task { try await batcher.submit(number) })
                await batcher.waits(for: number - 1)
            }
            await performer.open()
            var answers = [try await first]
            for other in others { answers.append(try await other.value) }
            #expect(answers == (1...6).map { "\($0)" })
            #expect(await performer.batches == [[1], [2, 3, 4], [5, 6]])
        }
    }

    @Test("Callers who were just answered are waited for, so that they and those who wait go together")
    func gathering() async throws {
        let performer = Performer(isOpen: false)
        try await withBatcher(performer, patience: .seconds(3600)) { batcher in
            await withTaskGroup(of: Void.self) { group in
                func add(_ callers: ClosedRange<Int>) {
                    for caller in callers {
                        group.addTask {
                            while (try? await batcher.submit(100 + caller)) != nil {}
                        }
                    }
                }
                add(1...1)
                await performer.arrived(1)
                add(2...8)
                await batcher.waits(for: 7)
                await performer.open()
                await performer.arrived(10)
                await batcher.stop()
            }
            let counts = await performer.batches.map(\.count)
            #expect(counts.first == 1)
            // All but perhaps the one who goes with the next.
            #expect(counts[1..<10].allSatisfy { $0 >= 7 }, "\(counts)")
        }
    }

    @Test("A batch holds no more than its weight, and a request that is over it goes alone")
    func weight() async throws {
        let performer = Performer(isOpen: false)
        try await withBatcher(performer, maximumWeight: 10) { batcher in
            async let first = batcher.submit(1)
            await performer.arrived(1)
            var others: [Task<String, any Error>] = []
            for (number, weight) in [(2, 6), (3, 4), (4, 1), (5, 50), (6, 1)] {
                others.append(Task { try await batcher.submit(number, weight: weight) })
                await batcher.waits(for: number - 1)
            }
            await performer.open()
            _ = try await first
            for other in others { _ = try await other.value }
            #expect(await performer.batches == [[1], [2, 3], [4], [5], [6]])
        }
    }

    @Test(
        "One that is refused does not take the others with it; one whose outcome is unknown, or not understood, does",
        arguments: [13, 66, 99]
    )
    func refusal(number: Int) async throws {
        let performer = Performer(isOpen: false)
        try await withBatcher(performer) { batcher in
            async let first = batcher.submit(1)
            await performer.arrived(1)
            var others: [Task<String, any Error>] = []
            for (index, number) in [2, number, 3].enumerated() {
                others.append(Task { try await batcher.submit(number) })
                await batcher.waits(for: index + 1)
            }
            await performer.open()
            _ = try await first
            var codes: [SessionManagerError.Code?] = []
            for other in others { codes.append((await other.result.failure as? SessionManagerError)?.code) }
            let failure = number == 66 ? SessionManagerError.Code.outcomeUnknown : .database
            #expect(codes == (number == 13 ? [nil, .messageTooLarge, nil] : [failure, failure, failure]))
            #expect(await performer.batches.count == (number == 13 ? 5 : 2))
        }
    }

    @Test("One that is cancelled while it waits is never done; one that is under way is undone when it was done")
    func cancellation() async throws {
        let performer = Performer(isOpen: false)
        try await withBatcher(performer) { batcher in
            let first = Task { try await batcher.submit(1) }
            await performer.arrived(1)
            let second = Task { try await batcher.submit(2) }
            await batcher.waits(for: 1)
            for task in [first, second] {
                task.cancel()
                let error = await #expect(throws: SessionManagerError.self) { try await task.value }
                #expect(error?.code == .cancelled)
            }
            await performer.open()
            let third = try await batcher.submit(3)
            #expect(third == "3")
            #expect(await performer.batches == [[1], [3]])
            #expect(await performer.undone == [1])
        }
    }

    @Test("When one is refused, those whose callers are gone are not done with the others")
    func cancelledRefusal() async throws {
        let performer = Performer(isOpen: false)
        try await withBatcher(performer) { batcher in
            async let first = batcher.submit(1)
            await performer.arrived(1)
            var others: [Task<String, any Error>] = []
            for (index, number) in [2, 13, 3].enumerated() {
                others.append(Task { try await batcher.submit(number) })
                await batcher.waits(for: index + 1)
            }
            await performer.letThrough()
            _ = try await first
            await performer.arrived(2)
            others[2].cancel()
            var codes: [SessionManagerError.Code?] = []
            for other in others.reversed() {
                if codes.count == 1 { await performer.open() }
                codes.append((await other.result.failure as? SessionManagerError)?.code)
            }
            #expect(codes == [.cancelled, .messageTooLarge, nil])
            #expect(await performer.batches == [[1], [2, 13, 3], [2], [13]])
            #expect(await performer.undone.isEmpty)
        }
    }

    @Test("When the database was waited for in vain, whoever came meanwhile is told too, and need not wait anew")
    func unreachable() async throws {
        let performer = Performer(isOpen: false)
        try await withBatcher(performer) { batcher in
            let first = Task { try await batcher.submit(55) }
            await performer.arrived(1)
            let others = (1...3).map { number in Task { try await batcher.submit(number) } }
            await batcher.waits(for: 3)
            await performer.open()
            for task in [first] + others {
                let error = await #expect(throws: SessionManagerError.self) { try await task.value }
                #expect(error?.code == .unreachable)
            }
            #expect(await performer.batches == [[55]])
            let later = try await batcher.submit(4)
            #expect(later == "4")
        }
    }

    @Test("An answer that is too short is an error for those that it leaves out")
    func shortAnswer() async throws {
        try await withBatcher(Performer()) { batcher in
            let error = await #expect(throws: SessionManagerError.self) { try await batcher.submit(0) }
            #expect(error?.code == .database)
        }
    }

    @Test("What waits when it stops is done first, and nothing comes after")
    func stop() async throws {
        let performer = Performer(isOpen: false)
        try await withBatcher(performer) { batcher in
            let first = Task { try await batcher.submit(1) }
            await performer.arrived(1)
            let second = Task { try await batcher.submit(2) }
            await batcher.waits(for: 1)
            async let stopped: Void = batcher.stop()
            await performer.open()
            await stopped
            let answers = [try await first.value, try await second.value]
            #expect(answers == ["1", "2"])
            let error = await #expect(throws: SessionManagerError.self) { try await batcher.submit(3) }
            #expect(error?.code == .notRunning)
            #expect(await performer.batches == [[1], [2]])
        }
    }
}

extension Result {
    fileprivate var failure: Failure? {
        if case .failure(let failure) = self { failure } else { nil }
    }
}

extension Batcher {
    /// Returns when so many requests wait.
    fileprivate func waits(for count: Int) async {
        while waitingCount < count, !Task.isCancelled { await Task.yield() }
    }
}
