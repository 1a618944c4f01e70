import Foundation
import SessionManager
import Testing

@Suite("A JSON value")
struct JSONValueTests {
    @Test(
        "keeps what it does not know through a round trip",
        arguments: [
            #"{"a":[1,-2.5,true,false,null,"x"],"b":{}}"#, "[]", "null", #""\u0000""#, "9223372036854775807", "1e300",
        ]
    )
    func roundTrip(text: String) throws {
        let value = try JSONValue(parsing: Data(text.utf8))
        #expect(try JSONValue(parsing: Data(value.text.utf8)) == value)
    }

    @Test("is read as what it is, numbers as whole ones where they are")
    func parsed() throws {
        let text = #"""
            {"bools": [true, false], "integers": [1, 0, -0, 1.0, 1e3, -9223372036854775808],
             "numbers": [1.5, -1e-3, 9223372036854775808, 123456789012345678901234567890], "null": [null],
             "strings": ["", "true", "1", "\u00e4\ud83d\ude00\u0000"], "empty": {"array": [], "object": {}}}
            """#
        let expected: JSONValue = [
            "bools": [true, false], "integers": [1, 0, 0, 1, 1000, .integer(.min)],
            "numbers": [1.5, -0.001, .number(0x1p63), .number(1.2345678901234568e29)], "null": [nil],
            "strings": ["", "true", "1", "\u{E4}\u{1F600}\0"], "empty": ["array": [], "object": [:]],
        ]
        #expect(try JSONValue(parsing: Data(text.utf8)) == expected)
    }

    @Test("is written in one way: members in order, slashes as they are, no spaces")
    func text() {
        let value: JSONValue = ["z": 1, "a": ["http://x/"], "m": [nil, true, 0.5]]
        #expect(value.text == #"{"a":["http://x/"],"m":[null,true,0.5],"z":1}"#)
        #expect(JSONValue.number(.infinity).text == "null")
    }

    @Test(
        "refuses what is no JSON, and what is nested without end",
        arguments: [
            "", "{", "nul", "{'a': 1}", "\u{FEFF}", "01", "1.", "1e400", "1 2", #""\ud800""#, "\"\0\"",
            String(repeating: "[", count: 600) + String(repeating: "]", count: 600),
        ]
    )
    func refused(text: String) {
        #expect(throws: (any Error).self) { try JSONValue(parsing: Data(text.utf8)) }
    }

    @Test(
        "is read from UTF-8 and from nothing else",
        arguments: [
            String.Encoding.utf16, .utf16LittleEndian, .utf16BigEndian, .utf32, .utf32LittleEndian, .utf32BigEndian,
        ]
    )
    func encodings(encoding: String.Encoding) throws {
        for text in ["{}", "[\"\u{e4}\"]", "7"] {
            let data = try #require(text.data(using: encoding))
            #expect(throws: (any Error).self) { try JSONValue(parsing: data) }
        }
        for bytes: [UInt8] in [[0x22, 0xFF, 0x22], [0x22, 0xC3, 0x22], [0x22, 0xED, 0xA0, 0x80, 0x22]] {
            #expect(throws: (any Error).self) { try JSONValue(parsing: Data(bytes)) }
        }
    }

    @Test("gives what it is asked for if it is that, and nothing otherwise")
    func accessors() {
        let value: JSONValue = ["string": "x", "integer": 1, "array": [true], "object": ["a": nil], "number": 1.5]
        #expect(value["string"]?.string == "x" && value["integer"]?.string == nil)
        #expect(value["integer"]?.integer == 1 && value["number"]?.integer == nil)
        #expect(value["array"]?.array == [true] && value["object"]?.array == nil)
        #expect(value["object"]?.object == ["a": .null] && value["array"]?.object == nil)
        #expect(value["missing"] == nil && value["string"]?["x"] == nil)
    }
}

@Suite("An error of a session manager")
struct SessionManagerErrorTests {
    @Test("tells a log its code and SQLSTATE, and nothing that came from a client; a developer everything")
    func redaction() {
        let error = SessionManagerError(
            .streamHeld,
            "stream 'secret' is open",
            sqlState: "TM003",
            detail: "since secret o'clock",
            hint: "Wait."
        )
        #expect("\(error)" == "SessionManagerError(streamHeld, SQLSTATE TM003)")
        let everything = String(reflecting: error)
        for part in ["streamHeld", "TM003", "stream 'secret' is open", "since secret o'clock", "Hint: Wait."] {
            #expect(everything.contains(part))
        }
    }
}
