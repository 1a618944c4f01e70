import CoreMetrics

/// Where the sessions are kept, and how this process talks to the database.
public struct PostgresSessionConfiguration: Sendable {
    /// When a call counts as done.
    public enum Durability: Sendable, Hashable {
        /// As soon as it is committed in memory. A crash of the database server loses the last fraction of a second
        /// (three times `wal_writer_delay`, 600 ms by default), and never part of a call.
        case asynchronous
        /// Once it is on the disk, and on the standbys that the server's `synchronous_commit` names.
        case full
    }

    /// The five relations of a store, by the names that they get when the store is created.
    public struct RelationNames: Sendable, Hashable {
        /// Sessions with an open stream: `(id, updated_at)`. Default: `nil`, `tmcp.{store}_sessions`.
        public var sessions: String?
        /// Capabilities of clients: `(id, value)`. Default: `nil`, `tmcp.{store}_session_client_capabilities`.
        public var clientCapabilities: String?
        /// Names and versions of clients: `(id, value)`. Default: `nil`, `tmcp.{store}_session_client_info`.
        public var clientInfo: String?
        /// Log levels: `(id, value)`. Default: `nil`, `tmcp.{store}_session_log_level`.
        public var logLevel: String?
        /// Subscriptions: `(id, value)`. Default: `nil`, `tmcp.{store}_session_subscriptions`.
        public var subscriptions: String?

        /// Names for the relations of a store, as `name` or `schema.name`, quoted as in SQL where they need it.
        public init(
            sessions: String? = nil,
            clientCapabilities: String? = nil,
            clientInfo: String? = nil,
            logLevel: String? = nil,
            subscriptions: String? = nil
        ) {
            self.sessions = sessions
            self.clientCapabilities = clientCapabilities
            self.clientInfo = clientInfo
            self.logLevel = logLevel
            self.subscriptions = subscriptions
        }
    }

    /// The database: a URI (`postgresql://...`) or keywords and values (`host=... dbname=...`), as libpq takes them,
    /// with several hosts for failover and `sslmode`, `sslrootcert`, `sslcert`, `sslkey` for TLS. What it does not say
    /// is taken from libpq's environment variables and its password file; where these say nothing either,
    /// `target_session_attrs` is `read-write`, so that of several hosts the primary is found.
    public var connectionString: String

    /// The same for the connection that listens, which must not go through a pooler in transaction mode.
    /// Default: `nil`, the same as ``connectionString``.
    public var listenerConnectionString: String?

    /// The role to connect as, for both connections: it overrides what either connection string says.
    /// Default: `nil`, what each says, else `PGUSER`, else the user of the operating system.
    public var user: String?

    /// The password of the role, for both connections: it overrides what either connection string says.
    /// Default: `nil`, what each says, else `PGPASSWORD`, else the password file.
    public var password: String?

    /// The namespace of this application's sessions. Default: `tmcp`.
    public var store: String

    /// Names for the store's relations when it is created. Default: the names that the store's name gives.
    public var relationNames: RelationNames

    /// Whether to install what is missing: the extension where the server has its files, else the same SQL as a plain
    /// script; and the store. Needs a role that may do that. With `false` it is checked, and what is missing is said.
    /// Default: `true`.
    public var create: Bool

    /// For a store that this process creates: the bytes up to which a message travels inside its notification, 0 to
    /// 7900. Default: `nil`, 7900. With 0, whoever creates the store, this process believes nothing that a notification
    /// says, and reads the log.
    public var inlineLimit: Int?

    /// How often this process says that it is alive. Its streams are lost to others when it was silent for the store's
    /// freshness window, 10 s by default: a third of that leaves room for one that is late. 10 ms to 1 h, and below the
    /// window. Default: 3 s.
    public var heartbeatInterval: Duration

    /// How long connecting may take, and how long a call waits for a lost connection to come back. 1 ms to 1 day.
    /// Default: `nil`, the `connect_timeout` of the connection string, else `PGCONNECT_TIMEOUT`, else 10 s.
    public var connectTimeout: Duration?

    /// How long the server works on a call before it gives up and undoes it. 1 ms to 1 day. Default: 10 s.
    public var statementTimeout: Duration

    /// How long the database may say nothing while calls are under way, before the connection counts as lost: its calls
    /// then end as with any lost connection, those that were sent with `.outcomeUnknown`. Let it be more than
    /// ``statementTimeout``. The connection that listens is given 5 s, whatever this says. Default: `nil`, 5 s more than
    /// ``statementTimeout``.
    public var answerTimeout: Duration?

    /// When a call counts as done. Default: ``Durability/asynchronous``.
    public var durability: Durability

    /// What the connections are called in `pg_stat_activity`, and this process in `tmcp.node_status`.
    /// Default: `nil`, the `application_name` of the connection string, else `PGAPPNAME`, else `tmcp`.
    public var applicationName: String?

    /// Whether ``heartbeatInterval`` has to be below the store's freshness window. Default: `true`; tests have processes that
    /// say nothing.
    var checksHeartbeatInterval = true

    /// Where metrics go. Default: `nil`, the process's `MetricsSystem`.
    var metricsFactory: (any MetricsFactory)?

    /// A configuration with the defaults of every option.
    public init(connectionString: String) {
        self.connectionString = connectionString
        listenerConnectionString = nil
        user = nil
        password = nil
        store = "tmcp"
        relationNames = RelationNames()
        create = true
        inlineLimit = nil
        heartbeatInterval = .seconds(3)
        connectTimeout = nil
        statementTimeout = .seconds(10)
        answerTimeout = nil
        durability = .asynchronous
        applicationName = nil
    }
}
