import Foundation
import Logging
import PostgresClient
import SessionManager
import Testing

@testable import SessionManagerPostgres

/// The server that the tests run against, and a store of its own for each test.
struct TestDatabase: Sendable {
    struct Missing: Error, CustomStringConvertible {
        let description =
            "TMCP_TEST_DATABASE_URL is not set: run the tests with `make test`, or within "
            + "Tests/cluster/with-cluster"
    }

    let url: String
    let store: String

    init() throws {
        guard let url = ProcessInfo.processInfo.environment["TMCP_TEST_DATABASE_URL"] else { throw Missing() }
        self.init(url: url)
    }

    /// A store of its own on another server.
    init(url: String) {
        self.url = url
        store = Self.randomName()
    }

    private static func randomName() -> String { "test_" + String(UInt64.random(in: .min ... .max), radix: 36) }

    /// Runs `body` with an empty database of its own, which is removed afterwards.
    static func withEmptyDatabase<Value: Sendable>(
        options: String = "",
        _ body: (TestDatabase) async throws -> Value
    ) async throws -> Value {
        let server = try TestDatabase()
        let name = randomName()
        try await server.query("CREATE DATABASE \(name) \(options)")
        let result = await Result { try await body(TestDatabase(url: server.replacing(path: name))) }
        try await server.query("DROP DATABASE \(name) WITH (FORCE)")
        return try result.get()
    }

    /// The URI with other parts.
    func replacing(
        user: String? = nil,
        password: String? = nil,
        host: String? = nil,
        port: Int? = nil,
        path: String? = nil
    ) -> String {
        guard var components = URLComponents(string: url) else { return url }
        if let user { components.user = user }
        if let password { components.password = password }
        if let host { components.host = host }
        if let port { components.port = port }
        if let path { components.path = "/" + path }
        return components.string ?? url
    }

    var configuration: PostgresSessionConfiguration {
        var configuration = PostgresSessionConfiguration(connectionString: url)
        configuration.store = store
        configuration.heartbeatInterval = .milliseconds(200)
        configuration.checksHeartbeatInterval = false
        // All tests start at once, perhaps on a machine with two cores and under a sanitizer.
        configuration.connectTimeout = .seconds(40)
        return configuration
    }

    var logger: Logger {
        var logger = Logger(label: "test")
        logger.logLevel = .critical
        return logger
    }

    /// Runs `body` with a number of stream managers, each a process of its own as far as the database can tell.
    func withManagers<Value: Sendable>(
        _ count: Int = 2,
        configure: (_ index: Int, _ configuration: inout PostgresSessionConfiguration) -> Void = { _, _ in },
        _ body: @Sendable ([PostgresStreamSessionManager]) async throws -> Value
    ) async throws -> Value {
        let managers = (0..<count).map { index in
            var configuration = configuration
            configure(index, &configuration)
            return PostgresStreamSessionManager(configuration: configuration, logger: logger)
        }
        return try await withThrowingTaskGroup(of: Void.self) { group in
            for manager in managers { group.addTask { try await manager.run() } }
            for manager in managers { try await manager.waitUntilReady() }
            let value = try await body(managers)
            group.cancelAll()
            while let result = await group.nextResult() { try result.get() }
            return value
        }
    }

    /// Runs one statement on a connection of its own, as psql would.
    @discardableResult
    func query(_ sql: String, _ parameters: [PostgresParameter] = []) async throws -> PostgresResult {
        try await withConnection { try await $0.query(sql, parameters) }
    }

    /// Runs `body` with a connection.
    func withConnection<Value: Sendable>(_ body: (PostgresConnection) async throws -> Value) async throws -> Value {
        let eventLoop = try EventLoop()
        let connection = await Result {
            try await PostgresConnection.connect(
                configuration: ConnectionConfiguration(connectionString: url),
                on: eventLoop,
                logger: logger
            )
        }
        let result = await Result { try await body(connection.get()) }
        try? await connection.get().close()
        await eventLoop.closeAndWait()
        return try result.get()
    }

    /// Returns when a condition on the database holds.
    func wait(until condition: String, sourceLocation: SourceLocation = #_sourceLocation) async throws {
        try await withConnection { connection in
            let deadline = ContinuousClock.now + .seconds(30)
            while try await connection.query("SELECT (\(condition))").value(as: Bool?.self) != true {
                try #require(ContinuousClock.now < deadline, "\(condition)", sourceLocation: sourceLocation)
            }
        }
    }
}

extension Result where Failure == any Error {
    init(catching body: () async throws -> Success) async {
        do {
            self = .success(try await body())
        } catch {
            self = .failure(error)
        }
    }
}

extension MessageStream {
    /// The data of the next messages.
    func next(_ count: Int) async -> [String] {
        var data: [String] = []
        for await message in self {
            data.append(message.data)
            if data.count == count { break }
        }
        return data
    }
}
