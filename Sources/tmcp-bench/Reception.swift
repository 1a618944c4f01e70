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
        }
    }

    var current: Summary { summary.withLock { $0 } }

    /// Starts over.
    func reset(measuringLatency: Bool) {
        measuresLatency.store(measuringLatency, ordering: .relaxed)
        summary.withLock { $0 = Summary() }
    }
}
