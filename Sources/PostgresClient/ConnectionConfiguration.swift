import Glibc

/// Where to connect, as whom, and what the session is to be like.
///
/// ## Settings and poolers
/// `statement_timeout` and the other session settings are sent as `set_config` calls once the connection stands, not in
/// libpq's `options`: PgBouncer refuses a connection that has startup parameters which it does not know. What a `SET`
/// does through a pooler in transaction mode is worse than nothing: it stays on a server connection that others get
/// next, and is missing from the one that we get next. So the first call asks the server for its process id. If it is
/// the one that the connection was told, the connection is direct, and the same call has set the settings for the
/// session. If it is another, there is a pooler in between; then the settings have ended with that call's transaction,
/// and each later call brings them along, local to its own transaction, in the same round trip (measured: 35 µs a
/// call).
///
/// For the same reason statements are prepared under names on a direct connection alone.
package struct ConnectionConfiguration: Sendable {
    /// What the session settings hold for.
    package enum SettingsScope: Sendable, Hashable {
        /// The session if the connection is direct, each call if there is a pooler in between.
        case automatic
        /// The session. Wrong with a pooler in transaction mode.
        case session
        /// Each call. Right everywhere, and slower.
        case call
    }

    /// When a commit is answered.
    package enum SynchronousCommit: String, Sendable, Hashable {
        /// Before it is on the disk.
        case off
        /// Once it is on this server's disk.
        case local
        /// Once it is where the server's configuration for `on` says.
        case on
    }

    /// libpq's options by keyword, as the connection string and the properties below have them.
    private(set) var options: [String: String]

    /// How long a connection may take to be made, over all hosts. Each host gets an equal share of what is left.
    /// Default: the `connect_timeout` of the connection string, else `PGCONNECT_TIMEOUT`, else 10 s.
    package var connectTimeout: Duration
    /// How long the server may say nothing while calls are under way. Then the connection counts as lost: a proxy may keep
    /// it open for ever when there is no server behind it any more, and no keepalive finds that out. Let it be more than
    /// the statement timeout, within which a server answers. Default: `nil`, as long as it takes.
    package var answerTimeout: Duration?
    /// `statement_timeout`, to the millisecond. Default: `nil`, the server's.
    package var statementTimeout: Duration?
    /// `lock_timeout`, to the millisecond. Default: `nil`, the server's.
    package var lockTimeout: Duration?
    /// `idle_in_transaction_session_timeout`, to the millisecond. Default: `nil`, the server's.
    package var idleInTransactionTimeout: Duration?
    /// `synchronous_commit`. Default: `nil`, the server's.
    package var synchronousCommit: SynchronousCommit?
    /// Further settings by name. Default: none.
    package var settings: [String: String] = [:]
    /// What the settings hold for. Default: ``SettingsScope/automatic``.
    package var settingsScope = SettingsScope.automatic
    /// Whether a direct connection prepares the statements of its calls under names. Measured: it saves 10 µs of a
    /// `SELECT 1` and 25 µs of a function call with three parameters. Default: `true`.
    package var preparesStatements = true

    /// A configuration with the options of a connection string.
    ///
    /// Where neither it nor libpq's environment variables say otherwise: `target_session_attrs=read-write`,
    /// `application_name=tmcp`, and keepalives that find a dead peer in 25 s (`tcp_user_timeout` too). The encoding is
    /// always UTF-8.
    ///
    /// - Parameters:
    ///   - connectionString: a URI or a list of keywords and values, as libpq takes them.
    ///   - environment: the value of an environment variable. Default: of this process.
    /// - Throws: ``PostgresError/Code/invalidConfiguration``, with what is wrong and without the password.
    package init(
        connectionString: String,
        environment: (_ name: String) -> String? = ConnectionConfiguration.environment
    ) throws(PostgresError) {
        let given = try ConnectionString.parse(connectionString)
        // libpq looks at its variables for what it is not told, and it is told our defaults.
        let variables = Self.variables.compactMapValues(environment)
        let defaults = [
            "application_name": "tmcp",
            "keepalives": "1",
            "keepalives_count": "3",
            "keepalives_idle": "10",
            "keepalives_interval": "5",
            "target_session_attrs": "read-write",
            "tcp_user_timeout": "25000",
        ]
        options = defaults.merging(variables) { $1 }.merging(given) { $1 }
        options["client_encoding"] = "UTF8"
        // libpq heeds it only where it blocks.
        connectTimeout = try Self.connectTimeout(options.removeValue(forKey: "connect_timeout"))
    }

    /// The options that have a default here, by keyword, with the environment variables that they can be in.
    private static let variables = [
        "application_name": "PGAPPNAME",
        "connect_timeout": "PGCONNECT_TIMEOUT",
        "target_session_attrs": "PGTARGETSESSIONATTRS",
    ]

    /// The value of an environment variable of this process.
    package static func environment(_ name: String) -> String? {
        getenv(name).map { String(cString: $0) }
    }

    /// As libpq has it, 0 and less are for no timeout, which here is the default.
    private static func connectTimeout(_ text: String?) throws(PostgresError) -> Duration {
        guard let text, !text.isEmpty else { return .seconds(10) }
        guard let seconds = Int32(text) else {
            throw PostgresError(
                .invalidConfiguration,
                "connect_timeout is not a whole number of seconds",
                hint: "Give one in the connection string or in PGCONNECT_TIMEOUT, such as connect_timeout=10."
            )
        }
        return seconds > 0 ? .seconds(Int64(seconds)) : .seconds(10)
    }

    /// The role to connect as. Setting `nil` leaves it to libpq.
    package var user: String? {
        get { options["user"] }
        set { options["user"] = newValue }
    }

    /// The password. Setting `nil` leaves it to libpq.
    package var password: String? {
        get { options["password"] }
        set { options["password"] = newValue }
    }

    /// The database. Setting `nil` leaves it to libpq.
    package var database: String? {
        get { options["dbname"] }
        set { options["dbname"] = newValue }
    }

    /// The name that `pg_stat_activity` shows. Default: `tmcp`.
    package var applicationName: String {
        get { options["application_name"] ?? "" }
        set { options["application_name"] = newValue }
    }

    /// All settings for the session, by name, in an order that is always the same.
    var sessionSettings: [(name: String, value: String)] {
        var all = settings
        all["statement_timeout"] = statementTimeout.map(Self.milliseconds) ?? all["statement_timeout"]
        all["lock_timeout"] = lockTimeout.map(Self.milliseconds) ?? all["lock_timeout"]
        all["idle_in_transaction_session_timeout"] =
            idleInTransactionTimeout.map(Self.milliseconds) ?? all["idle_in_transaction_session_timeout"]
        all["synchronous_commit"] = synchronousCommit?.rawValue ?? all["synchronous_commit"]
        return all.sorted { $0.key < $1.key }.map { (name: $0.key, value: $0.value) }
    }

    /// At least a millisecond unless it is zero, which switches a timeout off.
    private static func milliseconds(_ duration: Duration) -> String {
        let milliseconds = (max(.zero, duration) / .milliseconds(1)).rounded(.up)
        return "\(Int64(min(milliseconds, Double(Int32.max))))ms"
    }
}

extension ConnectionConfiguration: CustomStringConvertible, CustomReflectable {
    /// Which server and database, by whom and how encrypted, as keywords and values. Whatever else there may be, a
    /// password for instance, is left out.
    package var publicOptions: String {
        let keys = [
            "host", "hostaddr", "port", "dbname", "user", "service", "sslmode", "sslrootcert", "sslcert",
            "target_session_attrs",
        ]
        return keys.compactMap { key in
            options[key].map { value in
                // In a URI whose password has a / that is not written as %2F, it is what comes after that.
                "\(key)=" + (key == "dbname" && value.contains("@") ? "..." : value)
            }
        }.joined(separator: " ")
    }

    /// The public options; no password.
    package var description: String { "ConnectionConfiguration(\(publicOptions))" }

    /// A text of libpq's or of the server's as it may be logged: without the secrets that this configuration holds.
    package func redacted(_ text: String) -> String {
        ["password", "sslpassword"].compactMap { options[$0] }.filter { !$0.isEmpty }
            .reduce(text) { text, secret in text.replacing(secret, with: "***") }
    }

    /// Nothing but the description, so that a dump shows no password.
    package var customMirror: Mirror {
        Mirror(self, children: ["description": description])
    }
}
