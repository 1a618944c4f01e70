import Logging
import PostgresClient
import SessionManager

/// The connection that calls go through: kept open, and opened again when it is lost.
///
/// A call that finds no connection waits for one, up to the connect timeout. A call that the server certainly did not
/// do, since the connection was lost before it came to it, is made again; one that may have been done never is.
actor CallConnection {
    private enum State {
        /// `run()` has not been called.
        case idle
        /// There is no connection at the moment.
        case connecting
        case connected(PostgresConnection)
        /// There will be no connection any more.
        case stopped
    }

    nonisolated let eventLoop: EventLoop
    nonisolated var unownedExecutor: UnownedSerialExecutor { eventLoop.asUnownedSerialExecutor() }

    nonisolated let configuration: ConnectionConfiguration
    private let logger: Logger
    private let metrics: SessionMetrics
    private var state = State.idle
    private var lastAttempt: UInt64 = 0
    /// Connections to a server that has become a standby. Each is closed when the calls on it have been answered, for what
    /// is under way when a connection is closed has an unknown outcome.
    private var retired: [PostgresConnection] = []
    private var waiting: [UInt64: CheckedContinuation<Void, Never>] = [:]
    private var lastWaiting: UInt64 = 0
    /// Why there is no connection.
    private var lastError: PostgresError?
    /// Whether nobody waits for a connection any more.
    private var isStopping = false
    private var lost: AsyncStream<Void>.Continuation?

    init(configuration: ConnectionConfiguration, eventLoop: EventLoop, logger: Logger, metrics: SessionMetrics) {
        self.configuration = configuration
        self.eventLoop = eventLoop
        self.logger = logger
        self.metrics = metrics
    }

    /// Connects for the first time.
    ///
    /// - Throws: what is wrong, at once: a server that is not there when the process starts is an error to be seen.
    func start() async throws(SessionManagerError) {
        state = .connecting
        do {
            try await connect()
        } catch {
            await stop()
            throw SessionManagerError(connecting: error)
        }
    }

    /// Opens the connection again whenever it is lost, until the task is cancelled; the connection then stays open
    /// until ``stop()``.
    func run() async {
        if case .stopped = state { return }
        let (losses, lost) = AsyncStream.makeStream(of: Void.self, bufferingPolicy: .bufferingNewest(1))
        self.lost = lost
        if case .connecting = state { lost.yield() }
        for await _ in losses {
            var backoff = Backoff()
            while case .connecting = state, !Task.isCancelled {
                do {
                    try await connect()
                    metrics.reconnected()
                } catch {
                    logger.warning(
                        "The database cannot be reached",
                        metadata: [
                            "tmcp.error": "\(error)", "tmcp.reason": "\(configuration.redacted(error.message))",
                        ]
                    )
                    try? await Task.sleep(for: backoff.next())
                }
            }
        }
    }

    /// Has calls that find no connection fail at once from now on, so that an outage does not hold up the stop.
    func beginStopping() {
        isStopping = true
        wakeAll()
    }

    /// Closes the connection for good.
    func stop() async {
        let last = state
        state = .stopped
        lost?.finish()
        wakeAll()
        if case .connected(let connection) = last { await connection.close() }
        for connection in retired { await connection.close() }
        retired = []
    }

    private func connect() async throws(PostgresError) {
        lastAttempt += 1
        let attempt = lastAttempt
        do throws(PostgresError) {
            let connection = try await PostgresConnection.connect(
                configuration: configuration,
                on: eventLoop,
                logger: logger,
                onClose: { [weak self] reason in
                    self?.assumeIsolated { $0.closed(reason, attempt) }
                }
            )
            // Lost before it was known here: then nobody says so any more.
            guard await !connection.isClosed else {
                throw PostgresError(
                    .connectFailed,
                    "the connection was lost at once",
                    hint: "The server, or something between, ended it: the server's log says which."
                )
            }
            guard case .connecting = state else { return await connection.close() }
            state = .connected(connection)
            lastError = nil
            wakeAll()
        } catch {
            lastError = error
            throw error
        }
    }

    private func closed(_ reason: PostgresError, _ attempt: UInt64) {
        // One that was retired is not the connection any more.
        guard case .connected = state, attempt == lastAttempt else { return }
        reconnect(since: reason)
    }

    private func reconnect(since reason: PostgresError) {
        state = .connecting
        lastError = reason
        lost?.yield()
    }

    private func retire(_ connection: PostgresConnection, since reason: PostgresError) {
        guard case .connected(let current) = state, current === connection else { return }
        retired.append(connection)
        reconnect(since: reason)
    }

    private func closeRetired() async {
        for connection in retired where await connection.callsUnderWay == 0 {
            retired.removeAll { $0 === connection }
            await connection.close()
        }
    }

    /// How many calls wait for a connection.
    var waitingCount: Int { waiting.count }

    /// Whether a pooler stands between the connection and the server.
    var isPooled: Bool {
        get async {
            guard case .connected(let connection) = state else { return false }
            return await connection.isPooled
        }
    }

    // MARK: Calls

    /// Makes a call; `sql` is one statement, mostly `SELECT` of one of the extension's functions.
    func query(
        _ sql: String,
        _ parameters: [PostgresParameter] = []
    ) async throws(SessionManagerError) -> PostgresResult {
        let deadline = ContinuousClock.now + configuration.connectTimeout
        var backoff = Backoff()
        while true {
            let connection = try await connection(until: deadline)
            do {
                let result = try await connection.query(sql, parameters)
                if !retired.isEmpty { await closeRetired() }
                return result
            } catch {
                let isOfStandby = error.sqlState == "25006"
                // The server has become a standby; another host of the connection string may be the primary.
                if isOfStandby { retire(connection, since: error) }
                if !retired.isEmpty { await closeRetired() }
                guard error.code == .notExecuted || error.endsSession || isOfStandby else {
                    throw SessionManagerError(error)
                }
                // While the manager starts nobody opens the connection again.
                guard lost != nil, ContinuousClock.now < deadline else { throw unreachable(error) }
                // The same standby may be all that there is, and takes every connection.
                if isOfStandby { try? await Task.sleep(for: backoff.next()) }
            }
        }
    }

    private func unreachable(_ error: PostgresError?) -> SessionManagerError {
        SessionManagerError(
            .unreachable,
            "the database cannot be reached: \(error?.message ?? "no connection yet")",
            sqlState: error?.sqlState,
            hint: "Nothing was done; try again when the database is back."
        )
    }

    private func connection(until deadline: ContinuousClock.Instant) async throws(SessionManagerError)
        -> PostgresConnection
    {
        while true {
            switch state {
            case .connected(let connection): return connection
            case .idle:
                throw SessionManagerError(
                    .notRunning,
                    "the session manager is not running",
                    hint: "Call run(), or add it to a ServiceGroup, before it is used."
                )
            case .stopped:
                throw SessionManagerError.stopped
            case .connecting:
                guard !Task.isCancelled else { throw SessionManagerError(.cancelled, "the task was cancelled") }
                guard !isStopping, ContinuousClock.now < deadline else { throw unreachable(lastError) }
                await wait(until: deadline)
            }
        }
    }

    private func wait(until deadline: ContinuousClock.Instant) async {
        lastWaiting += 1
        let number = lastWaiting
        let timer = eventLoop.schedule(at: deadline) { self.assumeIsolated { $0.wake(number) } }
        await withTaskCancellationHandler {
            await withCheckedContinuation { waiting[number] = $0 }
        } onCancel: {
            eventLoop.execute { self.assumeIsolated { $0.wake(number) } }
        }
        eventLoop.cancel(timer)
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
