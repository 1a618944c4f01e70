/// How long to wait before the next attempt: doubling from one failure to the next up to a cap, with jitter.
///
/// Half of each delay is fixed and half is random, so that many processes that lost the same server do not all come
/// back at the same moment. It is for the time after a failure: the first attempt does not wait.
package struct Backoff: Sendable {
    /// The most that the first delay can be.
    package let initial: Duration
    /// The most that any delay can be.
    package let cap: Duration
    /// How many delays were handed out since the last success.
    package private(set) var failures = 0

    private var ceiling: Duration

    /// A backoff that has seen no failure.
    ///
    /// - Parameters:
    ///   - initial: the most that the first delay can be; at least a microsecond. Default: 100 ms.
    ///   - cap: the most that any delay can be; at least `initial`. Default: 5 s.
    package init(initial: Duration = .milliseconds(100), cap: Duration = .seconds(5)) {
        self.initial = max(initial, .microseconds(1))
        self.cap = max(cap, self.initial)
        ceiling = self.initial
    }

    /// The delay before the next attempt, after one more failure.
    package mutating func next(using generator: inout some RandomNumberGenerator) -> Duration {
        failures += 1
        defer { ceiling = min(cap, ceiling * 2) }
        return ceiling / 2 + ceiling / 2 * Double.random(in: 0..<1, using: &generator)
    }

    /// The delay before the next attempt, after one more failure, from the system's random numbers.
    package mutating func next() -> Duration {
        var generator = SystemRandomNumberGenerator()
        return next(using: &generator)
    }

    /// An attempt succeeded: the next failure starts over.
    package mutating func reset() {
        failures = 0
        ceiling = initial
    }
}
