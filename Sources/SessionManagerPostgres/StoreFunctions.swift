import PostgresClient
import SessionManager

extension SessionClient {
    /// Calls a function of the extension with the store as its first argument.
    func call(
        _ function: StaticString,
        _ arguments: [PostgresParameter],
        cast: String = ""
    ) async throws(SessionManagerError) -> PostgresResult {
        let places = (1...arguments.count + 1).map { "$\($0)" }.joined(separator: ", ")
        return try await running().calls.query(
            "SELECT \(function)(\(places))\(cast)",
            [.text(configuration.store)] + arguments
        )
    }

    /// The value that a function returns.
    func value<Value: PostgresDecodable & Sendable>(
        _ function: StaticString,
        _ arguments: [PostgresParameter]
    ) async throws(SessionManagerError) -> Value {
        let result = try await call(function, arguments)
        do {
            return try result.value()
        } catch {
            throw SessionManagerError(error)
        }
    }

    /// The value that a function returns, as text.
    func text(_ function: StaticString, _ arguments: [PostgresParameter]) async throws(SessionManagerError) -> String? {
        let result = try await call(function, arguments, cast: "::text")
        do {
            return try result.value()
        } catch {
            throw SessionManagerError(error)
        }
    }
}
