/// A value as the server sent it, valid while it is being decoded.
package struct PostgresCell {
    /// The bytes; `nil` for NULL.
    package let bytes: UnsafeRawBufferPointer?
    /// The object id of the type.
    package let typeID: UInt32
    /// Whether the bytes are in the type's binary format, not in its text format.
    package let isBinary: Bool
    /// The column that it is of, from 0, for messages.
    package let column: Int

    var type: PostgresType { PostgresType(rawValue: typeID) }

    func nonNull() throws(PostgresError) -> UnsafeRawBufferPointer {
        guard let bytes else { throw PostgresError(.unexpectedResult, "column \(column) is NULL") }
        return bytes
    }

    func mismatch(_ expected: String) -> PostgresError {
        PostgresError(
            .unexpectedResult,
            "column \(column) is no \(expected): type \(typeID), \(bytes?.count ?? 0) bytes"
        )
    }
}

/// A type that a value of a result can be read as.
package protocol PostgresDecodable {
    /// The value in the cell.
    ///
    /// - Throws: ``PostgresError/Code/unexpectedResult`` if it is NULL or of another type.
    static func decode(_ cell: PostgresCell) throws(PostgresError) -> Self
}

extension Optional: PostgresDecodable where Wrapped: PostgresDecodable {
    /// The value, or `nil` for NULL.
    package static func decode(_ cell: PostgresCell) throws(PostgresError) -> Self {
        cell.bytes == nil ? nil : try Wrapped.decode(cell)
    }
}

extension Int64: PostgresDecodable {
    /// A `bigint`, `integer`, `smallint` or `oid`.
    package static func decode(_ cell: PostgresCell) throws(PostgresError) -> Int64 {
        let bytes = try cell.nonNull()
        guard cell.isBinary else {
            guard let value = Int64(String(decoding: bytes, as: UTF8.self)) else { throw cell.mismatch("bigint") }
            return value
        }
        switch (cell.type, bytes.count) {
        case (.int8, 8): return Int64(bigEndian: bytes.loadUnaligned(as: Int64.self))
        case (.int4, 4): return Int64(Int32(bigEndian: bytes.loadUnaligned(as: Int32.self)))
        case (.oid, 4): return Int64(UInt32(bigEndian: bytes.loadUnaligned(as: UInt32.self)))
        case (.int2, 2): return Int64(Int16(bigEndian: bytes.loadUnaligned(as: Int16.self)))
        default: throw cell.mismatch("bigint")
        }
    }
}

extension Int: PostgresDecodable {
    /// A `bigint`, `integer`, `smallint` or `oid`.
    package static func decode(_ cell: PostgresCell) throws(PostgresError) -> Int {
        guard let value = Int(exactly: try Int64.decode(cell)) else { throw cell.mismatch("number that fits Int") }
        return value
    }
}

extension Double: PostgresDecodable {
    /// A `double precision` or `real`.
    package static func decode(_ cell: PostgresCell) throws(PostgresError) -> Double {
        let bytes = try cell.nonNull()
        guard cell.isBinary else {
            guard let value = Double(String(decoding: bytes, as: UTF8.self)) else {
                throw cell.mismatch("double precision")
            }
            return value
        }
        switch (cell.type, bytes.count) {
        case (.float8, 8):
            return Double(bitPattern: UInt64(bigEndian: bytes.loadUnaligned(as: UInt64.self)))
        case (.float4, 4):
            return Double(Float(bitPattern: UInt32(bigEndian: bytes.loadUnaligned(as: UInt32.self))))
        default: throw cell.mismatch("double precision")
        }
    }
}

extension Bool: PostgresDecodable {
    /// A `boolean`.
    package static func decode(_ cell: PostgresCell) throws(PostgresError) -> Bool {
        let bytes = try cell.nonNull()
        guard cell.type == .bool, bytes.count == 1 else { throw cell.mismatch("boolean") }
        switch bytes[0] {
        case 1 where cell.isBinary: return true
        case 0 where cell.isBinary: return false
        case UInt8(ascii: "t") where !cell.isBinary: return true
        case UInt8(ascii: "f") where !cell.isBinary: return false
        default: throw cell.mismatch("boolean")
        }
    }
}

extension String: PostgresDecodable {
    /// A `text`, `varchar`, `char(n)`, `name`, `"char"`, `json` or `jsonb`; or any type in its text format.
    package static func decode(_ cell: PostgresCell) throws(PostgresError) -> String {
        let bytes = try cell.nonNull()
        guard cell.isBinary else { return String(decoding: bytes, as: UTF8.self) }
        switch cell.type {
        case .text, .varchar, .bpchar, .name, .char, .json, .unknown:
            return String(decoding: bytes, as: UTF8.self)
        case .jsonb:
            // The binary format of jsonb is a version number and the text.
            guard bytes.first == 1 else { throw cell.mismatch("jsonb of version 1") }
            return String(decoding: bytes.dropFirst(), as: UTF8.self)
        default:
            throw cell.mismatch("text")
        }
    }
}

extension Array: PostgresDecodable where Element: PostgresDecodable {
    /// An array of one dimension, or an empty one. Only the binary format, which is what calls have.
    package static func decode(_ cell: PostgresCell) throws(PostgresError) -> [Element] {
        let bytes = try cell.nonNull()
        var reader = BinaryReader(bytes: bytes)
        guard cell.isBinary, let dimensions = reader.int32(), reader.int32() != nil, let type = reader.int32() else {
            throw cell.mismatch("array")
        }
        guard dimensions != 0 else { return [] }
        // The smallest element takes four bytes, which bounds what a wrong count can make us reserve.
        guard dimensions == 1, let count = reader.int32(), reader.int32() != nil, count >= 0,
            Int(count) <= reader.remaining / 4
        else {
            throw cell.mismatch("array of one dimension")
        }
        var elements: [Element] = []
        elements.reserveCapacity(Int(count))
        for _ in 0..<count {
            guard let length = reader.int32() else { throw cell.mismatch("complete array") }
            var value: UnsafeRawBufferPointer?
            if length >= 0 {
                value = reader.bytes(Int(length))
                guard value != nil else { throw cell.mismatch("complete array") }
            }
            let element = PostgresCell(
                bytes: value,
                typeID: UInt32(bitPattern: type),
                isBinary: true,
                column: cell.column
            )
            elements.append(try Element.decode(element))
        }
        return elements
    }
}

/// Reads big-endian fields one after another.
private struct BinaryReader {
    let bytes: UnsafeRawBufferPointer
    private var position = 0

    init(bytes: UnsafeRawBufferPointer) {
        self.bytes = bytes
    }

    var remaining: Int { bytes.count - position }

    mutating func int32() -> Int32? {
        guard remaining >= 4 else { return nil }
        defer { position += 4 }
        return Int32(bigEndian: bytes.loadUnaligned(fromByteOffset: position, as: Int32.self))
    }

    mutating func bytes(_ count: Int) -> UnsafeRawBufferPointer? {
        guard remaining >= count else { return nil }
        defer { position += count }
        return UnsafeRawBufferPointer(rebasing: bytes[position..<position + count])
    }
}
