import Testing

@testable import PostgresClient

@Suite("Encoding and decoding")
struct EncodingTests {
    private func decode<Value: PostgresDecodable>(
        _ bytes: [UInt8]?,
        _ type: PostgresType,
        isBinary: Bool = true,
        as: Value.Type = Value.self
    ) throws -> Value {
        guard let bytes else {
            return try Value.decode(PostgresCell(bytes: nil, typeID: type.rawValue, isBinary: isBinary, column: 0))
        }
        return try bytes.withUnsafeBytes {
            try Value.decode(PostgresCell(bytes: $0, typeID: type.rawValue, isBinary: isBinary, column: 0))
        }
    }

    @Test("What is encoded decodes to itself")
    func roundTrip() throws {
        let elements: [String?] = ["", nil, "NULL", "{\"a,b\"}", "\\", "🐘", "'; DROP TABLE x; --"]
        let encoded = try EncodedParameters([.textArray(elements), .int8Array([.min, nil, 0, .max]), .int8(-2)])
        let values = (0..<3).map { index in
            Array(encoded.bytes[encoded.offsets[index]...].prefix(Int(encoded.lengths[index])))
        }
        #expect(try decode(values[0], .textArray) == elements)
        #expect(try decode(values[1], .int8Array) == [Int64.min, nil, 0, .max])
        #expect(try decode(values[2], .int8) == Int64(-2))
        #expect(encoded.types == [1009, 1016, 20])
    }

    @Test("NULL, an empty text and an empty array are three things")
    func emptiness() throws {
        let encoded = try EncodedParameters([.text(nil), .text(""), .textArray([])])
        #expect(encoded.offsets[0] == -1)
        #expect(encoded.lengths == [0, 0, 12])
        encoded.withPointers { count, _, values, _, _ in
            #expect(count == 3)
            #expect(values?[0] == nil)
            #expect(values?[1] != nil, "a null pointer would be NULL to libpq")
        }
    }

    @Test("What libpq cannot take is refused before it is sent")
    func refused() async throws {
        let tooMany = [PostgresParameter](repeating: .bool(true), count: 65_536)
        #expect(try await postgresError { _ = try EncodedParameters(tooMany) }.code == .invalidParameter)
        #expect(try await postgresError { _ = try EncodedParameters([.inferred("a\0b")]) }.code == .invalidParameter)
    }

    @Test("NULL is an error unless an optional is asked for")
    func null() async throws {
        #expect(try decode(nil, .text, as: String?.self) == nil)
        #expect(try decode(nil, .int8, as: Int64?.self) == nil)
        #expect(try decode(nil, .textArray, as: [String]?.self) == nil)
        #expect(try await postgresError { _ = try decode(nil, .text, as: String.self) }.code == .unexpectedResult)
        let array = try EncodedParameters([.int8Array([nil])])
        let bytes = Array(array.bytes.prefix(Int(array.lengths[0])))
        #expect(
            try await postgresError { _ = try decode(bytes, .int8Array, as: [Int64].self) }.code == .unexpectedResult
        )
    }

    @Test("Another type is an error, not a wrong value")
    func mismatch() async throws {
        for (bytes, type) in [([1, 2, 3, 4], .int8), ([1], .bool), ([0, 0, 0, 1], .text), ([], .int4)]
            as [([UInt8], PostgresType)]
        {
            #expect(try await postgresError { _ = try decode(bytes, type, as: Int64.self) }.code == .unexpectedResult)
        }
        #expect(try await postgresError { _ = try decode([2], .bool, as: Bool.self) }.code == .unexpectedResult)
        #expect(try await postgresError { _ = try decode([1], .int8, as: Bool.self) }.code == .unexpectedResult)
        #expect(try await postgresError { _ = try decode([0, 1], .int2, as: String.self) }.code == .unexpectedResult)
        #expect(
            try await postgresError { _ = try decode([2, 0x7b], .jsonb, as: String.self) }.code == .unexpectedResult
        )
    }

    @Test("Text formats decode too")
    func text() throws {
        #expect(try decode(Array("-42".utf8), .int8, isBinary: false) == Int64(-42))
        #expect(try decode(Array("t".utf8), .bool, isBinary: false) == true)
        #expect(try decode(Array("1 day".utf8), PostgresType(rawValue: 1186), isBinary: false) == "1 day")
        #expect(try decode(Array("0.25".utf8), .float8, isBinary: false) == 0.25)
    }

    @Test("Arrays that lie about themselves are errors", arguments: 0..<200)
    func hostileArrays(seed: Int) throws {
        var bytes = try EncodedParameters([.textArray(["one", nil, "three"])]).bytes.dropLast().map(\.self)
        // Every truncation, and every byte set high, must throw or decode, never trap.
        if seed < bytes.count {
            let cut = Array(bytes[..<seed])
            #expect(throws: PostgresError.self) { _ = try decode(cut, .textArray, as: [String?].self) }
            bytes[seed] = 0xff
            _ = try? decode(bytes, .textArray, as: [String?].self)
        }
        let noise = (0..<seed).map { _ in UInt8.random(in: 0...255) }
        _ = try? decode(noise, .textArray, as: [String?].self)
        _ = try? decode(noise, .int8Array, as: [Int64?].self)
    }
}
