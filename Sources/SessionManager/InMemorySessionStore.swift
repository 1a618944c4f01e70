import DequeModule
import Foundation

/// The sessions, streams and messages behind the in-memory managers.
///
/// A stream manager and an info manager over the same store serve one application. Several stream managers over one
/// store behave like several processes, which is how a test shows what happens between them. Nothing survives the
/// process.
public actor InMemorySessionStore {
    /// What a store keeps at most. Every limit can be changed before the store is made.
    public struct Limits: Sendable, Hashable {
        /// How many messages can be replayed. Default: 10,000.
        public var retainedMessages = 10_000
        /// How many bytes of messages can be replayed. Default: 16 MiB.
        public var retainedBytes = 16 * 1_048_576
        /// The size of the largest message in bytes. Default: 4 MiB.
        public var messageBytes = 4 * 1_048_576
        /// How many sessions there may be, and how many streams beside them that listen. Default: `nil`, as many as come.
        public var sessions: Int?
        /// How many sessions one principal may have, and how many streams beside them that listen. Default: `nil`, as many as
        /// come.
        public var sessionsPerPrincipal: Int?
        /// How long a session without an open stream may be silent before it ends. Default: `nil`, for ever.
        public var idleTime: Duration?

        /// The default limits.
        public init() {}
    }

    /// A manager that holds streams; stands for a process.
    typealias Holder = ObjectIdentifier

    private struct Session {
        var metadata = SessionMetadata()
        var principal: String?
        var subscriptions: Set<String> = []
        var activity: ContinuousClock.Instant
    }

    /// What a stream has instead of a session.
    private struct Listening {
        var filter: ChangeFilter
        var principal: String?
    }

    /// One opening of a stream.
    private struct Held {
        let holder: Holder
        let controller: any StreamController
        /// Tells this opening from those before it.
        let number: UInt64
        /// The last event that was handed over of what the stream missed; `nil` when it is live.
        var replayed: EventID?
    }

    private struct Stream {
        /// `nil` for a stream that listens for changes.
        var sessionID: String?
        var listening: Listening?
        var held: Held?
        /// The last event at the moment when nobody held the stream any more.
        var leftAfter: EventID?
        /// Events of this stream up to this one can no longer be replayed.
        var purgedThrough: EventID
        /// Where the stream starts, as long as it holds messages for a session that has not opened it yet.
        var waitingSince: EventID?
    }

    private struct Entry {
        var message: StreamMessage
        /// `nil` for a broadcast.
        var stream: String?
    }

    private let limits: Limits
    private var sessions: [String: Session] = [:]
    private var streams: [String: Stream] = [:]
    private var log: Deque<Entry> = []
    private var logBytes = 0
    private var lastEventID: EventID
    /// Events up to this one are no longer in the log.
    private var logStart: EventID
    /// Broadcasts up to this one can no longer be replayed.
    private var broadcastsPurgedThrough: EventID
    /// Streams in the order in which they were left, to be forgotten when the log no longer reaches back to them.
    private var leftStreams: Deque<(id: String, after: EventID)> = []
    private var nextExpiry: ContinuousClock.Instant
    private var lastOpening: UInt64 = 0
    private let clock: @Sendable () -> ContinuousClock.Instant

    /// An empty store.
    public init(limits: Limits = Limits()) {
        self.init(limits: limits, clock: { .now })
    }

    /// An empty store to which time passes as a test says.
    package init(limits: Limits, clock: @escaping @Sendable () -> ContinuousClock.Instant) {
        self.limits = limits
        self.clock = clock
        let start = InMemorySessionStore.now()
        lastEventID = start
        logStart = start
        broadcastsPurgedThrough = start
        nextExpiry = clock()
    }

    private static func now() -> EventID {
        EventID(rawValue: Int64(Date().timeIntervalSince1970 * 1_000_000))
    }
}

// MARK: - Streams

extension InMemorySessionStore {
    func create(
        _ id: String,
        holder: Holder,
        controller: any StreamController,
        options: StreamOptions
    ) throws(SessionManagerError) -> StreamOpening {
        let sessionID = options.sessionID ?? id
        try requireID(id)
        try requireID(sessionID)
        var stream = streams[id] ?? newStream(of: sessionID)
        guard stream.sessionID == sessionID, sessions[sessionID].map({ $0.principal == options.principal }) ?? true
        else { throw InMemorySessionStore.sessionNotFound }
        if let held = stream.held {
            guard held.holder == holder || options.lastEventID != nil else {
                throw SessionManagerError(
                    .streamHeld,
                    "another process holds the stream",
                    hint: "Resume the stream with the id of the last event."
                )
            }
            held.controller.close(.takenOver)
        }
        lastOpening += 1
        stream.held = Held(holder: holder, controller: controller, number: lastOpening)
        stream.leftAfter = nil
        let waitingSince = stream.waitingSince
        stream.waitingSince = nil
        streams[id] = stream
        touch(sessionID)

        // Messages may wait for a stream that its session has not opened yet.
        guard let last = options.lastEventID ?? waitingSince else {
            return StreamOpening(replay: .none, position: lastEventID)
        }
        guard last >= purgedThrough(id) else { return StreamOpening(replay: .purged, position: lastEventID) }
        streams[id]?.held?.replayed = last
        replay(id)
        if streams[id]?.held?.replayed != nil {
            let number = lastOpening
            Task { await finishReplay(id, number) }
        }
        return StreamOpening(replay: .complete, position: lastEventID, start: last)
    }

    private func purgedThrough(_ id: String) -> EventID {
        guard let stream = streams[id] else { return lastEventID }
        return stream.sessionID == id ? max(stream.purgedThrough, broadcastsPurgedThrough) : stream.purgedThrough
    }

    /// Hands over what a stream has missed, as much as its consumer takes now. When that is all, the stream is live.
    private func replay(_ id: String) {
        guard let held = streams[id]?.held, let replayed = held.replayed else { return }
        let start = firstIndex(after: replayed)
        for entry in log[start...] where isFor(entry, stream: id) {
            guard held.controller.enqueue(entry.message) else { return }
            streams[id]?.held?.replayed = entry.message.eventID
        }
        streams[id]?.held?.replayed = nil
    }

    /// Goes on with a replay no faster than the consumer reads, so that it can catch up with more than its buffer holds.
    private func finishReplay(_ id: String, _ number: UInt64) async {
        while let held = streams[id]?.held, held.number == number, let replayed = held.replayed {
            await held.controller.waitUntilDrained()
            guard streams[id]?.held?.number == number else { return }
            if replayed < purgedThrough(id) { return close(id, .purged) }
            replay(id)
            // It has read everything, and takes not even one message.
            if streams[id]?.held?.replayed == replayed { return close(id, .tooSlow) }
        }
    }

    /// Where in the log the first event after another one is.
    private func firstIndex(after eventID: EventID) -> Int {
        var (low, high) = (log.startIndex, log.endIndex)
        while low < high {
            let middle = low + (high - low) / 2
            if log[middle].message.eventID > eventID { high = middle } else { low = middle + 1 }
        }
        return low
    }

    func listen(
        _ id: String,
        holder: Holder,
        controller: any StreamController,
        filter: ChangeFilter,
        principal: String?
    ) throws(SessionManagerError) -> EventID {
        try requireID(id)
        for uri in filter.resources { try requireURI(uri) }
        guard filter.resources.count <= ChangeFilter.maximumResources else {
            throw SessionManagerError(
                .invalidArgument,
                "a stream may listen for \(ChangeFilter.maximumResources) resources",
                hint: "Open several streams, each for some of them."
            )
        }
        let listening = streams.values.compactMap(\.listening)
        try requireRoom(for: principal, beside: listening.lazy.map(\.principal))
        guard streams[id] == nil else {
            throw SessionManagerError(.streamHeld, "there is a stream of that id", hint: "Give a new, random id.")
        }
        lastOpening += 1
        streams[id] = Stream(
            listening: Listening(filter: filter, principal: principal),
            held: Held(holder: holder, controller: controller, number: lastOpening),
            purgedThrough: lastEventID
        )
        return lastEventID
    }

    func detach(_ id: String, holder: Holder) {
        guard let held = streams[id]?.held, held.holder == holder else { return }
        held.controller.close(.detached)
        leave(id)
    }

    func deleteStream(_ id: String) throws(SessionManagerError) {
        try requireID(id)
        endStream(id)
    }

    private func endStream(_ id: String) {
        streams.removeValue(forKey: id)?.held?.controller.close(.ended)
    }

    func isHeld(_ id: String) -> Bool {
        streams[id]?.held != nil
    }

    func send(_ ids: [String]?, data: String) throws(SessionManagerError) -> [SendReceipt] {
        try requireSize(of: data)
        guard let ids else { return [.sent(broadcast(data, list: nil))] }
        var sent: [String: EventID] = [:]
        return ids.map { id in
            guard streams[id] != nil else { return .unknownSession }
            if let eventID = sent[id] { return .sent(eventID) }
            let message = append(data, to: id)
            deliver(message, to: id)
            sent[id] = message.eventID
            return .sent(message.eventID)
        }
    }

    func broadcast(_ list: ServerList, data: String) throws(SessionManagerError) -> EventID {
        try requireSize(of: data)
        return broadcast(data, list: list)
    }

    private func broadcast(_ data: String, list: ServerList?) -> EventID {
        let message = append(data, to: nil)
        for (id, stream) in streams where isBroadcast(of: list, for: stream, id) { deliver(message, to: id) }
        return message.eventID
    }

    private func isBroadcast(of list: ServerList?, for stream: Stream, _ id: String) -> Bool {
        if stream.sessionID == id { return true }
        guard let list, let listening = stream.listening else { return false }
        return listening.filter.lists.contains(list)
    }

    func publish(_ uri: String, data: String, principal: String?) throws(SessionManagerError) -> Int {
        try requireURI(uri)
        let subscribed = subscribers(uri).filter {
            streams[$0] != nil && (principal == nil || sessions[$0]?.principal == principal)
        }
        let listening = streams.filter { _, stream in
            guard let listening = stream.listening,
                // Byte by byte, as PostgreSQL compares them.
                listening.filter.resources.contains(where: { $0.utf8.elementsEqual(uri.utf8) })
            else { return false }
            return principal == nil || listening.principal == principal
        }
        return try send(subscribed + listening.keys, data: data).count
    }

    func log(_ level: LogLevel, data: String) throws(SessionManagerError) -> Int {
        let listening = streams.filter { id, stream in
            stream.sessionID == id && sessions[id]?.metadata.logLevel.map { $0 <= level } ?? true
        }
        return try send(Array(listening.keys), data: data).count
    }

    private func newStream(of sessionID: String) -> Stream {
        Stream(sessionID: sessionID, purgedThrough: lastEventID)
    }

    private func isFor(_ entry: Entry, stream id: String) -> Bool {
        guard let stream = entry.stream else { return streams[id]?.sessionID == id }
        return stream == id
    }

    private func append(_ data: String, to stream: String?) -> StreamMessage {
        let id = EventID(rawValue: max(lastEventID.rawValue + 1, InMemorySessionStore.now().rawValue))
        lastEventID = id
        let message = StreamMessage(eventID: id, data: data)
        log.append(Entry(message: message, stream: stream))
        logBytes += data.utf8.count
        while log.count > limits.retainedMessages || logBytes > limits.retainedBytes, let oldest = log.popFirst() {
            logBytes -= oldest.message.data.utf8.count
            logStart = oldest.message.eventID
            if let stream = oldest.stream {
                streams[stream]?.purgedThrough = logStart
            } else {
                broadcastsPurgedThrough = logStart
            }
        }
        forgetLeftStreams()
        return message
    }

    private func deliver(_ message: StreamMessage, to id: String) {
        // A stream that is behind gets it from the log, in its turn.
        guard let held = streams[id]?.held, held.replayed == nil else { return }
        if !held.controller.enqueue(message) { close(id, .tooSlow) }
    }

    private func close(_ id: String, _ closing: StreamClosing) {
        streams[id]?.held?.controller.close(closing)
        leave(id)
    }

    private func leave(_ id: String) {
        // Nobody resumes a stream that listens.
        guard streams[id]?.listening == nil else {
            streams.removeValue(forKey: id)
            return
        }
        streams[id]?.held = nil
        streams[id]?.leftAfter = lastEventID
        leftStreams.append((id, lastEventID))
    }

    private func forgetLeftStreams() {
        while let (id, after) = leftStreams.first,
            after < logStart || leftStreams.count > limits.retainedMessages
        {
            leftStreams.removeFirst()
            if streams[id]?.leftAfter == after { streams.removeValue(forKey: id) }
        }
    }
}

// MARK: - Sessions

extension InMemorySessionStore {
    func start(_ id: String, metadata: SessionMetadata, principal: String?) throws(SessionManagerError) {
        try requireID(id)
        guard sessions[id] == nil else {
            throw SessionManagerError(
                .sessionExists,
                "a session with that id exists",
                hint: "Draw session ids at random."
            )
        }
        try addSession(id, metadata: metadata, principal: principal)
        // What is sent to the session before it opens its standalone stream is kept for it.
        if streams[id] == nil {
            streams[id] = newStream(of: id)
            streams[id]?.waitingSince = lastEventID
        }
    }

    func metadata(_ id: String, principal: String?) -> SessionMetadata? {
        expireIdleSessions()
        guard let session = visibleSession(id, principal) else { return nil }
        touch(id)
        return session.metadata
    }

    func update(
        _ id: String,
        principal: String?,
        _ change: @Sendable (inout SessionMetadata) -> Void
    ) throws(SessionManagerError) {
        try changeSession(id, principal: principal) { change(&$0.metadata) }
    }

    func addSubscription(_ id: String, uri: String, principal: String?) throws(SessionManagerError) {
        try requireURI(uri)
        try changeSession(id, principal: principal) { $0.subscriptions.insert(uri) }
    }

    func removeSubscription(_ id: String, uri: String, principal: String?) {
        guard visibleSession(id, principal) != nil else { return }
        sessions[id]?.subscriptions.remove(uri)
        touch(id)
    }

    func subscribers(_ uri: String) -> [String] {
        sessions.filter { $0.value.subscriptions.contains(uri) }.map(\.key)
    }

    func deleteSession(_ id: String, principal: String?) -> Bool {
        // There may be streams of a session of which nothing else is known.
        guard
            visibleSession(id, principal) != nil
                || sessions[id] == nil && streams.values.contains(where: { $0.sessionID == id })
        else { return false }
        endSession(id)
        return true
    }

    private func changeSession(
        _ id: String,
        principal: String?,
        _ change: (inout Session) -> Void
    ) throws(SessionManagerError) {
        try requireID(id)
        if visibleSession(id, principal) == nil {
            try addSession(id, metadata: SessionMetadata(), principal: principal)
        }
        if var session = sessions[id] {
            change(&session)
            session.activity = clock()
            sessions[id] = session
        }
    }

    private func addSession(
        _ id: String,
        metadata: SessionMetadata,
        principal: String?
    ) throws(SessionManagerError) {
        // The id of somebody else's session is taken, and says no more than that there is nothing for this principal.
        guard sessions[id] == nil else { throw InMemorySessionStore.sessionNotFound }
        expireIdleSessions()
        try requireRoom(for: principal, beside: sessions.values.lazy.map(\.principal))
        sessions[id] = Session(metadata: metadata, principal: principal, activity: clock())
    }

    /// Makes sure that there may be one more session, or one more stream that listens, beside those there are.
    private func requireRoom(
        for principal: String?,
        beside principals: some Collection<String?>
    ) throws(SessionManagerError) {
        if let limit = limits.sessions, principals.count >= limit {
            throw SessionManagerError(
                .sessionLimitReached,
                "the store has as many sessions as it may",
                hint: "Try again when others have ended."
            )
        }
        if let limit = limits.sessionsPerPrincipal, let principal,
            principals.count(where: { $0 == principal }) >= limit
        {
            throw SessionManagerError(
                .principalSessionLimitReached,
                "the principal has as many sessions as one may",
                hint: "End a session that is no longer needed."
            )
        }
    }

    private func visibleSession(_ id: String, _ principal: String?) -> Session? {
        guard let session = sessions[id], session.principal == principal else { return nil }
        return session
    }

    private func touch(_ id: String) {
        sessions[id]?.activity = clock()
    }

    private func endSession(_ id: String) {
        sessions.removeValue(forKey: id)
        for (streamID, stream) in streams where stream.sessionID == id { endStream(streamID) }
    }

    private func expireIdleSessions() {
        let now = clock()
        guard let idleTime = limits.idleTime, now >= nextExpiry else { return }
        // Looking through all sessions for each request would cost more than an exact end is worth.
        nextExpiry = now + min(idleTime / 4, .seconds(10))
        let open = Set(streams.values.filter { $0.held != nil }.compactMap(\.sessionID))
        for (id, session) in sessions where session.activity + idleTime <= now && !open.contains(id) { endSession(id) }
    }
}

// MARK: - Arguments

extension InMemorySessionStore {
    private static let sessionNotFound = SessionManagerError(
        .sessionNotFound,
        "there is no such session",
        hint: "Answer the client with 404, so that it starts a new session."
    )

    private func requireID(_ id: String) throws(SessionManagerError) {
        guard (1...1024).contains(id.utf8.count), !id.utf8.contains(0) else {
            throw SessionManagerError(
                .invalidArgument,
                "an id must have 1 to 1,024 bytes and no NUL",
                hint: "Answer the client with 400 if the id came from it."
            )
        }
    }

    private func requireURI(_ uri: String) throws(SessionManagerError) {
        guard ChangeFilter.canBeResource(uri) else {
            throw SessionManagerError(
                .invalidArgument,
                "a uri must have 1 to 2,048 bytes and no NUL",
                hint: "Answer the client with 400 if the uri came from it."
            )
        }
    }

    private func requireSize(of data: String) throws(SessionManagerError) {
        guard data.utf8.count <= limits.messageBytes else {
            throw SessionManagerError(
                .messageTooLarge,
                "a message may have \(limits.messageBytes) bytes",
                hint: "Send less, a link to the data for instance, or raise messageBytes of the store's limits."
            )
        }
        // As in PostgreSQL, no text of which can hold one.
        guard !data.utf8.contains(0) else {
            throw SessionManagerError(
                .invalidArgument,
                "a message must not hold a NUL character",
                hint: "In JSON write it as \\u0000."
            )
        }
    }
}
