import PostgresClient

/// Shows no password, and nothing of a connection string that could be a part of one.
extension PostgresSessionConfiguration: CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
    /// The options without a secret. Of connection strings: hosts, database, role and what else is known to be harmless.
    public var description: String {
        let options: [(name: String, value: (any CustomStringConvertible)?)] = [
            ("connectionString", Self.redacted(connectionString)),
            ("listenerConnectionString", listenerConnectionString.map(Self.redacted)),
            ("user", user),
            ("password", password.map { _ in "..." }),
            ("store", store),
            ("relationNames", relationNames == RelationNames() ? nil : "\(relationNames)"),
            ("create", create),
            ("inlineLimit", inlineLimit),
            ("heartbeatInterval", heartbeatInterval),
            ("connectTimeout", connectTimeout),
            ("statementTimeout", statementTimeout),
            ("answerTimeout", answerTimeout),
            ("durability", "\(durability)"),
            ("applicationName", applicationName),
        ]
        let given = options.compactMap { option in option.value.map { "\(option.name): \($0)" } }
        return "PostgresSessionConfiguration(\(given.joined(separator: ", ")))"
    }

    /// The same as ``description``.
    public var debugDescription: String { description }

    /// Nothing but the description, so that a dump shows no password either.
    public var customMirror: Mirror {
        Mirror(self, children: ["description": description])
    }

    private static func redacted(_ connectionString: String) -> String {
        guard let configuration = try? ConnectionConfiguration(connectionString: connectionString) else {
            return "not valid"
        }
        return "\"\(configuration.publicOptions)\""
    }
}
