import SessionManager
import Testing

@testable import SessionManagerPostgres

@Suite("A notification payload")
struct NotificationFrameTests {
    private func parse(_ payload: String) throws -> [NotificationFrame] {
        try Array(payload.utf8).withUnsafeBytes { bytes in try NotificationFrame.parse(bytes) }
    }

    @Test("holds several frames, for streams and for all, with and without data")
    func severalFrames() throws {
        let frames = try parse("17 4 5\nhello18 * 0\n19 1,2,3 -\n20 9 3\n€21 *tools 1\na22 *unheardof -\n")
        #expect(
            frames == [
                NotificationFrame(eventID: EventID(rawValue: 17), targets: .streams([4]), data: "hello"),
                NotificationFrame(eventID: EventID(rawValue: 18), targets: .everybody(nil), data: ""),
                NotificationFrame(eventID: EventID(rawValue: 19), targets: .streams([1, 2, 3]), data: nil),
                NotificationFrame(eventID: EventID(rawValue: 20), targets: .streams([9]), data: "€"),
                NotificationFrame(eventID: EventID(rawValue: 21), targets: .everybody(.tools), data: "a"),
                NotificationFrame(eventID: EventID(rawValue: 22), targets: .everybody(nil), data: nil),
            ]
        )
    }

    @Test("keeps data that looks like a frame, or has line breaks and quotes")
    func hostileData() throws {
        let data = "18 * 3\nabc\n'; DROP TABLE x; --\u{0}\u{202E}"
        let frames = try parse("17 4 \(data.utf8.count)\n\(data)")
        #expect(frames.map(\.data) == [data])
    }

    @Test(
        "that is not made of whole frames is refused",
        arguments: [
            "x", "17", "17 ", "17 4", "17 4 5\nhell", "17 4 -", "17 4, 1\na", "17 ,4 1\na", "-17 4 1\na", "17 4 -1\na",
            "17  4 1\na", "17 4 1 a", "17 ** 1\na", "99999999999999999999 4 1\na", "17 4 9223372036854775807\na",
        ]
    )
    func malformed(payload: String) {
        #expect(throws: NotificationFrame.Malformed.self) { try parse(payload) }
    }

    @Test("about lost streams says which, and since when")
    func losses() throws {
        #expect(try StreamLoss(parsing: "ended 7") == .ended([7]))
        #expect(
            try StreamLoss(parsing: "taken 1790000000000000 7,8")
                == .taken(at: EventID(rawValue: 1_790_000_000_000_000), [7, 8])
        )
    }

    @Test(
        "about lost streams that cannot be read is refused",
        arguments: ["", "ended", "ended x", "ended 1,", "taken 7", "taken x 7", "gone 7"]
    )
    func malformedLoss(payload: String) {
        #expect(throws: NotificationFrame.Malformed.self) { try StreamLoss(parsing: payload) }
    }
}
