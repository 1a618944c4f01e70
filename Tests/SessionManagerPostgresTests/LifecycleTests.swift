import Foundation
import Logging
import PostgresClient
import ServiceLifecycle
import SessionManager
import Testing

@testable import SessionManagerPostgres

@Suite("The life of a session manager", .serialized, .timeLimit(.minutes(3)))
struct LifecycleTests {
    @Test("Used before it runs, it waits up to the connect timeout, and then says that it does not run")
    func useBeforeStart() async throws {
        let database = try TestDatabase()
        var configuration = database.configuration
        configuration.connectTimeout = .milliseconds(50)
        let manager = PostgresStreamSessionManager(configuration: configuration, logger: database.logger)
        let error = await #expect(throws: SessionManagerError.self) { try await manager.send(["a"], data: "1") }
        #expect(error?.code == .notRunning)
        #expect(error?.hint?.contains("run()") == true)
    }

    @Test("Used before it runs, it does what was asked as soon as it does")
    func useWhileStarting() async throws {
        let database = try TestDatabase()
        let manager = PostgresStreamSessionManager(configuration: database.configuration, logger: database.logger)
        let stream = MessageStream()
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { try await manager.create("a", controller: stream.controller) }
            group.addTask {
                try await withThrowingTaskGroup(of: Void.self) { running in
                    running.addTask { try await manager.run() }
                    try await manager.waitUntilReady()
                    while try await !manager.has("a") {}
                    try await manager.send(["a"], data: "1")
                    #expect(await stream.next(1) == ["1"])
                    running.cancelAll()
                }
            }
            try await group.waitForAll()
        }
    }

    @Test("A task that prefers the manager's executor, and its child tasks, call it without leaving its thread")
    func executor() async throws {
        try await TestDatabase().withManagers(1) { managers in
            let executor = try await managers[0].taskExecutor
            let loop = try #require(executor as? EventLoop)
            #expect(!loop.isCurrent)
            try await withTaskExecutorPreference(executor) {
                try await withThrowingTaskGroup(of: Bool.self) { group in
                    for _ in 0..<10 {
                        group.addTask {
                            try await managers[0].send(["a"], data: "1")
                            return loop.isCurrent
                        }
                    }
                    for try await staysOnLoop in group { #expect(staysOnLoop) }
                }
            }
        }
    }

    @Test("Run twice, it refuses the second time, and the first is not disturbed")
    func doubleStart() async throws {
        let database = try TestDatabase()
        try await database.withManagers(1) { managers in
            let error = await #expect(throws: SessionManagerError.self) { try await managers[0].run() }
            #expect(error?.code == .notRunning)
            let has = try await managers[0].has("a")
            #expect(!has)
        }
    }

    private func code(_ operation: () async throws -> Void) async -> SessionManagerError.Code? {
        do {
            try await operation()
            return nil
        } catch {
            return (error as? SessionManagerError)?.code
        }
    }

    @Test("Used after it has stopped, it says so at once")
    func useAfterStop() async throws {
        let database = try TestDatabase()
        let manager = try await database.withManagers(1) { $0[0] }
        let info = PostgresInfoSessionManager(sharing: manager)
        let codes = [
            await code { try await manager.send(["a"], data: "1") },
            await code { try await manager.send(nil, data: "1") },
            await code { try await manager.create("a", controller: MessageStream().controller) },
            await code { _ = try await manager.has("a") },
            await code { try await manager.publish("note://x", data: "1") },
            await code { try await info.setLogLevel("a", .info, principal: nil) },
        ]
        #expect(codes == Array(repeating: .notRunning, count: codes.count))
        let late = await #expect(throws: SessionManagerError.self) { try await manager.has("a") }
        #expect(late?.hint?.contains("make another one") == true)
        let error = await #expect(throws: SessionManagerError.self) { try await manager.run() }
        #expect(error?.code == .notRunning)
    }

    @Test("A service group that shuts down lets go of the streams, which resume elsewhere without a loss")
    func gracefulShutdown() async throws {
        let database = try TestDatabase()
        try await database.withManagers(1) { others in
            let manager = PostgresStreamSessionManager(configuration: database.configuration, logger: database.logger)
            let group = ServiceGroup(configuration: .init(services: [manager], logger: database.logger))
            let streams = (0..<5).map { _ in MessageStream() }
            var positions: [EventID] = []
            try await withThrowingTaskGroup(of: Void.self) { tasks in
                tasks.addTask { try await group.run() }
                for (index, stream) in streams.enumerated() {
                    positions.append(try await manager.create("s\(index)", controller: stream.controller).position)
                }
                try await others[0].send(nil, data: "1")
                for stream in streams { #expect(await stream.next(1) == ["1"]) }
                await group.triggerGracefulShutdown()
                try await tasks.waitForAll()
            }
            for (index, stream) in streams.enumerated() {
                #expect(stream.closing == .detached)
                let isHeld = try await others[0].has("s\(index)")
                #expect(!isHeld)
                try await others[0].send(["s\(index)"], data: "2")
                // Free at once, also for a client that comes without a last event id; with one, nothing is missing.
                let resumed = MessageStream()
                try await others[0].create(
                    "s\(index)",
                    controller: resumed.controller,
                    options: StreamOptions(lastEventID: positions[index])
                )
                #expect(await resumed.next(2) == ["1", "2"])
            }
            let nodes: Int64 = try await database.query(
                "SELECT count(*) FROM tmcp.nodes AS n JOIN tmcp.stores AS s USING (store) WHERE s.name = $1",
                [.text(database.store)]
            ).value()
            #expect(nodes == 1)
        }
    }

    @Test("A service group runs both managers on one connection, and stops both")
    func bothAsServices() async throws {
        let database = try TestDatabase()
        let streams = PostgresStreamSessionManager(configuration: database.configuration, logger: database.logger)
        let info = PostgresInfoSessionManager(sharing: streams)
        let group = ServiceGroup(configuration: .init(services: [streams, info], logger: database.logger))
        try await withThrowingTaskGroup(of: Void.self) { tasks in
            tasks.addTask { try await group.run() }
            try await info.waitUntilReady()
            try await info.setLogLevel("a", .info, principal: nil)
            #expect(try await info.getLogLevel("a", principal: nil) == .info)
            await group.triggerGracefulShutdown()
            try await tasks.waitForAll()
        }
        let error = await #expect(throws: SessionManagerError.self) { try await info.getLogLevel("a", principal: nil) }
        #expect(error?.code == .notRunning)
    }

    @Test("Sends that wait when it stops are done or refused, and none is left waiting")
    func stopWhileSending() async throws {
        let database = try TestDatabase()
        try await database.withManagers(1) { others in
            let stream = MessageStream()
            try await others[0].create("a", controller: stream.controller)
            let sends = try await database.withManagers(1) { managers in
                let sends = (0..<2_000).map { index in
                    Task { () async -> SessionManagerError.Code? in
                        do throws(SessionManagerError) {
                            try await managers[0].send(["a"], data: "\(index)")
                            return nil
                        } catch {
                            return error.code
                        }
                    }
                }
                _ = await sends[0].value
                return sends
            }
            var codes: Set<SessionManagerError.Code> = []
            var sent = 0
            for send in sends {
                if let code = await send.value { codes.insert(code) } else { sent += 1 }
            }
            #expect(codes.isSubset(of: [.notRunning]))
            #expect(await Set(stream.next(sent)).count == sent)
        }
    }

    @Test("A caller that is cancelled is told, and what it opened is let go of")
    func cancelledCallers() async throws {
        let database = try TestDatabase()
        try await database.withManagers(1) { managers in
            for round in 0..<40 {
                let stream = MessageStream()
                let task = Task { try await managers[0].create("s\(round)", controller: stream.controller) }
                // At another point each time.
                for _ in 0..<round { await Task.yield() }
                task.cancel()
                switch await task.result {
                case .success:
                    #expect(try await managers[0].has("s\(round)"))
                case .failure(let error):
                    #expect((error as? SessionManagerError)?.code == .cancelled)
                    try await database.wait(
                        until: "NOT tmcp.has('\(database.store)', 's\(round)')"
                    )
                    // And so it is free.
                    try await managers[0].create("s\(round)", controller: MessageStream().controller)
                }
                let send = Task { try await managers[0].send(["s\(round)"], data: "1") }
                for _ in 0..<round { await Task.yield() }
                send.cancel()
                if case .failure(let error) = await send.result {
                    #expect((error as? SessionManagerError)?.code == .cancelled)
                }
            }
        }
    }

    @Test("A caller that is refused and cancelled at the same moment closes nobody's stream")
    func cancelledRefusals() async throws {
        let database = try TestDatabase()
        try await database.withManagers(
            1,
            configure: {
                $1.applicationName = database.store
                // It would wait for the same lock.
                $1.heartbeatInterval = .seconds(5)
            }
        ) { managers in
            let info = PostgresInfoSessionManager(sharing: managers[0])
            let (session, listening) = (MessageStream(), MessageStream())
            let filter = ChangeFilter(lists: [.tools])
            try await info.start("session", metadata: SessionMetadata(), principal: "alice")
            try await managers[0].create(
                "session",
                controller: session.controller,
                options: StreamOptions(principal: "alice")
            )
            try await managers[0].listen(
                "listening",
                controller: listening.controller,
                filter: filter,
                principal: "alice"
            )

            try await database.cancel("tmcp.attach_batch") {
                try await managers[0].create(
                    "session",
                    controller: MessageStream().controller,
                    options: StreamOptions(principal: "mallory")
                )
            }
            try await database.cancel("tmcp.listen") {
                try await managers[0].listen(
                    "listening",
                    controller: MessageStream().controller,
                    filter: filter,
                    principal: "mallory"
                )
            }
            // What is opened later comes after what is undone.
            try await managers[0].create("later", controller: MessageStream().controller)
            #expect(session.closing == nil)
            #expect(listening.closing == nil)
            try await managers[0].send(["session", "listening"], data: "1")
            #expect(await session.next(1) == ["1"])
            #expect(await listening.next(1) == ["1"])
        }
    }

    @Test("A caller that is cancelled while its call is under way is told, and what it opened is let go of")
    func cancelledUnderWay() async throws {
        let database = try TestDatabase()
        try await database.withManagers(
            1,
            configure: {
                $1.applicationName = database.store
                // It would wait for the same lock.
                $1.heartbeatInterval = .seconds(5)
            }
        ) { managers in
            try await database.cancel("tmcp.attach_batch") {
                try await managers[0].create("a", controller: MessageStream().controller)
            }
            // It was opened all the same, since the server was at it.
            let rows = "tmcp.streams AS st JOIN tmcp.stores AS s USING (store) WHERE s.name = '\(database.store)'"
            try await database.wait(until: "SELECT bool_or(st.node IS NULL) FROM \(rows)")
        }
    }

    @Test("A caller that is cancelled while there is no connection, or no run(), is told at once")
    func cancelledWhileWaiting() async throws {
        let database = try TestDatabase()
        let manager = PostgresStreamSessionManager(configuration: database.configuration, logger: database.logger)
        let task = Task { try await manager.send(["a"], data: "1") }
        task.cancel()
        let error = await #expect(throws: SessionManagerError.self) { try await task.value }
        #expect(error?.code == .cancelled)

        try await TestDatabase.withEmptyDatabase { database in
            try await database.withManagers(1, configure: { $1.heartbeatInterval = .seconds(3600) }) { managers in
                try await database.cutOff {
                    let calls = [
                        Task { _ = try await managers[0].send(["a"], data: "1") },
                        Task { _ = try await managers[0].create("a", controller: MessageStream().controller) },
                        Task { _ = try await managers[0].has("a") },
                    ]
                    let components = try await managers[0].client.running()
                    while await components.calls.waitingCount < calls.count { await Task.yield() }
                    for call in calls {
                        call.cancel()
                        let error = await #expect(throws: SessionManagerError.self) { try await call.value }
                        #expect(error?.code == .cancelled)
                    }
                }
            }
        }
    }

    @Test("A call that finds no connection waits for it, and says that nothing was done when none comes")
    func noConnection() async throws {
        try await TestDatabase.withEmptyDatabase { database in
            try await database.withManagers(1, configure: { $1.connectTimeout = .seconds(3) }) { managers in
                try await database.cutOff {
                    let error = await #expect(throws: SessionManagerError.self) {
                        try await managers[0].send(["a"], data: "1")
                    }
                    #expect(error?.code == .unreachable)
                    #expect(error?.hint?.contains("Nothing was done") == true)
                }
            }
        }
    }

    @Test("It stops at once while the database is away, whatever waits for that")
    func stopWithoutDatabase() async throws {
        try await TestDatabase.withEmptyDatabase { database in
            let (calls, start) = try await database.withManagers(
                1,
                // What the process itself would call for is not to be counted.
                configure: { $1.heartbeatInterval = .seconds(3600) }
            ) { managers in
                let server = try TestDatabase()
                let name: String = try await database.query("SELECT current_database()").value()
                try await server.query("ALTER DATABASE \(name) ALLOW_CONNECTIONS false")
                let sessions = "pg_stat_activity WHERE datname = '\(name)'"
                try await server.query("SELECT pg_terminate_backend(pid) FROM \(sessions)")
                try await server.wait(until: "NOT EXISTS (SELECT FROM \(sessions))")
                let calls = [
                    Task { _ = try await managers[0].send(["a"], data: "1") },
                    Task { _ = try await managers[0].create("a", controller: MessageStream().controller) },
                    Task { _ = try await managers[0].has("a") },
                ]
                let components = try await managers[0].client.running()
                while await components.calls.waitingCount < calls.count { await Task.yield() }
                return (calls, ContinuousClock.now)
            }
            // They would have waited for the connect timeout.
            #expect(ContinuousClock.now - start < database.configuration.patience / 2)
            for call in calls {
                let error = await #expect(throws: SessionManagerError.self) { try await call.value }
                #expect(error?.code == .unreachable)
            }
        }
    }

    @Test("Managers that never ran, and 200 that ran and stopped, leave no thread and no descriptor behind")
    func leaks() async throws {
        let database = try TestDatabase()
        try await database.withManagers(1) { _ in }
        for _ in 0..<1_000 {
            _ = PostgresStreamSessionManager(configuration: database.configuration, logger: database.logger)
        }
        let before = ProcessResources.now()
        for round in 0..<200 {
            try await database.withManagers(1) { managers in
                if round % 20 == 0 { try await managers[0].create("a", controller: MessageStream().controller) }
            }
        }
        // Other tests run at the same time, each with a few.
        let deadline = ContinuousClock.now + .seconds(30)
        while !ProcessResources.now().isBelow(before, by: 150), ContinuousClock.now < deadline {
            try await Task.sleep(for: .milliseconds(10))
        }
        #expect(ProcessResources.now().isBelow(before, by: 150))
    }
}

/// How many descriptors and threads the process has.
private struct ProcessResources {
    let descriptors: Int
    let threads: Int

    static func now() -> ProcessResources {
        func count(_ path: String) -> Int { (try? FileManager.default.contentsOfDirectory(atPath: path).count) ?? 0 }
        return ProcessResources(descriptors: count("/proc/self/fd"), threads: count("/proc/self/task"))
    }

    func isBelow(_ other: ProcessResources, by margin: Int) -> Bool {
        descriptors < other.descriptors + margin && threads < other.threads + margin
    }
}

extension TestDatabase {
    /// Cancels a call to a function while the database is at it, which waits for the rows of all nodes of the store.
    fileprivate func cancel<Value: Sendable>(
        _ function: String,
        _ call: @escaping @Sendable () async throws -> Value
    ) async throws {
        try await withConnection { holder in
            _ = try await holder.query("BEGIN")
            _ = try await holder.query(
                "SELECT FROM tmcp.nodes WHERE store = (SELECT store FROM tmcp.stores WHERE name = $1) FOR UPDATE",
                [.text(store)]
            )
            let task = Task { try await call() }
            try await wait(
                until: """
                    EXISTS (SELECT FROM pg_stat_activity WHERE application_name = '\(store)' AND wait_event_type = 'Lock'
                            AND query LIKE '%\(function)(%')
                    """
            )
            task.cancel()
            let error = await #expect(throws: SessionManagerError.self) { try await task.value }
            #expect(error?.code == .cancelled)
            _ = try await holder.query("COMMIT")
        }
    }

    /// Keeps everybody out of this database, which must be the test's own, while `body` runs.
    func cutOff(_ body: () async throws -> Void) async throws {
        let server = try TestDatabase()
        let name: String = try await query("SELECT current_database()").value()
        try await server.query("ALTER DATABASE \(name) ALLOW_CONNECTIONS false")
        try await server.query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '\(name)'")
        try await server.wait(until: "NOT EXISTS (SELECT FROM pg_stat_activity WHERE datname = '\(name)')")
        let result = await Result { try await body() }
        try await server.query("ALTER DATABASE \(name) ALLOW_CONNECTIONS true")
        try result.get()
    }
}
