/// The id of a message in the log: ids grow in the order in which the messages were committed.
///
/// The value is the time of the message in microseconds since 1970, or one more than the id before it, whichever is
/// greater.
public struct EventID: RawRepresentable, Sendable, Hashable, Comparable, Codable, CustomStringConvertible {
    /// Microseconds since 1970, pushed up where needed so that ids are unique and grow.
    public var rawValue: Int64

    /// An event id with the given value.
    public init(rawValue: Int64) {
        self.rawValue = rawValue
    }

    /// The decimal digits of the id.
    public var description: String { String(rawValue) }

    /// Whether the left message was committed before the right one.
    public static func < (left: EventID, right: EventID) -> Bool { left.rawValue < right.rawValue }
}
