import Logging
import SessionManager
import SessionManagerPostgres

/// The extension and its Swift client, as a server process uses them.
struct ExtensionContestant: Contestant {
    private let streams: PostgresStreamSessionManager
    private let sessions: PostgresInfoSessionManager
    private let reception: Reception
    private let buffers = Buffers()

    init(databaseURL: String, reception: Reception) async throws {
        streams = PostgresStreamSessionManager(
            configuration: PostgresSessionConfiguration(connectionString: databaseURL),
            logger: Logger(label: "tmcp-bench")
        )
        sessions = PostgresInfoSessionManager(sharing: streams)
        self.reception = reception
        let streams = streams
        // Ends with the process.
        Task { try await streams.run() }
        try await streams.waitUntilReady()
    }

    var executor: (any TaskExecutor)? { get async throws { try await streams.taskExecutor } }

    func open(_ ids: [String]) async throws {
        try await each(ids) { try await streams.create($0, controller: reception) }
    }

    func openWithBuffers(_ ids: [String]) async throws {
        // Not all at once: what opening a stream needs for a moment would lie between what stays.
        for start in stride(from: 0, to: ids.count, by: 100) {
            try await each(Array(ids[start..<min(start + 100, ids.count)])) {
                let messages = MessageStream()
                try await streams.create($0, controller: messages.controller)
                await buffers.keep(messages)
            }
        }
    }

    func send(_ id: String, _ data: String) async throws {
        try await streams.send([id], data: data)
    }

    func broadcast(_ data: String) async throws {
        try await streams.send(nil, data: data)
    }

    func subscribe(_ ids: [String], to uri: String) async throws {
        try await each(ids) {
            try await sessions.setClientInfo($0, .object(["name": .string("bench")]), principal: nil)
            try await sessions.addSubscription($0, uri: uri, principal: nil)
        }
    }

    func publish(_ uri: String, _ data: String) async throws {
        try await streams.publish(uri, data: data)
    }

    func resume(_ ids: [String], after event: Int64) async throws {
        let options = StreamOptions(lastEventID: EventID(rawValue: event))
        try await each(ids) { try await streams.create($0, controller: reception, options: options) }
    }

    func detach(_ ids: [String]) async throws {
        try await each(ids) { try await streams.detach($0) }
    }

    private func each(_ ids: [String], _ action: @escaping @Sendable (String) async throws -> Void) async throws {
        try await withThrowingTaskGroup(of: Void.self) { group in
            for id in ids { group.addTask { try await action(id) } }
            try await group.waitForAll()
        }
    }
}

/// The buffers that nobody reads.
private actor Buffers {
    private var all: [MessageStream] = []
    func keep(_ buffer: MessageStream) { all.append(buffer) }
}
