import PostgresClient
import SessionManager

/// The functions of the extension, called with the store as their first argument.
struct StoreFunctions: Sendable {
    let store: String
    let calls: CallConnection

    /// Calls a function for what it does.
    func call(_ function: StaticString, _ arguments: [PostgresParameter]) async throws(SessionManagerError) {
        _ = try await query("SELECT \(invocation(function, arguments))", arguments)
    }

    /// The value that a function returns, as the type that `cast` names.
    func value<Value: PostgresDecodable & Sendable>(
        _ function: StaticString,
        _ arguments: [PostgresParameter],
        cast: StaticString = ""
    ) async throws(SessionManagerError) -> Value {
        let result = try await query("SELECT \(invocation(function, arguments))\(cast)", arguments)
        do {
            return try result.value()
        } catch {
            throw SessionManagerError(error)
        }
    }

    /// The rows that a function returns.
    ///
    /// - Parameters:
    ///   - columns: what of each row is read, in the order in which `decode` takes it.
    ///   - order: the column that they are in the order of. Default: as the function returns them.
    func rows<Row>(
        _ columns: StaticString,
        from function: StaticString,
        _ arguments: [PostgresParameter],
        orderedBy order: StaticString? = nil,
        decode: (PostgresRow) throws(PostgresError) -> Row
    ) async throws(SessionManagerError) -> [Row] {
        var sql = "SELECT \(columns) FROM \(invocation(function, arguments))"
        if let order { sql += " ORDER BY \(order)" }
        let result = try await query(sql, arguments)
        do {
            return try result.rows.map { (row) throws(PostgresError) in try decode(row) }
        } catch {
            throw SessionManagerError(error)
        }
    }

    /// Runs a statement of which the store is the first parameter.
    func query(_ sql: String, _ arguments: [PostgresParameter]) async throws(SessionManagerError) -> PostgresResult {
        try await calls.query(sql, [.text(store)] + arguments)
    }

    private func invocation(_ function: StaticString, _ arguments: [PostgresParameter]) -> String {
        let places = (1...arguments.count + 1).map { "$\($0)" }.joined(separator: ", ")
        return "\(function)(\(places))"
    }
}
