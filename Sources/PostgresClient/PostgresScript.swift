import CLibPQ
import Glibc
package import Logging

/// SQL text of many statements, run on a connection of its own.
package enum PostgresScript {
    /// Runs the statements as `psql -c` does: all in one transaction, unless the text has transaction commands. At the
    /// first error it ends. The session settings of the configuration are not used, so that no timeout of calls hits an
    /// installation.
    ///
    /// - Throws: as ``PostgresConnection/connect(configuration:on:logger:onNotification:onClose:)`` and
    ///   ``PostgresConnection/query(_:_:prepared:)``.
    package static func run(
        _ script: String,
        configuration: ConnectionConfiguration,
        on eventLoop: EventLoop,
        logger: Logger
    ) async throws(PostgresError) {
        guard !script.utf8.contains(0) else {
            throw PostgresError(.invalidParameter, "the script holds a NUL character")
        }
        let runner = ScriptRunner(eventLoop: eventLoop)
        try await eventLoop.preferred { () async throws(PostgresError) in
            try await runner.run(script, configuration: configuration, logger: logger)
        }
    }
}

/// The isolation for a script's connection.
private actor ScriptRunner {
    nonisolated let eventLoop: EventLoop

    nonisolated var unownedExecutor: UnownedSerialExecutor { eventLoop.asUnownedSerialExecutor() }

    init(eventLoop: EventLoop) {
        self.eventLoop = eventLoop
    }

    func run(_ script: String, configuration: ConnectionConfiguration, logger: Logger) async throws(PostgresError) {
        let attempt = ConnectionAttempt(configuration: configuration, loop: eventLoop, logger: logger)
        let handle = try await attempt.connect(until: .now + configuration.connectTimeout)
        guard PQsetnonblocking(handle.pointer, 1) == 0, PQsendQuery(handle.pointer, script) == 1 else {
            throw handle.error(.notExecuted)
        }
        while true {
            let status = PQflush(handle.pointer)
            guard status >= 0 else { throw handle.error(.outcomeUnknown) }
            if status == 0 { break }
            try await wait(for: [.readable, .writable], handle)
        }
        var failure: PostgresError?
        while true {
            while PQisBusy(handle.pointer) == 1 {
                try await wait(for: .readable, handle)
            }
            guard let result = PQgetResult(handle.pointer) else { break }
            defer { PQclear(result) }
            switch PQresultStatus(result) {
            case PGRES_TUPLES_OK, PGRES_COMMAND_OK, PGRES_EMPTY_QUERY:
                break
            case PGRES_COPY_IN, PGRES_COPY_OUT, PGRES_COPY_BOTH:
                // The connection is of no use any more, and is closed on the way out.
                throw PostgresError(.invalidParameter, "a script cannot COPY from or to its client")
            default:
                failure = failure ?? PostgresError(result: result)
            }
        }
        if let failure {
            throw failure.sqlState == nil ? PostgresError(.outcomeUnknown, failure.message) : failure
        }
    }

    private func wait(for interest: EventLoop.Readiness, _ handle: ConnectionHandle) async throws(PostgresError) {
        guard let readiness = try await eventLoop.readiness(of: handle.descriptor, for: interest, until: nil) else {
            throw PostgresError(.cancelled, "the task was cancelled")
        }
        guard !readiness.contains(.closing) else {
            throw PostgresError(.outcomeUnknown, "the event loop was closed")
        }
        if readiness.contains(.readable), PQconsumeInput(handle.pointer) == 0 {
            throw handle.error(.outcomeUnknown)
        }
    }
}
