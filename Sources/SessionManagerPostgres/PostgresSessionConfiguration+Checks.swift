import PostgresClient
import SessionManager

/// What the options may be, and what they come to together with the connection strings.
extension PostgresSessionConfiguration {
    /// Makes sure that every option is one that makes sense, before anything is done with it.
    func check() throws(SessionManagerError) {
        try Self.check(heartbeatInterval, "heartbeatInterval", from: .milliseconds(10), to: .seconds(3600), hint: "3 s")
        if let connectTimeout {
            try Self.check(connectTimeout, "connectTimeout", from: .milliseconds(1), to: .seconds(86_400), hint: "10 s")
        }
        try Self.check(
            statementTimeout,
            "statementTimeout",
            from: .milliseconds(1),
            to: .seconds(86_400),
            hint: "10 s; a call without a limit could keep its caller waiting for ever"
        )
        if let answerTimeout {
            try Self.check(
                answerTimeout,
                "answerTimeout",
                from: .milliseconds(1),
                to: .seconds(90_000),
                hint: "5 s more than statementTimeout"
            )
        }
        if let inlineLimit, !(0...7900).contains(inlineLimit) {
            throw SessionManagerError(
                .configuration,
                "inlineLimit is \(inlineLimit) bytes, and can be 0 to 7900",
                hint: "Leave it at nil for 7900, the most that fits a notification, or give 0 for messages that must "
                    + "not travel in one."
            )
        }
    }

    private static func check(
        _ value: Duration,
        _ name: String,
        from lowest: Duration,
        to highest: Duration,
        hint: String
    ) throws(SessionManagerError) {
        guard value < lowest || value > highest else { return }
        throw SessionManagerError(
            .configuration,
            "\(name) is \(value), and can be \(lowest) to \(highest)",
            hint: "Leave it at its default, \(hint)."
        )
    }

    /// How long a call waits for a connection, also before there is anything that connects.
    var patience: Duration {
        connectTimeout ?? (try? ConnectionConfiguration.calls(self).connectTimeout) ?? .seconds(10)
    }
}

extension ConnectionConfiguration {
    /// How the connection for calls is made.
    static func calls(
        _ configuration: PostgresSessionConfiguration,
        environment: (_ name: String) -> String? = environment
    ) throws(PostgresError) -> ConnectionConfiguration {
        var result = try ConnectionConfiguration(
            connectionString: configuration.connectionString,
            environment: environment
        )
        result.apply(configuration)
        result.synchronousCommit = configuration.durability == .asynchronous ? .off : nil
        result.statementTimeout = configuration.statementTimeout
        result.answerTimeout = configuration.answerTimeout ?? configuration.statementTimeout + .seconds(5)
        // A row that an operator's open transaction holds must not hold up everybody's calls for long.
        result.lockTimeout = min(configuration.statementTimeout, .seconds(2))
        return result
    }

    /// How the connection that listens is made.
    static func listener(
        _ configuration: PostgresSessionConfiguration,
        environment: (_ name: String) -> String? = environment
    ) throws(PostgresError) -> ConnectionConfiguration {
        var result = try ConnectionConfiguration(
            connectionString: configuration.listenerConnectionString ?? configuration.connectionString,
            environment: environment
        )
        result.apply(configuration)
        // Heartbeats go over it. The next one has to come in time when this one does not, and no wait for a lock or for
        // the disk may hold up the notifications.
        result.statementTimeout = .seconds(4)
        result.lockTimeout = .seconds(2)
        result.answerTimeout = .seconds(5)
        result.synchronousCommit = .off
        return result
    }

    /// What the configuration names itself overrides what the connection string and the environment say.
    private mutating func apply(_ configuration: PostgresSessionConfiguration) {
        if let user = configuration.user { self.user = user }
        if let password = configuration.password { self.password = password }
        if let name = configuration.applicationName { applicationName = name }
        if let timeout = configuration.connectTimeout { connectTimeout = timeout }
    }
}
