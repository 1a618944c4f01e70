import Logging
import PostgresClient
import SessionManager

/// Makes sure that the database has what the client calls, in a version that the client knows.
struct Installation: Sendable {
    let configuration: PostgresSessionConfiguration
    let calls: CallConnection
    let logger: Logger
    /// Whether the server's files are used where it has them; `false` always takes the plain script.
    var usesExtensionFiles = true

    /// Installs what is missing if the configuration says so; otherwise says what is missing.
    func ensure() async throws(SessionManagerError) {
        if try await !isInstalled() {
            guard configuration.create else {
                throw SessionManagerError(
                    .notInstalled,
                    "the database has no extension tmcp_session_manager, and create is false",
                    hint: "Let its owner run CREATE EXTENSION tmcp_session_manager; "
                        + "(or tmcp_session_manager.plain.sql, where the server has no files of the extension) "
                        + "\(await statements()) Or set create to true."
                )
            }
            try await install()
        }
        try await checkVersion()
        try await ensureStore()
        try await checkFunctions()
    }

    /// Makes sure that the store does not take this process for dead between two heartbeats.
    ///
    /// A role that was granted usage alone cannot read the window; it is told by being fenced.
    func checkHeartbeatInterval() async throws(SessionManagerError) {
        guard configuration.checksHeartbeatInterval,
            try await flag("SELECT has_table_privilege('tmcp.stores', 'SELECT')")
        else { return }
        // The longest time between two, with the jitter that they have.
        let interval = configuration.heartbeatInterval * 1.1 / .milliseconds(1)
        let window: Int64
        do {
            window = try await calls.query(
                "SELECT (1000 * extract(epoch FROM s.freshness_window))::bigint FROM tmcp.stores AS s WHERE s.name = $1",
                [.text(configuration.store)]
            ).value()
        } catch {
            throw SessionManagerError(any: error)
        }
        guard interval >= Double(window) else { return }
        throw SessionManagerError(
            .configuration,
            "heartbeatInterval is \(configuration.heartbeatInterval), and store \(configuration.store) takes a process "
                + "for dead that was silent for \(Duration.milliseconds(window))",
            hint: "Set heartbeatInterval to a third of that, or let the owner of the extension run SELECT "
                + "tmcp.configure_store('\(configuration.store)', freshness_window => '...')."
        )
    }

    private func isInstalled() async throws(SessionManagerError) -> Bool {
        try await flag("SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = 'tmcp')")
    }

    private func flag(_ sql: String) async throws(SessionManagerError) -> Bool {
        let result = try await calls.query(sql)
        do {
            return try result.value()
        } catch {
            throw SessionManagerError(error)
        }
    }

    private func install() async throws(SessionManagerError) {
        var hasExtensionFiles = usesExtensionFiles
        if hasExtensionFiles {
            hasExtensionFiles = try await flag(
                "SELECT EXISTS (SELECT FROM pg_available_extensions WHERE name = 'tmcp_session_manager')"
            )
        }
        // Under the lock that the plain script takes too, so that of many processes one installs and the others find it.
        let script =
            hasExtensionFiles
            ? """
            SELECT pg_advisory_xact_lock(hashtextextended('tmcp_session_manager', 0));
            CREATE EXTENSION IF NOT EXISTS tmcp_session_manager;
            """ : InstallScript.text
        do {
            try await PostgresScript.run(
                script,
                configuration: calls.configuration,
                on: calls.eventLoop,
                logger: logger
            )
        } catch {
            throw SessionManagerError(
                error.sqlState == nil ? .unreachable : .notInstalled,
                "tmcp_session_manager could not be installed: \(error.message)",
                sqlState: error.sqlState,
                detail: error.detail,
                hint: error.sqlState == nil
                    ? "Nothing is installed in part; try again when the database is back."
                    : "Let the owner of the database run CREATE EXTENSION tmcp_session_manager; (or "
                        + "tmcp_session_manager.plain.sql) \(await statements()) Then set create to false."
            )
        }
        logger.info(
            "Installed tmcp_session_manager",
            metadata: ["tmcp.as": "\(hasExtensionFiles ? "extension" : "script")"]
        )
    }

    private func checkVersion() async throws(SessionManagerError) {
        let installed: String
        do {
            installed = try await calls.query("SELECT tmcp.version()").value()
        } catch {
            let failure = SessionManagerError(any: error)
            guard let sqlState = failure.sqlState, ["42501", "3F000", "42883"].contains(sqlState) else { throw failure }
            throw SessionManagerError(
                .notInstalled,
                sqlState == "42501"
                    ? "this role may not use schema tmcp"
                    : "schema tmcp is there, but it is not that of tmcp_session_manager",
                sqlState: sqlState,
                hint: sqlState == "42501"
                    ? "Let the owner of the extension run, the first unless the store is there: \(await statements())"
                    : "Use another database, or drop what is in the schema."
            )
        }
        guard Self.isCompatible(installed, with: InstallScript.version) else {
            throw SessionManagerError(
                .notInstalled,
                "the database has tmcp_session_manager \(installed), and this client needs \(InstallScript.version) or later "
                    + "of the same major version",
                hint: try await hint(forVersion: installed)
            )
        }
    }

    private func hint(forVersion installed: String) async throws(SessionManagerError) -> String {
        let needed = InstallScript.version
        guard installed.split(separator: ".").first == needed.split(separator: ".").first else {
            return "Use the version of this package that has the same major version as the database."
        }
        if try await flag("SELECT EXISTS (SELECT FROM pg_extension WHERE extname = 'tmcp_session_manager')") {
            return "Let its owner run ALTER EXTENSION tmcp_session_manager UPDATE, once the server has the files of "
                + "\(needed); or use version \(installed) of this package."
        }
        return "It was installed by the plain script, which updates nothing: use version \(installed) of this package; "
            + "or let its owner run DROP SCHEMA tmcp CASCADE, which ends all sessions, and install \(needed) anew."
    }

    /// Whether a client made with the version `needed` works with the version `installed`.
    static func isCompatible(_ installed: String, with needed: String) -> Bool {
        let installed = installed.split(separator: ".").compactMap { Int($0) }
        let needed = needed.split(separator: ".").compactMap { Int($0) }
        guard installed.count == 3, needed.count == 3, installed[0] == needed[0] else { return false }
        return !installed.lexicographicallyPrecedes(needed)
    }

    private func ensureStore() async throws(SessionManagerError) {
        do {
            // An id that no stream has: only the store is looked at.
            _ = try await calls.query("SELECT tmcp.has($1, '')", [.text(configuration.store)])
        } catch {
            switch (error.code, error.sqlState) {
            case (.storeNotFound, _) where configuration.create: try await createStore()
            case (.storeNotFound, _), (_, "42501"): throw await notGranted()
            default: throw error
            }
        }
    }

    /// In one statement, so that there is no moment at which the store has another inline limit.
    private func createStore() async throws(SessionManagerError) {
        let names = configuration.relationNames
        do {
            _ = try await calls.query(
                """
                WITH created AS MATERIALIZED (SELECT tmcp.create_store($1, $2, $3, $4, $5, $6))
                SELECT CASE WHEN $7::integer IS NOT NULL THEN tmcp.configure_store($1, inline_limit => $7::integer) END
                FROM created
                """,
                [
                    .text(configuration.store), .text(names.sessions), .text(names.clientCapabilities),
                    .text(names.clientInfo), .text(names.logLevel), .text(names.subscriptions),
                    .inferred(configuration.inlineLimit.map { String($0) }),
                ]
            )
        } catch {
            switch error.sqlState {
            // Another process has just created it.
            case "TM012": return
            case "42501": throw await notGranted()
            default: throw error
            }
        }
    }

    /// Makes sure that every function that the client calls is there, and that this role may call it: some may have come
    /// with an update of the extension.
    private func checkFunctions() async throws(SessionManagerError) {
        let (missing, refused): (String?, String?)
        do {
            let result = try await calls.query(
                """
                SELECT string_agg(DISTINCT 'tmcp.' || f.name, ', ') FILTER (WHERE p.oid IS NULL),
                       string_agg(DISTINCT 'tmcp.' || f.name, ', ')
                           FILTER (WHERE NOT has_function_privilege(p.oid, 'EXECUTE'))
                FROM unnest($1::text[]) AS f (name)
                LEFT JOIN pg_proc AS p ON p.pronamespace = 'tmcp'::regnamespace AND p.proname = f.name
                """,
                [.textArray(Self.functions)]
            )
            missing = try result.value()
            refused = try result.value(column: 1)
        } catch {
            throw SessionManagerError(any: error)
        }
        if let missing {
            throw SessionManagerError(
                .notInstalled,
                "schema tmcp has no \(missing)",
                sqlState: "42883",
                hint: "They were there once, as the version says: restore them from a dump, or let the owner run "
                    + "DROP SCHEMA tmcp CASCADE, which ends all sessions, and install it anew."
            )
        }
        if let refused {
            throw SessionManagerError(
                .notInstalled,
                "this role may not call \(refused)",
                sqlState: "42501",
                hint: "Let the owner of the extension run this, as after every update: "
                    + "\(await statements(create: false))"
            )
        }
    }

    /// What the client calls once it runs; a test compares this with the sources.
    static let functions = [
        "add_subscription", "attach_batch", "broadcast", "cleanup", "delete_stream", "detach", "end_session",
        "fetch_messages", "flush_outbox", "get_client_capabilities", "get_client_info", "get_log_level", "get_session",
        "get_subscriptions", "has", "heartbeat", "listen", "log", "multicast", "publish", "reattach", "register_node",
        "remove_subscription", "replay", "send", "send_batch", "set_client_capabilities", "set_client_info",
        "set_log_level", "start_session", "stop_node", "version",
    ]

    private func notGranted() async -> SessionManagerError {
        let store = configuration.store
        return SessionManagerError(
            .storeNotFound,
            configuration.create
                ? "store \(store) does not exist or was not granted, and this role may not create one"
                : "store \(store) does not exist or was not granted, and create is false",
            sqlState: "42501",
            hint: "Let the owner of the extension run, the first unless the store is there: \(await statements())"
        )
    }

    /// What the owner of the extension has to run for this role, ready to be copied.
    private func statements(create: Bool = true) async -> String {
        let sql = """
            SELECT format('SELECT tmcp.create_store(%L); ', $1::text),
                   format('SELECT tmcp.grant_usage(%L, %L);', $1::text, quote_ident(current_user))
            """
        do {
            let result = try await calls.query(sql, [.text(configuration.store)])
            return try (create ? result.value() : "") + result.value(column: 1)
        } catch {
            return "SELECT tmcp.create_store(store); SELECT tmcp.grant_usage(store, role);"
        }
    }
}
