import SessionManager
import Testing

@testable import SessionManagerPostgres

@Suite("The streams of a node")
struct StreamRegistryTests {
    private var registry = StreamRegistry(position: EventID(rawValue: 100))
    private let consumer = RecordingController()

    /// A registry that listens and has caught up.
    init() {
        _ = registry.listening()
        _ = registry.nodeCaughtUp()
    }

    private func event(_ value: Int64) -> EventID { EventID(rawValue: value) }

    private func message(_ value: Int64) -> StreamMessage { StreamMessage(eventID: event(value), data: "\(value)") }

    private func frame(_ value: Int64, _ targets: NotificationFrame.Targets, inline: Bool = true) -> NotificationFrame {
        NotificationFrame(eventID: event(value), targets: targets, data: inline ? "\(value)" : nil)
    }

    private func stream(
        _ number: Int64,
        position: Int64 = 100,
        standalone: Bool = true,
        controller: RecordingController? = nil
    ) -> StreamRegistry.Stream {
        StreamRegistry.Stream(
            number: number,
            id: "s\(number)",
            isStandalone: standalone,
            controller: controller ?? consumer,
            position: event(position),
            delivered: event(position)
        )
    }

    private mutating func attach(_ stream: StreamRegistry.Stream, replayAfter: Int64? = nil) -> [StreamRegistry.Action]
    {
        registry.attachingBegan()
        defer { registry.attachingEnded() }
        return registry.attached(stream, replayAfter: replayAfter.map(event))
    }

    @Test("gets its own messages and broadcasts, each once and in order")
    mutating func live() {
        #expect(attach(stream(1)) == [])
        #expect(registry.received(frame(101, .streams([1]))) == [])
        #expect(registry.received(frame(102, .everyStandaloneStream)) == [])
        #expect(registry.received(frame(102, .everyStandaloneStream)) == [])
        #expect(registry.received(frame(103, .streams([2]))) == [])
        #expect(registry.received(frame(104, .streams([2, 1]))) == [])
        #expect(consumer.received == [101, 102, 104])
    }

    @Test("that is not standalone gets no broadcast")
    mutating func notStandalone() {
        _ = attach(stream(1, standalone: false))
        _ = registry.received(frame(101, .everyStandaloneStream))
        _ = registry.received(frame(102, .streams([1])))
        #expect(consumer.received == [102])
    }

    @Test("that resumes gets the log first, and what comes meanwhile after it")
    mutating func replayThenLive() {
        #expect(
            attach(stream(1), replayAfter: 50)
                == [.replay(stream: 1, after: event(50), through: event(100))]
        )
        #expect(registry.received(frame(101, .streams([1]))) == [])
        #expect(consumer.received == [])
        _ = registry.replayed(message(60), stream: 1)
        _ = registry.replayed(message(70), stream: 1)
        #expect(
            registry.caughtUp(1, through: event(100))
                == [.replay(stream: 1, after: event(100), through: event(101))]
        )
        _ = registry.replayed(message(101), stream: 1)
        #expect(registry.caughtUp(1, through: event(101)) == [])
        _ = registry.received(frame(102, .streams([1])))
        #expect(consumer.received == [60, 70, 101, 102])
    }

    @Test("loses nothing that arrives before the answer to its attach")
    mutating func earlyFrames() {
        registry.attachingBegan()
        _ = registry.received(frame(101, .streams([1])))
        _ = registry.received(frame(102, .everyStandaloneStream))
        let actions = registry.attached(stream(1), replayAfter: nil)
        registry.attachingEnded()
        #expect(actions == [.replay(stream: 1, after: event(100), through: event(102))])
    }

    @Test("is closed at once when it was ended before the answer to its attach")
    mutating func earlyEnd() {
        registry.attachingBegan()
        registry.lost(.ended([1]))
        #expect(registry.attached(stream(1), replayAfter: nil) == [])
        registry.attachingEnded()
        #expect(consumer.closing == .ended)
        #expect(registry.stream(id: "s1") == nil)
    }

    @Test("that another node took is closed, but not by a loss from before it was attached here")
    mutating func takenOver() {
        _ = attach(stream(1, position: 110))
        registry.lost(.taken(at: event(105), [1]))
        #expect(consumer.closing == nil)
        registry.lost(.taken(at: event(120), [1]))
        #expect(consumer.closing == .takenOver)
    }

    @Test("catches up by itself from a doorbell, and the others go on meanwhile")
    mutating func doorbell() {
        let other = RecordingController()
        _ = attach(stream(1))
        _ = attach(stream(2, controller: other))
        #expect(
            registry.received(frame(101, .streams([1]), inline: false))
                == [.replay(stream: 1, after: event(100), through: event(101))]
        )
        _ = registry.received(frame(102, .streams([1])))
        _ = registry.received(frame(103, .streams([2])))
        #expect(consumer.received == [])
        #expect(other.received == [103])
        _ = registry.replayed(message(101), stream: 1)
        #expect(
            registry.caughtUp(1, through: event(101))
                == [.replay(stream: 1, after: event(101), through: event(102))]
        )
    }

    @Test("are fetched for together after a doorbell for all")
    mutating func doorbellForAll() {
        _ = attach(stream(1))
        #expect(registry.received(frame(101, .everyStandaloneStream, inline: false)) == [.fetch(after: event(100))])
        #expect(registry.received(frame(102, .streams([1]))) == [])
        _ = registry.fetched(message(101), stream: nil)
        #expect(registry.nodeCaughtUp() == [.fetch(after: event(101))])
        _ = registry.fetched(message(102), stream: 1)
        #expect(registry.nodeCaughtUp() == [])
        _ = registry.received(frame(103, .streams([1])))
        #expect(consumer.received == [101, 102, 103])
    }

    @Test("are not fetched for again and again because of a message that is for nobody here")
    mutating func doorbellForNobody() {
        _ = attach(stream(1))
        #expect(registry.received(frame(101, .everyStandaloneStream, inline: false)) == [.fetch(after: event(100))])
        #expect(registry.nodeCaughtUp() == [])
        #expect(registry.position == event(101))
    }

    @Test("get nothing while the node is cut off, and all of it once the log was read")
    mutating func cutOff() {
        _ = attach(stream(1))
        _ = registry.received(frame(101, .streams([1])))
        registry.cutOff()
        // The notification for 102 is lost; 103 arrives after LISTEN, before the log has been read.
        _ = registry.received(frame(103, .streams([1])))
        #expect(registry.listening() == [.fetch(after: event(101))])
        _ = registry.received(frame(104, .streams([1])))
        for value: Int64 in [102, 103] { _ = registry.fetched(message(value), stream: 1) }
        #expect(registry.nodeCaughtUp() == [.fetch(after: event(103))])
        _ = registry.fetched(message(104), stream: 1)
        #expect(registry.nodeCaughtUp() == [])
        #expect(consumer.received == [101, 102, 103, 104])
    }

    @Test("stay cut off when a fetch ends that began before the node was cut off once more")
    mutating func cutOffDuringFetch() {
        _ = attach(stream(1))
        registry.cutOff()
        _ = registry.listening()
        registry.cutOff()
        #expect(registry.nodeCaughtUp() == [])
        _ = registry.received(frame(105, .streams([1])))
        #expect(consumer.received == [])
        #expect(registry.listening() == [.fetch(after: event(100))])
    }

    @Test("that attaches does not move the node past what is on its way to others")
    mutating func attachKeepsPosition() {
        _ = attach(stream(1))
        _ = attach(stream(2, position: 150))
        #expect(registry.position == event(100))
    }

    @Test("that is too slow is cut off, and only that one")
    mutating func tooSlow() {
        let slow = RecordingController(capacity: 1)
        _ = attach(stream(1, controller: slow))
        _ = attach(stream(2))
        _ = registry.received(frame(101, .everyStandaloneStream))
        #expect(registry.received(frame(102, .everyStandaloneStream)) == [.detach(stream: 1)])
        #expect(slow.received == [101])
        #expect(slow.closing == .tooSlow)
        #expect(consumer.received == [101, 102])
    }

    @Test("is replaced by a new connection of its client at the same node")
    mutating func replaced() {
        let next = RecordingController()
        _ = attach(stream(1))
        _ = attach(stream(1, position: 110, controller: next))
        #expect(consumer.closing == .takenOver)
        _ = registry.received(frame(111, .streams([1])))
        #expect(consumer.received == [])
        #expect(next.received == [111])
    }
}
