import SessionManager

/// A stream to be opened, and what came of it.
struct StreamAttachment: Sendable {
    enum Outcome: Sendable {
        case opened(StreamOpening)
        /// Another live node holds it, and no last event id was given.
        case held
        /// Its session belongs to another principal.
        case absent
    }

    let id: String
    let options: StreamOptions
    let controller: any StreamController
}
