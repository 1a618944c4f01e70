/// What became of a message that was sent to one session.
public enum SendReceipt: Sendable, Hashable {
    /// The message is in the log under this id: it is delivered now, or when the client resumes its stream.
    case sent(EventID)
    /// No such session is known, or it has had no stream for longer than messages are kept: the message went nowhere.
    case unknownSession
}
