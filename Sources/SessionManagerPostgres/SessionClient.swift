import Logging
import PostgresClient
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
                await components.eventLoop.closeAndWait()
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
        // Not child tasks: when this task is cancelled, callers are yet to be answered, and the database to be told.
        let running = Task { await components.run() }
        // Returns when the service group shuts down, or the task is cancelled.
        try? await gracefulShutdown()
        await lifecycle.stopped(SessionManagerError.stopped)
        await Task { await components.stop() }.value
        running.cancel()
        await running.value
        await components.eventLoop.closeAndWait()
    }

    /// The functions of the extension, as soon as they can be called.
    var functions: StoreFunctions {
        get async throws(SessionManagerError) { try await running().functions }
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
            try await Task.sleep(for: configuration.patience)
            waiting.cancel()
        }
        defer { timeout.cancel() }
        let ready = await withTaskCancellationHandler {
            await waiting.value
        } onCancel: {
            waiting.cancel()
        }
        guard !Task.isCancelled else { throw SessionManagerError(.cancelled, "the task was cancelled") }
        try ready.get()
        guard let components = components.load() else {
            throw SessionManagerError.stopped
        }
        return components
    }
}
