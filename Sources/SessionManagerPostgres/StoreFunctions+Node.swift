package import PostgresClient
package import SessionManager

/// The functions of the extension that a node calls.
extension StoreFunctions {
    /// What the database calls a node, and where its notifications come from.
    struct Registration: Sendable {
        let node: Int64
        let channel: String
        /// An event that everything follows which is sent to the node's streams.
        let position: EventID

        /// The channel that tells of streams which the node has lost.
        var lossChannel: String { "delete:" + channel }
    }

    /// What came of opening a stream.
    enum Attached: Sendable {
        case opened(stream: Int64, StreamOpening)
        /// Another live node holds it, and no last event id was given.
        case held
        /// Its session does not exist for that principal.
        case absent
    }

    /// What became of a stream that the node held before it was cut off.
    enum Reattached: Sendable {
        /// It is this node's.
        case attached
        /// The log no longer has all that it missed.
        case purged
        /// Another node took it.
        case taken
        /// Somebody has locked it for so long that it was left where it is.
        case locked
        /// It was ended.
        case ended
    }

    /// A message of the log with those that it is for.
    struct LoggedMessage: Sendable {
        let message: StreamMessage
        let targets: NotificationFrame.Targets
        /// The stream that it is for, or one after all streams: where in its event the next page goes on.
        let stream: Int64
    }

    /// After all streams of an event.
    static let endOfEvent = Int64.max

    func registerNode(name: String) async throws(SessionManagerError) -> Registration {
        let registrations = try await rows(
            "node, channel, event_id",
            from: "tmcp.register_node",
            [.text(name)]
        ) { (row) throws(PostgresError) in
            Registration(node: try row.value(0), channel: try row.value(1), position: try row.value(2))
        }
        guard let registration = registrations.first else {
            throw SessionManagerError(.database, "the database registered no node")
        }
        return registration
    }

    func stopNode(_ node: Int64) async throws(SessionManagerError) {
        try await call("tmcp.stop_node", [.int8(node)])
    }

    /// Says that the node is alive; `false` if it has been silent for so long that others may hold its streams.
    func heartbeat(_ node: Int64) async throws(SessionManagerError) -> Bool {
        try await value("tmcp.heartbeat", [.int8(node)])
    }

    /// The same over a connection of the caller's.
    func heartbeat(_ node: Int64, over connection: PostgresConnection) async throws(PostgresError) -> Bool {
        try await connection.query("SELECT tmcp.heartbeat($1, $2)", [.text(store), .int8(node)]).value()
    }

    /// Opens streams of sessions: one answer for each, in the same order.
    func attach(_ attachments: [StreamAttachment], to node: Int64) async throws(SessionManagerError) -> [Attached] {
        try await rows(
            "state, stream, event_id, replay_after",
            from: "tmcp.attach_batch",
            [
                .int8(node),
                .textArray(attachments.map(\.id)),
                .int8Array(attachments.map { $0.options.lastEventID?.rawValue }),
                .textArray(attachments.map(\.options.sessionID)),
                .textArray(attachments.map(\.options.principal)),
            ],
            orderedBy: "place"
        ) { (row) throws(PostgresError) in
            switch try row.value(0, as: String.self) {
            case "held": return .held
            case "absent": return .absent
            case let state:
                let opening = StreamOpening(
                    replay: state == "replay" ? .complete : state == "purged" ? .purged : .none,
                    position: try row.value(2),
                    start: try row.value(3)
                )
                return .opened(stream: try row.value(1), opening)
            }
        }
    }

    /// Opens a stream that listens for changes.
    func listen(
        _ id: String,
        for filter: ChangeFilter,
        principal: String?,
        on node: Int64
    ) async throws(SessionManagerError) -> (stream: Int64, position: EventID) {
        let opened = try await rows(
            "stream, event_id",
            from: "tmcp.listen",
            [
                .int8(node), .text(id), .textArray(filter.lists.map(\.rawValue)), .textArray(filter.resources),
                .text(principal),
            ]
        ) { (row) throws(PostgresError) in
            (stream: try row.value(0, as: Int64.self), position: try row.value(1, as: EventID.self))
        }
        guard let stream = opened.first else { throw SessionManagerError(.database, "the database opened no stream") }
        return stream
    }

    /// Makes sure of streams that the node held, at least one: an answer for each, in the same order, and the event from
    /// which on they are this node's.
    func reattach(
        _ streams: [StreamRegistry.Stream],
        to node: Int64
    ) async throws(SessionManagerError) -> (outcomes: [Reattached], position: EventID) {
        let rows = try await rows(
            "state, event_id",
            from: "tmcp.reattach",
            [
                .int8(node),
                .int8Array(streams.map(\.number)),
                .int8Array(streams.map(\.position.rawValue)),
                .int8Array(streams.map(\.delivered.rawValue)),
            ],
            orderedBy: "place"
        ) { (row) throws(PostgresError) in
            let outcome: Reattached =
                switch try row.value(0, as: String.self) {
                case "attached": .attached
                case "purged": .purged
                case "taken": .taken
                case "locked": .locked
                default: .ended
                }
            return (outcome: outcome, position: try row.value(1, as: EventID.self))
        }
        guard let position = rows.first?.position, rows.count == streams.count else {
            throw SessionManagerError(.database, "the database answered for \(rows.count) of \(streams.count) streams")
        }
        return (rows.map(\.outcome), position)
    }

    /// Lets go of streams, which stay resumable, unless they were attached again after the position given for each.
    /// Returns those that the node still holds, since somebody has locked them.
    func detach(_ streams: [Int64: EventID], from node: Int64) async throws(SessionManagerError) -> [Int64] {
        let (numbers, positions) = (Array(streams.keys), streams.values.map(\.rawValue))
        return try await value("tmcp.detach", [.int8(node), .int8Array(numbers), .int8Array(positions)])
    }

    /// A page of what the log has for one stream.
    func replay(
        _ stream: Int64,
        after: EventID,
        through: EventID,
        page: LogPage
    ) async throws(SessionManagerError) -> [StreamMessage] {
        try await rows(
            "event_id, data",
            from: "tmcp.replay",
            [.int8(stream), .int8(after.rawValue), .int8(through.rawValue), .int8(page.count), .int8(page.bytes)]
        ) { (row) throws(PostgresError) in
            StreamMessage(eventID: try row.value(0), data: try row.value(1))
        }
    }

    /// A page of what the log has for all streams of a node; `nil` if the node is no longer alive.
    ///
    /// One message may be for thousands of streams: a page ends within its event if need be, and the next one goes on
    /// with the streams after the one it ended with.
    ///
    /// The heartbeat comes after the messages. A node that is alive then has held its streams all the time; one that is
    /// not gets nothing for a stream that was detached, and must not go past that.
    func fetchMessages(
        of node: Int64,
        after: EventID,
        stream: Int64,
        page: LogPage
    ) async throws(SessionManagerError) -> [LoggedMessage]? {
        let result = try await query(
            """
            SELECT event_id, stream, data, kind, NULL::boolean FROM tmcp.fetch_messages($1, $2, $3, $4, $5, $6)
            UNION ALL SELECT NULL, NULL, NULL, NULL, tmcp.heartbeat($1, $2)
            """,
            [.int8(node), .int8(after.rawValue), .int8(page.count), .int8(page.bytes), .int8(stream)]
        )
        do {
            guard try result.rows.last?.value(4, as: Bool.self) == true else { return nil }
            return try result.rows.dropLast().map { (row) throws(PostgresError) in
                let stream: Int64? = try row.value(1)
                return LoggedMessage(
                    message: StreamMessage(eventID: try row.value(0), data: try row.value(2)),
                    targets: try Self.targets(stream: stream, kind: row.value(3)),
                    stream: stream ?? Self.endOfEvent
                )
            }
        } catch {
            throw SessionManagerError(error)
        }
    }

    private static func targets(stream: Int64?, kind: String?) -> NotificationFrame.Targets {
        stream.map { .streams([$0]) } ?? .everybody(kind.flatMap(ServerList.init(rawValue:)))
    }

    /// How many messages one call of ``flushOutbox()`` sends at most.
    static let outboxPage: Int64 = 1000

    /// Sends what transactions have enqueued; returns how many messages that were.
    func flushOutbox() async throws(SessionManagerError) -> Int64 {
        try await value("tmcp.flush_outbox", [])
    }
}

/// How much of the log is read at a time.
struct LogPage: Sendable {
    /// Messages at most, and their bytes.
    let count: Int64
    let bytes: Int64

    /// Whether a page has reached neither, and so is the last.
    func isLast(_ messages: some Sequence<StreamMessage>) -> Bool {
        var (count, bytes) = (Int64(0), Int64(0))
        for message in messages {
            count += 1
            bytes += Int64(message.data.utf8.count)
        }
        return count < self.count && bytes < self.bytes
    }
}

extension EventID: PostgresDecodable {
    package static func decode(_ cell: PostgresCell) throws(PostgresError) -> EventID {
        EventID(rawValue: try Int64.decode(cell))
    }
}
