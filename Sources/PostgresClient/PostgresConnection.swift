import CLibPQ
import Glibc
package import Logging

/// A connection to PostgreSQL on which many calls can be under way at once.
///
/// Calls are pipelined: each is sent at once, whatever the others are at, and is a transaction of its own, so that an
/// error in one does not touch its neighbours. The server runs them one after another in the order in which they were
/// made. A call must not leave a transaction open.
///
/// Behind a pooler each call is sent when the one before it is answered. PgBouncer in transaction mode gives the server
/// connection back when it is idle, even if the first half of another call has been passed on by then; the second half
/// then goes to another server (seen with 1.18: SQLSTATE 34000, and at worst a call that seems to succeed and is
/// never committed).
///
/// The connection runs on its event loop. It is kept, and keeps the loop's attention, until ``close()`` is called or it
/// is lost; after that the close handler has been called, and every call has ended.
package actor PostgresConnection {
    /// Called on the event loop's thread for each notification. It must not block.
    package typealias NotificationHandler = @Sendable (borrowing PostgresNotification) -> Void
    /// Called on the event loop's thread, once, when the connection is over. It must not block.
    package typealias CloseHandler = @Sendable (PostgresError) -> Void

    private typealias Machine = PipelineStateMachine<UInt64, Request, Continuation, PostgresResult>
    private typealias Continuation = UnsafeContinuation<Result<PostgresResult, PostgresError>, Never>

    private struct Request: Sendable {
        let sql: String
        let parameters: EncodedParameters
        let mayBePrepared: Bool
        let takesSettings: Bool
    }

    /// Statements that go before each call, in its transaction.
    private struct CallSettings {
        let sql: String
        let parameters: EncodedParameters
    }

    /// The loop that the connection runs on. A task that prefers it calls the connection without changing threads.
    package nonisolated let eventLoop: EventLoop

    /// The event loop.
    package nonisolated var unownedExecutor: UnownedSerialExecutor { eventLoop.asUnownedSerialExecutor() }

    /// Whether a pooler stands between the connection and the server.
    package private(set) var isPooled = false
    /// The server's version, for instance 180006 for 18.6.
    package private(set) var serverVersion = 0
    /// The process id that the server, or a pooler, gave for the session.
    package private(set) var backendProcessID: Int32 = 0

    private let configuration: ConnectionConfiguration
    private let logger: Logger
    private let notificationHandler: NotificationHandler?
    private let closeHandler: CloseHandler?

    private var handle: ConnectionHandle?
    private var descriptor: Int32 = -1
    private var watchesForWriting = false
    private var machine = Machine()
    private var lastCall: UInt64 = 0
    private var statements = PreparedStatements()
    private var preparesStatements = false
    private var callSettings: CallSettings?
    private var closeReason = PostgresError(.closed, "it was never open")
    private var isOpen = false
    /// When the server was last known not to owe an answer for long: it said something, took something, or owed none.
    private var lastSign = ContinuousClock.now
    private var silenceTimer: EventLoop.Timer?

    private init(
        configuration: ConnectionConfiguration,
        eventLoop: EventLoop,
        logger: Logger,
        notificationHandler: NotificationHandler?,
        closeHandler: CloseHandler?
    ) {
        self.configuration = configuration
        self.eventLoop = eventLoop
        self.logger = logger
        self.notificationHandler = notificationHandler
        self.closeHandler = closeHandler
    }

    // MARK: Opening and closing

    /// Connects, once; trying again is the caller's business.
    ///
    /// - Parameters:
    ///   - onNotification: called on the loop's thread for each notification, in the server's order.
    ///   - onClose: called on the loop's thread when the connection that was returned is over, with
    ///     ``PostgresError/Code/closed`` or ``PostgresError/Code/connectionLost``; not if connecting fails.
    /// - Throws: ``PostgresError/Code/invalidConfiguration``, ``PostgresError/Code/connectFailed``,
    ///   ``PostgresError/Code/connectTimeout``, ``PostgresError/Code/cancelled``,
    ///   ``PostgresError/Code/systemResources``; ``PostgresError/Code/server`` if the server refuses a setting.
    package static func connect(
        configuration: ConnectionConfiguration,
        on eventLoop: EventLoop,
        logger: Logger,
        onNotification: NotificationHandler? = nil,
        onClose: CloseHandler? = nil
    ) async throws(PostgresError) -> PostgresConnection {
        let connection = PostgresConnection(
            configuration: configuration,
            eventLoop: eventLoop,
            logger: logger,
            notificationHandler: onNotification,
            closeHandler: onClose
        )
        try await eventLoop.preferred { () async throws(PostgresError) in try await connection.open() }
        return connection
    }

    private func open() async throws(PostgresError) {
        let deadline = ContinuousClock.now + configuration.connectTimeout
        let attempt = ConnectionAttempt(configuration: configuration, loop: eventLoop, logger: logger)
        let handle = try await attempt.connect(until: deadline)
        guard PQsetnonblocking(handle.pointer, 1) == 0, PQenterPipelineMode(handle.pointer) == 1 else {
            throw handle.error(.connectFailed)
        }
        let descriptor = handle.descriptor
        try eventLoop.register(descriptor, for: .readable) { readiness in
            self.assumeIsolated { $0.became(readiness) }
        }
        self.handle = handle
        self.descriptor = descriptor
        serverVersion = Int(PQserverVersion(handle.pointer))
        backendProcessID = PQbackendPID(handle.pointer)

        let timer = eventLoop.schedule(at: deadline) {
            self.assumeIsolated { $0.end(PostgresError(.connectTimeout, "no answer within the connect timeout")) }
        }
        defer { eventLoop.cancel(timer) }
        do throws(PostgresError) {
            try await settle()
        } catch {
            let reason = closeReason
            let wasLost = self.handle == nil
            end(error)
            guard wasLost else { throw error }
            throw reason.code == .connectTimeout
                ? reason : PostgresError(.connectFailed, reason.message, sqlState: reason.sqlState)
        }
        // Lost in the moment before the caller knew of it: the caller is told here and not through the handler.
        guard self.handle != nil else { throw PostgresError(.connectFailed, closeReason.message) }
        isOpen = true
    }

    /// Finds out whether the connection is direct, and sets the settings for as long as that allows.
    private func settle() async throws(PostgresError) {
        let settings = configuration.sessionSettings
        let isLocal =
            switch configuration.settingsScope {
            case .automatic: "pg_backend_pid() <> $1"
            case .session: "false"
            case .call: "true"
            }
        var sql = "SELECT pg_backend_pid() = $1"
        var parameters: [PostgresParameter] = [.int8(Int64(backendProcessID))]
        for (index, setting) in settings.enumerated() {
            sql += ", set_config($\(2 * index + 2), $\(2 * index + 3), \(isLocal))"
            parameters += [.text(setting.name), .text(setting.value)]
        }
        let request = Request(
            sql: sql,
            parameters: try EncodedParameters(parameters),
            mayBePrepared: false,
            takesSettings: false
        )
        isPooled = try await !perform(request).value(as: Bool.self)
        machine.isPipelining = !isPooled
        preparesStatements = configuration.preparesStatements && !isPooled
        let settingsEnded =
            configuration.settingsScope == .call || configuration.settingsScope == .automatic && isPooled
        if settingsEnded, !settings.isEmpty {
            let calls = settings.indices.map { "set_config($\(2 * $0 + 1), $\(2 * $0 + 2), true)" }
            callSettings = CallSettings(
                sql: "SELECT " + calls.joined(separator: ", "),
                parameters: try EncodedParameters(settings.flatMap { [.text($0.name), .text($0.value)] })
            )
        }
    }

    /// Closes the connection. Calls that were sent end with ``PostgresError/Code/outcomeUnknown``; let them end first.
    package func close() {
        end(PostgresError(.closed, "it was closed"))
    }

    /// How many calls have been made and not been answered, for metrics and tests.
    package var callsUnderWay: Int { machine.sentCount + machine.waitingCount }

    /// Whether the connection is over, so that no calls can be made.
    package var isClosed: Bool { handle == nil }

    private func end(_ reason: PostgresError) {
        guard let handle else { return }
        // Out of the loop before it is closed: its number may be used again at once.
        eventLoop.unregister(descriptor)
        silenceTimer.map { eventLoop.cancel($0) }
        silenceTimer = nil
        self.handle = nil
        closeReason = reason
        for (continuation, error) in machine.close(reason: reason) {
            continuation.resume(returning: .failure(error))
        }
        logger.debug(
            "The connection to PostgreSQL is over",
            metadata: ["tmcp.reason": "\(reason.code.rawValue)", "tmcp.sqlstate": "\(reason.sqlState ?? "")"]
        )
        withExtendedLifetime(handle) {
            if isOpen { closeHandler?(reason) }
        }
    }

    // MARK: Calls

    /// Runs one statement in a transaction of its own.
    ///
    /// If the caller's task is cancelled the caller is told at once. A call that was sent by then still runs, and ends
    /// by itself or by the statement timeout.
    ///
    /// - Parameters:
    ///   - sql: one statement.
    ///   - parameters: the values of `$1`, `$2`, ...
    ///   - prepared: whether to prepare it under a name for the next time, where the connection does that. Pass `false`
    ///     for a text that is used once.
    /// - Throws: ``PostgresError/Code/server``, ``PostgresError/Code/notExecuted``,
    ///   ``PostgresError/Code/outcomeUnknown``, ``PostgresError/Code/cancelled``,
    ///   ``PostgresError/Code/invalidParameter``.
    package nonisolated func query(
        _ sql: String,
        _ parameters: [PostgresParameter] = [],
        prepared: Bool = true
    ) async throws(PostgresError) -> PostgresResult {
        guard sql.withCString({ strlen($0) }) == sql.utf8.count else {
            throw PostgresError(.invalidParameter, "the statement holds a NUL character")
        }
        let request = Request(
            sql: sql,
            parameters: try EncodedParameters(parameters),
            mayBePrepared: prepared,
            takesSettings: true
        )
        return try await perform(request)
    }

    /// Has the notifications of a channel sent to this connection.
    ///
    /// - Throws: ``PostgresError/Code/invalidParameter`` for a name that is empty or over 63 bytes, which the server would
    ///   cut short without a word; otherwise as ``query(_:_:prepared:)``.
    package func listen(to channel: String) async throws(PostgresError) {
        _ = try await query("LISTEN " + quotedChannel(channel), prepared: false)
    }

    /// Has them sent no more. Throws as ``listen(to:)``.
    package func unlisten(from channel: String) async throws(PostgresError) {
        _ = try await query("UNLISTEN " + quotedChannel(channel), prepared: false)
    }

    private func quotedChannel(_ channel: String) throws(PostgresError) -> String {
        guard (1...63).contains(channel.utf8.count), !channel.utf8.contains(0) else {
            throw PostgresError(
                .invalidParameter,
                "a channel has a name of 1 to 63 bytes, none of them NUL; this one has \(channel.utf8.count)"
            )
        }
        guard let handle else { throw notOpen() }
        return try handle.quotedIdentifier(channel)
    }

    private func notOpen() -> PostgresError {
        PostgresError(.notExecuted, "the connection is closed: \(closeReason.message)", sqlState: closeReason.sqlState)
    }

    /// Without the preference the caller's task would come by the default pool on its way back from the loop.
    private nonisolated func perform(_ request: Request) async throws(PostgresError) -> PostgresResult {
        let outcome: Result<PostgresResult, PostgresError> = await withTaskExecutorPreference(eventLoop) {
            await self.outcome(of: request)
        }
        return try outcome.get()
    }

    private func outcome(of request: Request) async -> Result<PostgresResult, PostgresError> {
        lastCall += 1
        let call = lastCall
        return await withTaskCancellationHandler {
            await withUnsafeContinuation { (continuation: Continuation) in
                // Looked at here, where nothing can come in between any more.
                guard handle != nil else { return continuation.resume(returning: .failure(notOpen())) }
                guard !Task.isCancelled else { return continuation.resume(returning: .failure(Self.cancelled)) }
                machine.submit(call, request, continuation)
                sendWaiting()
            }
        } onCancel: {
            eventLoop.execute { self.assumeIsolated { $0.cancel(call) } }
        }
    }

    private static var cancelled: PostgresError { PostgresError(.cancelled, "the task was cancelled") }

    private func cancel(_ call: UInt64) {
        machine.cancel(call)?.resume(returning: .failure(Self.cancelled))
    }

    // MARK: Output

    /// Hands over what waits, until the socket takes no more.
    private func sendWaiting() {
        guard let handle else { return }
        repeat {
            while let request = machine.nextRequest() {
                guard let sent = send(request, handle.pointer) else {
                    // Not synchronized, so whatever part of it was sent is never committed.
                    return lose(handle)
                }
                if machine.sentCount == 0 { lastSign = .now }
                machine.sent(sent.statement, preliminaries: sent.preliminaries)
                expectAnswer()
                guard PQpipelineSync(handle.pointer) == 1 else { return lose(handle) }
                flush(handle)
            }
            // A full socket makes libpq read while it writes, and what it has read no descriptor reports any more.
            receive(handle)
        } while machine.nextRequest() != nil
    }

    /// Hands the statements of a call to libpq, all but the synchronization; `nil` if libpq does not take them.
    private func send(
        _ request: Request,
        _ pointer: OpaquePointer
    ) -> (statement: PreparedStatements.Use, preliminaries: Int)? {
        var preliminaries = 0
        if request.takesSettings, let callSettings {
            guard send(callSettings.sql, callSettings.parameters, pointer) else { return nil }
            preliminaries += 1
        }
        guard preparesStatements, request.mayBePrepared else {
            return send(request.sql, request.parameters, pointer) ? (.unnamed, preliminaries) : nil
        }
        let statement = statements.use(PreparedStatements.Key(sql: request.sql, types: request.parameters.types))
        let isSent: Bool
        switch statement {
        case .unnamed:
            isSent = send(request.sql, request.parameters, pointer)
        case .prepare(let name, _):
            preliminaries += 1
            isSent =
                request.parameters.withPointers { count, types, _, _, _ in
                    PQsendPrepare(pointer, name, request.sql, count, types) == 1
                } && send(named: name, request.parameters, pointer)
        case .named(let name, _):
            isSent = send(named: name, request.parameters, pointer)
        }
        return isSent ? (statement, preliminaries) : nil
    }

    private func send(_ sql: String, _ parameters: EncodedParameters, _ pointer: OpaquePointer) -> Bool {
        parameters.withPointers { count, types, values, lengths, formats in
            PQsendQueryParams(pointer, sql, count, types, values, lengths, formats, 1) == 1
        }
    }

    private func send(named name: String, _ parameters: EncodedParameters, _ pointer: OpaquePointer) -> Bool {
        parameters.withPointers { count, _, values, lengths, formats in
            PQsendQueryPrepared(pointer, name, count, values, lengths, formats, 1) == 1
        }
    }

    private func flush(_ handle: ConnectionHandle) {
        let status = PQflush(handle.pointer)
        guard status >= 0, PQstatus(handle.pointer) != CONNECTION_BAD else { return lose(handle) }
        machine.isOutputBlocked = status == 1
        guard watchesForWriting != machine.isOutputBlocked else { return }
        do {
            // Still for reading: the server may have to be read from before it reads on.
            try eventLoop.modify(descriptor, for: machine.isOutputBlocked ? [.readable, .writable] : .readable)
            watchesForWriting = machine.isOutputBlocked
        } catch {
            end(error)
        }
    }

    // MARK: Input

    /// Makes sure that the server answers. One timer for all calls: it looks whether there has been a sign meanwhile.
    private func expectAnswer() {
        guard isOpen, silenceTimer == nil, let timeout = configuration.answerTimeout else { return }
        silenceTimer = eventLoop.schedule(at: lastSign + timeout) {
            self.assumeIsolated { $0.checkSilence(timeout) }
        }
    }

    private func checkSilence(_ timeout: Duration) {
        silenceTimer = nil
        guard machine.sentCount > 0 else { return }
        guard ContinuousClock.now >= lastSign + timeout else { return expectAnswer() }
        end(PostgresError(.connectionLost, "the server has answered nothing for \(timeout)"))
    }

    private func became(_ readiness: EventLoop.Readiness) {
        guard let handle else { return }
        lastSign = .now
        guard !readiness.contains(.closing) else {
            return end(PostgresError(.closed, "its event loop was closed"))
        }
        let isAlive = !readiness.contains(.readable) || PQconsumeInput(handle.pointer) == 1
        guard isAlive else { return lose(handle) }
        receive(handle)
        if machine.isOutputBlocked { flush(handle) }
        sendWaiting()
    }

    /// Takes what libpq has read.
    private func receive(_ handle: ConnectionHandle) {
        while machine.sentCount > 0, self.handle === handle, PQisBusy(handle.pointer) == 0 {
            let event = Self.event(PQgetResult(handle.pointer))
            // With nothing more to come libpq makes an error up, which has no SQLSTATE.
            if case .failure(let error) = event, error.sqlState == nil, PQstatus(handle.pointer) == CONNECTION_BAD {
                break
            }
            switch machine.received(event) {
            case .proceed:
                break
            case .complete(let continuation, let statement, let outcome):
                if case .failure(let error) = outcome {
                    statements.completed(statement, sqlState: error.sqlState ?? "")
                } else {
                    statements.completed(statement, sqlState: nil)
                }
                continuation?.resume(returning: outcome)
            case .giveUp(let reason):
                end(reason)
            }
        }
        while self.handle === handle, let notification = PQnotifies(handle.pointer) {
            let notification = PostgresNotification(taking: notification)
            notificationHandler?(notification)
        }
        // It may be a while until the socket closes, and a call made meanwhile would have an unknown outcome.
        if self.handle === handle, machine.sentCount == 0, let said = handle.endOfSession { end(lost(said)) }
    }

    private static func event(_ result: OpaquePointer?) -> Machine.Event {
        guard let result else { return .endOfStatement }
        switch PQresultStatus(result) {
        case PGRES_TUPLES_OK, PGRES_COMMAND_OK, PGRES_EMPTY_QUERY:
            return .response(PostgresResult(taking: result))
        case PGRES_PIPELINE_SYNC:
            PQclear(result)
            return .synchronized
        case PGRES_PIPELINE_ABORTED:
            PQclear(result)
            return .aborted
        case PGRES_COPY_IN, PGRES_COPY_OUT, PGRES_COPY_BOTH:
            PQclear(result)
            return .copy
        default:
            defer { PQclear(result) }
            return .failure(PostgresError(result: result))
        }
    }

    /// The connection is broken. What the server said last may still be in libpq's buffer.
    private func lose(_ handle: ConnectionHandle) {
        receive(handle)
        end(lost(handle.endOfSession ?? handle.error(.connectionLost)))
    }

    private func lost(_ said: PostgresError) -> PostgresError {
        PostgresError(.connectionLost, said.message, sqlState: said.sqlState)
    }
}
