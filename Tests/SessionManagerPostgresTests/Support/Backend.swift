import SessionManager
import SessionManagerPostgres

/// What the managers keep their sessions in: a server's behaviour must not depend on it.
enum Backend: String, CaseIterable, Sendable {
    case memory
    case postgres
    /// With PgBouncer before the connection for calls.
    case pooledPostgres

    /// Runs `body` with the managers of two processes.
    func with(
        _ body:
            @Sendable (_ streams: [any StreamSessionManager], _ infos: [any InfoSessionManager]) async throws -> Void
    ) async throws {
        switch self {
        case .memory:
            let store = InMemorySessionStore()
            let info = InMemoryInfoSessionManager(store: store)
            let streams = [InMemoryStreamSessionManager(store: store), InMemoryStreamSessionManager(store: store)]
            try await body(streams, [info, info])
        case .postgres:
            let database = try TestDatabase()
            try await database.withManagers { managers in
                try await body(managers, managers.map { PostgresInfoSessionManager(sharing: $0) })
            }
        case .pooledPostgres:
            let database = try TestDatabase()
            try await Pooler.withManagers(database) { managers in
                try await body(managers, managers.map { PostgresInfoSessionManager(sharing: $0) })
            }
        }
    }
}
