import SessionManager

/// Whether a session manager runs, and who waits for it.
actor SessionLifecycle {
    private enum Phase {
        case idle
        case starting
        case ready
        case stopped(SessionManagerError)
    }

    private var phase = Phase.idle
    private var waiting: [UInt64: CheckedContinuation<Void, Never>] = [:]
    private var lastWaiting: UInt64 = 0

    /// Begins the only run.
    func begin() throws(SessionManagerError) {
        guard case .idle = phase else {
            throw SessionManagerError(
                .notRunning,
                "run() was called twice",
                hint: "A session manager runs once; make another one to start over."
            )
        }
        phase = .starting
    }

    /// It can be used from now on.
    func ready() {
        if case .starting = phase { phase = .ready }
        wakeAll()
    }

    /// It cannot be used any more.
    func stopped(_ error: SessionManagerError) {
        if case .stopped = phase { return }
        phase = .stopped(error)
        wakeAll()
    }

    /// Returns when it can be used; throws why it cannot.
    func waitUntilReady() async throws(SessionManagerError) {
        while true {
            switch phase {
            case .ready: return
            case .stopped(let error): throw error
            case .idle, .starting:
                guard !Task.isCancelled else {
                    throw SessionManagerError(
                        .notRunning,
                        "the session manager is not running",
                        hint: "Call run(), or add it to a ServiceGroup, before it is used."
                    )
                }
                await wait()
            }
        }
    }

    private func wait() async {
        lastWaiting += 1
        let number = lastWaiting
        await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                if Task.isCancelled { return continuation.resume() }
                waiting[number] = continuation
            }
        } onCancel: {
            Task { await self.wake(number) }
        }
    }

    private func wake(_ number: UInt64) {
        waiting.removeValue(forKey: number)?.resume()
    }

    private func wakeAll() {
        let all = waiting.values
        waiting = [:]
        for continuation in all { continuation.resume() }
    }
}
