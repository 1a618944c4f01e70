import CLibPQ
import Foundation

/// The floor: `pg_notify` over a blocking connection of libpq, to one listener that does nothing but wait.
final class FloorContestant: Contestant {
    struct Failure: Error {
        let message: String
    }

    private let databaseURL: String
    private let reception: Reception
    private let sender: Sender

    /// A connection that is used by one caller at a time.
    private struct Sender: @unchecked Sendable {
        let connection: OpaquePointer
    }

    init(databaseURL: String, reception: Reception) throws {
        self.databaseURL = databaseURL
        self.reception = reception
        sender = Sender(connection: try Self.connect(databaseURL))
        PQclear(PQexec(sender.connection, "SET synchronous_commit = off"))
        PQclear(PQprepare(sender.connection, "send", "SELECT pg_notify($1, $2)", 2, nil))
    }

    private static func connect(_ databaseURL: String) throws -> OpaquePointer {
        guard let connection = PQconnectdb(databaseURL), PQstatus(connection) == CONNECTION_OK else {
            throw Failure(message: "libpq cannot connect")
        }
        return connection
    }

    var executor: (any TaskExecutor)? { nil }

    func open(_ ids: [String]) async throws {
        guard ids.first != nil else { return }
        let listener = Sender(connection: try Self.connect(databaseURL))
        PQclear(PQexec(listener.connection, "LISTEN floor"))
        let reception = reception
        Thread.detachNewThread {
            var event = pollfd(fd: PQsocket(listener.connection), events: Int16(POLLIN), revents: 0)
            while poll(&event, 1, -1) >= 0, PQconsumeInput(listener.connection) == 1 {
                while let notification = PQnotifies(listener.connection) {
                    reception.received(String(cString: notification.pointee.extra))
                    PQfreemem(notification)
                }
            }
        }
    }

    func send(_ id: String, _ data: String) async throws {
        "floor".withCString { channel in
            data.withCString { data in
                PQclear(PQexecPrepared(sender.connection, "send", 2, [channel, data], nil, nil, 0))
            }
        }
    }
}
