import Foundation
import Testing

@testable import PostgresClient

@Suite("Notifications", .timeLimit(.minutes(2)))
struct NotificationTests {
    private struct Received: Sendable, Equatable {
        let channel: String
        let payload: String
    }

    private func withListener(
        _ body: (PostgresConnection, AsyncStream<Received>) async throws -> Void
    ) async throws {
        let (stream, continuation) = AsyncStream<Received>.makeStream()
        try await withConnection { notification in
            let bytes = notification.withPayload { String(decoding: $0, as: UTF8.self) }
            #expect(bytes == notification.payload)
            continuation.yield(Received(channel: notification.channel, payload: bytes))
        } _: { connection in
            try await body(connection, stream)
        }
    }

    private func first(_ count: Int, of stream: AsyncStream<Received>) async -> [Received] {
        var received: [Received] = []
        for await notification in stream {
            received.append(notification)
            if received.count == count { break }
        }
        return received
    }

    @Test("A payload of 7,999 bytes arrives whole, on channels with hostile names")
    func payloads() async throws {
        let suffix = UInt64.random(in: 0 ... .max)
        let channels = [
            "a\(suffix)\"; DROP TABLE x; --", "Ümläut \(suffix)", String(repeating: "c", count: 43) + "\(suffix)",
        ]
        let payload = String(repeating: "é", count: 3_999) + "!"
        #expect(payload.utf8.count == 7_999)
        try await withListener { listener, stream in
            for channel in channels { try await listener.listen(to: String(channel.prefix(63))) }
            try await withConnection { sender in
                for channel in channels {
                    let arguments: [PostgresParameter] = [.text(String(channel.prefix(63))), .text(payload)]
                    _ = try await sender.query("SELECT pg_notify($1, $2)", arguments)
                }
            }
            let received = await first(channels.count, of: stream)
            #expect(received.map(\.channel) == channels.map { String($0.prefix(63)) })
            #expect(received.allSatisfy { $0.payload == payload })
        }
    }

    @Test("Five thousand notifications arrive once each, in order, while calls go on")
    func order() async throws {
        let channel = "order \(UInt64.random(in: 0 ... .max))"
        try await withListener { listener, stream in
            try await listener.listen(to: channel)
            async let sent: Void = withConnection { sender in
                for number in stride(from: 0, to: 5_000, by: 500) {
                    _ = try await sender.query(
                        "SELECT pg_notify($1, i::text) FROM generate_series($2, $2 + 499) i",
                        [.text(channel), .int8(Int64(number))]
                    )
                }
            }
            for number in 0..<200 {
                let answer: Int64 = try await listener.query("SELECT $1", [.int8(Int64(number))]).value()
                #expect(answer == Int64(number))
            }
            try await sent
            let received = await first(5_000, of: stream)
            #expect(received.map(\.payload) == (0..<5_000).map(String.init))
        }
    }

    @Test("What a connection notifies itself of has arrived when the call after it is answered")
    func toItself() async throws {
        let channel = "self \(UInt64.random(in: 0 ... .max))"
        try await withListener { listener, stream in
            try await listener.listen(to: channel)
            _ = try await listener.query("SELECT pg_notify($1, 'hello')", [.text(channel)])
            #expect(await first(1, of: stream) == [Received(channel: channel, payload: "hello")])
            try await listener.unlisten(from: channel)
            let left = try await listener.query("SELECT count(*) FROM pg_listening_channels()")
            #expect(try left.value() == 0)
        }
    }

    @Test("A channel name that PostgreSQL would cut short or refuse is an error", arguments: ["", "a\0b", "x"])
    func wrongChannel(name: String) async throws {
        try await withConnection { connection in
            let channel = name == "x" ? String(repeating: "x", count: 64) : name
            let error = try await postgresError { try await connection.listen(to: channel) }
            #expect(error.code == .invalidParameter)
        }
    }
}
