public import Foundation

/// Any JSON value, so that members which this library does not know survive a round trip.
public enum JSONValue: Sendable, Hashable {
    /// `null`.
    case null
    /// `true` or `false`.
    case bool(Bool)
    /// A number that is whole and fits 64 bits, however it is written: `1`, `1.0` and `1e0` are the same.
    case integer(Int64)
    /// Any other number.
    case number(Double)
    /// A string, without its quotation marks and escapes.
    case string(String)
    /// An array, its elements in their order.
    case array([JSONValue])
    /// An object, its members by name; of a name that occurs twice, one.
    case object([String: JSONValue])
}

extension JSONValue {
    /// The value that the JSON text `data` holds, in UTF-8.
    ///
    /// A number that is whole and fits becomes ``integer(_:)``, however it is written.
    ///
    /// - Throws: `CocoaError` when `data` is not JSON in UTF-8, or is nested more than 512 deep.
    public init(parsing data: Data) throws {
        // The parser would take UTF-16 and UTF-32 as well, by guessing; others that look at the same text would not. JSON
        // has no NUL, and their ASCII characters have some.
        guard let text = String(validating: data, as: UTF8.self), !text.utf8.contains(0) else {
            throw CocoaError(.propertyListReadCorrupt)
        }
        // Not JSONDecoder, which tries what a value could be and takes 14 times as long for a million of empty ones.
        self.init(try JSONSerialization.jsonObject(with: data, options: .fragmentsAllowed))
    }

    private init(_ object: Any) {
        // A cast that fails costs more than all the rest, and where Foundation is Swift's own the types are exact.
        #if canImport(Darwin)
            func mayBe(_ type: Any.Type) -> Bool { true }
        #else
            func mayBe(_ type: Any.Type) -> Bool { Swift.type(of: object) == type }
        #endif
        if mayBe(String.self), let value = object as? String {
            self = .string(value)
        } else if mayBe([Any].self), let elements = object as? [Any] {
            self = .array(elements.map { JSONValue($0) })
        } else if mayBe([String: Any].self), let members = object as? [String: Any] {
            self = .object(members.mapValues { JSONValue($0) })
        } else if let value = object as? NSNumber {
            self.init(value)
        } else {
            self = .null
        }
    }

    private init(_ value: NSNumber) {
        switch UInt8(bitPattern: value.objCType.pointee) {
        case UInt8(ascii: "c"): self = .bool(value.boolValue)
        case UInt8(ascii: "i"), UInt8(ascii: "q"): self = .integer(value.int64Value)
        default: self = Int64(exactly: value.doubleValue).map { .integer($0) } ?? .number(value.doubleValue)
        }
    }

    /// The value as compact JSON text, the members of objects in alphabetical order.
    public var text: String {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        // Only a number that JSON cannot hold (not finite) makes the encoder fail, and it then stands as null.
        guard let data = try? encoder.encode(self) else { return "null" }
        return String(decoding: data, as: UTF8.self)
    }

    /// The member `name` of an object; `nil` when there is none or this is no object.
    public subscript(name: String) -> JSONValue? {
        guard case .object(let members) = self else { return nil }
        return members[name]
    }

    /// The string, if this is one.
    public var string: String? {
        guard case .string(let value) = self else { return nil }
        return value
    }

    /// The whole number, if this is one.
    public var integer: Int64? {
        guard case .integer(let value) = self else { return nil }
        return value
    }

    /// The elements, if this is an array.
    public var array: [JSONValue]? {
        guard case .array(let elements) = self else { return nil }
        return elements
    }

    /// The members, if this is an object.
    public var object: [String: JSONValue]? {
        guard case .object(let members) = self else { return nil }
        return members
    }
}

extension JSONValue: Codable {
    /// Decodes any JSON value.
    public init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        if container.decodeNil() {
            self = .null
        } else if let value = try? container.decode(Bool.self) {
            self = .bool(value)
        } else if let value = try? container.decode(Int64.self) {
            self = .integer(value)
        } else if let value = try? container.decode(Double.self) {
            self = .number(value)
        } else if let value = try? container.decode(String.self) {
            self = .string(value)
        } else if let value = try? container.decode([JSONValue].self) {
            self = .array(value)
        } else {
            self = .object(try container.decode([String: JSONValue].self))
        }
    }

    /// Encodes the value as JSON.
    public func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        switch self {
        case .null: try container.encodeNil()
        case .bool(let value): try container.encode(value)
        case .integer(let value): try container.encode(value)
        case .number(let value): try container.encode(value)
        case .string(let value): try container.encode(value)
        case .array(let elements): try container.encode(elements)
        case .object(let members): try container.encode(members)
        }
    }
}

extension JSONValue: ExpressibleByStringLiteral, ExpressibleByIntegerLiteral, ExpressibleByBooleanLiteral,
    ExpressibleByFloatLiteral, ExpressibleByArrayLiteral, ExpressibleByDictionaryLiteral, ExpressibleByNilLiteral
{
    /// A JSON string.
    public init(stringLiteral value: String) { self = .string(value) }
    /// A JSON number without a fraction.
    public init(integerLiteral value: Int64) { self = .integer(value) }
    /// `true` or `false`.
    public init(booleanLiteral value: Bool) { self = .bool(value) }
    /// A JSON number.
    public init(floatLiteral value: Double) { self = .number(value) }
    /// A JSON array.
    public init(arrayLiteral elements: JSONValue...) { self = .array(elements) }
    /// A JSON object; of a name that occurs twice the last value counts.
    public init(dictionaryLiteral members: (String, JSONValue)...) {
        self = .object(Dictionary(members, uniquingKeysWith: { $1 }))
    }
    /// JSON `null`.
    public init(nilLiteral: ()) { self = .null }
}
