import CLibPQ

/// What a statement gave: rows of values that are decoded as they are read.
///
/// It holds libpq's result, and frees it when it is let go of. libpq does not change a result, so that any thread may
/// read it.
package final class PostgresResult: @unchecked Sendable {
    private let handle: OpaquePointer

    /// How many rows there are.
    package let rowCount: Int
    /// How many columns each row has.
    package let columnCount: Int

    /// Takes over a result, which is to be freed by nobody else.
    init(taking handle: OpaquePointer) {
        self.handle = handle
        rowCount = Int(PQntuples(handle))
        columnCount = Int(PQnfields(handle))
    }

    deinit {
        PQclear(handle)
    }

    /// What the server calls the command that it ran, for instance `SELECT 1`.
    package var commandTag: String {
        PQcmdStatus(handle).map { String(cString: $0) } ?? ""
    }

    /// How many rows an `INSERT`, `UPDATE` or `DELETE` changed, or a `SELECT` returned; `nil` for another command.
    package var affectedRowCount: Int? {
        PQcmdTuples(handle).flatMap { Int(String(cString: $0)) }
    }

    /// The rows, in the server's order.
    package var rows: some RandomAccessCollection<PostgresRow> {
        (0..<rowCount).lazy.map { PostgresRow(result: self, index: $0) }
    }

    /// The value at a row and a column, both from 0.
    ///
    /// - Throws: ``PostgresError/Code/unexpectedResult`` if there is no such row or column, or the value is NULL or of
    ///   another type.
    package func value<Value: PostgresDecodable>(
        row: Int = 0,
        column: Int = 0,
        as type: Value.Type = Value.self
    ) throws(PostgresError) -> Value {
        guard row >= 0, row < rowCount, column >= 0, column < columnCount else {
            throw PostgresError(
                .unexpectedResult,
                "row \(row), column \(column) of a result of \(rowCount) rows and \(columnCount) columns"
            )
        }
        // libpq made the counts from Int32, so that what is below them is one.
        let (row, column) = (Int32(row), Int32(column))
        var bytes: UnsafeRawBufferPointer?
        if PQgetisnull(handle, row, column) == 0, let start = PQgetvalue(handle, row, column) {
            bytes = UnsafeRawBufferPointer(start: start, count: Int(PQgetlength(handle, row, column)))
        }
        let cell = PostgresCell(
            bytes: bytes,
            typeID: PQftype(handle, column),
            isBinary: PQfformat(handle, column) == 1,
            column: Int(column)
        )
        return try withExtendedLifetime(self) { () throws(PostgresError) in try Value.decode(cell) }
    }
}

/// One row of a result.
package struct PostgresRow: Sendable {
    /// The result that it is of.
    package let result: PostgresResult
    /// Which row it is, from 0.
    package let index: Int

    /// The value in a column, from 0.
    ///
    /// - Throws: ``PostgresError/Code/unexpectedResult`` if there is no such column, or the value is NULL or of another
    ///   type.
    package func value<Value: PostgresDecodable>(
        _ column: Int,
        as type: Value.Type = Value.self
    ) throws(PostgresError) -> Value {
        try result.value(row: index, column: column)
    }
}
