import PostgresClient
import Testing

@Suite("Backoff")
struct BackoffTests {
    /// Gives one number over and over.
    private struct Constant: RandomNumberGenerator {
        let number: UInt64
        mutating func next() -> UInt64 { number }
    }

    @Test("Without luck, delays are half of a ceiling that doubles up to the cap")
    func lowest() {
        var generator = Constant(number: 0)
        var backoff = Backoff(initial: .milliseconds(100), cap: .milliseconds(700))
        let delays = (0..<5).map { _ in backoff.next(using: &generator) }
        #expect(
            delays == [
                .milliseconds(50), .milliseconds(100), .milliseconds(200), .milliseconds(350), .milliseconds(350),
            ]
        )
        #expect(backoff.failures == 5)
    }

    @Test("Every delay is between half the ceiling and the ceiling, also after a thousand failures")
    func bounds() {
        var generator = SystemRandomNumberGenerator()
        var backoff = Backoff(initial: .milliseconds(10), cap: .seconds(2))
        var ceiling = Duration.milliseconds(10)
        var delays: Set<Duration> = []
        for _ in 0..<1_000 {
            let delay = backoff.next(using: &generator)
            #expect(delay >= ceiling / 2 && delay <= ceiling)
            ceiling = min(ceiling * 2, .seconds(2))
            delays.insert(delay)
        }
        #expect(delays.count > 500, "delays are spread, so that processes do not come back together")
    }

    @Test("After a success the delays start over")
    func reset() {
        var generator = Constant(number: 0)
        var backoff = Backoff(initial: .milliseconds(100), cap: .seconds(10))
        for _ in 0..<4 { _ = backoff.next(using: &generator) }
        backoff.reset()
        #expect(backoff.failures == 0)
        #expect(backoff.next(using: &generator) == .milliseconds(50))
    }

    @Test("A senseless cap or start still makes a delay above zero")
    func senseless() {
        var backoff = Backoff(initial: .zero, cap: .seconds(-1))
        for _ in 0..<100 { #expect(backoff.next() > .zero) }
    }
}
