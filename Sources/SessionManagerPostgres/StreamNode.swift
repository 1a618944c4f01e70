import Logging
import PostgresClient
import SessionManager

/// This process as a node of the store: it registers, listens, says that it is alive, and holds streams.
///
/// Everything runs on the event loop's thread, so that a message goes from the socket to its controller in one step.
actor StreamNode {
    private struct Registration {
        let node: Int64
        let channel: String
        let position: EventID

        var lossChannel: String { "delete:" + channel }
    }

    /// A notification to oneself, which shows that notifications arrive.
    private struct Probe {
        let token: String
        let continuation: CheckedContinuation<Bool, Never>
    }

    /// Streams that one replay or fetch reads at most at a time, and their bytes.
    private static let pageCount: Int64 = 1000
    private static let pageBytes: Int64 = 262_144

    nonisolated let eventLoop: EventLoop
    nonisolated var unownedExecutor: UnownedSerialExecutor { eventLoop.asUnownedSerialExecutor() }

    private let configuration: PostgresSessionConfiguration
    private let listenerConfiguration: ConnectionConfiguration
    private let calls: CallConnection
    private let logger: Logger
    private let metrics: SessionMetrics

    private var registry = StreamRegistry(position: EventID(rawValue: 0))
    private var registration: Registration?
    private var listener: PostgresConnection?
    private let listenerLosses: AsyncStream<Void>
    private let listenerLost: AsyncStream<Void>.Continuation
    private var probe: Probe?
    private var isRecovering = false
    private var isStopped = false
    /// Streams that the database should let go of, and could not be told so far.
    private var undetached: Set<Int64> = []
    private let errands: AsyncStream<Errand>
    private let errand: AsyncStream<Errand>.Continuation

    /// What the node does beside listening.
    enum Errand {
        case action(StreamRegistry.Action)
        case flushOutbox
    }

    init(
        configuration: PostgresSessionConfiguration,
        listenerConfiguration: ConnectionConfiguration,
        calls: CallConnection,
        logger: Logger,
        metrics: SessionMetrics
    ) {
        self.configuration = configuration
        self.listenerConfiguration = listenerConfiguration
        self.calls = calls
        self.eventLoop = calls.eventLoop
        self.logger = logger
        self.metrics = metrics
        (listenerLosses, listenerLost) = AsyncStream.makeStream(bufferingPolicy: .bufferingNewest(1))
        (errands, errand) = AsyncStream.makeStream()
    }

    // MARK: Life

    /// Registers and listens for the first time.
    func start() async throws(SessionManagerError) {
        try await listen()
    }

    /// Listens, says that the process is alive, and fetches what notifications do not carry, until the task is
    /// cancelled.
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

    /// Lets go of all streams, so that their clients come back, here or elsewhere, and resume.
    func stop() async {
        isStopped = true
        errand.finish()
        listenerLost.finish()
        registry.closeAll(.detached)
        record()
        if let registration {
            do {
                _ = try await calls.query(
                    "SELECT tmcp.stop_node($1, $2)",
                    [.text(configuration.store), .int8(registration.node)]
                )
            } catch {
                logger.warning(
                    "The database was not told that this node stops; its streams are free when its heartbeat is old",
                    metadata: ["tmcp.error": "\(error)"]
                )
            }
        }
        await listener?.close()
        listener = nil
    }

    // MARK: Listening

    private func keepListening() async {
        for await _ in listenerLosses {
            var backoff = Backoff()
            while listener == nil, !isStopped, !Task.isCancelled {
                do {
                    try await listen()
                    metrics.reconnected()
                } catch {
                    logger.warning("Notifications cannot be heard", metadata: ["tmcp.error": "\(error)"])
                    try? await Task.sleep(for: backoff.next())
                }
            }
        }
    }

    /// Opens the listening connection, makes sure that notifications arrive on it, and catches up.
    private func listen() async throws(SessionManagerError) {
        let connection: PostgresConnection
        do {
            connection = try await PostgresConnection.connect(
                configuration: listenerConfiguration,
                on: eventLoop,
                logger: logger,
                onNotification: { [weak self] notification in
                    let channel = notification.channel
                    notification.withPayload { payload in
                        nonisolated(unsafe) let payload = payload
                        self?.assumeIsolated { $0.heard(payload, on: channel) }
                    }
                },
                onClose: { [weak self] _ in
                    self?.assumeIsolated { $0.listenerClosed() }
                }
            )
        } catch {
            throw SessionManagerError(error)
        }
        listener = connection
        do throws(SessionManagerError) {
            if registration == nil {
                let registration = try await register()
                self.registration = registration
                registry = StreamRegistry(position: registration.position)
            }
            try await subscribe(connection)
            try await checkNotificationsArrive()
        } catch {
            listener = nil
            await connection.close()
            throw error
        }
        perform(registry.listening())
    }

    private func register() async throws(SessionManagerError) -> Registration {
        let result = try await calls.query(
            "SELECT node, channel, event_id FROM tmcp.register_node($1, $2)",
            [.text(configuration.store), .text(configuration.applicationName)]
        )
        do {
            return Registration(
                node: try result.value(column: 0),
                channel: try result.value(column: 1),
                position: EventID(rawValue: try result.value(column: 2))
            )
        } catch {
            throw SessionManagerError(error)
        }
    }

    private func subscribe(_ connection: PostgresConnection) async throws(SessionManagerError) {
        guard let registration else { return }
        do {
            try await connection.listen(to: registration.channel)
            try await connection.listen(to: registration.lossChannel)
        } catch {
            throw SessionManagerError(error)
        }
    }

    private func checkNotificationsArrive() async throws(SessionManagerError) {
        guard let registration else { return }
        let token = "probe \(UInt64.random(in: .min ... .max))"
        _ = try await calls.query("SELECT pg_notify($1, $2)", [.text(registration.channel), .text(token)])
        if await hears(token) { return }
        throw SessionManagerError(
            .listenerPooled,
            "notifications do not arrive on the listening connection within \(configuration.connectTimeout)",
            hint: "It probably goes through a pooler in transaction mode, which swallows LISTEN. Give a connection "
                + "string that leads to the server itself, or to a pool in session mode, as "
                + "listenerConnectionString; the calls may keep the pooler."
        )
    }

    private func hears(_ token: String) async -> Bool {
        if lastProbe == token { return true }
        let timer = eventLoop.schedule(at: .now + .seconds(2)) { self.assumeIsolated { $0.endProbe(heard: false) } }
        defer { eventLoop.cancel(timer) }
        return await withCheckedContinuation { probe = Probe(token: token, continuation: $0) }
    }

    /// The last notification to oneself that was heard, perhaps before the call that sent it was answered.
    private var lastProbe = ""

    private func endProbe(heard: Bool) {
        probe?.continuation.resume(returning: heard)
        probe = nil
    }

    private func listenerClosed() {
        listener = nil
        registry.cutOff()
        listenerLost.yield()
    }

    private func heard(_ payload: UnsafeRawBufferPointer, on channel: String) {
        guard let registration else { return }
        if channel == registration.lossChannel {
            guard let loss = try? StreamLoss(parsing: String(decoding: payload, as: UTF8.self)) else {
                return misheard()
            }
            registry.lost(loss)
            return record()
        }
        guard channel == registration.channel else { return }
        do throws(NotificationFrame.Malformed) {
            let before = registry.deliveredCount
            for frame in try NotificationFrame.parse(payload) {
                perform(registry.received(trusted(frame)))
            }
            metrics.delivered(registry.deliveredCount - before)
            metrics.deliveryTook(since: registry.position)
        } catch {
            heard(word: String(decoding: payload, as: UTF8.self))
        }
    }

    /// With an inline limit of 0 no message travels in a notification, so one that does is not from the extension.
    private func trusted(_ frame: NotificationFrame) -> NotificationFrame {
        guard configuration.inlineLimit == 0 else { return frame }
        return NotificationFrame(eventID: frame.eventID, targets: frame.targets, data: nil)
    }

    private func heard(word: String) {
        if word == "outbox" {
            errand.yield(.flushOutbox)
        } else if word.hasPrefix("probe ") {
            lastProbe = word
            if probe?.token == word { endProbe(heard: true) }
        } else {
            misheard()
        }
    }

    private func misheard() {
        logger.warning("A notification was not understood; the log is read instead")
        perform(registry.listening())
    }

    // MARK: Being alive

    private func keepAlive() async {
        while !Task.isCancelled {
            let jitter = Double.random(in: 0.9...1.1)
            try? await Task.sleep(for: configuration.heartbeatInterval * jitter)
            guard !Task.isCancelled, !isStopped else { return }
            do throws(SessionManagerError) {
                try await beat()
            } catch {
                logger.warning("A heartbeat failed", metadata: ["tmcp.error": "\(error)"])
            }
        }
    }

    private func beat() async throws(SessionManagerError) {
        guard let registration else { return }
        let store = PostgresParameter.text(configuration.store)
        let result = try await calls.query("SELECT tmcp.heartbeat($1, $2)", [store, .int8(registration.node)])
        let isAlive: Bool
        do {
            isAlive = try result.value()
        } catch {
            throw SessionManagerError(error)
        }
        if !isAlive { try await recover(from: registration) }
        await checkListener()
        await detachRemaining()
        _ = try await calls.query("SELECT tmcp.cleanup()")
    }

    /// Makes sure that the listening connection is heard on the other side, and still listens.
    private func checkListener() async {
        guard let listener, let registration else { return }
        let deadline = eventLoop.schedule(at: .now + .seconds(5)) {
            Task { await listener.close() }
        }
        defer { eventLoop.cancel(deadline) }
        let listens = try? await listener.query(
            "SELECT count(*) = 2 FROM pg_listening_channels() AS c WHERE c = ANY ($1)",
            [.textArray([registration.channel, registration.lossChannel])]
        ).value(as: Bool.self)
        if listens == false {
            logger.warning("The listening connection no longer listens; it is opened again")
            await listener.close()
        }
    }

    /// After a silence for longer than the freshness window: others may hold this node's streams by now.
    private func recover(from fenced: Registration) async throws(SessionManagerError) {
        guard !isRecovering, registration?.node == fenced.node, !isStopped else { return }
        isRecovering = true
        defer { isRecovering = false }
        logger.warning(
            "This node was silent for too long and registers anew",
            metadata: ["tmcp.node": "\(fenced.node)"]
        )
        registry.cutOff()
        let renewed = try await register()
        registration = renewed
        if let listener {
            // Before the streams are attached, so that nothing is sent to them unheard.
            try await subscribe(listener)
            try? await listener.unlisten(from: fenced.channel)
            try? await listener.unlisten(from: fenced.lossChannel)
        }
        try await reattach(renewed)
        // Without a listening connection it is for listen() to say so.
        if listener != nil { perform(registry.listening()) }
    }

    /// After being cut off for longer than the log reaches back: each client comes back, and is told for its own stream
    /// whether it has missed anything.
    private func startOver() async throws(SessionManagerError) {
        guard let registration else { return }
        registry.closeAll(.detached)
        record()
        _ = try await calls.query(
            "SELECT tmcp.stop_node($1, $2)",
            [.text(configuration.store), .int8(registration.node)]
        )
        try await recover(from: registration)
        registry = StreamRegistry(position: self.registration?.position ?? registry.position)
        if listener != nil { perform(registry.listening()) }
    }

    /// Shows how many streams there are.
    private func record() {
        metrics.holds(registry.streams.count)
    }

    private func reattach(_ registration: Registration) async throws(SessionManagerError) {
        let streams = Array(registry.streams.values)
        guard !streams.isEmpty else { return }
        let result = try await calls.query(
            "SELECT state, event_id FROM tmcp.reattach($1, $2, $3, $4, $5) ORDER BY place",
            [
                .text(configuration.store), .int8(registration.node),
                .int8Array(streams.map(\.number)),
                .int8Array(streams.map(\.position.rawValue)),
                .int8Array(streams.map(\.delivered.rawValue)),
            ]
        )
        do {
            for (stream, row) in zip(streams, result.rows) {
                switch try row.value(0, as: String.self) {
                case "attached":
                    registry.reattached(stream.number, position: EventID(rawValue: try row.value(1)))
                case "purged": registry.close(stream.number, .purged)
                default: registry.close(stream.number, .takenOver)
                }
            }
            record()
        } catch {
            throw SessionManagerError(error)
        }
    }

    // MARK: Streams

    /// Whether this process holds the stream.
    func holds(_ id: String) -> Bool { registry.stream(id: id) != nil }

    /// Opens streams, all in one call.
    func attach(_ attachments: [StreamAttachment]) async throws(SessionManagerError) -> [StreamAttachment.Outcome] {
        do {
            return try await attachOnce(attachments)
        } catch  where error.code == .nodeFenced {
            if let registration { try await recover(from: registration) }
            return try await attachOnce(attachments)
        }
    }

    private func attachOnce(
        _ attachments: [StreamAttachment]
    ) async throws(SessionManagerError) -> [StreamAttachment.Outcome] {
        guard let registration, !isStopped else {
            throw SessionManagerError(.notRunning, "the session manager has stopped")
        }
        registry.attachingBegan()
        defer { registry.attachingEnded() }
        let result = try await calls.query(
            """
            SELECT state, stream, event_id, replay_after FROM tmcp.attach_batch($1, $2, $3, $4, $5, $6) ORDER BY place
            """,
            [
                .text(configuration.store), .int8(registration.node),
                .textArray(attachments.map(\.id)),
                .int8Array(attachments.map { $0.options.lastEventID?.rawValue }),
                .textArray(attachments.map(\.options.sessionID)),
                .textArray(attachments.map(\.options.principal)),
            ]
        )
        defer { record() }
        do {
            return try zip(attachments, result.rows).map { (attachment, row) throws(PostgresError) in
                try opened(attachment, row)
            }
        } catch {
            throw SessionManagerError(error)
        }
    }

    private func opened(
        _ attachment: StreamAttachment,
        _ row: PostgresRow
    ) throws(PostgresError) -> StreamAttachment.Outcome {
        let state: String = try row.value(0)
        if state == "held" { return .held }
        if state == "absent" { return .absent }
        let position = EventID(rawValue: try row.value(2))
        let replayAfter: Int64? = try row.value(3)
        let stream = StreamRegistry.Stream(
            number: try row.value(1),
            id: attachment.id,
            isStandalone: attachment.options.sessionID.map { $0 == attachment.id } ?? true,
            controller: attachment.controller,
            position: position,
            delivered: position
        )
        perform(registry.attached(stream, replayAfter: replayAfter.map(EventID.init(rawValue:))))
        let replay: StreamOpening.Replay =
            switch state {
            case "replay": .complete
            case "purged": .purged
            default: .none
            }
        return .opened(
            StreamOpening(replay: replay, position: position, start: replayAfter.map(EventID.init(rawValue:)))
        )
    }

    /// Lets go of a stream whose client is gone.
    func detach(_ id: String) async {
        guard let stream = registry.stream(id: id) else { return }
        registry.remove(stream.number)
        record()
        await detach(stream.number)
    }

    private func detach(_ number: Int64) async {
        undetached.insert(number)
        await detachRemaining()
    }

    /// Tells the database of all streams that were let go of. What it cannot be told now it is told with a heartbeat.
    private func detachRemaining() async {
        guard let registration, !undetached.isEmpty else { return }
        let numbers = undetached
        undetached = []
        do {
            _ = try await calls.query(
                "SELECT tmcp.detach($1, $2, $3)",
                [.text(configuration.store), .int8(registration.node), .int8Array(numbers.map { $0 })]
            )
        } catch {
            // A stream that was opened again meanwhile is held again.
            undetached.formUnion(numbers.filter { registry.streams[$0] == nil })
            logger.warning("Streams could not be detached yet", metadata: ["tmcp.error": "\(error)"])
        }
    }

    // MARK: Errands

    private func perform(_ actions: [StreamRegistry.Action]) {
        for action in actions { errand.yield(.action(action)) }
    }

    private func run(_ errand: Errand) async {
        do throws(SessionManagerError) {
            switch errand {
            case .action(.replay(let stream, let after, let through)):
                try await replay(stream, after: after, through: through)
            case .action(.fetch(let after)):
                try await fetch(after: after)
            case .action(.detach(let stream)):
                record()
                await detach(stream)
            case .flushOutbox:
                try await flushOutbox()
            }
        } catch {
            logger.warning("An errand of the node failed", metadata: ["tmcp.error": "\(error)"])
        }
    }

    private func replay(_ number: Int64, after: EventID, through: EventID) async throws(SessionManagerError) {
        var after = after
        while let stream = registry.streams[number] {
            let messages: [StreamMessage]
            do {
                let result = try await calls.query(
                    "SELECT event_id, data FROM tmcp.replay($1, $2, $3, $4, $5, $6)",
                    [
                        .text(configuration.store), .int8(number), .int8(after.rawValue), .int8(through.rawValue),
                        .int8(Self.pageCount), .int8(Self.pageBytes),
                    ]
                )
                messages = try result.rows.map { (row) throws(PostgresError) in
                    StreamMessage(eventID: EventID(rawValue: try row.value(0)), data: try row.value(1))
                }
            } catch {
                // The client comes back and resumes: better than a stream with a hole.
                registry.close(number, .detached)
                record()
                await detach(number)
                throw SessionManagerError(any: error)
            }
            guard let last = messages.last else { break }
            // No faster than the client reads, so that it can catch up with more than its buffer holds.
            await stream.controller.waitUntilDrained()
            metrics.fetched(messages.count)
            for message in messages { perform(registry.replayed(message, stream: number)) }
            after = last.eventID
        }
        perform(registry.caughtUp(number, through: through))
    }

    /// Reads the log for the whole node, and does not give up: the streams get nothing else before.
    private func fetch(after: EventID) async throws(SessionManagerError) {
        var after = after
        var backoff = Backoff()
        while let registration, !isStopped, !Task.isCancelled {
            do {
                let result = try await calls.query(
                    "SELECT event_id, stream, data FROM tmcp.fetch_messages($1, $2, $3, $4, $5)",
                    [
                        .text(configuration.store), .int8(registration.node), .int8(after.rawValue),
                        .int8(Self.pageCount), .int8(Self.pageBytes),
                    ]
                )
                guard result.rowCount > 0 else { return perform(registry.nodeCaughtUp()) }
                for row in result.rows {
                    let message = StreamMessage(eventID: EventID(rawValue: try row.value(0)), data: try row.value(2))
                    perform(registry.fetched(message, stream: try row.value(1)))
                    after = message.eventID
                }
                metrics.fetched(result.rowCount)
                backoff.reset()
            } catch {
                let failure = SessionManagerError(any: error)
                if failure.code == .purged { return try await startOver() }
                logger.warning("Missed messages cannot be fetched yet", metadata: ["tmcp.error": "\(failure)"])
                try? await Task.sleep(for: backoff.next())
            }
        }
    }

    /// Sends what transactions have enqueued.
    private func flushOutbox() async throws(SessionManagerError) {
        while true {
            let result = try await calls.query("SELECT tmcp.flush_outbox($1)", [.text(configuration.store)])
            let count: Int64
            do {
                count = try result.value()
            } catch {
                throw SessionManagerError(error)
            }
            guard count == 1000 else { return }
        }
    }
}
