import PostgresClient
import SessionManager
import Synchronization
import Testing

@testable import SessionManagerPostgres

/// The same numbers for the same seed.
struct SeededGenerator: RandomNumberGenerator {
    private var state: UInt64

    init(seed: UInt64) {
        state = seed
    }

    mutating func next() -> UInt64 {
        // Source: S. Vigna, splitmix64.
        state &+= 0x9E37_79B9_7F4A_7C15
        var result = state
        result = (result ^ (result >> 30)) &* 0xBF58_476D_1CE4_E5B9
        result = (result ^ (result >> 27)) &* 0x94D0_49BB_1331_11EB
        return result ^ (result >> 31)
    }
}

@Suite("Random operations on several processes at once", .serialized, .timeLimit(.minutes(3)))
struct PropertyTests {
    /// What a client saw of one stream.
    private struct Life {
        /// Everything after this event is expected.
        var start: EventID
        var messages: [StreamMessage] = []
        var isOver = false
    }

    /// One MCP client without a session: it listens for changes, reads, and listens anew when its stream has ended.
    private actor Listener {
        let id: String
        private let managers: [PostgresStreamSessionManager]
        private var random: SeededGenerator
        private(set) var lives: [Life] = []

        init(id: String, managers: [PostgresStreamSessionManager], seed: UInt64) {
            self.id = id
            self.managers = managers
            random = SeededGenerator(seed: seed)
        }

        /// Lives until it reads the message that ends the test.
        func run() async throws {
            while try await live() {}
        }

        private func live() async throws -> Bool {
            let stream = MessageStream(byteLimit: 40_000)
            let manager = managers[Int.random(in: 0..<managers.count, using: &random)]
            let name = "\(id) \(random.next())"
            do throws(SessionManagerError) {
                let start = try await manager.listen(
                    name,
                    controller: stream.controller,
                    filter: ChangeFilter(lists: [.tools], resources: ["note://0"]),
                    principal: nil
                )
                lives.append(Life(start: start))
            } catch {
                guard error.code == .unreachable || error.code == .outcomeUnknown else { throw error }
                return true
            }
            var patience = Int.random(in: 1...40, using: &random)
            for await message in stream {
                lives[lives.count - 1].messages.append(message)
                if message.data == "end" { return false }
                patience -= 1
                if patience == 0 {
                    try await manager.detach(name)
                    break
                }
            }
            lives[lives.count - 1].isOver = true
            return true
        }
    }

    /// One MCP client: it opens its stream, reads, goes away, and comes back, here or elsewhere, where it left off.
    ///
    /// What it saw is a list of lives: a stream that was deleted and opened again is another one.
    private actor Client {
        let id: String
        private let managers: [PostgresStreamSessionManager]
        private var random: SeededGenerator
        private(set) var lives: [Life] = []
        private var manager = 0

        init(id: String, managers: [PostgresStreamSessionManager], seed: UInt64) {
            self.id = id
            self.managers = managers
            random = SeededGenerator(seed: seed)
        }

        /// Lives until it reads the message that ends the test.
        func run() async throws {
            while try await live() {}
        }

        /// One connection; `false` when the test is over.
        private func live() async throws -> Bool {
            // Small, so that a client that is slow is cut off now and then.
            let stream = MessageStream(byteLimit: 40_000)
            guard try await open(stream) else { return true }
            var patience = Int.random(in: 1...60, using: &random)
            for await message in stream {
                lives[lives.count - 1].messages.append(message)
                if message.data == "end" { return false }
                patience -= 1
                if patience == 0 {
                    // It goes away; half of the time the process is not told, and another one takes the stream over.
                    if Bool.random(using: &random) { try await managers[manager].detach(id) }
                    break
                }
            }
            if stream.closing == .ended { lives[lives.count - 1].isOver = true }
            return true
        }

        private func open(_ stream: MessageStream) async throws -> Bool {
            manager = Int.random(in: 0..<managers.count, using: &random)
            var last: EventID?
            if let life = lives.last, !life.isOver { last = life.messages.last?.eventID ?? life.start }
            do throws(SessionManagerError) {
                let opening = try await managers[manager].create(
                    id,
                    controller: stream.controller,
                    options: StreamOptions(lastEventID: last)
                )
                switch opening.replay {
                case .complete where last != nil: break
                // Deleted before it came back: what was on its way has ended with the stream.
                case .purged: fallthrough
                default:
                    if !lives.isEmpty { lives[lives.count - 1].isOver = true }
                    lives.append(Life(start: opening.start))
                }
                return true
            } catch {
                switch error.code {
                case .unreachable, .outcomeUnknown, .streamHeld: return false
                default: throw error
                }
            }
        }
    }

    /// What senders know of the messages that they sent.
    private actor Model {
        /// A message, and the stream that it was for; `nil` for all. One for many streams has one event id for all of them.
        struct Sent {
            let eventID: EventID
            let data: String
            let stream: String?
        }

        private(set) var sent: [Sent] = []
        /// The events that are also for those who listen.
        private(set) var changes: Set<EventID> = []
        private(set) var attempted: Set<String> = []

        private(set) var deletions: [String: Int] = [:]

        private var waiting: (count: Int, continuation: CheckedContinuation<Void, Never>)?

        func attempt(_ data: String) {
            attempted.insert(data)
            if let waiting, attempted.count >= waiting.count {
                self.waiting = nil
                waiting.continuation.resume()
            }
        }

        /// Returns when so many messages have been sent, or tried to be.
        func attempted(_ count: Int) async {
            if attempted.count < count { await withCheckedContinuation { waiting = (count, $0) } }
        }

        func attemptDeletion(_ id: String) { deletions[id, default: 0] += 1 }
        func sent(_ eventID: EventID, _ data: String, to stream: String?) {
            sent.append(Sent(eventID: eventID, data: data, stream: stream))
        }
        func changed(_ eventID: EventID) { changes.insert(eventID) }
    }

    private struct Sender {
        let name: String
        let ids: [String]
        let managers: [PostgresStreamSessionManager]
        let model: Model
        var random: SeededGenerator

        mutating func run(_ count: Int) async throws {
            for number in 1...count {
                do throws(SessionManagerError) {
                    try await step("\(name) \(number)")
                } catch {
                    guard error.code == .unreachable || error.code == .outcomeUnknown else { throw error }
                }
            }
        }

        private mutating func step(_ data: String) async throws(SessionManagerError) {
            let manager = managers[Int.random(in: 0..<managers.count, using: &random)]
            var data = data
            switch Int.random(in: 0..<100, using: &random) {
            case 0..<2:
                let id = ids[Int.random(in: 0..<ids.count, using: &random)]
                await model.attemptDeletion(id)
                try await manager.delete(id)
            case 2..<8:
                if Bool.random(using: &random) { data += String(repeating: "x", count: 9_000) }
                await model.attempt(data)
                let lists = ServerList.allCases
                let list = lists[Int.random(in: 0..<lists.count, using: &random)]
                let eventID = try await manager.broadcast(list, data: data)
                await model.sent(eventID, data, to: nil)
                if list == .tools { await model.changed(eventID) }
            case 8..<12:
                await model.attempt(data)
                if case .sent(let eventID) = try await manager.send(nil, data: data).first {
                    await model.sent(eventID, data, to: nil)
                }
            case 12..<20:
                // To the subscribers; each is in the log with one event id that the sender does not learn.
                await model.attempt(data)
                try await manager.publish("note://\(Int.random(in: 0..<2, using: &random))", data: data)
            default:
                if Int.random(in: 0..<15, using: &random) == 0 { data += String(repeating: "x", count: 9_000) }
                await model.attempt(data)
                let count = Int.random(in: 1...3, using: &random)
                let to = ids.shuffled(using: &random).prefix(count)
                let receipts = try await manager.send(Array(to), data: data)
                for (id, receipt) in zip(to, receipts) {
                    if case .sent(let eventID) = receipt { await model.sent(eventID, data, to: id) }
                }
            }
        }
    }

    @Test(
        "Every message sent after a client opened its stream reaches it once and in order, wherever it resumes",
        arguments: [UInt64.random(in: .min ... .max), 1]
    )
    func model(seed: UInt64) async throws {
        // A failure shows the seed, which is the argument of the test.
        let database = try TestDatabase()
        // So that answers are lost, too, which a server that ends a session gives before.
        let relay = try Relay(to: database)
        try await database.withManagers(
            3,
            configure: {
                $1.applicationName = database.store
                $1.connectionString = relay.url
                $1.listenerConnectionString = $0 == 0 ? relay.url : database.url
            }
        ) { managers in
            var random = SeededGenerator(seed: seed)
            let ids = (0..<8).map { "s\($0)" }
            let clients = ids.map { Client(id: $0, managers: managers, seed: random.next()) }
            let listeners = (0..<4).map { Listener(id: "l\($0)", managers: managers, seed: random.next()) }
            let model = Model()
            let info = PostgresInfoSessionManager(sharing: managers[0])
            for (index, id) in ids.enumerated() {
                try await info.addSubscription(id, uri: "note://\(index % 2)", principal: nil)
            }
            try await withThrowingTaskGroup(of: Void.self) { group in
                for client in clients { group.addTask { try await client.run() } }
                for listener in listeners { group.addTask { try await listener.run() } }
                let senders = (0..<4).map { index in
                    Sender(
                        name: "m\(index)",
                        ids: ids,
                        managers: managers,
                        model: model,
                        random: SeededGenerator(seed: random.next())
                    )
                }
                let disturbanceSeed = random.next()
                try await withThrowingTaskGroup(of: Void.self) { sending in
                    for var sender in senders { sending.addTask { try await sender.run(150) } }
                    sending.addTask {
                        try await Self.disturb(database, relay, managers, seed: disturbanceSeed, model)
                    }
                    try await sending.waitForAll()
                }
                // A stream that was deleted last is not there to end until its client has come back.
                for (id, client) in zip(ids, clients) {
                    group.addTask {
                        while !Task.isCancelled, await client.lives.last?.messages.last?.data != "end" {
                            _ = try? await managers[0].send([id], data: "end")
                        }
                    }
                }
                for listener in listeners {
                    group.addTask {
                        while !Task.isCancelled, await listener.lives.last?.messages.last?.data != "end" {
                            _ = try? await managers[0].broadcast(.tools, data: "end")
                        }
                    }
                }
                // The first that fails ends the others.
                while try await group.next() != nil {}
            }
            for listener in listeners { await Self.check(listener.lives, listener.id, model, isListener: true) }
            for client in clients {
                await Self.check(client.lives, client.id, model)
                let (lives, deletions) = await (client.lives.count, model.deletions[client.id] ?? 0)
                #expect(lives - 1 <= deletions, "\(client.id): started over without having been deleted")
            }
        }
    }

    /// Ends and cuts connections, and fences processes, while senders send.
    private static func disturb(
        _ database: TestDatabase,
        _ relay: Relay,
        _ managers: [PostgresStreamSessionManager],
        seed: UInt64,
        _ model: Model
    ) async throws {
        var random = SeededGenerator(seed: seed)
        try await database.withConnection { observer in
            var count = 0
            while count < 500 {
                switch Int.random(in: 0..<5, using: &random) {
                case 0:
                    // Whichever connection: the order of the rows is the server's.
                    _ = try await observer.query(
                        """
                        SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                        WHERE application_name = $1 AND pid % 6 = $2
                        """,
                        [.text(database.store), .int8(Int64.random(in: 0..<6, using: &random))]
                    )
                case 1:
                    try await database.silenceNodes(
                        except: managers[Int.random(in: 0..<managers.count, using: &random)]
                    )
                case 2:
                    relay.cut()
                default: break
                }
                count += 25
                await model.attempted(count)
            }
        }
    }

    private static func check(_ lives: [Life], _ id: String, _ model: Model, isListener: Bool = false) async {
        let changes = await model.changes
        let sent = await model.sent.filter { !isListener || changes.contains($0.eventID) }
        let attempted = await model.attempted
        for life in lives {
            let events = life.messages.map(\.eventID)
            #expect(zip(events, events.dropFirst()).allSatisfy { $0 < $1 }, "\(id): out of order or twice")
            #expect(events.allSatisfy { $0 > life.start }, "\(id): from before it was opened")
            let received = life.messages.filter { $0.data != "end" }
            #expect(received.allSatisfy { attempted.contains($0.data) }, "\(id): of nobody's")
            let data = Dictionary(received.map { ($0.eventID, $0.data) }) { first, _ in first }
            // A life that was deleted ended at an event that nobody knows: all up to what it last saw.
            let end = life.isOver ? events.last ?? life.start : EventID(rawValue: .max)
            for message in sent
            where message.eventID > life.start && message.eventID <= end && (message.stream ?? id) == id {
                #expect(
                    data[message.eventID] == message.data,
                    """
                    \(id): \(message.data.prefix(20)) at \(message.eventID) is missing between \(life.start) and \(end), \
                    beside \(events.last { $0 < message.eventID }.map { "\($0)" } ?? "nothing") and \
                    \(events.first { $0 > message.eventID }.map { "\($0)" } ?? "nothing")
                    """
                )
            }
        }
    }
}
