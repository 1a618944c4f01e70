import CLibPQ
import Glibc

/// One thread that waits for descriptors and timers, and runs the jobs of actors and tasks in between.
///
/// The actors that own a libpq connection run here, so that libpq is touched by one thread and needs no lock. A task
/// that prefers this executor (`withTaskExecutorPreference`) calls them without changing threads, which is about three
/// times as fast as a call from the default pool. What runs here must not block: everything else here waits for it.
///
/// A loop keeps its thread, and so itself, until ``close()`` is called.
public final class EventLoop: SerialExecutor, TaskExecutor, @unchecked Sendable {
    /// What a descriptor is ready for, or is watched for.
    package struct Readiness: OptionSet, Sendable {
        package let rawValue: UInt32
        package init(rawValue: UInt32) { self.rawValue = rawValue }

        /// There is something to read, or an end or an error to be found by reading.
        package static let readable = Readiness(rawValue: 1)
        /// There is room to write.
        package static let writable = Readiness(rawValue: 2)
        /// The loop is closing: this is the last call for the descriptor. Not to be watched for.
        package static let closing = Readiness(rawValue: 4)
    }

    /// Called on the loop's thread.
    package typealias Handler = @Sendable (Readiness) -> Void

    /// Names a timer that was scheduled, so that it can be cancelled.
    package struct Timer: Hashable, Sendable {
        fileprivate let ticket: DeadlineQueue<@Sendable () -> Void>.Ticket
    }

    private enum Work {
        case job(UnownedJob)
        case closure(@Sendable () -> Void)
    }

    private enum Phase {
        case running
        case closing
        case closed
    }

    private struct Registration {
        let generation: UInt32
        let handler: Handler
    }

    // Under the lock.
    private let lock = Lock()
    private var queue: [Work] = []
    private var phase = Phase.running
    private var isAsleep = false
    private var hasLateThread = false
    private var closeWaiters: [CheckedContinuation<Void, Never>] = []

    // Of the loop's thread alone.
    private let epoll: Int32
    private var registrations: [Int32: Registration] = [:]
    private var lastGeneration: UInt32 = 0
    private var timers = DeadlineQueue<@Sendable () -> Void>()
    private var batch: [Work] = []

    /// Open as long as the loop is referred to, since another thread may be about to write to it.
    private let wakeUp: Int32

    /// Which loop the current thread works for.
    private static let currentLoop: pthread_key_t = {
        var key = pthread_key_t()
        let status = pthread_key_create(&key, nil)
        precondition(status == 0, "pthread_key_create failed with \(status)")
        return key
    }()

    /// The key that says an event is of ``wakeUp``; no descriptor has it, since generations start at 1.
    private static let wakeUpKey: UInt64 = 0

    /// Starts a loop on a thread of its own.
    ///
    /// - Throws: ``PostgresError/Code/systemResources`` if there is no descriptor or thread left.
    package init() throws(PostgresError) {
        epoll = epoll_create1(Int32(EPOLL_CLOEXEC))
        guard epoll >= 0 else { throw Self.systemError("epoll_create1", errno) }
        wakeUp = eventfd(0, Int32(EFD_CLOEXEC | EFD_NONBLOCK))
        guard wakeUp >= 0 else {
            let error = Self.systemError("eventfd", errno)
            Glibc.close(epoll)
            throw error
        }
        // Edge-triggered: it wakes the loop and need never be read.
        var event = epoll_event(
            events: EPOLLIN.rawValue | EPOLLET.rawValue,
            data: epoll_data_t(u64: Self.wakeUpKey)
        )
        let added = epoll_ctl(epoll, EPOLL_CTL_ADD, wakeUp, &event)
        guard added == 0 else {
            let error = Self.systemError("epoll_ctl", errno)
            Glibc.close(epoll)
            throw error
        }
        let status = DetachedThread.start { [self] in run() }
        guard status == 0 else {
            Glibc.close(epoll)
            throw Self.systemError("pthread_create", status)
        }
    }

    deinit {
        Glibc.close(wakeUp)
    }

    private static func systemError(_ call: String, _ number: Int32) -> PostgresError {
        PostgresError(.systemResources, "\(call) failed: \(String(cString: strerror(number)))")
    }

    // MARK: Executor

    /// Queues a job of an actor or task. Any thread may call it.
    public func enqueue(_ job: consuming ExecutorJob) {
        enqueue(.job(UnownedJob(job)))
    }

    /// The reference that an actor gives as its `unownedExecutor`.
    public func asUnownedSerialExecutor() -> UnownedSerialExecutor {
        UnownedSerialExecutor(ordinary: self)
    }

    /// The reference that a task's preference for this executor is made of.
    public func asUnownedTaskExecutor() -> UnownedTaskExecutor {
        UnownedTaskExecutor(ordinary: self)
    }

    /// Stops the process unless it is called on the loop's thread.
    public func checkIsolated() {
        precondition(isCurrent, "not on the event loop's thread")
    }

    /// Whether it is called on the loop's thread.
    public func isIsolatingCurrentContext() -> Bool? {
        isCurrent
    }

    /// Whether it is called on the loop's thread.
    package var isCurrent: Bool {
        pthread_getspecific(Self.currentLoop) == UnsafeMutableRawPointer(Unmanaged.passUnretained(self).toOpaque())
    }

    /// Queues a closure. Any thread may call it.
    package func execute(_ closure: @escaping @Sendable () -> Void) {
        enqueue(.closure(closure))
    }

    private func enqueue(_ work: Work) {
        enum Need { case nothing, wakeUp, lateThread }
        let onLoop = isCurrent
        let need: Need = lock.withLock {
            queue.append(work)
            guard phase != .closed else {
                defer { hasLateThread = true }
                return hasLateThread ? .nothing : .lateThread
            }
            // The loop looks at its queue again before it sleeps, so only a sleeping one needs the system call.
            guard isAsleep, !onLoop else { return .nothing }
            isAsleep = false
            return .wakeUp
        }
        switch need {
        case .nothing:
            break
        case .wakeUp:
            writeWakeUp()
        case .lateThread:
            // An actor may outlive its loop for a moment. Its jobs still have to run, and one at a time.
            if DetachedThread.start({ [self] in runLateWork() }) != 0 {
                runLateWork()
            }
        }
    }

    private func writeWakeUp() {
        var one: UInt64 = 1
        // Fails only when the counter is full, and then the loop has been woken.
        _ = Glibc.write(wakeUp, &one, MemoryLayout<UInt64>.size)
    }

    // MARK: Closing

    /// Asks the loop to end, and returns at once. Any thread may call it, any number of times.
    ///
    /// What is queued is run first. Descriptors that are still registered are told ``Readiness/closing``; timers are
    /// dropped. Close what uses the loop before the loop.
    package func close() {
        let mustWake = lock.withLock {
            guard phase == .running else { return false }
            phase = .closing
            return true
        }
        if mustWake {
            writeWakeUp()
        }
    }

    /// Asks the loop to end, and waits until it has no thread and no registered descriptor any more.
    package func closeAndWait() async {
        close()
        await withCheckedContinuation { continuation in
            let isClosed = lock.withLock {
                guard phase != .closed else { return true }
                closeWaiters.append(continuation)
                return false
            }
            if isClosed {
                continuation.resume()
            }
        }
    }

    // MARK: Descriptors and timers, on the loop's thread

    /// Watches a descriptor until ``unregister(_:)``, level-triggered.
    ///
    /// - Throws: ``PostgresError/Code/systemResources`` if the loop is closing or the system refuses.
    package func register(
        _ descriptor: Int32,
        for interest: Readiness,
        handler: @escaping Handler
    ) throws(PostgresError) {
        checkIsolated()
        guard lock.withLock({ phase == .running }) else {
            throw PostgresError(.systemResources, "the event loop is closed")
        }
        precondition(registrations[descriptor] == nil, "a descriptor is registered once")
        lastGeneration &+= 1
        if lastGeneration == 0 { lastGeneration = 1 }
        try control(EPOLL_CTL_ADD, descriptor, interest, generation: lastGeneration)
        registrations[descriptor] = Registration(generation: lastGeneration, handler: handler)
    }

    /// Changes what a registered descriptor is watched for.
    package func modify(_ descriptor: Int32, for interest: Readiness) throws(PostgresError) {
        checkIsolated()
        guard let registration = registrations[descriptor] else { return }
        try control(EPOLL_CTL_MOD, descriptor, interest, generation: registration.generation)
    }

    /// Watches a descriptor no more. To be called before the descriptor is closed, since its number may be used again.
    package func unregister(_ descriptor: Int32) {
        checkIsolated()
        guard registrations.removeValue(forKey: descriptor) != nil else { return }
        _ = epoll_ctl(epoll, EPOLL_CTL_DEL, descriptor, nil)
    }

    /// Calls `action` on the loop's thread once `deadline` has passed, to the millisecond.
    package func schedule(at deadline: ContinuousClock.Instant, _ action: @escaping @Sendable () -> Void) -> Timer {
        checkIsolated()
        return Timer(ticket: timers.insert(action, at: deadline))
    }

    /// Forgets a timer, if it has not been called yet.
    package func cancel(_ timer: Timer) {
        checkIsolated()
        timers.remove(timer.ticket)
    }

    /// Waits until a descriptor is ready, for code that runs on the loop and has the descriptor for itself.
    ///
    /// - Returns: what it is ready for, or `nil` if the deadline passed or the task was cancelled before.
    package func readiness(
        of descriptor: Int32,
        for interest: Readiness,
        until deadline: ContinuousClock.Instant?,
        isolation: isolated any Actor = #isolation
    ) async throws(PostgresError) -> Readiness? {
        var failure: PostgresError?
        let readiness: Readiness? = await firstValue(until: deadline) { finish in
            do throws(PostgresError) {
                try register(descriptor, for: interest, handler: finish)
            } catch {
                failure = error
                finish(nil)
            }
        }
        if let failure { throw failure }
        unregister(descriptor)
        return readiness
    }

    /// Runs `body` with the loop as the preferred executor of its task.
    ///
    /// Without that a task is resumed in the default pool after each wait, even one on an actor of the loop's, and as
    /// long as the pool is busy nothing gets on.
    func preferred<Failure: Error>(_ body: @Sendable () async throws(Failure) -> Void) async throws(Failure) {
        let outcome: Result<Void, Failure> = await withTaskExecutorPreference(self) {
            do throws(Failure) {
                return .success(try await body())
            } catch {
                return .failure(error)
            }
        }
        try outcome.get()
    }

    /// Waits for a value that something else comes by, for code that runs on the loop.
    ///
    /// Nothing here leaves the loop's thread, as an `AsyncStream` would: with the default pool busy, connections would
    /// run into their timeouts.
    ///
    /// - Parameter start: sets going what comes by the value. It calls its argument on the loop's thread, any number of
    ///   times; the first counts.
    /// - Returns: `nil` if the deadline passed or the task was cancelled before.
    func firstValue<Value: Sendable>(
        until deadline: ContinuousClock.Instant?,
        isolation: isolated any Actor = #isolation,
        start: (_ finish: @escaping @Sendable (Value?) -> Void) -> Void
    ) async -> Value? {
        let wait = Wait<Value>()
        let value = await withTaskCancellationHandler {
            await withCheckedContinuation(isolation: isolation) { (continuation: CheckedContinuation<Value?, Never>) in
                checkIsolated()
                guard !Task.isCancelled else { return continuation.resume(returning: nil) }
                wait.continuation = continuation
                wait.timer = deadline.map { schedule(at: $0) { wait.finish(nil) } }
                start { wait.finish($0) }
            }
        } onCancel: {
            execute { wait.finish(nil) }
        }
        wait.timer.map { cancel($0) }
        return value
    }

    /// A continuation that the first who comes resumes. Of the loop's thread alone.
    private final class Wait<Value: Sendable>: @unchecked Sendable {
        var continuation: CheckedContinuation<Value?, Never>?
        var timer: Timer?

        func finish(_ value: Value?) {
            continuation?.resume(returning: value)
            continuation = nil
        }
    }

    private func control(
        _ operation: Int32,
        _ descriptor: Int32,
        _ interest: Readiness,
        generation: UInt32
    ) throws(PostgresError) {
        var flags: UInt32 = 0
        if interest.contains(.readable) { flags |= EPOLLIN.rawValue }
        if interest.contains(.writable) { flags |= EPOLLOUT.rawValue }
        // The generation tells events of a closed descriptor from those of the next one with its number.
        let key = UInt64(generation) << 32 | UInt64(UInt32(bitPattern: descriptor))
        var event = epoll_event(events: flags, data: epoll_data_t(u64: key))
        guard epoll_ctl(epoll, operation, descriptor, &event) == 0 else { throw Self.systemError("epoll_ctl", errno) }
    }

    // MARK: The thread

    private func run() {
        beCurrent {
            let capacity = 64
            let events = UnsafeMutableBufferPointer<epoll_event>.allocate(capacity: capacity)
            defer { events.deallocate() }
            while lock.withLock({ phase == .running }) {
                // A bounded number of rounds, so that jobs that queue jobs do not keep the descriptors waiting.
                for _ in 0..<64 where !runQueue() { break }
                let count = epoll_wait(epoll, events.baseAddress, Int32(capacity), timeoutBeforeSleep())
                for index in 0..<max(0, Int(count)) { handle(events[index]) }
                // After the events: what came in while the loop was late is not too late.
                while let action = timers.popDue(at: .now) { action() }
            }
            finish()
        }
    }

    /// Runs what is queued now; `false` if nothing was.
    private func runQueue() -> Bool {
        lock.withLock {
            isAsleep = false
            swap(&queue, &batch)
        }
        guard !batch.isEmpty else { return false }
        for work in batch {
            switch work {
            case .job(let job):
                job.runSynchronously(isolatedTo: asUnownedSerialExecutor(), taskExecutor: asUnownedTaskExecutor())
            case .closure(let closure):
                closure()
            }
        }
        batch.removeAll(keepingCapacity: batch.count <= 4_096)
        return true
    }

    /// How long `epoll_wait` may wait, in its milliseconds.
    private func timeoutBeforeSleep() -> Int32 {
        let deadline = timers.nextDeadline()
        let mustNotSleep = lock.withLock {
            isAsleep = queue.isEmpty && phase == .running
            return !isAsleep
        }
        if mustNotSleep { return 0 }
        guard let deadline else { return -1 }
        let remaining = ContinuousClock.now.duration(to: deadline)
        guard remaining > .zero else { return 0 }
        // Rounded up, so that the timer is due when it wakes; a minute at most, so that it fits.
        let milliseconds = min(remaining, .seconds(60)) / .milliseconds(1)
        return Int32(milliseconds.rounded(.up))
    }

    private func handle(_ event: epoll_event) {
        let key = event.data.u64
        guard key != Self.wakeUpKey else { return }
        let descriptor = Int32(bitPattern: UInt32(truncatingIfNeeded: key))
        guard let registration = registrations[descriptor], registration.generation == UInt32(key >> 32) else { return }
        var readiness: Readiness = []
        // Errors and hang-ups are found by whoever reads or writes.
        let failed = event.events & (EPOLLERR.rawValue | EPOLLHUP.rawValue) != 0
        if failed || event.events & EPOLLIN.rawValue != 0 { readiness.insert(.readable) }
        if failed || event.events & EPOLLOUT.rawValue != 0 { readiness.insert(.writable) }
        registration.handler(readiness)
    }

    private func finish() {
        while true {
            while runQueue() {}
            letGo()
            // From here on, late work may run on another thread, so that nothing must be left to do on this one.
            let waiters: [CheckedContinuation<Void, Never>]? = lock.withLock {
                guard queue.isEmpty else { return nil }
                phase = .closed
                defer { closeWaiters = [] }
                return closeWaiters
            }
            guard let waiters else { continue }
            Glibc.close(epoll)
            for waiter in waiters { waiter.resume() }
            return
        }
    }

    /// Tells the descriptors that are still registered, and forgets them and the timers.
    private func letGo() {
        let last = registrations.values
        registrations = [:]
        for registration in last { registration.handler(.closing) }
        timers = DeadlineQueue()
    }

    /// Runs what was queued after the loop had closed.
    private func runLateWork() {
        beCurrent {
            while true {
                while runQueue() {}
                let isDone = lock.withLock {
                    guard queue.isEmpty else { return false }
                    hasLateThread = false
                    return true
                }
                if isDone { return }
            }
        }
    }

    /// Marks the current thread as the loop's while `body` runs.
    private func beCurrent(_ body: () -> Void) {
        let previous = pthread_getspecific(Self.currentLoop)
        pthread_setspecific(Self.currentLoop, Unmanaged.passUnretained(self).toOpaque())
        body()
        pthread_setspecific(Self.currentLoop, previous)
    }
}
