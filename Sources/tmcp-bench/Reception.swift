import SessionManager
import Synchronization

/// The consumer of all streams of a process: counts what arrives, and keeps how long each message was under way.
final class Reception: StreamController {
    struct Summary {
        var count = 0
        /// When the last message arrived; 0 for none.
        var lastArrival: Int64 = 0
        var lastEventID: Int64 = 0
        /// Nanoseconds for each small message.
        var latencies: [Int64] = []
        /// Ends when there are so many latencies.
        var awaited: (count: Int, arrival: AsyncStream<Void>.Continuation)?
    }

    private let summary = Mutex(Summary())
    private let measuresLatency = Atomic<Bool>(false)

    func enqueue(_ message: StreamMessage) -> Bool {
        received(message.data, eventID: message.eventID.rawValue)
        return true
    }

    func close(_ closing: StreamClosing) {}

    func received(_ data: String, eventID: Int64 = 0) {
        let now = monotonicNanoseconds()
        var latency: Int64?
        if measuresLatency.load(ordering: .relaxed), data.utf8.count == Payload.size {
            latency = now - Payload.sentAt(data)
        }
        summary.withLock {
            $0.count += 1
            $0.lastArrival = now
            $0.lastEventID = max($0.lastEventID, eventID)
            if let latency { $0.latencies.append(latency) }
            if let awaited = $0.awaited, $0.latencies.count >= awaited.count { awaited.arrival.finish() }
        }
    }

    var current: Summary { summary.withLock { $0 } }

    /// The latencies, once there are so many of them, or a minute is over.
    func latencies(of count: Int) async -> [Int64] {
        let (arrivals, arrival) = AsyncStream.makeStream(of: Void.self)
        summary.withLock {
            $0.awaited = (count, arrival)
            if $0.latencies.count >= count { arrival.finish() }
        }
        await withTaskGroup(of: Void.self) { group in
            group.addTask { for await _ in arrivals {} }
            group.addTask { try? await Task.sleep(for: .seconds(60)) }
            await group.next()
            group.cancelAll()
        }
        return current.latencies
    }

    /// Starts over.
    func reset(measuringLatency: Bool) {
        measuresLatency.store(measuringLatency, ordering: .relaxed)
        summary.withLock { $0 = Summary() }
    }
}
