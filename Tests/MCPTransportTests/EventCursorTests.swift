import SessionManager
import Testing

@testable import MCPTransport

@Suite struct EventCursorTests {
    @Test("A cursor reads what it wrote")
    func roundTrip() {
        for stream in [StreamName.standalone, .newPost()] {
            let cursor = EventCursor(stream: stream, eventID: EventID(rawValue: .max))
            #expect(EventCursor(parsing: cursor.text) == cursor)
        }
    }

    @Test(
        "Anything else is no cursor",
        arguments: [
            "", "/", "session", "session/", "/1", "session/-1", "session/+1", "session/01", "session/ 1", "session/1 ",
            "session/1/2", "session/9223372036854775808", "session/１", "session/1\u{0}", "other/1", "../x/1",
            "AAAAAAAAAAAAAAAAAAAAA/1", "AAAAAAAAAAAAAAAAAAAAAAA/1", "AAAAAAAAAAAAAAAAAAAA%2/1", "Session/1",
            String(repeating: "1", count: 100),
        ]
    )
    func hostile(_ text: String) {
        #expect(EventCursor(parsing: text) == nil)
    }

    @Test("The stream of a POST stays within its session")
    func streamIDs() {
        #expect(StreamName.standalone.streamID(session: "s") == "s")
        #expect(StreamName.post("x").streamID(session: "s") == "s/x")
        #expect(StreamName.newPost() != StreamName.newPost())
    }
}
