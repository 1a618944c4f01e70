import CLibPQ

/// A connection string of libpq's, taken apart: the options by keyword.
enum ConnectionString {
    /// Takes a URI or a list of keywords and values apart.
    ///
    /// - Throws: ``PostgresError/Code/invalidConfiguration`` with libpq's words for what is wrong, and nothing in them that
    ///   could be a part of a password.
    static func parse(_ string: String) throws(PostgresError) -> [String: String] {
        guard !string.utf8.contains(0) else {
            throw PostgresError(.invalidConfiguration, "the connection string holds a NUL character")
        }
        var message: UnsafeMutablePointer<CChar>?
        guard let options = PQconninfoParse(string, &message) else {
            defer { PQfreemem(message) }
            let text = message.map { String(cString: $0) } ?? "out of memory"
            throw PostgresError(
                .invalidConfiguration,
                "the connection string is not valid: " + redact(text, from: string)
            )
        }
        defer { PQconninfoFree(options) }
        var values: [String: String] = [:]
        var option = options
        while let keyword = option.pointee.keyword {
            if let value = option.pointee.val { values[String(cString: keyword)] = String(cString: value) }
            option += 1
        }
        try validatePorts(values["port"])
        try validateHosts(values["host"])
        return values
    }

    /// libpq finds a wrong port only when it connects, and then cites it. After a mistake such as a `/` in the password
    /// of a URI, what it takes for the port is a part of the password.
    private static func validatePorts(_ ports: String?) throws(PostgresError) {
        for port in ports?.split(separator: ",", omittingEmptySubsequences: false) ?? [] where !port.isEmpty {
            guard let number = Int(port), (1...65_535).contains(number) else {
                throw PostgresError(
                    .invalidConfiguration,
                    "the connection string is not valid: a port is not a number from 1 to 65535",
                    hint: escapingHint
                )
            }
        }
    }

    /// After an `@` in the password of a URI, what libpq takes for the host begins with the rest of the password.
    private static func validateHosts(_ hosts: String?) throws(PostgresError) {
        for host in hosts?.split(separator: ",") ?? [] where host.contains("@") {
            // The folder of a socket, or an abstract one.
            guard !host.hasPrefix("/"), !host.hasPrefix("@") else { continue }
            throw PostgresError(
                .invalidConfiguration,
                "the connection string is not valid: a host holds an @",
                hint: escapingHint
            )
        }
    }

    private static let escapingHint = "In a URI, characters such as / and @ in a password are written as %2F and %40."

    /// libpq's message without the parts of the string that it quotes, except single characters and what is known to be
    /// the name of an option.
    static func redact(_ message: String, from string: String) -> String {
        var rest = Substring(message.split(whereSeparator: \.isNewline).joined(separator: " "))
        var result = ""
        // A URI is quoted whole, and may hold quotation marks itself.
        if let whole = rest.range(of: "\"\(string)\"") {
            rest.replaceSubrange(whole, with: "...")
        }
        while let open = rest.firstIndex(of: "\"") {
            result += rest[..<open]
            rest = rest[rest.index(after: open)...]
            guard let close = rest.firstIndex(of: "\"") else { return result + "..." }
            let quoted = rest[..<close]
            result += quoted.count == 1 || isOptionName(quoted, in: string) ? "\"\(quoted)\"" : "..."
            rest = rest[rest.index(after: close)...]
        }
        return result + rest
    }

    /// Whether a word stands where no password can be: before any mention of one, and in a URI after the `?` that ends
    /// the place for one.
    private static func isOptionName(_ word: Substring, in string: String) -> Bool {
        guard !word.isEmpty, word.allSatisfy({ $0.isASCII && ($0.isLetter || $0 == "_") }) else { return false }
        guard let position = string.range(of: word + "=") else { return false }
        var before = string[..<position.lowerBound]
        if before.contains("://") {
            guard let query = before.firstIndex(of: "?"), !string[query...].contains("@") else { return false }
            before = before[query...]
        }
        return !before.lowercased().contains("password")
    }
}

extension StringProtocol {
    /// The first occurrence of `other`, compared character by character.
    fileprivate func range(of other: some StringProtocol) -> Range<Index>? {
        guard !other.isEmpty else { return nil }
        return indices.lazy
            .filter { self[$0...].starts(with: other) }
            .first
            .map { $0..<index($0, offsetBy: other.count) }
    }
}
