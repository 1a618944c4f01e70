import CoreMetrics
import Foundation
import NIOConcurrencyHelpers
import PostgresClient
import SessionManager
import Testing

@testable import SessionManagerPostgres

/// Remembers the values of every metric, by its label.
private final class RecordingMetrics: MetricsFactory, Sendable {
    final class Handler: CounterHandler, FloatingPointCounterHandler, MeterHandler, RecorderHandler, TimerHandler {
        private struct State {
            var values: [Double] = []
            var awaited: (total: Double, continuation: CheckedContinuation<Void, Never>)?

            /// Who waits, if it is time.
            mutating func reached() -> CheckedContinuation<Void, Never>? {
                guard let awaited, values.reduce(0, +) >= awaited.total else { return nil }
                self.awaited = nil
                return awaited.continuation
            }
        }

        private let state = NIOLockedValueBox(State())
        var recorded: [Double] { state.withLockedValue { $0.values } }

        private func add(_ value: Double) {
            state.withLockedValue { state in
                state.values.append(value)
                return state.reached()
            }?.resume()
        }

        /// Returns when the values add up to as much.
        func reaches(_ total: Double) async {
            await withCheckedContinuation { continuation in
                state.withLockedValue { state in
                    state.awaited = (total, continuation)
                    return state.reached()
                }?.resume()
            }
        }

        func increment(by amount: Int64) { add(Double(amount)) }
        func increment(by amount: Double) { add(amount) }
        func decrement(by amount: Double) { add(-amount) }
        func set(_ value: Int64) { add(Double(value)) }
        func set(_ value: Double) { add(value) }
        func record(_ value: Int64) { add(Double(value)) }
        func record(_ value: Double) { add(value) }
        func recordNanoseconds(_ duration: Int64) { add(Double(duration)) }
        func reset() {}
    }

    private let handlers = NIOLockedValueBox<[String: Handler]>([:])

    private func handler(_ label: String) -> Handler {
        handlers.withLockedValue { handlers in
            if let handler = handlers[label] { return handler }
            let handler = Handler()
            handlers[label] = handler
            return handler
        }
    }

    var labels: Set<String> { handlers.withLockedValue { Set($0.keys) } }
    func values(_ label: String) -> [Double] { handler(label).recorded }
    func total(_ label: String) -> Double { values(label).reduce(0, +) }
    func reaches(_ label: String, _ total: Double) async { await handler(label).reaches(total) }

    func makeCounter(label: String, dimensions: [(String, String)]) -> any CounterHandler { handler(label) }
    func makeFloatingPointCounter(label: String, dimensions: [(String, String)]) -> any FloatingPointCounterHandler {
        handler(label)
    }
    func makeMeter(label: String, dimensions: [(String, String)]) -> any MeterHandler { handler(label) }
    func makeRecorder(label: String, dimensions: [(String, String)], aggregate: Bool) -> any RecorderHandler {
        handler(label)
    }
    func makeTimer(label: String, dimensions: [(String, String)]) -> any TimerHandler { handler(label) }
    func destroyCounter(_ handler: any CounterHandler) {}
    func destroyFloatingPointCounter(_ handler: any FloatingPointCounterHandler) {}
    func destroyMeter(_ handler: any MeterHandler) {}
    func destroyRecorder(_ handler: any RecorderHandler) {}
    func destroyTimer(_ handler: any TimerHandler) {}
}

@Suite("Metrics", .timeLimit(.minutes(1)))
struct MetricsTests {
    @Test("count streams, what is sent and delivered and how long it takes, reconnects, and what was fetched")
    func metrics() async throws {
        let metrics = RecordingMetrics()
        let database = try TestDatabase()
        try await database.withManagers(
            1,
            configure: {
                $1.applicationName = database.store
                $1.metricsFactory = metrics
            }
        ) { managers in
            let streams = [MessageStream(), MessageStream()]
            for (index, stream) in streams.enumerated() {
                try await managers[0].create("s\(index)", controller: stream.controller)
            }
            #expect(metrics.values("tmcp.streams").last == 2)
            try await managers[0].send(["s0", "s1"], data: "1")
            try await managers[0].send(["s0"], data: String(repeating: "x", count: 10_000))
            #expect(await streams[0].next(2).count == 2)
            #expect(await streams[1].next(1).count == 1)
            #expect(metrics.total("tmcp.sends") == 3)
            #expect(metrics.values("tmcp.batch_size") == [2, 1])
            #expect(metrics.values("tmcp.send_time").count == 2)
            // What the database looks the recipients up for counts as one, and goes out alone.
            try await managers[0].broadcast(.tools, data: "3")
            #expect(try await managers[0].publish("note://x", data: "nobody") == 0)
            #expect(try await managers[0].log(.info, data: "4") == 2)
            for stream in streams { #expect(await stream.next(2) == ["3", "4"]) }
            #expect(metrics.total("tmcp.sends") == 6)
            #expect(metrics.values("tmcp.batch_size") == [2, 1])
            #expect(metrics.values("tmcp.send_time").count == 5)
            #expect(metrics.values("tmcp.send_time").allSatisfy { $0 > 0 })
            #expect(metrics.values("tmcp.delivery_time").count >= 1)
            #expect(metrics.total("tmcp.fetched") == 1)
            #expect(metrics.total("tmcp.reconnects") == 0)

            try await database.query(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = $1",
                [.text(database.store)]
            )
            await metrics.reaches("tmcp.reconnects", 2)
            try await managers[0].detach("s1")
            #expect(metrics.values("tmcp.streams").last == 1)
            // The count follows the message, on the event loop.
            await metrics.reaches("tmcp.delivered", 7)
            #expect(metrics.total("tmcp.delivered") == 7)
        }
        let article = try String(
            contentsOf: URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
                .deletingLastPathComponent()
                .appending(path: "Sources/SessionManagerPostgres/Documentation.docc/Deployment.md"),
            encoding: .utf8
        )
        for label in metrics.labels {
            #expect(label.hasPrefix("tmcp."))
            #expect(article.contains("| `\(label)` |"), "Deployment.md has no row for \(label)")
        }
    }
}
