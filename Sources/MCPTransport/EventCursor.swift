import SessionManager

/// Which of a session's streams an event was sent on.
enum StreamName: Sendable, Hashable {
    /// The stream that a GET opens.
    case standalone
    /// The stream that answers a POST, by the random part of its id.
    case post(String)

    private static let postLength = 22

    /// The name of a new POST's stream: 128 random bits.
    static func newPost() -> StreamName {
        .post(SecureRandom.base64URL(bytes: 16))
    }

    /// The id of the stream at the session manager. It begins with the id of the session, so that whatever a client
    /// sends as the name of a stream, it stays within its own session: session ids have no slash.
    func streamID(session: String) -> String {
        switch self {
        case .standalone: session
        case .post(let random): "\(session)/\(random)"
        }
    }

    fileprivate init?(text: some StringProtocol) {
        if text == "session" {
            self = .standalone
        } else if text.utf8.count == StreamName.postLength, text.utf8.allSatisfy(SecureRandom.isBase64URL) {
            self = .post(String(text))
        } else {
            return nil
        }
    }

    fileprivate var text: String {
        switch self {
        case .standalone: "session"
        case .post(let random): random
        }
    }
}

/// The `id` of a server-sent event, which a client sends back as `Last-Event-ID`: the stream and the place in it.
///
/// `session/1732300000000000` on the standalone stream, `Yl6r0Sb5zZJ4f3d0a9cXQw/1732300000000000` on that of a POST.
struct EventCursor: Sendable, Hashable {
    var stream: StreamName
    var eventID: EventID

    init(stream: StreamName, eventID: EventID) {
        self.stream = stream
        self.eventID = eventID
    }

    /// The cursor that `text` says; `nil` for anything that this server did not write.
    init?(parsing text: String) {
        guard text.utf8.count <= 64, let slash = text.firstIndex(of: "/"),
            let stream = StreamName(text: text[..<slash]),
            let number = EventCursor.number(text[text.index(after: slash)...])
        else { return nil }
        self.init(stream: stream, eventID: EventID(rawValue: number))
    }

    var text: String { "\(stream.text)/\(eventID)" }

    /// Only digits, as `Int64` prints them: no sign, no leading zero.
    private static func number(_ text: Substring) -> Int64? {
        guard let number = Int64(text), number >= 0, String(number) == text else { return nil }
        return number
    }
}
