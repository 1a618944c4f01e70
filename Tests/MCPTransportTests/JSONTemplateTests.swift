import Foundation
import SessionManager
import Testing

@testable import MCPTransport

/// A JSON text with one value left open.
@Suite struct JSONTemplateTests {
    @Test(
        "A value comes to where its path leads, and all else stays as it was written",
        arguments: [
            (#"{}"#, #"{"a":{"b":7}}"#),
            (" { } ", #" { "a":{"b":7}} "#),
            (#"{"x":1}"#, #"{"x":1,"a":{"b":7}}"#),
            // The parser takes a comma too many.
            (#"{"x":1,}"#, #"{"x":1,"a":{"b":7}}"#),
            (#"{"a":{}}"#, #"{"a":{"b":7}}"#),
            (#"{"a":{"x":[1,{"b":2}]},"b":3}"#, #"{"a":{"x":[1,{"b":2}],"b":7},"b":3}"#),
            (#"{"a":{"b":{"c":"}"}}}"#, #"{"a":{"b":7}}"#),
            ("{ \"a\" :\n{ \"b\" : 18446744073709551615 , \"c\" : 1e2 } }", "{ \"a\" :\n{ \"b\" : 7 , \"c\" : 1e2 } }"),
            (#"{"x":"\\\"},","a":null,"y":-0.50}"#, #"{"x":"\\\"},","a":{"b":7},"y":-0.50}"#),
            (#"{"a":[{"b":1}]}"#, #"{"a":{"b":7}}"#),
            (#"{"a":"b"}"#, #"{"a":{"b":7}}"#),
            (#"{"\u0061":{"b":true}}"#, #"{"\u0061":{"b":7}}"#),
            (#"{"x":[],"y":{},"z":[[],{"a":{}}]}"#, #"{"x":[],"y":{},"z":[[],{"a":{}}],"a":{"b":7}}"#),
            (#"{"\u00e9\ud83d\ude00":"\#u{e9}"}"#, #"{"\u00e9\ud83d\ude00":"\#u{e9}","a":{"b":7}}"#),
        ]
    )
    func filled(text: String, expected: String) throws {
        let filled = JSONTemplate(text, opening: ["a", "b"]).filled(with: "7")
        #expect(filled == expected)
        #expect(try JSONValue(parsing: Data(filled.utf8))["a"]?["b"] == 7)
    }
}
