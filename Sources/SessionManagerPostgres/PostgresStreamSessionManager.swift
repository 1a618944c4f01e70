public import Logging
import PostgresClient
public import ServiceLifecycle
public import SessionManager

/// Opens SSE streams in this process, and sends messages to streams in any process, through PostgreSQL.
///
/// Add it to a `ServiceGroup`, or call ``run()`` in a task of your own, before it is used. It keeps two connections:
/// one for calls, and one that listens. Every method is one call of a function of the extension
/// `tmcp_session_manager`; what is sent at the same time goes out in one call.
///
/// ```swift
/// let streams = PostgresStreamSessionManager(
///     configuration: PostgresSessionConfiguration(connectionString: "postgresql://localhost/app"),
///     logger: logger
/// )
/// let messages = MessageStream()
/// try await streams.create("session-1", controller: messages.controller)
/// try await streams.send(["session-1"], data: #"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#)
/// for await message in messages {
///     print(message.data)
/// }
/// ```
///
/// ## What every call can throw
/// `SessionManagerError`, besides what each method names, with code
/// - `.notRunning` when ``run()`` was not called within the connect timeout, or has ended: nothing was done;
/// - `.unreachable` when there was no connection within the connect timeout: nothing was done;
/// - `.outcomeUnknown` when the connection was lost before the answer came: it may have been done;
/// - `.timeout` after the statement timeout, or 2 s of waiting for a lock: it was undone;
/// - `.cancelled` when the calling task is: it may have been done;
/// - `.storeNotFound` when the store was dropped or is no longer granted, and `.invalidArgument` for an argument that holds
///   a NUL character, which no text of PostgreSQL can;
/// - `.database` for whatever else PostgreSQL refuses: `sqlState` says what.
public struct PostgresStreamSessionManager: StreamSessionManager, Service {
    let client: SessionClient

    /// A manager that does nothing yet.
    public init(
        configuration: PostgresSessionConfiguration,
        logger: Logger = Logger(label: "tmcp.session-manager")
    ) {
        client = SessionClient(configuration: configuration, holdsStreams: true, logger: logger)
    }

    /// Connects, installs or checks what the database needs, and serves until the task is cancelled or the service
    /// group shuts down. Then streams are let go of, and their clients can resume them in another process.
    ///
    /// - Throws: `SessionManagerError` when the start fails: `.configuration` for an option or a connection string that is
    ///   wrong; `.unreachable` when there is no server, or it does not answer; `.notInstalled` and `.storeNotFound` when
    ///   something is missing in the database, or was not granted; `.listenerPooled` when notifications do not arrive;
    ///   `.invalidArgument` when the store or a relation cannot have its name; `.timeout`, `.outcomeUnknown` and
    ///   `.database` when a statement fails for another reason; `.cancelled` when the task was cancelled meanwhile; and
    ///   `.notRunning` when it is called twice. Later losses of a connection are mended.
    public func run() async throws {
        try await client.run()
    }

    /// Returns when the manager can be used.
    ///
    /// - Throws: what ``run()`` throws, or `.notRunning` when it has stopped or the task is cancelled.
    public func waitUntilReady() async throws(SessionManagerError) {
        try await client.lifecycle.waitUntilReady()
    }

    /// The executor that the manager's connections run on, as soon as it runs.
    ///
    /// A task that prefers it (`withTaskExecutorPreference`) calls the manager without changing threads, which saves
    /// a message that is alone some 0.05 ms; so do its child tasks. It is one thread, which all streams wait for: what runs there
    /// must neither block nor compute for long.
    ///
    /// - Throws: as ``waitUntilReady()``; `.notRunning` also when there is no `run()` within the connect timeout, and
    ///   `.cancelled` when the task is cancelled.
    public var taskExecutor: any TaskExecutor {
        get async throws(SessionManagerError) { try await client.running().eventLoop }
    }

    /// Opens the stream `id` in this process. SQL: `tmcp.attach_batch`.
    ///
    /// - Throws: `.streamHeld` when another live process holds the stream and no last event id was given,
    ///   `.sessionNotFound` when its session belongs to another principal, `.invalidArgument` for an id that cannot be
    ///   one, `.nodeFenced` when this process could not register anew within the connect timeout, and what every call
    ///   can throw.
    @discardableResult
    public func create(
        _ id: String,
        controller: any StreamController,
        options: StreamOptions
    ) async throws(SessionManagerError) -> StreamOpening {
        try await open(StreamAttachment(id: id, options: options, controller: controller))
    }

    /// Opens the stream `id` in this process, without a session. SQL: `tmcp.listen`.
    ///
    /// - Throws: `.streamHeld` when there is a stream of that id, `.sessionLimitReached` or
    ///   `.principalSessionLimitReached` when as many listen as there may be sessions, `.invalidArgument` for an id or
    ///   a filter that cannot be one, `.nodeFenced` as ``create(_:controller:options:)``, and what every call can
    ///   throw.
    @discardableResult
    public func listen(
        _ id: String,
        controller: any StreamController,
        filter: ChangeFilter,
        principal: String?
    ) async throws(SessionManagerError) -> EventID {
        let options = StreamOptions(principal: principal)
        return try await open(
            StreamAttachment(id: id, options: options, filter: filter, controller: controller)
        ).position
    }

    private func open(_ attachment: StreamAttachment) async throws(SessionManagerError) -> StreamOpening {
        guard let attaches = try await client.running().attaches else {
            throw SessionManagerError(.notRunning, "this session manager holds no streams")
        }
        switch try await attaches.submit(attachment) {
        case .opened(let opening, _): return opening
        case .refused(let error): throw error
        case .held:
            throw SessionManagerError(
                .streamHeld,
                "the stream is open in a process that is alive",
                sqlState: "TM003",
                hint: "Resume it with its last event id to take it over, or wait until that process lets go of it."
            )
        case .absent:
            throw SessionManagerError(
                .sessionNotFound,
                "there is no such session",
                sqlState: "TM007",
                hint: "Answer the client with 404, so that it starts a new session."
            )
        }
    }

    /// Lets go of the stream `id`, whose client is gone. SQL: `tmcp.detach`.
    ///
    /// - Throws: `.notRunning` when ``run()`` was not called within the connect timeout, or has ended, and `.cancelled`
    ///   while it waits for that. What the database cannot be told now it is told later.
    public func detach(_ id: String) async throws(SessionManagerError) {
        await (try client.running()).node?.detach(id)
    }

    /// Ends the stream `id` wherever it is held. SQL: `tmcp.delete_stream`.
    ///
    /// - Throws: `.invalidArgument` for an id that cannot be one, and what every call can throw.
    public func delete(_ id: String) async throws(SessionManagerError) {
        try await client.functions.call("tmcp.delete_stream", [.text(id)])
    }

    /// Whether the stream `id` is open in a process that is alive. SQL: `tmcp.has`.
    ///
    /// - Throws: what every call can throw.
    public func has(_ id: String) async throws(SessionManagerError) -> Bool {
        try await client.functions.value("tmcp.has", [.text(id)])
    }

    /// Sends `data` to the standalone streams of `sessions`, or to all. SQL: `tmcp.send`, `tmcp.multicast` and
    /// `tmcp.broadcast`; `tmcp.send_batch` for what is sent at the same time.
    ///
    /// - Throws: `.messageTooLarge` when `data` is over the store's limit, and then nothing was sent to anybody, and
    ///   what every call can throw.
    @discardableResult
    public func send(_ sessions: [String]?, data: String) async throws(SessionManagerError) -> [SendReceipt] {
        let recipients: MessageSender.Recipients
        switch (sessions, sessions?.first) {
        case (nil, _): recipients = .all
        case (_?, nil): return []
        case (let ids?, let id?): recipients = ids.count == 1 ? .stream(id) : .streams(ids)
        }
        let sending = MessageSender.Sending(recipients: recipients, data: data)
        let running = try await client.running()
        let start = ContinuousClock.now
        let receipts = try await running.sends.submit(sending, weight: sending.weight)
        running.metrics.sendTook(ContinuousClock.now - start)
        return receipts
    }

    /// Sends `data` to all sessions, and to the streams that listen for changes of `list`. SQL: `tmcp.broadcast`.
    ///
    /// - Throws: as ``send(_:data:)``.
    @discardableResult
    public func broadcast(_ list: ServerList, data: String) async throws(SessionManagerError) -> EventID {
        EventID(rawValue: try await sendAlone("tmcp.broadcast", [.text(data), .text(list.rawValue)]))
    }

    /// Sends `data` to whoever is subscribed to `uri`, in this database. SQL: `tmcp.publish`.
    ///
    /// - Throws: as ``send(_:data:)``; `.invalidArgument` also for a uri that cannot be one.
    @discardableResult
    public func publish(_ uri: String, data: String, principal: String?) async throws(SessionManagerError) -> Int {
        try await sendAlone("tmcp.publish", [.text(uri), .text(data), .text(principal)])
    }

    /// Sends `data` to the sessions that want to hear of `level`, in this database. SQL: `tmcp.log`.
    ///
    /// - Throws: as ``send(_:data:)``.
    @discardableResult
    public func log(_ level: LogLevel, data: String) async throws(SessionManagerError) -> Int {
        try await sendAlone("tmcp.log", [.inferred(level.rawValue), .text(data)])
    }

    /// Sends with a call of its own, as the database looks the recipients up.
    private func sendAlone<Value: PostgresDecodable & Sendable>(
        _ function: StaticString,
        _ arguments: [PostgresParameter]
    ) async throws(SessionManagerError) -> Value {
        let running = try await client.running()
        let start = ContinuousClock.now
        running.metrics.sendsAlone()
        let value: Value = try await running.functions.value(function, arguments)
        running.metrics.sendTook(ContinuousClock.now - start)
        return value
    }
}
