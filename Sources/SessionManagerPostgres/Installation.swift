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
                    "the database has no extension tmcp_session_manager",
                    hint: "Let its owner run CREATE EXTENSION tmcp_session_manager, or set create to true."
                )
            }
            try await install()
        }
        try await checkVersion()
        try await ensureStore()
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
                hint: "Let the owner of the database install it and run SELECT "
                    + "tmcp.create_store('\(configuration.store)'), "
                    + "tmcp.grant_usage('\(configuration.store)', role); then set create to false."
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
                    ? "Let the owner of the extension run SELECT tmcp.create_store('\(configuration.store)'), unless it "
                        + "is there, and SELECT tmcp.grant_usage('\(configuration.store)', role)."
                    : "Use another database, or drop what is in the schema."
            )
        }
        guard Self.isCompatible(installed, with: InstallScript.version) else {
            throw SessionManagerError(
                .notInstalled,
                "the database has tmcp_session_manager \(installed), and this client needs \(InstallScript.version) or later "
                    + "of the same major version",
                hint:
                    "Let its owner run ALTER EXTENSION tmcp_session_manager UPDATE, or use another version of this package."
            )
        }
    }

    /// Whether a client made with the version `needed` works with the version `installed`.
    static func isCompatible(_ installed: String, with needed: String) -> Bool {
        let installed = installed.split(separator: ".").compactMap { Int($0) }
        let needed = needed.split(separator: ".").compactMap { Int($0) }
        guard installed.count == 3, needed.count == 3, installed[0] == needed[0] else { return false }
        return !installed.lexicographicallyPrecedes(needed)
    }

    private func ensureStore() async throws(SessionManagerError) {
        let store = PostgresParameter.text(configuration.store)
        do {
            // An id that no stream has: only the store is looked at.
            _ = try await calls.query("SELECT tmcp.has($1, '')", [store])
        } catch  where error.code == .storeNotFound && configuration.create {
            let names = configuration.relationNames
            do {
                _ = try await calls.query(
                    "SELECT tmcp.create_store($1, $2, $3, $4, $5, $6)",
                    [
                        store, .text(names.sessions), .text(names.clientCapabilities), .text(names.clientInfo),
                        .text(names.logLevel), .text(names.subscriptions),
                    ]
                )
                if let inlineLimit = configuration.inlineLimit {
                    _ = try await calls.query(
                        "SELECT tmcp.configure_store($1, inline_limit => $2::integer)",
                        [store, .inferred(String(inlineLimit))]
                    )
                }
            } catch  where error.sqlState == "TM012" {
                // Another process has just created it.
            } catch  where error.sqlState == "42501" {
                throw notGranted
            }
        } catch  where error.sqlState == "42501" {
            throw notGranted
        }
    }

    private var notGranted: SessionManagerError {
        let store = configuration.store
        return SessionManagerError(
            .storeNotFound,
            "store \(store) does not exist or was not granted, and this role may not create one",
            sqlState: "42501",
            hint: "Let the owner of the extension run SELECT tmcp.create_store('\(store)') and "
                + "SELECT tmcp.grant_usage('\(store)', role)."
        )
    }
}
