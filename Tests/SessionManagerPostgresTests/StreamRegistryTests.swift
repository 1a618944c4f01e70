import SessionManager
import Testing

@testable import SessionManagerPostgres

@Suite("The streams of a node")
struct StreamRegistryTests {
    private var registry = StreamRegistry(position: EventID(rawValue: 100))
    private let consumer = RecordingController()

    /// A registry that listens and has caught up.
    init() {
        if case .fetch(let fetch) = registry.listening().first { _ = registry.nodeCaughtUp(fetch) }
    }

    /// The fetch of a given number: the one that ``init()`` did is 1.
    private func fetch(_ number: UInt64, after value: Int64) -> StreamRegistry.Fetch {
        StreamRegistry.Fetch(number: number, after: event(value))
    }

    private func replay(
        _ stream: Int64,
        _ range: ClosedRange<Int64>,
        attachment: UInt64 = 1
    ) -> StreamRegistry.Replay {
        StreamRegistry.Replay(
            stream: stream,
            attachment: attachment,
            after: event(range.lowerBound),
            through: event(range.upperBound)
        )
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
        lists: Set<ServerList>? = nil,
        controller: RecordingController? = nil
    ) -> StreamRegistry.Stream {
        StreamRegistry.Stream(
            number: number,
            id: "s\(number)",
            isStandalone: standalone,
            lists: lists,
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
        #expect(registry.received(frame(102, .everybody(nil))) == [])
        #expect(registry.received(frame(102, .everybody(nil))) == [])
        #expect(registry.received(frame(103, .streams([2]))) == [])
        #expect(registry.received(frame(104, .streams([2, 1]))) == [])
        #expect(consumer.received == [101, 102, 104])
    }

    @Test("that is not standalone gets no broadcast")
    mutating func notStandalone() {
        _ = attach(stream(1, standalone: false))
        _ = registry.received(frame(101, .everybody(nil)))
        _ = registry.received(frame(102, .streams([1])))
        #expect(consumer.received == [102])
    }

    @Test("that listens gets the broadcasts of its lists, and no others")
    mutating func listening() {
        _ = attach(stream(1, standalone: false, lists: [.tools, .prompts]))
        _ = registry.received(frame(101, .everybody(nil)))
        _ = registry.received(frame(102, .everybody(.tools)))
        _ = registry.received(frame(103, .everybody(.resources)))
        _ = registry.received(frame(104, .streams([1])))
        #expect(consumer.received == [102, 104])
        #expect(registry.received(frame(105, .everybody(.prompts), inline: false)) == [.fetch(fetch(2, after: 104))])
        _ = registry.fetched(message(105), targets: .everybody(.prompts), by: fetch(2, after: 104))
        _ = registry.fetched(message(106), targets: .everybody(.resources), by: fetch(2, after: 104))
        #expect(consumer.received == [102, 104, 105])
    }

    @Test("that listens has dealt with broadcasts that are not for it")
    mutating func passedOver() {
        _ = attach(stream(1, standalone: false, lists: [.tools]))
        _ = attach(stream(2, standalone: false))
        _ = registry.received(frame(101, .everybody(nil)))
        _ = registry.received(frame(102, .everybody(.prompts)))
        // The log may not have these any more.
        #expect(
            registry.received(frame(103, .streams([1]), inline: false)) == [.replay(replay(1, 102...103))]
        )
        // Broadcasts are nothing to the stream of a request.
        #expect(
            registry.received(frame(104, .streams([2]), inline: false)) == [
                .replay(replay(2, 100...104, attachment: 2))
            ]
        )
    }

    @Test("that listens loses no broadcast of its lists that arrives before it is known, and gets no other")
    mutating func listeningEarly() {
        registry.attachingBegan()
        _ = registry.received(frame(101, .everybody(.resources)))
        #expect(registry.attached(stream(1, standalone: false, lists: [.tools]), replayAfter: nil) == [])
        _ = registry.received(frame(102, .everybody(.tools)))
        #expect(
            registry.attached(stream(2, standalone: false, lists: [.tools]), replayAfter: nil)
                == [.replay(replay(2, 100...102, attachment: 2))]
        )
        registry.attachingEnded()
        #expect(consumer.received == [102])
    }

    @Test("that resumes gets the log first, and what comes meanwhile after it")
    mutating func replayThenLive() {
        #expect(
            attach(stream(1), replayAfter: 50)
                == [.replay(replay(1, 50...100))]
        )
        #expect(registry.received(frame(101, .streams([1]))) == [])
        #expect(consumer.received == [])
        _ = registry.replayed([message(60)], by: replay(1, 50...100))
        _ = registry.replayed([message(70)], by: replay(1, 50...100))
        #expect(
            registry.caughtUp(replay(1, 50...100))
                == [.replay(replay(1, 100...101))]
        )
        _ = registry.replayed([message(101)], by: replay(1, 100...101))
        #expect(registry.caughtUp(replay(1, 100...101)) == [])
        _ = registry.received(frame(102, .streams([1])))
        #expect(consumer.received == [60, 70, 101, 102])
    }

    @Test("loses nothing that arrives before the answer to its attach")
    mutating func earlyFrames() {
        registry.attachingBegan()
        _ = registry.received(frame(101, .streams([1])))
        _ = registry.received(frame(102, .everybody(nil)))
        let actions = registry.attached(stream(1), replayAfter: nil)
        registry.attachingEnded()
        #expect(actions == [.replay(replay(1, 100...102))])
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
                == [.replay(replay(1, 100...101))]
        )
        _ = registry.received(frame(102, .streams([1])))
        _ = registry.received(frame(103, .streams([2])))
        #expect(consumer.received == [])
        #expect(other.received == [103])
        _ = registry.replayed([message(101)], by: replay(1, 100...101))
        #expect(
            registry.caughtUp(replay(1, 100...101))
                == [.replay(replay(1, 101...102))]
        )
    }

    @Test("are fetched for together after a doorbell for all")
    mutating func doorbellForAll() {
        _ = attach(stream(1))
        #expect(registry.received(frame(101, .everybody(nil), inline: false)) == [.fetch(fetch(2, after: 100))])
        #expect(registry.received(frame(102, .streams([1]))) == [])
        _ = registry.fetched(message(101), targets: .everybody(nil), by: fetch(2, after: 100))
        #expect(registry.nodeCaughtUp(fetch(2, after: 100)) == [.fetch(fetch(3, after: 101))])
        _ = registry.fetched(message(102), targets: .streams([1]), by: fetch(3, after: 101))
        #expect(registry.nodeCaughtUp(fetch(3, after: 101)) == [])
        _ = registry.received(frame(103, .streams([1])))
        #expect(consumer.received == [101, 102, 103])
    }

    @Test("are not fetched for again and again because of a message that is for nobody here")
    mutating func doorbellForNobody() {
        _ = attach(stream(1))
        #expect(registry.received(frame(101, .everybody(nil), inline: false)) == [.fetch(fetch(2, after: 100))])
        #expect(registry.nodeCaughtUp(fetch(2, after: 100)) == [])
        #expect(registry.position == event(101))
    }

    @Test("get nothing while the node is cut off, and all of it once the log was read")
    mutating func cutOff() {
        _ = attach(stream(1))
        _ = registry.received(frame(101, .streams([1])))
        registry.cutOff()
        // The notification for 102 is lost; 103 arrives after LISTEN, before the log has been read.
        _ = registry.received(frame(103, .streams([1])))
        #expect(registry.listening() == [.fetch(fetch(2, after: 101))])
        _ = registry.received(frame(104, .streams([1])))
        for value: Int64 in [102, 103] {
            _ = registry.fetched(message(value), targets: .streams([1]), by: fetch(2, after: 101))
        }
        #expect(registry.nodeCaughtUp(fetch(2, after: 101)) == [.fetch(fetch(3, after: 103))])
        _ = registry.fetched(message(104), targets: .streams([1]), by: fetch(3, after: 103))
        #expect(registry.nodeCaughtUp(fetch(3, after: 103)) == [])
        #expect(consumer.received == [101, 102, 103, 104])
    }

    @Test("get the rest of an event when a fetch is given up between two of its messages")
    mutating func splitEvent() {
        let other = RecordingController()
        _ = attach(stream(1))
        _ = attach(stream(2, controller: other))
        registry.cutOff()
        #expect(registry.listening() == [.fetch(fetch(2, after: 100))])
        _ = registry.fetched(message(101), targets: .streams([1]), by: fetch(2, after: 100))
        _ = registry.fetched(message(102), targets: .streams([1]), by: fetch(2, after: 100))
        registry.cutOff()
        #expect(registry.listening() == [.fetch(fetch(3, after: 101))])
        for number: Int64 in [1, 2] {
            _ = registry.fetched(message(102), targets: .streams([number]), by: fetch(3, after: 101))
        }
        #expect(registry.nodeCaughtUp(fetch(3, after: 101)) == [])
        #expect(registry.position == event(102))
        #expect(consumer.received == [101, 102])
        #expect(other.received == [102])
    }

    @Test("stay cut off when a fetch ends that began before the node was cut off once more")
    mutating func cutOffDuringFetch() {
        _ = attach(stream(1))
        registry.cutOff()
        _ = registry.listening()
        registry.cutOff()
        #expect(registry.nodeCaughtUp(fetch(2, after: 100)) == [])
        _ = registry.received(frame(105, .streams([1])))
        #expect(consumer.received == [])
        #expect(registry.listening() == [.fetch(fetch(3, after: 100))])
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
        _ = registry.received(frame(101, .everybody(nil)))
        #expect(registry.received(frame(102, .everybody(nil))) == [.detach(stream: 1, position: event(100))])
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

    @Test("stay cut off when a fetch ends that began before the node listened again")
    mutating func staleFetch() {
        _ = attach(stream(1))
        registry.cutOff()
        _ = registry.listening()
        registry.cutOff()
        // 101 was missed; the first fetch read the log before it was there.
        #expect(registry.listening() == [.fetch(fetch(3, after: 100))])
        #expect(registry.nodeCaughtUp(fetch(2, after: 100)) == [])
        _ = registry.received(frame(102, .streams([1])))
        #expect(registry.fetched(message(102), targets: .streams([1]), by: fetch(2, after: 100)) == [])
        #expect(consumer.received == [])
        for value: Int64 in [101, 102] {
            _ = registry.fetched(message(value), targets: .streams([1]), by: fetch(3, after: 100))
        }
        #expect(registry.nodeCaughtUp(fetch(3, after: 100)) == [])
        #expect(consumer.received == [101, 102])
    }

    @Test("that a client opens again does not get the rest of the replay that its former connection waited for")
    mutating func staleReplay() {
        let next = RecordingController()
        #expect(attach(stream(1), replayAfter: 50) == [.replay(replay(1, 50...100))])
        // The former connection had got as far as 80, and the client had seen 60.
        #expect(
            attach(stream(1, position: 110, controller: next), replayAfter: 60)
                == [.replay(replay(1, 60...110, attachment: 2))]
        )
        _ = registry.replayed([message(90)], by: replay(1, 50...100))
        #expect(registry.caughtUp(replay(1, 50...100)) == [])
        for value: Int64 in [70, 80, 90] {
            _ = registry.replayed([message(value)], by: replay(1, 60...110, attachment: 2))
        }
        #expect(consumer.received == [])
        #expect(next.received == [70, 80, 90])
    }

    @Test("that a client opens again here gets what its former connection was given before the answer")
    mutating func earlyFrameOfHeldStream() {
        let next = RecordingController()
        _ = attach(stream(1))
        registry.attachingBegan()
        _ = registry.received(frame(120, .streams([1])))
        let actions = registry.attached(stream(1, position: 110, controller: next), replayAfter: nil)
        registry.attachingEnded()
        #expect(actions == [.replay(replay(1, 110...120, attachment: 2))])
    }

    @Test("loses nothing that a fetch brings before the answer to its attach")
    mutating func earlyRow() {
        registry.cutOff()
        _ = registry.listening()
        registry.attachingBegan()
        _ = registry.fetched(message(120), targets: .streams([1]), by: fetch(2, after: 100))
        let actions = registry.attached(stream(1, position: 110), replayAfter: nil)
        registry.attachingEnded()
        #expect(actions == [.replay(replay(1, 110...120))])
    }

    @Test("that was taken before the answer to its attach is closed as taken over, unless that was before")
    mutating func earlyTaking() {
        let other = RecordingController()
        registry.attachingBegan()
        registry.lost(.taken(at: event(120), [1, 2]))
        #expect(registry.attached(stream(1, position: 110), replayAfter: nil) == [])
        _ = registry.attached(stream(2, position: 130, controller: other), replayAfter: nil)
        registry.attachingEnded()
        #expect(consumer.closing == .takenOver)
        #expect(other.closing == nil)
    }

    @Test("are brought along to a new node, which reads the log from where the one that is furthest behind stands")
    mutating func registeredAnew() {
        _ = attach(stream(1, position: 110))
        _ = attach(stream(2, position: 150))
        registry.registered(at: event(200))
        #expect(registry.position == event(110))
        registry.reattached(1, position: event(210))
        registry.lost(.taken(at: event(205), [1]))
        #expect(consumer.closing == nil)
        #expect(registry.listening() == [.fetch(fetch(2, after: 110))])
    }

    @Test("are none after all were closed, and then the log is not read from before the new node")
    mutating func startsOver() {
        _ = attach(stream(1))
        registry.closeAll { _ in .detached }
        registry.registered(at: event(200))
        #expect(consumer.closing == .detached)
        #expect(registry.listening() == [.fetch(fetch(2, after: 200))])
    }

    @Test("are caught up with after a notification that nobody understands, but not while the node is cut off")
    mutating func misheard() {
        #expect(registry.misheard() == [.fetch(fetch(2, after: 100))])
        registry.cutOff()
        #expect(registry.misheard() == [])
        #expect(!registry.isWanted(fetch(2, after: 100)))
    }

    @Test("are fetched for together when a doorbell is for many")
    mutating func doorbellForMany() {
        let numbers = Array(Int64(1)...20)
        for number in numbers { _ = attach(stream(number)) }
        #expect(registry.received(frame(101, .streams(numbers), inline: false)) == [.fetch(fetch(2, after: 100))])
    }

    @Test("that is closed while it is replayed gets no more, and nothing is reported")
    mutating func closedDuringReplay() {
        _ = attach(stream(1), replayAfter: 50)
        registry.close(1, .detached)
        _ = registry.replayed([message(60)], by: replay(1, 50...100))
        #expect(registry.caughtUp(replay(1, 50...100)) == [])
        #expect(consumer.received == [])
        #expect(consumer.closing == .detached)
    }

    @Test("whose client does not take all of a page is asked again for the rest, and is cut off if it takes nothing")
    mutating func partlyTaken() {
        let small = RecordingController(capacity: 2)
        _ = attach(stream(1, controller: small), replayAfter: 50)
        let page = [message(60), message(70), message(80)]
        #expect(registry.replayed(page, by: replay(1, 50...100)) == page[..<2])
        #expect(small.closing == nil)
        // What it has is passed over.
        #expect(registry.replayed(page, by: replay(1, 50...100)) == page[..<2])
        #expect(registry.replayed([message(80)], by: replay(1, 50...100)).isEmpty)
        #expect(registry.refused(replay(1, 50...100)) == [.detach(stream: 1, position: event(100))])
        #expect(small.received == [60, 70])
        #expect(small.closing == .tooSlow)
        #expect(registry.refused(replay(1, 50...100)) == [])
    }

    @Test("catch up each for itself when the log lacks what the node asks for, and the node goes on after that")
    mutating func madeSure() {
        let other = RecordingController()
        _ = attach(stream(1))
        // This one has got from the log what has been removed since.
        _ = attach(stream(2, position: 110, controller: other), replayAfter: 50)
        _ = registry.replayed([message(105)], by: replay(2, 50...110, attachment: 2))
        _ = registry.caughtUp(replay(2, 50...110, attachment: 2))
        #expect(registry.received(frame(120, .everybody(nil), inline: false)) == [.fetch(fetch(2, after: 100))])
        _ = registry.received(frame(131, .streams([1])))
        let actions = registry.madeSure(at: event(130), insteadOf: fetch(2, after: 100))
        #expect(actions.count == 3)
        #expect(actions.contains(.replay(replay(1, 100...130))))
        #expect(actions.contains(.replay(replay(2, 110...130, attachment: 2))))
        #expect(actions.last == .fetch(fetch(3, after: 130)))
        // What is notified later waits for the replay.
        _ = registry.fetched(message(131), targets: .streams([1]), by: fetch(3, after: 130))
        #expect(registry.nodeCaughtUp(fetch(3, after: 130)) == [])
        _ = registry.replayed([message(120)], by: replay(1, 100...130))
        #expect(registry.caughtUp(replay(1, 100...130)) == [.replay(replay(1, 130...131))])
        _ = registry.replayed([message(131)], by: replay(1, 130...131))
        #expect(consumer.received == [120, 131])
        #expect(registry.position == event(131))
    }

    @Test("are not made sure of for a fetch that nobody waits for any more")
    mutating func staleMadeSure() {
        _ = attach(stream(1))
        _ = registry.misheard()
        registry.cutOff()
        #expect(registry.madeSure(at: event(130), insteadOf: fetch(2, after: 100)) == [])
        #expect(registry.position == event(100))
    }
}

@Suite("The streams of a node that does not believe event ids")
struct DistrustingRegistryTests {
    private var registry = StreamRegistry(position: EventID(rawValue: 100), trustsEventIDs: false)
    private let consumer = RecordingController()

    init() {
        if case .fetch(let fetch) = registry.listening().first { _ = registry.nodeCaughtUp(fetch) }
        registry.attachingBegan()
        _ = registry.attached(
            StreamRegistry.Stream(
                number: 1,
                id: "s1",
                isStandalone: true,
                controller: consumer,
                position: EventID(rawValue: 100),
                delivered: EventID(rawValue: 100)
            ),
            replayAfter: nil
        )
        registry.attachingEnded()
    }

    private mutating func doorbell(_ eventID: Int64, _ targets: NotificationFrame.Targets) -> [StreamRegistry.Action] {
        registry.received(NotificationFrame(eventID: EventID(rawValue: eventID), targets: targets, data: nil))
    }

    /// Hands over what the log has, and returns what is to be done next.
    private mutating func replay(_ actions: [StreamRegistry.Action], _ log: Int64...) -> [StreamRegistry.Action] {
        guard case .replay(let replay) = actions.first else {
            Issue.record("\(actions)")
            return []
        }
        _ = registry.replayed(log.map { StreamMessage(eventID: EventID(rawValue: $0), data: "\($0)") }, by: replay)
        return registry.caughtUp(replay)
    }

    @Test("get everything after a doorbell with an id that is made up, during its replay and later")
    mutating func madeUpID() {
        let first = doorbell(.max, .streams([1]))
        #expect(doorbell(101, .streams([1])) == [])
        let second = replay(first)
        let third = replay(second, 101)
        #expect(third == [])
        #expect(registry.position.rawValue == 101)
        #expect(replay(doorbell(102, .streams([1])), 102) == [])
        #expect(consumer.received == [101, 102])
        #expect(registry.position.rawValue == 102)
    }

    @Test("get everything after a doorbell for all with an id that is made up, and the log is not read without an end")
    mutating func madeUpIDForAll() {
        guard case .fetch(let first) = doorbell(.max, .everybody(nil)).first else { Issue.record(); return }
        #expect(doorbell(101, .everybody(nil)) == [])
        guard case .fetch(let second) = registry.nodeCaughtUp(first).first else { Issue.record(); return }
        #expect(second.after.rawValue == 100)
        let message = StreamMessage(eventID: EventID(rawValue: 101), data: "101")
        _ = registry.fetched(message, targets: .everybody(nil), by: second)
        #expect(registry.nodeCaughtUp(second) == [])
        #expect(replay(doorbell(102, .streams([1])), 102) == [])
        #expect(consumer.received == [101, 102])
    }
}
