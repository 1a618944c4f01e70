import CoreMetrics
import Logging
import PostgresClient
import SessionManager

/// What runs while a session manager runs: its connections, and what goes over them.
final class SessionComponents: Sendable {
    let eventLoop: EventLoop
    let calls: CallConnection
    let functions: StoreFunctions
    let sends: Batcher<MessageSender.Sending, [SendReceipt]>
    /// `nil` where the process does not listen, and so holds no streams.
    let node: StreamNode?
    let attaches: Batcher<StreamAttachment, StreamAttachment.Outcome>?
    let metrics: SessionMetrics

    init(configuration: PostgresSessionConfiguration, holdsStreams: Bool, logger: Logger) throws(SessionManagerError) {
        try configuration.check()
        let metrics = SessionMetrics(factory: configuration.metricsFactory ?? MetricsSystem.factory)
        self.metrics = metrics
        do throws(PostgresError) {
            let callConfiguration = try ConnectionConfiguration.calls(configuration)
            let listenerConfiguration = try ConnectionConfiguration.listener(configuration)
            let eventLoop = try EventLoop()
            let calls = CallConnection(
                configuration: callConfiguration,
                eventLoop: eventLoop,
                logger: logger,
                metrics: metrics
            )
            let functions = StoreFunctions(store: configuration.store, calls: calls)
            let node =
                holdsStreams
                ? StreamNode(
                    configuration: configuration,
                    listenerConfiguration: listenerConfiguration,
                    functions: functions,
                    logger: logger,
                    metrics: metrics
                ) : nil
            let sender = MessageSender(functions: functions, metrics: metrics)
            self.eventLoop = eventLoop
            self.calls = calls
            self.functions = functions
            self.node = node
            sends = Batcher(eventLoop: eventLoop, maximumCount: 512, maximumWeight: MessageSender.maximumWeight) {
                (sendings) async throws(SessionManagerError) in try await sender.send(sendings)
            }
            attaches = node.map { node in
                Batcher(
                    eventLoop: eventLoop,
                    maximumCount: 256,
                    perform: { (attachments) async throws(SessionManagerError) in try await node.attach(attachments) },
                    undo: { _, outcome in await node.undo(outcome) }
                )
            }
        } catch {
            var failure = SessionManagerError(error)
            if failure.code == .configuration, failure.hint == nil {
                failure.hint = "Give a URI such as postgresql://user@host/database, or keywords and values of libpq."
            }
            throw failure
        }
    }

    /// Connects, installs or checks, and listens.
    func start(configuration: PostgresSessionConfiguration, logger: Logger) async throws(SessionManagerError) {
        try await calls.start()
        let installation = Installation(configuration: configuration, calls: calls, logger: logger)
        try await installation.ensure()
        guard let node else { return }
        try await installation.checkHeartbeatInterval()
        try await node.start()
    }

    /// Runs until the task is cancelled or ``stop()`` is called.
    func run() async {
        await withDiscardingTaskGroup { group in
            group.addTask(executorPreference: eventLoop) { await self.calls.run() }
            group.addTask(executorPreference: eventLoop) { await self.sends.run() }
            if let attaches { group.addTask(executorPreference: eventLoop) { await attaches.run() } }
            if let node { group.addTask(executorPreference: eventLoop) { await node.run() } }
        }
    }

    /// Takes nothing new, finishes what is under way, and lets go of the streams so that their clients come back.
    func stop() async {
        await calls.beginStopping()
        await node?.closeStreams()
        await attaches?.stop()
        await sends.stop()
        await node?.stop()
        await calls.stop()
    }
}
