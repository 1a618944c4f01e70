import Foundation
import Logging
import Testing

@testable import PostgresClient

/// The server that `TMCP_TEST_DATABASE_URL` names.
enum TestDatabase {
    struct MissingURL: Error, CustomStringConvertible {
        let description = """
            TMCP_TEST_DATABASE_URL is not set. These tests need a throwaway server: \
            run them with Tests/cluster/with-cluster, or set it to a URI of a superuser's.
            """
    }

    /// The connection string; without one the test fails.
    static func url() throws -> String {
        guard let url = ProcessInfo.processInfo.environment["TMCP_TEST_DATABASE_URL"], !url.isEmpty else {
            throw MissingURL()
        }
        return url
    }

    static func configuration() throws -> ConnectionConfiguration {
        var configuration = try ConnectionConfiguration(connectionString: url())
        // All tests run at once, on a machine that may be busy.
        configuration.connectTimeout = .seconds(60)
        return configuration
    }

    static let logger = Logger(label: "PostgresClientTests") { _ in SwiftLogNoOpLogHandler() }
}

/// Runs `body` with an event loop that is closed afterwards.
func withEventLoop<Value: Sendable>(
    isolation: isolated (any Actor)? = #isolation,
    _ body: (EventLoop) async throws -> Value
) async throws -> Value {
    let loop = try EventLoop()
    do {
        let value = try await body(loop)
        await loop.closeAndWait()
        return value
    } catch {
        await loop.closeAndWait()
        throw error
    }
}

/// Runs `body` with a connection to the test server that is closed afterwards.
func withConnection<Value: Sendable>(
    _ configuration: ConnectionConfiguration? = nil,
    onNotification: PostgresConnection.NotificationHandler? = nil,
    onClose: PostgresConnection.CloseHandler? = nil,
    isolation: isolated (any Actor)? = #isolation,
    _ body: (PostgresConnection) async throws -> Value
) async throws -> Value {
    let configuration = try configuration ?? TestDatabase.configuration()
    return try await withEventLoop { loop in
        let connection = try await PostgresConnection.connect(
            configuration: configuration,
            on: loop,
            logger: TestDatabase.logger,
            onNotification: onNotification,
            onClose: onClose
        )
        do {
            let value = try await body(connection)
            await connection.close()
            return value
        } catch {
            await connection.close()
            throw error
        }
    }
}

/// The error that `body` throws; a failure of the test if it throws none or another kind.
func postgresError(
    isolation: isolated (any Actor)? = #isolation,
    sourceLocation: SourceLocation = #_sourceLocation,
    _ body: () async throws -> Void
) async throws -> PostgresError {
    do {
        try await body()
    } catch let error as PostgresError {
        return error
    }
    Issue.record("no error was thrown", sourceLocation: sourceLocation)
    throw PostgresError(.unexpectedResult, "no error was thrown")
}
