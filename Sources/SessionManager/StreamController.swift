/// One message on its way to the client of a stream.
public struct StreamMessage: Sendable, Hashable {
    /// The message's place in the log, and what the client sends back to resume after it.
    public var eventID: EventID

    /// The message exactly as it was sent, normally a JSON-RPC message.
    public var data: String

    /// A message with its event id.
    public init(eventID: EventID, data: String) {
        self.eventID = eventID
        self.data = data
    }
}

/// Why a stream was closed from the server's side.
public enum StreamClosing: Sendable, Hashable {
    /// The stream was deleted, here or elsewhere: the session is over.
    case ended
    /// Another process has taken the stream over for a client that resumed it there.
    case takenOver
    /// The process lets go of the stream, in a shutdown for instance: the client should come back and resume.
    case detached
    /// The client read too slowly and was cut off; it can resume where it stopped.
    case tooSlow
    /// The process was cut off from the database for longer than the log reaches back; messages are lost.
    case purged
}

/// Receives the messages of one stream, in order, and its end.
///
/// `enqueue` and `close` are called on the session manager's own thread and must return at once.
public protocol StreamController: Sendable {
    /// Takes a message. Returns `false` when the consumer cannot take it because it reads too slowly; the stream is
    /// then detached, and the client can resume after the last message that was taken. A message of a replay is offered
    /// once more after ``waitUntilDrained()``, before that.
    func enqueue(_ message: StreamMessage) -> Bool

    /// Ends the stream. Nothing is enqueued afterwards.
    func close(_ closing: StreamClosing)

    /// Returns when the consumer has read most of what it was given, or is gone.
    ///
    /// A replay waits for it before each page, and when a message was not taken, so that a client that missed more than its
    /// buffer holds can still catch up. Default: returns at once.
    func waitUntilDrained() async
}

extension StreamController {
    /// Returns at once.
    public func waitUntilDrained() async {}
}
