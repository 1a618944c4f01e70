import PostgresClient
import SessionManager

/// Finds out why a notification to oneself does not arrive.
struct ListenerDiagnosis: Sendable {
    let listener: PostgresConnection
    let calls: CallConnection

    /// Which database a connection leads to, whatever lies in between.
    private static let identity = """
        SELECT current_database(), concat_ws(' ', current_database(), extract(epoch FROM pg_postmaster_start_time()))
        """

    /// What to tell whoever starts the manager, once it was waited for long enough.
    func error(after patience: Duration) async -> SessionManagerError {
        if let names = await differentDatabases() {
            return SessionManagerError(
                .configuration,
                "the listening connection leads to database \(names.listener), that for calls to \(names.calls)"
                    + (names.listener == names.calls ? " of another server" : ""),
                hint: "Let listenerConnectionString lead to the database and the server of connectionString, by "
                    + "another way."
            )
        }
        return SessionManagerError(
            .listenerPooled,
            "notifications do not arrive on the listening connection within \(patience)",
            hint: "It probably goes through a pooler in transaction mode, which swallows LISTEN. Give a connection "
                + "string that leads to the server itself, or to a pool in session mode, as "
                + "listenerConnectionString; the calls may keep the pooler."
        )
    }

    /// `nil` if they lead to the same one, or if that cannot be found out.
    private func differentDatabases() async -> (listener: String, calls: String)? {
        guard let heard = try? await listener.query(Self.identity), let called = try? await calls.query(Self.identity),
            let listenerIdentity = try? heard.value(column: 1, as: String.self),
            let callsIdentity = try? called.value(column: 1, as: String.self), listenerIdentity != callsIdentity,
            let listenerName = try? heard.value(as: String.self), let callsName = try? called.value(as: String.self)
        else { return nil }
        return (listenerName, callsName)
    }
}
