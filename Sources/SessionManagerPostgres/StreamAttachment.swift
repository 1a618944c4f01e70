import SessionManager

/// A stream to be opened, and what came of it.
struct StreamAttachment: Sendable {
    enum Outcome: Sendable {
        /// - Parameter stream: what this opening is undone by; `nil` if the stream was lost again at once.
        case opened(StreamOpening, stream: Opened?)
        /// Another live node holds it, and no last event id was given.
        case held
        /// Its session belongs to another principal.
        case absent
        /// The database refuses it, as one of its own: the others are not concerned.
        case refused(SessionManagerError)

        /// Whether it was refused because this process is no longer the node that it was.
        var isFenced: Bool {
            if case .refused(let error) = self { error.code == .nodeFenced } else { false }
        }
    }

    /// One opening of a stream. Its id does not do: under that there can be another stream here, of somebody else.
    struct Opened: Sendable {
        let number: Int64
        let attachment: UInt64
    }

    let id: String
    let options: StreamOptions
    /// What the stream listens for; `nil` for one of a session.
    var filter: ChangeFilter?
    let controller: any StreamController
}
