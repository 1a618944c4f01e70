/// How a stream is opened.
public struct StreamOptions: Sendable, Hashable {
    /// The id of the last event that the client has seen; resumes the stream after it. Default: `nil`, from now on.
    public var lastEventID: EventID?

    /// The session that the stream belongs to. Default: `nil`, the session whose id is the stream's own.
    public var sessionID: String?

    /// The authenticated user. A session that is bound to another principal is as if it did not exist.
    public var principal: String?

    /// Options for opening a stream.
    public init(lastEventID: EventID? = nil, sessionID: String? = nil, principal: String? = nil) {
        self.lastEventID = lastEventID
        self.sessionID = sessionID
        self.principal = principal
    }
}

/// What opening a stream found.
public struct StreamOpening: Sendable, Hashable {
    /// What came before the live part of the stream.
    public enum Replay: Sendable, Hashable {
        /// Nothing: the stream is new, or was not resumed.
        case none
        /// Every message that followed the last event id is handed to the controller, before anything live.
        case complete
        /// The log no longer reaches back to the last event id. The stream is live from ``StreamOpening/position`` on,
        /// and what came before is lost: the client should read its resources again.
        case purged
    }

    /// What came before the live part of the stream.
    public var replay: Replay

    /// Every message after this event is delivered live.
    public var position: EventID

    /// Every message after this event is handed over, replayed or live: where a client can resume from before it has
    /// seen one.
    public var start: EventID

    /// The result of opening a stream.
    ///
    /// - Parameter start: Default: `nil`, the position; right unless something is replayed.
    public init(replay: Replay, position: EventID, start: EventID? = nil) {
        self.replay = replay
        self.position = position
        self.start = start ?? position
    }
}
