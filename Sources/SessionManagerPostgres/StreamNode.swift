import DequeModule
import Logging
import PostgresClient
import SessionManager

/// This process as a node of the store: it registers, listens, says that it is alive, and holds streams.
///
/// Everything runs on the event loop's thread, so that a message goes from the socket to its controller in one step.
actor StreamNode {
    /// A notification to oneself, which shows that notifications arrive.
    struct Probe {
        let token: String
        let continuation: CheckedContinuation<Bool, Never>
    }

    nonisolated let eventLoop: EventLoop
    nonisolated var unownedExecutor: UnownedSerialExecutor { eventLoop.asUnownedSerialExecutor() }

    let configuration: PostgresSessionConfiguration
    let listenerConfiguration: ConnectionConfiguration
    let functions: StoreFunctions
    let logger: Logger
    let metrics: SessionMetrics

    var registry: StreamRegistry
    /// What this process is known as; `nil` when it has to register anew.
    var registration: StoreFunctions.Registration?
    /// The nodes that this process was before, as long as the database has not been told that they are gone.
    var formerNodes: Set<Int64> = []
    var listener: PostgresConnection?
    /// Whether the listener hears everything that is sent to the streams, which are all attached to this node.
    var isSettled = false
    let disturbances: AsyncStream<Void>
    let disturbed: AsyncStream<Void>.Continuation
    var probe: Probe?
    /// The last notification to oneself that was heard, perhaps before the call that sent it was answered.
    var lastProbe = ""
    var isStopped = false
    /// Streams that the database should let go of, and could not be told so far, each with its position.
    var undetached: [Int64: EventID] = [:]
    /// Whether the database is being told; others who want that wait here.
    var isDetaching = false
    var detachesWaiting: Deque<CheckedContinuation<DetachTurn, Never>> = []
    var isChangingStreams = false
    var changesWaiting: Deque<CheckedContinuation<Void, Never>> = []
    private var isCleaningUp = false
    private let errands: AsyncStream<Errand>
    let errand: AsyncStream<Errand>.Continuation

    /// What somebody who waited for streams to be detached does now.
    enum DetachTurn {
        /// It was done.
        case done
        /// It is to be done by whoever gets this.
        case lead
    }

    /// What the node does beside listening.
    enum Errand {
        case action(StreamRegistry.Action)
        case detach
        case cleanUp
        case flushOutbox
    }

    init(
        configuration: PostgresSessionConfiguration,
        listenerConfiguration: ConnectionConfiguration,
        functions: StoreFunctions,
        logger: Logger,
        metrics: SessionMetrics
    ) {
        self.configuration = configuration
        self.listenerConfiguration = listenerConfiguration
        self.functions = functions
        registry = StreamRegistry(position: EventID(rawValue: 0), trustsEventIDs: configuration.inlineLimit != 0)
        eventLoop = functions.calls.eventLoop
        self.logger = logger
        self.metrics = metrics
        (disturbances, disturbed) = AsyncStream.makeStream(bufferingPolicy: .bufferingNewest(1))
        (errands, errand) = AsyncStream.makeStream()
    }

    // MARK: Life

    /// Registers and listens for the first time.
    func start() async throws(SessionManagerError) {
        try await settle()
    }

    /// Listens, says that the process is alive, and fetches what notifications do not carry, until ``stop()``.
    func run() async {
        await withDiscardingTaskGroup { group in
            group.addTask(executorPreference: self.eventLoop) { await self.keepListening() }
            group.addTask(executorPreference: self.eventLoop) { await self.keepAlive() }
            for await errand in self.errands {
                group.addTask(executorPreference: self.eventLoop) { await self.run(errand) }
            }
            group.cancelAll()
        }
    }

    /// Lets go of all streams, so that their clients come back, here or elsewhere, and resume; and takes no more.
    func closeStreams() {
        isStopped = true
        registry.closeAll { _ in .detached }
        record()
    }

    /// Ends the node, after ``closeStreams()``.
    func stop() async {
        errand.finish()
        disturbed.finish()
        endProbe(heard: false)
        if let registration {
            do throws(SessionManagerError) {
                try await functions.stopNode(registration.node)
            } catch {
                logger.warning(
                    "The database was not told that this node stops; its streams are free when its heartbeat is old",
                    metadata: ["tmcp.error": "\(error)"]
                )
            }
        }
        await stopFormerNodes()
        await listener?.close()
        listener = nil
    }

    // MARK: Errands

    private func run(_ errand: Errand) async {
        switch errand {
        case .action(.replay(let replay)): await run(replay)
        case .action(.fetch(let fetch)): await run(fetch)
        case .action(.detach(let stream, let position)):
            record()
            await detach(stream, position)
        case .detach: if !isDetaching, !undetached.isEmpty { await detachRemaining() }
        case .cleanUp: await cleanUp()
        case .flushOutbox: await flushOutbox()
        }
    }

    /// Does what time requires. Each call is short, since whatever is sent meanwhile goes behind it; and heartbeats do
    /// not wait for all of them.
    private func cleanUp() async {
        guard !isCleaningUp else { return }
        isCleaningUp = true
        defer { isCleaningUp = false }
        do {
            // NULL where another process does it.
            let call = "SELECT unfinished FROM tmcp.cleanup()"
            while !isStopped, try await functions.calls.query(call).value(as: Bool?.self) == true {}
        } catch {
            warn("The database was not cleaned up", error)
        }
    }

    /// Sends what transactions have enqueued.
    private func flushOutbox() async {
        do throws(SessionManagerError) {
            while try await functions.flushOutbox() == StoreFunctions.outboxPage {}
        } catch {
            // The next cleanup sends what is left.
            warn("The outbox could not be sent", error)
        }
    }

    // MARK: For all parts of the node

    /// Tells of a failure that does not last. While the node stops, its calls fail as they should.
    func warn(_ message: Logger.Message, _ error: any Error) {
        guard !isStopped else { return }
        logger.warning(message, metadata: ["tmcp.error": "\(error)"])
    }

    /// Has done what the registry asks for.
    func perform(_ actions: [StreamRegistry.Action]) {
        for action in actions { errand.yield(.action(action)) }
    }

    /// Counts what is handed to controllers meanwhile, and returns how many messages that were.
    @discardableResult
    func deliver<Failure: Error>(_ hand: () throws(Failure) -> Void) throws(Failure) -> Int {
        let before = registry.deliveredCount
        try hand()
        metrics.delivered(registry.deliveredCount - before)
        return registry.deliveredCount - before
    }

    /// Shows how many streams there are.
    func record() {
        metrics.holds(registry.streams.count)
    }
}
