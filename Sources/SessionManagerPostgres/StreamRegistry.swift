import SessionManager

/// The streams that this node holds, and how far each of them has come.
///
/// A state machine without input or output of its own: it takes what the listener heard and what calls returned, hands
/// messages to controllers in the order of their events, each once, and returns what has to be done about the rest.
///
/// A stream is *live*, and then frames go straight to its controller, or it *catches up*, and then the log goes to its
/// controller, page by page, and frames only move the goal. So nothing has to be kept in memory for it. The node as a
/// whole catches up in the same way when it was cut off from its notifications: until the log has been read up to
/// where they set in again, frames do not count.
struct StreamRegistry {
    /// What has to be done outside.
    enum Action: Equatable {
        /// Hand over what the log has for a stream after one event up to another; report with ``caughtUp(_:)``.
        case replay(Replay)
        /// Hand over what the log has for all streams after an event; report with ``nodeCaughtUp(_:)``.
        case fetch(Fetch)
        /// The stream's client is too slow and was cut off: let go of it.
        case detach(stream: Int64, position: EventID)
    }

    /// What the log has for one stream.
    struct Replay: Equatable {
        let stream: Int64
        /// Which opening of the stream it is for: a client that comes back meanwhile starts over, perhaps further back.
        let attachment: UInt64
        let after: EventID
        let through: EventID
    }

    /// What the log has for the node. A later one replaces it, since it begins where notifications were heard again.
    struct Fetch: Equatable {
        let number: UInt64
        let after: EventID
    }

    /// One open stream.
    struct Stream {
        let number: Int64
        let id: String
        /// Whether the stream gets all broadcasts, as the standalone stream of a session does.
        let isStandalone: Bool
        /// The lists of whose changes a stream without a session gets the broadcasts; `nil` for one of a session.
        var lists: Set<ServerList>?
        let controller: any StreamController
        /// The event at which this node attached the stream; a loss that happened before concerns an earlier holder.
        var position: EventID
        /// The last event that the controller took.
        var delivered: EventID
        /// How far the stream must catch up from the log before frames go to it directly; `nil` when it is live.
        var goal: EventID?
        /// What was heard of since the replay up to the goal began, where frames are not trusted.
        fileprivate(set) var heardOf: EventID?
        /// Tells this opening of the stream from those before it; set by ``StreamRegistry/attached(_:replayAfter:)``.
        fileprivate(set) var attachment: UInt64 = 0

        /// Why the stream is closed when messages for it may be missing. The client of a session comes back and resumes,
        /// and is told; one that listens has to be told by how its stream ends.
        var closingAfterLoss: StreamClosing { lists == nil ? .detached : .purged }

        fileprivate func wants(broadcastOf list: ServerList?) -> Bool {
            if let list, let lists { lists.contains(list) } else { isStandalone }
        }
    }

    /// What was heard of streams whose attaching has not been reported yet.
    private struct Early {
        var events: [Int64: EventID] = [:]
        var broadcasts: [ServerList?: EventID] = [:]
        var losses: [StreamLoss] = []
    }

    /// A doorbell for more streams than this is answered with one fetch for the node instead of a replay for each.
    static let replaysPerDoorbell = 16

    private(set) var streams: [Int64: Stream] = [:]
    private var numbers: [String: Int64] = [:]
    private var attaching = 0
    private var lastAttachment: UInt64 = 0
    private var early = Early()

    /// How the node as a whole hears of messages.
    private enum Hearing: Equatable {
        /// Notifications arrive, all of them.
        case live
        /// Notifications may be missing.
        case cutOff
        /// Notifications arrive again, and the log is read for what was missed.
        ///
        /// - `fetch`: the number of the reading.
        /// - `through`: what was heard of before the reading began, and is therefore in it.
        case fetching(fetch: UInt64, through: EventID)
    }

    private var hearing = Hearing.cutOff
    /// The event of which a fetch has brought messages, perhaps not yet all.
    private var fetching: EventID?
    private var lastFetch: UInt64 = 0
    /// The last event that the node has dealt with.
    private(set) var position: EventID
    /// The last event that the node has heard of; where event ids are not believed, since it last began to read the log.
    private var heardOf: EventID
    /// Whether the event ids of frames are believed. Where no message travels in a notification nothing else of a frame
    /// counts, and somebody who has found out the channel could make a stream deaf with an id of the year 3000. Then a
    /// frame is a reason to read the log, and an event has been dealt with when the log has shown it.
    private let trustsEventIDs: Bool
    /// How many messages controllers have taken.
    private(set) var deliveredCount = 0

    /// A node that holds no stream yet, and does not listen yet.
    ///
    /// - Parameters:
    ///   - position: an event that everything which is sent to its streams follows.
    ///   - trustsEventIDs: whether the event ids of frames are believed. Default: `true`.
    init(position: EventID, trustsEventIDs: Bool = true) {
        self.position = position
        self.trustsEventIDs = trustsEventIDs
        heardOf = position
    }

    /// The stream with the given id, if this node holds it.
    func stream(id: String) -> Stream? { numbers[id].flatMap { streams[$0] } }

    // MARK: Attaching

    /// Call when a call that attaches streams is about to be sent.
    mutating func attachingBegan() {
        attaching += 1
    }

    /// Call for each stream that was attached, before ``attachingEnded()``.
    ///
    /// - Parameters:
    ///   - stream: the stream, with its position.
    ///   - replayAfter: the event after which the log has to be replayed; `nil` if the stream is live at once.
    mutating func attached(_ stream: Stream, replayAfter: EventID?) -> [Action] {
        var stream = stream
        // A client that resumed where its own old stream is still open: the new connection replaces it.
        remove(stream.number)?.controller.close(.takenOver)

        for loss in early.losses {
            switch loss {
            case .ended(let lost) where lost.contains(stream.number):
                stream.controller.close(.ended)
                return []
            case .taken(let eventID, let lost) where eventID > stream.position && lost.contains(stream.number):
                stream.controller.close(.takenOver)
                return []
            default: break
            }
        }

        let broadcasts = early.broadcasts.filter { stream.wants(broadcastOf: $0.key) }.values
        let lastHeard = ([early.events[stream.number]].compactMap { $0 } + broadcasts).max()
        lastAttachment += 1
        stream.attachment = lastAttachment
        stream.delivered = min(replayAfter ?? stream.position, stream.position)
        if stream.position > stream.delivered { aim(&stream, at: stream.position) }
        if let lastHeard, lastHeard > stream.delivered { aim(&stream, at: lastHeard) }
        streams[stream.number] = stream
        numbers[stream.id] = stream.number
        return replay(stream)
    }

    /// Call when a call that attaches streams was answered, or failed.
    mutating func attachingEnded() {
        attaching -= 1
        if attaching == 0 { early = Early() }
    }

    /// Call for a stream that the node has made sure of again, perhaps under a new number of its own.
    mutating func reattached(_ number: Int64, position: EventID) {
        streams[number]?.position = position
    }

    /// Call when the node has registered anew, and no call that attaches streams is under way.
    ///
    /// - Parameter eventID: what every message follows that is sent to streams which the node gets from now on.
    mutating func registered(at eventID: EventID) {
        cutOff()
        // Nothing before is missing, except for streams that it brings along.
        position = max(position, min(eventID, streams.values.map(\.delivered).min() ?? eventID))
    }

    // MARK: Letting go

    /// Removes a stream whose client is gone.
    @discardableResult
    mutating func remove(_ number: Int64) -> Stream? {
        guard let stream = streams.removeValue(forKey: number) else { return nil }
        if numbers[stream.id] == number { numbers[stream.id] = nil }
        return stream
    }

    /// Closes every stream, when the node stops or starts over.
    mutating func closeAll(_ closing: (Stream) -> StreamClosing) {
        let all = streams.values
        streams = [:]
        numbers = [:]
        for stream in all { stream.controller.close(closing(stream)) }
    }

    /// Closes streams that were ended or taken elsewhere.
    mutating func lost(_ loss: StreamLoss) {
        if attaching > 0 { early.losses.append(loss) }
        switch loss {
        case .ended(let lost):
            for number in lost { remove(number)?.controller.close(.ended) }
        case .taken(let eventID, let lost):
            for number in lost where streams[number].map({ $0.position < eventID }) ?? false {
                remove(number)?.controller.close(.takenOver)
            }
        }
    }

    /// Closes a stream for another reason.
    mutating func close(_ number: Int64, _ closing: StreamClosing) {
        remove(number)?.controller.close(closing)
    }

    // MARK: Messages

    /// Takes a frame that the listener heard.
    mutating func received(_ frame: NotificationFrame) -> [Action] {
        if attaching > 0 { remember(frame.eventID, frame.targets) }
        heardOf = max(heardOf, frame.eventID)
        guard hearing == .live else { return [] }
        guard let data = frame.data else { return doorbell(frame) }
        position = max(position, frame.eventID)
        let message = StreamMessage(eventID: frame.eventID, data: data)
        return hand(message, to: frame.targets)
    }

    /// Takes a notification that nobody understands, and that may have been a message.
    mutating func misheard() -> [Action] {
        // While it is cut off, the log will be read anyway.
        hearing == .cutOff ? [] : listening()
    }

    /// Call when notifications may be missed from now on.
    mutating func cutOff() {
        hearing = .cutOff
    }

    /// Call when notifications arrive (again), and the node's streams are attached to it.
    mutating func listening() -> [Action] {
        lastFetch += 1
        fetching = nil
        hearing = .fetching(fetch: lastFetch, through: heardOf)
        if !trustsEventIDs { heardOf = position }
        return [.fetch(Fetch(number: lastFetch, after: position))]
    }

    /// Whether a fetch is still of use.
    func isWanted(_ fetch: Fetch) -> Bool {
        if case .fetching(fetch.number, _) = hearing { true } else { false }
    }

    /// Hands over a row that ``Action/fetch(_:)`` brought.
    mutating func fetched(
        _ message: StreamMessage,
        targets: NotificationFrame.Targets,
        by fetch: Fetch
    ) -> [Action] {
        guard isWanted(fetch) else { return [] }
        if attaching > 0 { remember(message.eventID, targets) }
        // A page may end between two messages of one event, and a later fetch begins after a whole one.
        if let fetching, fetching < message.eventID { position = max(position, fetching) }
        fetching = message.eventID
        return hand(message, to: targets)
    }

    /// Call when a fetch has brought all there was.
    mutating func nodeCaughtUp(_ fetch: Fetch) -> [Action] {
        // Not that of a fetch from before the node was cut off once more: what was sent meanwhile is not in it.
        guard case .fetching(fetch.number, let through) = hearing else { return [] }
        if trustsEventIDs { position = max(position, through) }
        if let fetching { position = max(position, fetching) }
        if heardOf > position { return listening() }
        hearing = .live
        return []
    }

    /// Call instead of ``nodeCaughtUp(_:)`` when the log no longer has all that a fetch is for, and the node has made sure
    /// of its streams at an event: they catch up to there each for itself, from where it stands, and the node goes on
    /// after it. Nothing is lost, since whatever is sent to the node's streams after that event is notified to it or found
    /// by the fetch that begins here; and a stream that misses something is told so by its own replay.
    mutating func madeSure(at eventID: EventID, insteadOf fetch: Fetch) -> [Action] {
        guard isWanted(fetch) else { return [] }
        let actions = streams.keys.flatMap { catchUp($0, to: eventID) }
        position = max(position, eventID)
        return actions + listening()
    }

    /// The stream that a replay is for, if it is still open and its client has not come back anew.
    func stream(of replay: Replay) -> Stream? {
        streams[replay.stream].flatMap { $0.attachment == replay.attachment ? $0 : nil }
    }

    /// Hands over a page that ``Action/replay(_:)`` brought, as far as the client takes it.
    ///
    /// - Returns: what was dealt with: all, unless the client is to be asked again when it has read what it was given.
    mutating func replayed(_ page: [StreamMessage], by replay: Replay) -> ArraySlice<StreamMessage> {
        for (index, message) in page.enumerated() {
            guard let stream = stream(of: replay) else { break }
            guard message.eventID <= stream.delivered || offer(message, to: stream) else { return page[..<index] }
        }
        return page[...]
    }

    /// Call when the client of a replay has read everything and takes nothing all the same.
    mutating func refused(_ replay: Replay) -> [Action] {
        stream(of: replay).map { giveUp($0) } ?? []
    }

    /// Call when a replay has handed over everything.
    mutating func caughtUp(_ replay: Replay) -> [Action] {
        guard var stream = stream(of: replay), let goal = stream.goal else { return [] }
        if trustsEventIDs || replay.through <= stream.position {
            stream.delivered = max(stream.delivered, replay.through)
        } else if replay.through == stream.delivered {
            // The log has shown the event that was heard of, and so its notification was that of the log.
            position = max(position, replay.through)
        }
        if goal <= replay.through || goal <= stream.delivered { stream.goal = nil }
        if let heardOf = stream.heardOf, heardOf > stream.delivered { stream.goal = heardOf }
        stream.heardOf = nil
        streams[stream.number] = stream
        return self.replay(stream)
    }

    // MARK: Private

    private func replay(_ stream: Stream) -> [Action] {
        guard let goal = stream.goal else { return [] }
        return [
            .replay(
                Replay(
                    stream: stream.number,
                    attachment: stream.attachment,
                    after: stream.delivered,
                    through: goal
                )
            )
        ]
    }

    private mutating func remember(_ eventID: EventID, _ targets: NotificationFrame.Targets) {
        switch targets {
        case .everybody(let list):
            early.broadcasts[list] = max(early.broadcasts[list] ?? eventID, eventID)
        case .streams(let numbers):
            // Also those that are held: the call may be for a client that opens its stream again here.
            for number in numbers { early.events[number] = max(early.events[number] ?? eventID, eventID) }
        }
    }

    private mutating func doorbell(_ frame: NotificationFrame) -> [Action] {
        if case .streams(let numbers) = frame.targets {
            let held = numbers.filter { streams[$0] != nil }
            if held.count <= Self.replaysPerDoorbell {
                if trustsEventIDs { position = max(position, frame.eventID) }
                return held.flatMap { catchUp($0, to: frame.eventID) }
            }
        }
        return listening()
    }

    /// Moves the goal of a stream, and starts a replay if none is under way.
    private mutating func catchUp(_ number: Int64, to eventID: EventID) -> [Action] {
        guard var stream = streams[number], eventID > stream.delivered else { return [] }
        let isUnderWay = stream.goal != nil
        aim(&stream, at: eventID)
        streams[number] = stream
        return isUnderWay ? [] : replay(stream)
    }

    /// Where event ids are not believed a goal under way stays as it is: one that was made up may be far beyond all that
    /// is heard of later.
    private func aim(_ stream: inout Stream, at eventID: EventID) {
        guard let goal = stream.goal else { return stream.goal = eventID }
        if trustsEventIDs {
            stream.goal = max(goal, eventID)
        } else {
            stream.heardOf = max(stream.heardOf ?? eventID, eventID)
        }
    }

    private mutating func hand(_ message: StreamMessage, to targets: NotificationFrame.Targets) -> [Action] {
        switch targets {
        case .everybody(let list):
            var actions: [Action] = []
            for stream in streams.values {
                if stream.wants(broadcastOf: list) {
                    actions += hand(message, to: stream.number)
                } else if stream.lists != nil {
                    passOver(message.eventID, stream)
                }
            }
            return actions
        case .streams(let numbers): return numbers.flatMap { hand(message, to: $0) }
        }
    }

    /// A stream that is live has dealt with a broadcast that is not for it; else the end of that one in the log would
    /// count as a loss, since the log does not tell whose broadcasts are gone.
    private mutating func passOver(_ eventID: EventID, _ stream: Stream) {
        guard stream.goal == nil, eventID > stream.delivered else { return }
        streams[stream.number]?.delivered = eventID
    }

    private mutating func hand(_ message: StreamMessage, to number: Int64) -> [Action] {
        guard let stream = streams[number], message.eventID > stream.delivered else { return [] }
        if stream.goal != nil { return catchUp(number, to: message.eventID) }
        return deliver(message, to: number)
    }

    private mutating func deliver(_ message: StreamMessage, to number: Int64) -> [Action] {
        guard let stream = streams[number] else { return [] }
        return offer(message, to: stream) ? [] : giveUp(stream)
    }

    private mutating func offer(_ message: StreamMessage, to stream: Stream) -> Bool {
        guard stream.controller.enqueue(message) else { return false }
        streams[stream.number]?.delivered = message.eventID
        deliveredCount += 1
        return true
    }

    private mutating func giveUp(_ stream: Stream) -> [Action] {
        remove(stream.number)
        stream.controller.close(.tooSlow)
        return [.detach(stream: stream.number, position: stream.position)]
    }
}
