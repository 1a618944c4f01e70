/// A value for `$1`, `$2`, ... of a statement.
///
/// Values travel in PostgreSQL's binary formats beside the statement, never inside it, so nothing needs escaping. A
/// text that holds a NUL character is refused by the server (SQLSTATE 22021), not cut short.
package enum PostgresParameter: Sendable, Hashable {
    /// A `text`.
    case text(String?)
    /// A `bigint`.
    case int8(Int64?)
    /// A `boolean`.
    case bool(Bool?)
    /// A `text[]` of one dimension. Its elements may be NULL.
    case textArray([String?]?)
    /// A `bigint[]` of one dimension. Its elements may be NULL.
    case int8Array([Int64?]?)
    /// A value in its text format, of the type that PostgreSQL infers: an `interval` or a `jsonb`, for instance.
    case inferred(String?)
}
