import Foundation
import Testing

@testable import PostgresClient

@Suite("Losing a connection", .timeLimit(.minutes(2)))
struct LossTests {
    /// Collects what the close handler is told.
    private struct Closings: Sendable {
        let stream: AsyncStream<PostgresError>
        let continuation: AsyncStream<PostgresError>.Continuation

        init() {
            (stream, continuation) = AsyncStream<PostgresError>.makeStream()
        }

        var handler: PostgresConnection.CloseHandler {
            { [continuation] in continuation.yield($0) }
        }

        func first() async -> PostgresError? {
            for await error in stream { return error }
            return nil
        }

        func all() async -> [PostgresError] {
            continuation.finish()
            var errors: [PostgresError] = []
            for await error in stream { errors.append(error) }
            return errors
        }
    }

    @Test("When the server ends the session, the call that it was at is undone and those behind it were not begun")
    func terminated() async throws {
        let closings = Closings()
        try await withConnection(onClose: closings.handler) { connection in
            let processID = await connection.backendProcessID
            let current = Task { try await connection.query("SELECT pg_sleep(60)") }
            try await ServerObserver.waitUntilSleeping(processID)
            let sent = Task { try await connection.query("SELECT 1") }
            while await connection.callsUnderWay < 2 { await Task.yield() }
            try await ServerObserver.terminate(processID)
            let error = try await postgresError { _ = try await current.value }
            #expect(error.code == .server)
            #expect(error.sqlState == "57P01")
            #expect(error.endsSession)
            #expect(try await postgresError { _ = try await sent.value }.code == .notExecuted)
            let reason = await closings.first()
            #expect(reason?.code == .connectionLost)
            let late = try await postgresError { _ = try await connection.query("SELECT 4") }
            #expect(late.code == .notExecuted)
            #expect(await connection.isClosed)
        }
    }

    @Test("A call that waits for the socket when the session ends was not done, whatever becomes of those before it")
    func unsent() async throws {
        try await withConnection { connection in
            let processID = await connection.backendProcessID
            let current = Task { try await connection.query("SELECT pg_sleep(60)") }
            try await ServerObserver.waitUntilSleeping(processID)
            // More than the socket holds while the server does not read.
            let big = String(repeating: "x", count: 10_000_000)
            let partly = Task { try await connection.query("SELECT length($1)", [.text(big)]) }
            while await connection.callsUnderWay < 2 { await Task.yield() }
            let unsent = Task { try await connection.query("SELECT 3") }
            while await connection.callsUnderWay < 3 { await Task.yield() }
            try await ServerObserver.terminate(processID)
            // A server that closes with input unread resets the connection, which can overtake what it said.
            let fate = try await postgresError { _ = try await current.value }.code
            #expect(fate == .server || fate == .outcomeUnknown)
            let next = try await postgresError { _ = try await partly.value }.code
            #expect(next == (fate == .server ? .notExecuted : .outcomeUnknown))
            #expect(try await postgresError { _ = try await unsent.value }.code == .notExecuted)
        }
    }

    @Test("When an idle session is ended, the owner is told, with the server's SQLSTATE")
    func idle() async throws {
        let closings = Closings()
        try await withConnection(onClose: closings.handler) { connection in
            try await ServerObserver.terminate(await connection.backendProcessID)
            let reason = await closings.first()
            #expect(reason?.code == .connectionLost)
            #expect(reason?.sqlState == "57P01")
        }
    }

    @Test("A session that the server ended is over when the server says so, before its socket closes")
    func saidToEnd() async throws {
        let relay = try Relay(passesEnd: false)
        let closings = Closings()
        try await withConnection(relay.configuration(), onClose: closings.handler) { connection in
            try await ServerObserver.terminate(await connection.backendProcessID)
            #expect(await closings.first()?.sqlState == "57P01")
            #expect(try await postgresError { _ = try await connection.query("SELECT 1") }.code == .notExecuted)
        }
        await relay.cut()
    }

    @Test("When the network fails, a call that was sent has an unknown outcome")
    func network() async throws {
        let relay = try Relay()
        let closings = Closings()
        try await withConnection(relay.configuration(), onClose: closings.handler) { connection in
            let sleeping = Task { try await connection.query("SELECT pg_sleep(60)") }
            try await ServerObserver.waitUntilSleeping(await connection.backendProcessID)
            let big = String(repeating: "x", count: 50_000_000)
            let partly = Task { try await connection.query("SELECT length($1)", [.text(big)]) }
            while await connection.callsUnderWay < 2 { await Task.yield() }
            let unsent = Task { try await connection.query("SELECT 3") }
            while await connection.callsUnderWay < 3 { await Task.yield() }
            await relay.cut()
            #expect(try await postgresError { _ = try await sleeping.value }.code == .outcomeUnknown)
            #expect(try await postgresError { _ = try await partly.value }.code == .outcomeUnknown)
            #expect(try await postgresError { _ = try await unsent.value }.code == .notExecuted)
            #expect(await closings.first()?.code == .connectionLost)
            try await ServerObserver.terminate(await connection.backendProcessID)
        }
    }

    @Test("A server that answers nothing for too long is given up")
    func silence() async throws {
        let closings = Closings()
        var configuration = try TestDatabase.configuration()
        configuration.answerTimeout = .milliseconds(300)
        try await withConnection(configuration, onClose: closings.handler) { connection in
            let error = try await postgresError { _ = try await connection.query("SELECT pg_sleep(60)") }
            #expect(error.code == .outcomeUnknown)
            #expect(error.message.contains("answered nothing"))
            #expect(await closings.first()?.code == .connectionLost)
            try await ServerObserver.terminate(await connection.backendProcessID)
        }
    }

    @Test("A server that answers one call after another is not given up, nor is one that is asked nothing")
    func slowAnswers() async throws {
        var configuration = try TestDatabase.configuration()
        configuration.answerTimeout = .seconds(3)
        try await withConnection(configuration) { connection in
            let calls = (0..<3).map { _ in Task { try await connection.query("SELECT pg_sleep(1.1)") } }
            for call in calls { _ = try await call.value }
            // On another connection, so that this one is silent.
            try await withConnection { _ = try await $0.query("SELECT pg_sleep(3.3)") }
            _ = try await connection.query("SELECT 1")
        }
    }

    @Test("Closing ends the calls under way, and tells the owner once")
    func closed() async throws {
        let closings = Closings()
        try await withConnection(onClose: closings.handler) { connection in
            let processID = await connection.backendProcessID
            let sleeping = Task { try await connection.query("SELECT pg_sleep(60)") }
            try await ServerObserver.waitUntilSleeping(processID)
            await connection.close()
            await connection.close()
            #expect(try await postgresError { _ = try await sleeping.value }.code == .outcomeUnknown)
            #expect(try await postgresError { _ = try await connection.query("SELECT 1") }.code == .notExecuted)
            try await ServerObserver.terminate(processID)
        }
        #expect(await closings.all().map(\.code) == [.closed])
    }

    @Test("A connection whose loop is closed is closed")
    func loopClosed() async throws {
        let closings = Closings()
        let loop = try EventLoop()
        let connection = try await PostgresConnection.connect(
            configuration: TestDatabase.configuration(),
            on: loop,
            logger: TestDatabase.logger,
            onClose: closings.handler
        )
        await loop.closeAndWait()
        #expect(await closings.all().map(\.code) == [.closed])
        #expect(try await postgresError { _ = try await connection.query("SELECT 1") }.code == .notExecuted)
    }

    @Test("A thousand calls under way when the session ends each get an answer")
    func manyCalls() async throws {
        try await withConnection { connection in
            let processID = await connection.backendProcessID
            let calls = (0..<1_000).map { number in
                Task { try await connection.query(number == 500 ? "SELECT pg_sleep(60)" : "SELECT 1") }
            }
            try await ServerObserver.waitUntilSleeping(processID)
            try await ServerObserver.terminate(processID)
            var codes: [PostgresError.Code?: Int] = [:]
            for call in calls {
                do {
                    _ = try await call.value
                    codes[nil, default: 0] += 1
                } catch let error as PostgresError {
                    codes[error.code, default: 0] += 1
                }
            }
            #expect(codes.values.reduce(0, +) == 1_000)
            #expect(codes[.server] == 1)
            #expect(codes[.outcomeUnknown] == nil)
        }
    }
}
