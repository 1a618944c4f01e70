import DequeModule
import Glibc
import PostgresClient
import SessionManager
import Synchronization

/// Makes calls for many requests at once: while one call is under way, what is asked for meanwhile waits, and goes out
/// together in the next one. A request that comes alone does not wait for others.
actor Batcher<Request: Sendable, Response: Sendable> {
    typealias Perform = @Sendable ([Request]) async throws(SessionManagerError) -> [Response]
    typealias Undo = @Sendable (Request, Response) async -> Void
    fileprivate typealias Continuation = UnsafeContinuation<Result<Response, SessionManagerError>, Never>

    fileprivate struct Entry: Sendable {
        let number: UInt64
        let request: Request
        let weight: Int
        /// `nil` once the caller no longer waits.
        var continuation: Continuation?
    }

    nonisolated let eventLoop: EventLoop
    nonisolated var unownedExecutor: UnownedSerialExecutor { eventLoop.asUnownedSerialExecutor() }

    private let maximumCount: Int
    private let maximumWeight: Int
    private let patience: Duration
    private let perform: Perform
    private let undo: Undo
    private nonisolated let lastNumber = Atomic<UInt64>(0)
    private var waiting: Deque<Entry> = []
    private var underWay: [Entry] = []
    private var lastAnswer: (time: ContinuousClock.Instant, count: Int)?
    private nonisolated let isStopped = Atomic(false)
    private var isRunning = false
    private var stoppers: [CheckedContinuation<Void, Never>] = []
    private let signals: AsyncStream<Void>
    private let signal: AsyncStream<Void>.Continuation

    /// A batcher that is idle until ``run()`` is called.
    ///
    /// - Parameters:
    ///   - maximumCount: requests at most in one call.
    ///   - maximumWeight: what their weights may sum up to, unless the first alone has more.
    ///   - patience: how long a caller who was just answered is waited for.
    ///   - perform: makes the call, and returns one response for each request.
    ///   - undo: called for a request that was done when nobody waited for it any more. Default: nothing is undone.
    init(
        eventLoop: EventLoop,
        maximumCount: Int,
        maximumWeight: Int = .max,
        patience: Duration = .microseconds(50),
        perform: @escaping Perform,
        undo: @escaping Undo = { _, _ in }
    ) {
        self.eventLoop = eventLoop
        self.maximumCount = maximumCount
        self.maximumWeight = maximumWeight
        self.patience = patience
        self.perform = perform
        self.undo = undo
        (signals, signal) = AsyncStream.makeStream(of: Void.self, bufferingPolicy: .bufferingNewest(1))
    }

    /// Makes calls until ``stop()``; what waits by then is done first.
    func run() async {
        isRunning = true
        for await _ in signals { await performAll() }
        isRunning = false
        for stopper in stoppers { stopper.resume() }
        stoppers = []
    }

    /// Takes no further requests, and returns when those that wait are done; so does ``run()``.
    func stop() async {
        isStopped.store(true, ordering: .releasing)
        signal.finish()
        if isRunning { await withCheckedContinuation { stoppers.append($0) } }
    }

    /// How many requests wait for the next call.
    var waitingCount: Int { waiting.count }

    /// Has a request done, with others.
    ///
    /// The caller leaves its request on its own thread, and is resumed by the loop: it need not change threads, and the
    /// loop is woken once for many.
    nonisolated func submit(_ request: Request, weight: Int = 1) async throws(SessionManagerError) -> Response {
        guard !isStopped.load(ordering: .acquiring) else { throw .stopped }
        let number = lastNumber.add(1, ordering: .relaxed).newValue
        let result = await withTaskCancellationHandler {
            await withUnsafeContinuation { (continuation: Continuation) in
                let entry = Entry(number: number, request: request, weight: weight, continuation: continuation)
                eventLoop.execute { self.assumeIsolated { $0.accept(entry) } }
                // A cancellation from before was too early to find it.
                if Task.isCancelled { cancelLater(number) }
            }
        } onCancel: {
            cancelLater(number)
        }
        return try result.get()
    }

    private func accept(_ entry: Entry) {
        guard !isStopped.load(ordering: .acquiring) else {
            entry.continuation?.resume(returning: .failure(.stopped))
            return
        }
        waiting.append(entry)
        if waiting.count == 1 { signal.yield() }
    }

    private static var cancelled: SessionManagerError { SessionManagerError(.cancelled, "the task was cancelled") }

    private nonisolated func cancelLater(_ number: UInt64) {
        eventLoop.execute { self.assumeIsolated { $0.cancel(number) } }
    }

    private func cancel(_ number: UInt64) {
        if let index = waiting.firstIndex(where: { $0.number == number }) {
            waiting.remove(at: index).continuation?.resume(returning: .failure(Self.cancelled))
        } else if let index = underWay.firstIndex(where: { $0.number == number }) {
            resume(index, .failure(Self.cancelled))
        }
    }

    private func performAll() async {
        while true {
            await gather()
            guard !waiting.isEmpty else { return }
            await performNext()
        }
    }

    /// Whoever was answered a moment ago often has more to send: without this, the first of them would go alone and the
    /// others after it. (Measured with 64 callers: batches of 16 instead of 32, at twice the time for a message.) As many
    /// as were answered are waited for, each as long as it takes a caller to come back.
    private func gather() async {
        guard let lastAnswer, lastAnswer.count > 1 else { return }
        var count = waiting.count
        var last = lastAnswer.time
        while count < lastAnswer.count, !isStopped.load(ordering: .acquiring), ContinuousClock.now < last + patience {
            // They may need this very processor. (Measured with two: batches of 17 without, of 31 with it.)
            sched_yield()
            await withUnsafeContinuation { continuation in eventLoop.execute { continuation.resume() } }
            if waiting.count > count {
                count = waiting.count
                last = .now
            }
        }
    }

    private func performNext() async {
        var weight = 0
        while let next = waiting.first,
            underWay.isEmpty || underWay.count < maximumCount && weight + next.weight <= maximumWeight
        {
            underWay.append(next)
            weight += next.weight
            waiting.removeFirst()
        }
        let count = underWay.count
        do {
            await answer(0..<count, try await perform(underWay.map(\.request)))
        } catch  where error.isRefusal && count > 1 {
            // One of them was refused, and nothing was done: each is told for itself.
            for index in 0..<count where underWay[index].continuation != nil {
                do {
                    await answer(index..<index + 1, try await perform([underWay[index].request]))
                } catch {
                    resume(index, .failure(error))
                }
            }
        } catch {
            for index in 0..<count { resume(index, .failure(error)) }
            // What came meanwhile would wait as long for the same database, and what comes then for that.
            if error.code == .unreachable { refuseWaiting(error) }
        }
        underWay.removeAll(keepingCapacity: true)
        lastAnswer = (.now, count)
    }

    private func refuseWaiting(_ error: SessionManagerError) {
        let refused = waiting
        waiting = []
        for entry in refused { entry.continuation?.resume(returning: .failure(error)) }
    }

    private func answer(_ range: Range<Int>, _ responses: [Response]) async {
        for (index, response) in zip(range, responses) where !resume(index, .success(response)) {
            await undo(underWay[index].request, response)
        }
        for index in range.dropFirst(responses.count) {
            resume(index, .failure(SessionManagerError(.database, "the database answered for fewer than was asked")))
        }
    }

    /// Tells whoever made a request that is under way; `false` if nobody waits any more.
    @discardableResult
    private func resume(_ index: Int, _ result: Result<Response, SessionManagerError>) -> Bool {
        guard let continuation = underWay[index].continuation else { return false }
        underWay[index].continuation = nil
        continuation.resume(returning: result)
        return true
    }
}
