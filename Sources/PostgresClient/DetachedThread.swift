import Glibc

/// A thread of its own for work that blocks, which the default pool is not for: with its few threads busy, it would
/// wait.
enum DetachedThread {
    private final class Start {
        let body: @Sendable () -> Void

        init(_ body: @escaping @Sendable () -> Void) {
            self.body = body
        }
    }

    /// Starts a thread that runs `body` and ends, and returns what `pthread_create` returned.
    static func start(_ body: @escaping @Sendable () -> Void) -> Int32 {
        let start = Unmanaged.passRetained(Start(body))
        var thread = pthread_t()
        let status = pthread_create(
            &thread,
            nil,
            { argument in
                guard let argument else { return nil }
                // The reference ends here, and not with the thread.
                let body = Unmanaged<Start>.fromOpaque(argument).takeRetainedValue().body
                body()
                return nil
            },
            start.toOpaque()
        )
        if status == 0 {
            pthread_detach(thread)
        } else {
            start.release()
        }
        return status
    }
}
