import Synchronization

/// A fixture, not a product: Redis publish/subscribe as the Redis manager of the original uses it.
///
/// Two channels and a key for each session, one `PUBLISH` for each message, no log, nothing durable. One connection
/// subscribes and one does the rest; both pipeline.
final class RedisContestant: Contestant {
    private let ids = SessionIDs()
    private let commands: RedisConnection
    private let subscriber: RedisConnection
    private let subscribed: Counter

    private final class Counter: Sendable {
        let value = Atomic<Int>(0)
    }

    init(port: UInt16, reception: Reception) async throws {
        let subscribed = Counter()
        self.subscribed = subscribed
        commands = try await RedisConnection(port: port)
        subscriber = try await RedisConnection(port: port) { channel, data in
            if channel.hasPrefix("session:") {
                reception.received(data)
            } else if channel.isEmpty {
                subscribed.value.add(1, ordering: .relaxed)
            }
        }
    }

    var executor: (any TaskExecutor)? { commands.eventLoop }

    func open(_ ids: [String]) async throws {
        let wanted = subscribed.value.load(ordering: .relaxed) + 2 * ids.count
        try await withThrowingTaskGroup(of: Void.self) { group in
            for id in ids {
                group.addTask {
                    await self.subscriber.commandWithoutAnswer("SUBSCRIBE", "session:\(id)")
                    await self.subscriber.commandWithoutAnswer("SUBSCRIBE", "delete:session:\(id)")
                    _ = try await self.commands.command("SET", "available:session:\(id)", "active")
                    _ = try await self.commands.command("EXPIRE", "available:session:\(id)", "3600")
                }
            }
            try await group.waitForAll()
        }
        while subscribed.value.load(ordering: .relaxed) < wanted { await Task.yield() }
        await self.ids.add(ids)
    }

    func send(_ id: String, _ data: String) async throws {
        _ = try await commands.command("PUBLISH", "session:\(id)", data)
    }

    func broadcast(_ data: String) async throws {
        var cursor = "0"
        repeat {
            let answer = try await commands.command("SCAN", cursor, "MATCH", "available:session:*", "COUNT", "1000")
            guard case .array(let parts) = answer, parts.count == 2, case .array(let keys) = parts[1] else { return }
            cursor = parts[0].text ?? "0"
            let channels = keys.compactMap { $0.text.map { String($0.dropFirst("available:".utf8.count)) } }
            try await publish(data, toAll: channels)
        } while cursor != "0"
    }

    func subscribe(_ ids: [String], to uri: String) async throws {
        for id in ids { _ = try await commands.command("SADD", "subscriptions:\(uri)", id) }
    }

    func publish(_ uri: String, _ data: String) async throws {
        guard case .array(let members) = try await commands.command("SMEMBERS", "subscriptions:\(uri)") else { return }
        try await publish(data, toAll: members.compactMap { $0.text.map { "session:\($0)" } })
    }

    private func publish(_ data: String, toAll channels: [String]) async throws {
        try await withThrowingTaskGroup(of: Void.self) { group in
            for channel in channels {
                group.addTask { _ = try await self.commands.command("PUBLISH", channel, data) }
            }
            try await group.waitForAll()
        }
    }

    func keepAlive() async throws {
        for id in await ids.all { _ = try await commands.command("EXPIRE", "available:session:\(id)", "3600") }
    }
}
