import DequeModule
import PostgresClient
import SessionManager

/// Makes calls for many requests at once: while one call is under way, what is asked for meanwhile waits, and goes out
/// together in the next one. There is no timer, so a request that comes alone does not wait for others.
actor Batcher<Request: Sendable, Response: Sendable> {
    typealias Perform = @Sendable ([Request]) async throws(SessionManagerError) -> [Response]
    typealias Undo = @Sendable (Request, Response) async -> Void

    private struct Entry {
        let number: UInt64
        let request: Request
        let weight: Int
    }

    nonisolated let eventLoop: EventLoop
    nonisolated var unownedExecutor: UnownedSerialExecutor { eventLoop.asUnownedSerialExecutor() }

    private let maximumCount: Int
    private let maximumWeight: Int
    private let perform: Perform
    private let undo: Undo
    private var waiting: Deque<Entry> = []
    private var continuations: [UInt64: CheckedContinuation<Result<Response, SessionManagerError>, Never>] = [:]
    private var lastNumber: UInt64 = 0
    private var isStopped = false
    private var isRunning = false
    private var stoppers: [CheckedContinuation<Void, Never>] = []
    private let signals: AsyncStream<Void>
    private let signal: AsyncStream<Void>.Continuation

    /// A batcher that is idle until ``run()`` is called.
    ///
    /// - Parameters:
    ///   - maximumCount: requests at most in one call.
    ///   - maximumWeight: what their weights may sum up to, unless the first alone has more.
    ///   - perform: makes the call, and returns one response for each request.
    ///   - undo: called for a request that was done when nobody waited for it any more. Default: nothing is undone.
    init(
        eventLoop: EventLoop,
        maximumCount: Int,
        maximumWeight: Int = .max,
        perform: @escaping Perform,
        undo: @escaping Undo = { _, _ in }
    ) {
        self.eventLoop = eventLoop
        self.maximumCount = maximumCount
        self.maximumWeight = maximumWeight
        self.perform = perform
        self.undo = undo
        (signals, signal) = AsyncStream.makeStream(of: Void.self, bufferingPolicy: .bufferingNewest(1))
    }

    /// Makes calls until ``stop()``; what waits by then is done first.
    func run() async {
        isRunning = true
        for await _ in signals {
            while !waiting.isEmpty {
                await performNext()
            }
        }
        isRunning = false
        for stopper in stoppers { stopper.resume() }
        stoppers = []
    }

    /// Takes no further requests, and returns when those that wait are done; so does ``run()``.
    func stop() async {
        isStopped = true
        signal.finish()
        if isRunning { await withCheckedContinuation { stoppers.append($0) } }
    }

    /// Has a request done, with others.
    func submit(_ request: Request, weight: Int = 1) async throws(SessionManagerError) -> Response {
        guard !isStopped else {
            throw SessionManagerError(.notRunning, "the session manager has stopped")
        }
        lastNumber += 1
        let number = lastNumber
        let result = await withTaskCancellationHandler {
            await withCheckedContinuation {
                (continuation: CheckedContinuation<Result<Response, SessionManagerError>, Never>) in
                guard !Task.isCancelled else {
                    continuation.resume(returning: .failure(Self.cancelled))
                    return
                }
                continuations[number] = continuation
                waiting.append(Entry(number: number, request: request, weight: weight))
                signal.yield()
            }
        } onCancel: {
            eventLoop.execute { self.assumeIsolated { $0.cancel(number) } }
        }
        return try result.get()
    }

    private static var cancelled: SessionManagerError { SessionManagerError(.cancelled, "the task was cancelled") }

    private func cancel(_ number: UInt64) {
        waiting.removeAll { $0.number == number }
        continuations.removeValue(forKey: number)?.resume(returning: .failure(Self.cancelled))
    }

    private func performNext() async {
        var batch: [Entry] = []
        var weight = 0
        while let next = waiting.first,
            batch.isEmpty || batch.count < maximumCount && weight + next.weight <= maximumWeight
        {
            batch.append(next)
            weight += next.weight
            waiting.removeFirst()
        }
        do {
            await answer(batch, try await perform(batch.map(\.request)))
        } catch  where error.isRefusal && batch.count > 1 {
            // One of them was refused, and nothing was done: each is told for itself.
            for entry in batch {
                do {
                    await answer([entry], try await perform([entry.request]))
                } catch {
                    resume(entry, .failure(error))
                }
            }
        } catch {
            for entry in batch { resume(entry, .failure(error)) }
        }
    }

    private func answer(_ batch: [Entry], _ responses: [Response]) async {
        for (entry, response) in zip(batch, responses) where !resume(entry, .success(response)) {
            await undo(entry.request, response)
        }
        for entry in batch.dropFirst(responses.count) {
            resume(entry, .failure(SessionManagerError(.database, "the database answered for fewer than was asked")))
        }
    }

    /// Tells whoever made a request; `false` if nobody waits any more.
    @discardableResult
    private func resume(_ entry: Entry, _ result: Result<Response, SessionManagerError>) -> Bool {
        guard let continuation = continuations.removeValue(forKey: entry.number) else { return false }
        continuation.resume(returning: result)
        return true
    }
}
