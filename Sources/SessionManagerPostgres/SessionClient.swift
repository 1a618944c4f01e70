import Logging
import ServiceLifecycle
import SessionManager
import Synchronization

/// One process's access to one database, which the two managers share: nothing starts before ``run()``.
final class SessionClient: Sendable {
    let configuration: PostgresSessionConfiguration
    let lifecycle = SessionLifecycle()
    private let holdsStreams: Bool
    private let logger: Logger
    private let components = AtomicLazyReference<SessionComponents>()

    init(configuration: PostgresSessionConfiguration, holdsStreams: Bool, logger: Logger) {
        self.configuration = configuration
        self.holdsStreams = holdsStreams
        self.logger = logger
    }

    /// Serves until the task is cancelled or the service group shuts down.
    func run() async throws(SessionManagerError) {
        try await lifecycle.begin()
        do throws(SessionManagerError) {
            let components = try SessionComponents(
                configuration: configuration,
                holdsStreams: holdsStreams,
                logger: logger
            )
            do throws(SessionManagerError) {
                try await components.start(configuration: configuration, logger: logger)
            } catch {
                await components.stop()
                throw error
            }
            await serve(self.components.storeIfNil(components))
        } catch {
            await lifecycle.stopped(error)
            throw error
        }
    }

    private func serve(_ components: SessionComponents) async {
        await lifecycle.ready()
        await withTaskGroup(of: Void.self) { group in
            group.addTask { await components.run() }
            // Returns when the service group shuts down, or the task is cancelled.
            group.addTask { try? await gracefulShutdown() }
            await group.next()
            await lifecycle.stopped(SessionManagerError(.notRunning, "the session manager has stopped"))
            // In a task that is not cancelled, since the database has yet to be told.
            await Task { await components.stop() }.value
            group.cancelAll()
        }
    }

    /// What runs, as soon as it does; waits for it up to the connect timeout.
    func running() async throws(SessionManagerError) -> SessionComponents {
        if let components = components.load() { return components }
        let waiting = Task { () async -> Result<Void, SessionManagerError> in
            do throws(SessionManagerError) {
                return .success(try await lifecycle.waitUntilReady())
            } catch {
                return .failure(error)
            }
        }
        let timeout = Task {
            try await Task.sleep(for: configuration.connectTimeout)
            waiting.cancel()
        }
        defer { timeout.cancel() }
        try await withTaskCancellationHandler {
            await waiting.value
        } onCancel: {
            waiting.cancel()
        }.get()
        guard let components = components.load() else {
            throw SessionManagerError(.notRunning, "the session manager has stopped")
        }
        return components
    }
}
