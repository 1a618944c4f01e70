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
            sends = Batcher(eventLoop: eventLoop, maximumCount: 512, maximumWeight: 1_048_576) {
                (sendings) async throws(SessionManagerError) in try await sender.send(sendings)
            }
            attaches = node.map { node in
                Batcher(
                    eventLoop: eventLoop,
                    maximumCount: 256,
                    perform: { (attachments) async throws(SessionManagerError) in try await node.attach(attachments) },
                    undo: { attachment, _ in await node.detach(attachment.id) }
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
        try await Installation(configuration: configuration, calls: calls, logger: logger).ensure()
        try await node?.start()
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

extension ConnectionConfiguration {
    /// How the connection for calls is made.
    static func calls(_ configuration: PostgresSessionConfiguration) throws(PostgresError) -> ConnectionConfiguration {
        var result = try ConnectionConfiguration(connectionString: configuration.connectionString)
        result.apply(configuration)
        result.synchronousCommit = configuration.durability == .asynchronous ? .off : nil
        result.statementTimeout = configuration.statementTimeout
        result.answerTimeout = configuration.answerTimeout
        if result.answerTimeout == nil, configuration.statementTimeout > .zero {
            result.answerTimeout = configuration.statementTimeout + .seconds(5)
        }
        // A row that an operator's open transaction holds must not hold up everybody's calls for long.
        result.lockTimeout = min(configuration.statementTimeout, .seconds(2))
        return result
    }

    /// How the connection that listens is made.
    static func listener(_ configuration: PostgresSessionConfiguration) throws(PostgresError) -> ConnectionConfiguration
    {
        var result = try ConnectionConfiguration(
            connectionString: configuration.listenerConnectionString ?? configuration.connectionString
        )
        result.apply(configuration)
        // Heartbeats go over it. The next one has to come in time when this one does not, and no wait for a lock or for
        // the disk may hold up the notifications.
        result.statementTimeout = .seconds(4)
        result.lockTimeout = .seconds(2)
        result.answerTimeout = .seconds(5)
        result.synchronousCommit = .off
        return result
    }

    private mutating func apply(_ configuration: PostgresSessionConfiguration) {
        if let user = configuration.user { self.user = user }
        if let password = configuration.password { self.password = password }
        applicationName = configuration.applicationName
        connectTimeout = configuration.connectTimeout
    }
}
