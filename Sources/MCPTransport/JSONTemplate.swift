import SessionManager

/// The JSON text of an object in which one value is left open, so that many can get it, each with a value of its own, and
/// it is looked through once. All else stays as it was written, numbers of any size among it.
struct JSONTemplate: Sendable {
    private let head: String
    private let tail: String

    /// - Parameters:
    ///   - text: must be JSON, and an object.
    ///   - path: the names that lead to the value, one in the other. What is missing of them is added at the end.
    init(_ text: String, opening path: [String]) {
        let scanner = JSONScanner(bytes: Array(text.utf8))
        let start = scanner.bytes.firstIndex(of: UInt8(ascii: "{")) ?? 0
        let gap = scanner.gap(path[...], inObjectAt: start)
        head = String(decoding: scanner.bytes[..<gap.range.lowerBound], as: UTF8.self) + gap.before
        tail = gap.after + String(decoding: scanner.bytes[gap.range.upperBound...], as: UTF8.self)
    }

    /// The text with `value`, which must be JSON.
    func filled(with value: String) -> String { head + value + tail }
}

/// Finds its way through bytes that are known to be JSON in UTF-8.
private struct JSONScanner {
    let bytes: [UInt8]

    /// Where a value goes: what it replaces, and what has to be written around it.
    struct Gap {
        var range: Range<Int>
        var before = ""
        var after = ""
    }

    func gap(_ path: ArraySlice<String>, inObjectAt start: Int) -> Gap {
        var at = skippingSpace(start + 1)
        var lacksComma = false
        while bytes[at] != UInt8(ascii: "}") {
            let nameEnd = endOfString(at)
            let value = skippingSpace(skippingSpace(nameEnd) + 1)
            let valueEnd = endOfValue(value)
            if isName(at..<nameEnd, path.first) {
                let rest = path.dropFirst()
                if rest.isEmpty { return Gap(range: value..<valueEnd) }
                if bytes[value] == UInt8(ascii: "{") { return gap(rest, inObjectAt: value) }
                return Gap(range: value..<valueEnd, before: "{" + names(rest), after: braces(rest.count))
            }
            at = skippingSpace(valueEnd)
            lacksComma = bytes[at] != UInt8(ascii: ",")
            if !lacksComma { at = skippingSpace(at + 1) }
        }
        return Gap(range: at..<at, before: (lacksComma ? "," : "") + names(path), after: braces(path.count - 1))
    }

    /// The names of members, each but the last with an object that holds the next one.
    private func names(_ path: ArraySlice<String>) -> String {
        path.map { JSONValue.string($0).text + ":" }.joined(separator: "{")
    }

    private func braces(_ count: Int) -> String { String(repeating: "}", count: count) }

    private func isName(_ range: Range<Int>, _ name: String?) -> Bool {
        let json = try? JSONValue(parsing: .init(bytes[range]))
        return json?.string == name
    }

    private func skippingSpace(_ start: Int) -> Int {
        bytes[start...].firstIndex { !JSONScanner.space.contains($0) } ?? bytes.endIndex
    }

    private static let space = Array(" \t\r\n".utf8)
    private static let ends = space + Array(",]}".utf8)

    private func endOfString(_ start: Int) -> Int {
        var at = start + 1
        while bytes[at] != UInt8(ascii: "\"") { at += bytes[at] == UInt8(ascii: "\\") ? 2 : 1 }
        return at + 1
    }

    private func endOfValue(_ start: Int) -> Int {
        var at = start
        var depth = 0
        repeat {
            switch bytes[at] {
            case UInt8(ascii: "\""): at = endOfString(at)
            case UInt8(ascii: "{"), UInt8(ascii: "["):
                depth += 1
                at += 1
            case UInt8(ascii: "}"), UInt8(ascii: "]"):
                depth -= 1
                at += 1
            case _ where depth > 0: at += 1
            default: at = bytes[at...].firstIndex { JSONScanner.ends.contains($0) } ?? bytes.endIndex
            }
        } while depth > 0
        return at
    }
}
