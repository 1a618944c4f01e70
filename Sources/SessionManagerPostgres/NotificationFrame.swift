import SessionManager

/// One frame of a notification: a message, or word that there is one in the log.
///
/// A payload holds frames one after the other, each `{event id} {targets} {bytes}\n{data}`. For a message that does
/// not travel in the notification, `-` stands in the place of its length, and no data follows.
struct NotificationFrame: Equatable {
    /// Whom a message is for.
    enum Targets: Equatable {
        /// The standalone stream of every session, and the streams that listen for changes of the list.
        case everybody(ServerList?)
        /// The streams with these numbers.
        case streams([Int64])
    }

    var eventID: EventID
    var targets: Targets
    /// The message; `nil` when it has to be fetched from the log.
    var data: String?
}

extension NotificationFrame {
    /// A payload that is not made of frames: some other role has guessed the channel, or the extension is newer.
    struct Malformed: Error, Equatable {}

    /// The frames that a payload holds.
    static func parse(_ payload: UnsafeRawBufferPointer) throws(Malformed) -> [NotificationFrame] {
        var reader = FrameReader(bytes: payload)
        var frames: [NotificationFrame] = []
        while !reader.isAtEnd {
            frames.append(try reader.frame())
        }
        return frames
    }
}

/// Reads a payload from front to back, and never behind its end, whatever it holds.
private struct FrameReader {
    let bytes: UnsafeRawBufferPointer
    var offset = 0

    var isAtEnd: Bool { offset >= bytes.count }

    mutating func frame() throws(NotificationFrame.Malformed) -> NotificationFrame {
        let eventID = EventID(rawValue: try number())
        try expect(UInt8(ascii: " "))
        let targets = try targets()
        try expect(UInt8(ascii: " "))
        if skip(UInt8(ascii: "-")) {
            try expect(UInt8(ascii: "\n"))
            return NotificationFrame(eventID: eventID, targets: targets, data: nil)
        }
        let length = try number()
        try expect(UInt8(ascii: "\n"))
        guard length <= bytes.count - offset else { throw NotificationFrame.Malformed() }
        let data = UnsafeRawBufferPointer(rebasing: bytes[offset..<offset + Int(length)])
        offset += Int(length)
        return NotificationFrame(eventID: eventID, targets: targets, data: String(decoding: data, as: UTF8.self))
    }

    private mutating func targets() throws(NotificationFrame.Malformed) -> NotificationFrame.Targets {
        if skip(UInt8(ascii: "*")) { return .everybody(list()) }
        var streams = [try number()]
        while skip(UInt8(ascii: ",")) {
            streams.append(try number())
        }
        return .streams(streams)
    }

    /// The name of a list, if there is one that this client knows.
    private mutating func list() -> ServerList? {
        let start = offset
        while offset < bytes.count, case UInt8(ascii: "a")...UInt8(ascii: "z") = bytes[offset] { offset += 1 }
        return ServerList(
            rawValue: String(decoding: UnsafeRawBufferPointer(rebasing: bytes[start..<offset]), as: UTF8.self)
        )
    }

    /// A decimal number of 1 to 18 digits, which cannot overflow.
    mutating func number() throws(NotificationFrame.Malformed) -> Int64 {
        let start = offset
        var value: Int64 = 0
        while offset < bytes.count, case let digit = bytes[offset] &- UInt8(ascii: "0"), digit <= 9 {
            guard offset - start < 18 else { throw NotificationFrame.Malformed() }
            value = value * 10 + Int64(digit)
            offset += 1
        }
        guard offset > start else { throw NotificationFrame.Malformed() }
        return value
    }

    mutating func expect(_ byte: UInt8) throws(NotificationFrame.Malformed) {
        guard skip(byte) else { throw NotificationFrame.Malformed() }
    }

    mutating func skip(_ byte: UInt8) -> Bool {
        guard offset < bytes.count, bytes[offset] == byte else { return false }
        offset += 1
        return true
    }
}

/// What happened to streams that this node held.
enum StreamLoss: Equatable {
    /// The streams were ended for good.
    case ended([Int64])
    /// Another node took the streams over at this event.
    case taken(at: EventID, [Int64])

    /// Reads a payload of the channel `delete:{channel}`: `ended {stream},...` or `taken {event id} {stream},...`.
    init(parsing payload: String) throws(NotificationFrame.Malformed) {
        let words = payload.split(separator: " ", omittingEmptySubsequences: false)
        guard let list = words.last, let streams = Self.numbers(list) else { throw NotificationFrame.Malformed() }
        switch (words.first, words.count) {
        case ("ended", 2):
            self = .ended(streams)
        case ("taken", 3):
            guard let eventID = Int64(words[1]) else { throw NotificationFrame.Malformed() }
            self = .taken(at: EventID(rawValue: eventID), streams)
        default:
            throw NotificationFrame.Malformed()
        }
    }

    private static func numbers(_ list: Substring) -> [Int64]? {
        let numbers = list.split(separator: ",", omittingEmptySubsequences: false).map { Int64($0) }
        let valid = numbers.compactMap { $0 }
        return valid.count == numbers.count ? valid : nil
    }
}
