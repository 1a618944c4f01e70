import DequeModule
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

    /// Messages that one replay or fetch reads at most at a time, and their bytes.
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
    /// What this process is known as; `nil` when it has to register anew.
    private var registration: Registration?
    /// The node that this process was before, as long as the database has not been told that it is gone.
    private var formerNode: Int64?
    private var listener: PostgresConnection?
    /// Whether the listener hears everything that is sent to the streams, which are all attached to this node.
    private var isSettled = false
    private let disturbances: AsyncStream<Void>
    private let disturbed: AsyncStream<Void>.Continuation
    private var probe: Probe?
    private var isStopped = false
    /// Streams that the database should let go of, and could not be told so far.
    private var undetached: Set<Int64> = []
    private var isChangingStreams = false
    private var changesWaiting: Deque<CheckedContinuation<Void, Never>> = []
    private var isCleaningUp = false
    private let errands: AsyncStream<Errand>
    private let errand: AsyncStream<Errand>.Continuation

    /// What the node does beside listening.
    enum Errand {
        case action(StreamRegistry.Action)
        case cleanUp
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
                try await stopNode(registration.node)
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

    private func stopNode(_ node: Int64) async throws(SessionManagerError) {
        _ = try await calls.query("SELECT tmcp.stop_node($1, $2)", [.text(configuration.store), .int8(node)])
    }

    // MARK: Listening

    private func keepListening() async {
        for await _ in disturbances {
            var backoff = Backoff()
            while !isSettled, !isStopped, !Task.isCancelled {
                do throws(SessionManagerError) {
                    try await settle()
                    metrics.reconnected()
                } catch {
                    logger.warning("Notifications cannot be heard", metadata: ["tmcp.error": "\(error)"])
                    try? await Task.sleep(for: backoff.next())
                }
            }
        }
    }

    /// Opens a listening connection, makes sure that notifications arrive on it and that the streams are still this
    /// node's, and catches up. This is the one way back from everything: a lost connection, and a node that was fenced.
    private func settle() async throws(SessionManagerError) {
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
            throw SessionManagerError(connecting: error)
        }
        listener = connection
        do throws(SessionManagerError) {
            let registration = try await changingStreams { () async throws(SessionManagerError) in
                try await currentRegistration()
            }
            if let formerNode {
                // Also for streams that it holds in the database alone, since nobody heard that they were attached.
                try await stopNode(formerNode)
                self.formerNode = nil
            }
            try await subscribe(connection, registration)
            try await checkNotificationsArrive(on: connection, registration)
            // After LISTEN, so that nothing is sent to them unheard; and since what became of them meanwhile was not.
            try await changingStreams { () async throws(SessionManagerError) in try await reattach(registration) }
            // Else what the log no longer has for a stream that was closed would count as missed by the node.
            await detachRemaining()
            // Any of this may have been undone while the rest was under way.
            guard listener === connection, self.registration?.node == registration.node, !isStopped else {
                throw SessionManagerError(.unreachable, "the listening connection was lost at once")
            }
        } catch {
            listener = nil
            await connection.close()
            throw error
        }
        isSettled = true
        perform(registry.listening())
    }

    /// This process is this node no more, whatever the reason: it registers anew, with the streams that it still has.
    private func abandon(_ former: Registration) async {
        guard registration?.node == former.node, !isStopped else { return }
        logger.warning("This node registers anew", metadata: ["tmcp.node": "\(former.node)"])
        registration = nil
        formerNode = former.node
        unsettle()
        await listener?.close()
    }

    private func unsettle() {
        isSettled = false
        registry.cutOff()
        disturbed.yield()
    }

    /// Has one change at a time made to what the database knows of this node's streams. A detach that was overtaken by
    /// an attach of the same stream, for instance, would leave a stream that gets nothing.
    private func changingStreams<Value>(
        _ change: () async throws(SessionManagerError) -> Value
    ) async throws(SessionManagerError) -> Value {
        if isChangingStreams {
            await withCheckedContinuation { changesWaiting.append($0) }
        }
        isChangingStreams = true
        defer {
            if let next = changesWaiting.popFirst() { next.resume() } else { isChangingStreams = false }
        }
        return try await change()
    }

    /// To be called by ``changingStreams(_:)``.
    private func currentRegistration() async throws(SessionManagerError) -> Registration {
        if let registration { return registration }
        let registration = try await register()
        self.registration = registration
        registry.registered(at: registration.position)
        return registration
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

    private func subscribe(
        _ connection: PostgresConnection,
        _ registration: Registration
    ) async throws(SessionManagerError) {
        do {
            try await connection.listen(to: registration.channel)
            try await connection.listen(to: registration.lossChannel)
        } catch {
            throw SessionManagerError(error)
        }
    }

    private func checkNotificationsArrive(
        on connection: PostgresConnection,
        _ registration: Registration
    ) async throws(SessionManagerError) {
        let token = "probe \(UInt64.random(in: .min ... .max))"
        // A direct connection hears it sooner or later, and a server may be slow.
        let patience = await connection.isPooled ? .seconds(2) : configuration.connectTimeout
        _ = try await calls.query("SELECT pg_notify($1, $2)", [.text(registration.channel), .text(token)])
        if await hears(token, within: patience) { return }
        guard listener === connection, !isStopped else {
            throw SessionManagerError(.unreachable, "the listening connection was lost at once")
        }
        throw SessionManagerError(
            .listenerPooled,
            "notifications do not arrive on the listening connection within \(patience)",
            hint: "It probably goes through a pooler in transaction mode, which swallows LISTEN. Give a connection "
                + "string that leads to the server itself, or to a pool in session mode, as "
                + "listenerConnectionString; the calls may keep the pooler."
        )
    }

    private func hears(_ token: String, within patience: Duration) async -> Bool {
        if lastProbe == token { return true }
        guard listener != nil, !isStopped else { return false }
        let timer = eventLoop.schedule(at: .now + patience) { self.assumeIsolated { $0.endProbe(heard: false) } }
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
        unsettle()
        endProbe(heard: false)
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
            let frames = try NotificationFrame.parse(payload)
            if deliver({ for frame in frames { perform(registry.received(trusted(frame))) } }) > 0 {
                metrics.deliveryTook(since: registry.position)
            }
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
        perform(registry.misheard())
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
        if !isAlive {
            // Silent for longer than the freshness window: others may hold its streams by now.
            await abandon(registration)
        }
        await checkListener()
        await detachRemaining()
        errand.yield(.cleanUp)
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
            while !isStopped, try await calls.query(call).value(as: Bool?.self) == true {}
        } catch {
            guard !isStopped else { return }
            logger.warning("The database was not cleaned up", metadata: ["tmcp.error": "\(error)"])
        }
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

    /// After being cut off for longer than the log reaches back: each client comes back, and is told for its own stream
    /// whether it has missed anything.
    private func startOver(_ former: Registration) async {
        registry.closeAll(\.closingAfterLoss)
        record()
        await abandon(former)
    }

    /// Shows how many streams there are.
    private func record() {
        metrics.holds(registry.streams.count)
    }

    /// Makes sure of the streams. To be called by ``changingStreams(_:)``.
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
                case "purged":
                    registry.close(stream.number, .purged)
                    undetached.insert(stream.number)
                case "taken": registry.close(stream.number, .takenOver)
                // A stream without a session was not ended by anybody, but by its node having been thought dead.
                default: registry.close(stream.number, stream.lists == nil ? .ended : .purged)
                }
            }
        } catch {
            throw SessionManagerError(error)
        }
        record()
    }

    // MARK: Streams

    /// What the database calls this node; `nil` while it is about to register anew.
    var number: Int64? { registration?.node }

    /// Opens streams, all in one call.
    func attach(_ attachments: [StreamAttachment]) async throws(SessionManagerError) -> [StreamAttachment.Outcome] {
        // Whatever was refused by the fencing was not opened; and fenced it may be again before it comes to that, where
        // everything is slow.
        let deadline = ContinuousClock.now + configuration.connectTimeout
        var outcomes: [StreamAttachment.Outcome?] = Array(repeating: nil, count: attachments.count)
        var remaining = Array(attachments.indices)
        repeat {
            do throws(SessionManagerError) {
                let latest = try await attachOnce(remaining.map { attachments[$0] })
                for (place, outcome) in zip(remaining, latest) { outcomes[place] = outcome }
                remaining = remaining.filter { outcomes[$0]?.isFenced ?? true }
            } catch {
                if error.code == .nodeFenced, ContinuousClock.now < deadline { continue }
                // Others are open by now, and their callers are to hear of it.
                guard remaining.count < attachments.count else { throw error }
                for place in remaining { outcomes[place] = .refused(error) }
                break
            }
        } while !remaining.isEmpty && ContinuousClock.now < deadline
        return outcomes.compactMap { $0 }
    }

    private func attachOnce(
        _ attachments: [StreamAttachment]
    ) async throws(SessionManagerError) -> [StreamAttachment.Outcome] {
        try await changingStreams { () async throws(SessionManagerError) in
            try requireNotStopped()
            let registration = try await currentRegistration()
            registry.attachingBegan()
            defer { registry.attachingEnded() }
            do throws(SessionManagerError) {
                return try await attach(attachments, registration)
            } catch {
                // Without an answer, the database may have attached streams that this process does not know of.
                if error.code == .nodeFenced || error.code == .outcomeUnknown { await abandon(registration) }
                throw error
            }
        }
    }

    private func requireNotStopped() throws(SessionManagerError) {
        guard !isStopped else { throw SessionManagerError(.notRunning, "the session manager has stopped") }
    }

    private func attach(
        _ attachments: [StreamAttachment],
        _ registration: Registration
    ) async throws(SessionManagerError) -> [StreamAttachment.Outcome] {
        var outcomes: [StreamAttachment.Outcome?] = Array(repeating: nil, count: attachments.count)
        let ofSessions = attachments.indices.filter { attachments[$0].filter == nil }
        let attached = try await attachToSessions(ofSessions.map { attachments[$0] }, registration)
        for (place, outcome) in zip(ofSessions, attached) { outcomes[place] = outcome }
        // These fail one by one, and so nothing is thrown once a stream is open.
        await withTaskGroup(of: (place: Int, outcome: StreamAttachment.Outcome).self) { group in
            for (place, attachment) in attachments.enumerated() {
                guard let filter = attachment.filter else { continue }
                group.addTask { (place, await self.listen(attachment, for: filter, registration)) }
            }
            for await (place, outcome) in group { outcomes[place] = outcome }
        }
        return outcomes.compactMap { $0 }
    }

    private func listen(
        _ attachment: StreamAttachment,
        for filter: ChangeFilter,
        _ registration: Registration
    ) async -> StreamAttachment.Outcome {
        do {
            let result = try await calls.query(
                "SELECT stream, event_id FROM tmcp.listen($1, $2, $3, $4, $5, $6)",
                [
                    .text(configuration.store), .int8(registration.node), .text(attachment.id),
                    .textArray(filter.lists.map(\.rawValue)), .textArray(filter.resources),
                    .text(attachment.options.principal),
                ]
            )
            try requireNotStopped()
            let position = EventID(rawValue: try result.value(column: 1))
            let stream = StreamRegistry.Stream(
                number: try result.value(column: 0),
                id: attachment.id,
                isStandalone: false,
                lists: filter.lists,
                controller: attachment.controller,
                position: position,
                delivered: position
            )
            perform(registry.attached(stream, replayAfter: nil))
            record()
            return .opened(StreamOpening(replay: .none, position: position))
        } catch {
            let failure = SessionManagerError(any: error)
            // Without an answer, the database may have opened a stream that this process does not know of.
            if failure.code == .nodeFenced || failure.code == .outcomeUnknown { await abandon(registration) }
            return .refused(failure)
        }
    }

    private func attachToSessions(
        _ attachments: [StreamAttachment],
        _ registration: Registration
    ) async throws(SessionManagerError) -> [StreamAttachment.Outcome] {
        guard !attachments.isEmpty else { return [] }
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
        // Stopping closes the streams that there are; these would stay open for ever.
        try requireNotStopped()
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
        registry.close(stream.number, .detached)
        record()
        await detach(stream.number)
    }

    /// Lets go of a stream whose opener was cancelled before it heard of it.
    func forget(_ attachment: StreamAttachment) async {
        guard let stream = registry.stream(id: attachment.id) else { return }
        registry.close(stream.number, .detached)
        record()
        await detach(stream.number)
    }

    private func detach(_ number: Int64) async {
        undetached.insert(number)
        await detachRemaining()
    }

    /// Tells the database of all streams that were let go of. What it cannot be told now it is told with a heartbeat.
    private func detachRemaining() async {
        do throws(SessionManagerError) {
            try await changingStreams { () async throws(SessionManagerError) in
                // A stream that was opened again meanwhile is held again.
                undetached = undetached.filter { registry.streams[$0] == nil }
                guard let registration, !undetached.isEmpty else { return }
                let numbers = Array(undetached)
                _ = try await calls.query(
                    "SELECT tmcp.detach($1, $2, $3)",
                    [.text(configuration.store), .int8(registration.node), .int8Array(numbers)]
                )
                undetached.subtract(numbers)
            }
        } catch {
            logger.warning("Streams could not be detached yet", metadata: ["tmcp.error": "\(error)"])
        }
    }

    // MARK: Errands

    private func perform(_ actions: [StreamRegistry.Action]) {
        for action in actions { errand.yield(.action(action)) }
    }

    private func run(_ errand: Errand) async {
        switch errand {
        case .action(.replay(let replay)): await run(replay)
        case .action(.fetch(let fetch)): await run(fetch)
        case .action(.detach(let stream)):
            record()
            await detach(stream)
        case .cleanUp: await cleanUp()
        case .flushOutbox:
            do throws(SessionManagerError) {
                try await flushOutbox()
            } catch {
                // The next cleanup sends what is left.
                logger.warning("The outbox could not be sent", metadata: ["tmcp.error": "\(error)"])
            }
        }
    }

    /// Counts what is handed to controllers meanwhile, and returns how many messages that were.
    @discardableResult
    private func deliver<Failure: Error>(_ hand: () throws(Failure) -> Void) throws(Failure) -> Int {
        let before = registry.deliveredCount
        try hand()
        metrics.delivered(registry.deliveredCount - before)
        return registry.deliveredCount - before
    }

    /// Reads the log for one stream. Reading does no harm, so it is tried again as long as the stream is open.
    private func run(_ replay: StreamRegistry.Replay) async {
        var after = replay.after
        var backoff = Backoff()
        while let stream = registry.stream(of: replay), !Task.isCancelled {
            do {
                let result = try await calls.query(
                    "SELECT event_id, data FROM tmcp.replay($1, $2, $3, $4, $5, $6)",
                    [
                        .text(configuration.store), .int8(replay.stream), .int8(after.rawValue),
                        .int8(replay.through.rawValue), .int8(Self.pageCount), .int8(Self.pageBytes),
                    ]
                )
                let messages = try result.rows.map { (row) throws(PostgresError) in
                    StreamMessage(eventID: EventID(rawValue: try row.value(0)), data: try row.value(1))
                }
                guard !messages.isEmpty else { return perform(registry.caughtUp(replay)) }
                let bytes = messages.reduce(0) { $0 + Int64($1.data.utf8.count) }
                // No faster than the client reads, so that it can catch up with more than its buffer holds.
                await stream.controller.waitUntilDrained()
                metrics.fetched(messages.count)
                deliver { for message in messages { perform(registry.replayed(message, by: replay)) } }
                if messages.count < Self.pageCount, bytes < Self.pageBytes {
                    return perform(registry.caughtUp(replay))
                }
                after = messages.last?.eventID ?? after
                backoff.reset()
            } catch {
                let failure = SessionManagerError(any: error)
                logger.warning("A stream cannot be replayed", metadata: ["tmcp.error": "\(failure)"])
                guard failure.isTransient else { return await close(replay, failure) }
                try? await Task.sleep(for: backoff.next())
            }
        }
    }

    /// The client comes back and resumes, or is told that it cannot: better than a stream with a hole.
    private func close(_ replay: StreamRegistry.Replay, _ failure: SessionManagerError) async {
        guard let stream = registry.stream(of: replay) else { return }
        let closing: StreamClosing =
            switch failure.code {
            case .purged: .purged
            case .sessionNotFound: .ended
            default: stream.closingAfterLoss
            }
        registry.close(stream.number, closing)
        record()
        await detach(stream.number)
    }

    /// Reads the log for the whole node, and does not give up: the streams get nothing else before.
    private func run(_ fetch: StreamRegistry.Fetch) async {
        var after = fetch.after
        var backoff = Backoff()
        while let registration, registry.isWanted(fetch), !Task.isCancelled {
            do {
                // The heartbeat comes after the messages. A node that is alive then has held its streams all the time;
                // one that is not gets nothing for a stream that was detached, and must not go past that.
                let result = try await calls.query(
                    """
                    SELECT event_id, stream, data, kind, NULL::boolean
                    FROM tmcp.fetch_messages($1, $2, $3, $4, $5)
                    UNION ALL SELECT NULL, NULL, NULL, NULL, tmcp.heartbeat($1, $2)
                    """,
                    [
                        .text(configuration.store), .int8(registration.node), .int8(after.rawValue),
                        .int8(Self.pageCount), .int8(Self.pageBytes),
                    ]
                )
                guard let last = result.rows.last, try last.value(4) else { return await abandon(registration) }
                var bytes: Int64 = 0
                try deliver { () throws(PostgresError) in
                    for row in result.rows.dropLast() {
                        after = EventID(rawValue: try row.value(0))
                        let message = StreamMessage(eventID: after, data: try row.value(2))
                        bytes += Int64(message.data.utf8.count)
                        perform(registry.fetched(message, targets: try targets(of: row), by: fetch))
                    }
                }
                metrics.fetched(result.rowCount - 1)
                if result.rowCount - 1 < Self.pageCount, bytes < Self.pageBytes {
                    return perform(registry.nodeCaughtUp(fetch))
                }
                backoff.reset()
            } catch {
                let failure = SessionManagerError(any: error)
                if failure.code == .purged { return await startOver(registration) }
                logger.warning("Missed messages cannot be fetched yet", metadata: ["tmcp.error": "\(failure)"])
                try? await Task.sleep(for: backoff.next())
            }
        }
    }

    private func targets(of row: PostgresRow) throws(PostgresError) -> NotificationFrame.Targets {
        if let stream: Int64 = try row.value(1) { return .streams([stream]) }
        let kind: String? = try row.value(3)
        return .everybody(kind.flatMap(ServerList.init(rawValue:)))
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
