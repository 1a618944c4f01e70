/// Which statements the server has prepared for a connection.
struct PreparedStatements {
    /// A statement and the types of its parameters: another type is another statement.
    struct Key: Hashable, Sendable {
        let sql: String
        let types: [UInt32]
    }

    /// How a call runs its statement.
    enum Use: Hashable, Sendable {
        /// Parsed for this call alone.
        case unnamed
        /// Prepared under a name by this call, and run.
        case prepare(name: String, Key)
        /// Run under the name that an earlier call prepared.
        case named(name: String, Key)
    }

    private enum State {
        case preparing
        case prepared(name: String)
    }

    /// The most statements that are kept; more are run unnamed.
    let limit: Int
    private var states: [Key: State] = [:]
    private var lastName: UInt64 = 0

    init(limit: Int = 256) {
        self.limit = limit
    }

    /// How a call is to run the statement. After `prepare` one of the other functions is to be called.
    mutating func use(_ key: Key) -> Use {
        switch states[key] {
        case .prepared(let name):
            return .named(name: name, key)
        case .preparing:
            // It may yet fail, and in a pipeline whoever relied on it would fail with it.
            return .unnamed
        case nil:
            guard states.count < limit else { return .unnamed }
            states[key] = .preparing
            lastName += 1
            return .prepare(name: "tmcp_\(lastName)", key)
        }
    }

    /// A call came to its end.
    mutating func completed(_ use: Use, sqlState: String?) {
        switch (use, sqlState) {
        case (.unnamed, _), (.named, nil):
            break
        case (.prepare(let name, let key), nil):
            states[key] = .prepared(name: name)
        case (.prepare(_, let key), _):
            // It may have been prepared and then failed. The name is not used again, so that does no harm.
            states[key] = nil
        case (.named(_, let key), "0A000"), (.named(_, let key), "26000"):
            // Its result type has changed, or somebody deallocated it: prepare it anew under another name.
            states[key] = nil
        case (.named, _):
            break
        }
    }
}
