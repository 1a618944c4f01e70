import CoreMetrics
import Foundation
import Metrics
import SessionManager

/// What the session manager counts, under names that begin with `tmcp.`. Deployment.md lists them for whoever watches.
struct SessionMetrics: Sendable {
    private let streams: Gauge
    private let sends: Counter
    private let delivered: Counter
    private let batchSize: Recorder
    private let sendTime: Timer
    private let deliveryTime: Timer
    private let reconnects: Counter
    private let fetched: Counter

    init(factory: any MetricsFactory) {
        streams = Gauge(label: "tmcp.streams", factory: factory)
        sends = Counter(label: "tmcp.sends", factory: factory)
        delivered = Counter(label: "tmcp.delivered", factory: factory)
        batchSize = Recorder(label: "tmcp.batch_size", factory: factory)
        sendTime = Timer(label: "tmcp.send_time", factory: factory)
        deliveryTime = Timer(label: "tmcp.delivery_time", factory: factory)
        reconnects = Counter(label: "tmcp.reconnects", factory: factory)
        fetched = Counter(label: "tmcp.fetched", factory: factory)
    }

    /// `tmcp.streams`: open streams that this process holds.
    func holds(_ count: Int) { streams.record(count) }

    /// `tmcp.sends` and `tmcp.batch_size`: messages that went out in one call, one for each stream that was named.
    func sends(_ count: Int) {
        sends.increment(by: count)
        batchSize.record(count)
    }

    /// `tmcp.sends`, of what has a call of its own: one, to however many it is sent.
    func sendsAlone() { sends.increment() }

    /// `tmcp.send_time`: from the call of `send`, `broadcast`, `publish` or `log` until the database has the message.
    func sendTook(_ duration: Duration) { sendTime.record(duration: duration) }

    /// `tmcp.delivered`: messages that were handed to streams of this process.
    func delivered(_ count: Int) { delivered.increment(by: count) }

    /// `tmcp.delivery_time`: from the time in a message's event id until it is handed to its stream; right as far as
    /// the clocks of the two machines agree. Not for what is read from the log: how old that is says when its client came
    /// back, and nothing of how fast messages travel.
    func deliveryTook(since eventID: EventID) {
        deliveryTime.recordMicroseconds(max(0, Date.now.timeIntervalSince1970 * 1_000_000 - Double(eventID.rawValue)))
    }

    /// `tmcp.reconnects`: connections that were made again after one was lost.
    func reconnected() { reconnects.increment() }

    /// `tmcp.fetched`: messages that were read from the log, since no notification brought them.
    func fetched(_ count: Int) { fetched.increment(by: count) }
}
