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
        self.url = url
        store = "test_" + String(UInt64.random(in: .min ... .max), radix: 36)
    }

    var configuration: PostgresSessionConfiguration {
        var configuration = PostgresSessionConfiguration(connectionString: url)
        configuration.store = store
        configuration.heartbeatInterval = .milliseconds(200)
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
        configure: (inout PostgresSessionConfiguration) -> Void = { _ in },
        _ body: @Sendable ([PostgresStreamSessionManager]) async throws -> Value
    ) async throws -> Value {
        var configuration = configuration
        configure(&configuration)
        let managers = (0..<count).map { _ in
            PostgresStreamSessionManager(configuration: configuration, logger: logger)
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
        let eventLoop = try EventLoop()
        let connection = try await PostgresConnection.connect(
            configuration: ConnectionConfiguration(connectionString: url),
            on: eventLoop,
            logger: logger
        )
        let result = await Result { try await connection.query(sql, parameters) }
        await connection.close()
        await eventLoop.closeAndWait()
        return try result.get()
    }
}

extension Result where Failure == any Error {
    fileprivate init(catching body: () async throws -> Success) async {
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
