import ArgumentParser
import Foundation
import Hummingbird
import Logging
import MCPTransport
import ServiceLifecycle
import SessionManager
import SessionManagerPostgres
import UnixSignals

/// A notes server that speaks MCP. Start as many as you like on one database: they are one server to their clients.
@main
struct TMCPServer: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "tmcp-server",
        abstract: "A notes server that speaks MCP over HTTP, with its sessions in PostgreSQL.",
        discussion: "Start as many as you like on one database: any request may reach any of them.",
        version: "1.0.0"
    )

    @Option(help: "The port to listen on; 0 takes a free one.")
    var port = 8081

    @Option(help: "The address to listen on.")
    var host = "127.0.0.1"

    @Option(
        name: .customLong("database-url"),
        help: "Where the database is, as in postgresql://user@host:port/database. Default: $TMCP_DATABASE_URL."
    )
    var databaseURL: String?

    @Option(
        name: .customLong("listener-database-url"),
        help: "Where to listen for notifications, past a transaction-mode pooler. Default: the database URL."
    )
    var listenerDatabaseURL: String?

    @Option(help: "The name of the store that holds the sessions.")
    var store = "tmcp"

    @Option(help: "A file that says who may connect: a bearer token and a name on each line. Default: anybody may.")
    var tokens: String?

    @Option(help: "How many seconds a connection without a request may stay open.")
    var idleTimeout = 60

    @Option(help: "How much is logged: trace, debug, info, notice, warning, error or critical.")
    var logLevel = "notice"

    func validate() throws {
        guard (0...65535).contains(port) else { throw ValidationError("--port must be from 0 to 65535.") }
        guard (1...86400).contains(idleTimeout) else {
            throw ValidationError("--idle-timeout must be from 1 to 86400.")
        }
        guard Logger.Level(rawValue: logLevel) != nil else {
            throw ValidationError("--log-level must be trace, debug, info, notice, warning, error or critical.")
        }
        guard connectionString != nil else {
            throw ValidationError("Give --database-url postgresql://user@host:port/database, or set TMCP_DATABASE_URL.")
        }
    }

    private var connectionString: String? {
        databaseURL ?? ProcessInfo.processInfo.environment["TMCP_DATABASE_URL"]
    }

    func run() async throws {
        do {
            try await serve(connectionString ?? "")
        } catch {
            let failure = StartFailure(error, host: host, port: port, store: store)
            FileHandle.standardError.write(Data("tmcp-server: \(failure.sentence).\n".utf8))
            throw ExitCode.failure
        }
    }

    private func serve(_ connectionString: String) async throws {
        LoggingSystem.bootstrap { StreamLogHandler.standardError(label: $0) }
        var logger = Logger(label: "tmcp-server")
        logger.logLevel = Logger.Level(rawValue: logLevel) ?? .notice

        let bearerTokens = try tokens.map { path throws(StartFailure) in try BearerTokens(contentsOfFile: path) }
        var configuration = PostgresSessionConfiguration(connectionString: connectionString)
        configuration.listenerConnectionString = listenerDatabaseURL
        configuration.store = store
        configuration.applicationName = "tmcp-server"
        let streams = PostgresStreamSessionManager(configuration: configuration, logger: logger)
        let info = PostgresInfoSessionManager(sharing: streams)
        let notes = try NotesDatabase(connectionString: connectionString, logger: logger)

        let handler = NotesHandler(notes: notes, streams: streams)
        let http = HTTPTransport(handler: handler, sessionManager: (streams, info))
        let sse = SSETransport(handler: handler, sessionManager: (streams, info))
        let caller: MCPCallerOf<BasicRequestContext> = { request, _ in
            try bearerTokens?.caller(of: request) ?? MCPCaller()
        }
        let router = Router()
        router.add(middleware: http.middleware(caller: caller))
        router.add(middleware: sse.middleware(caller: caller))
        router.get("/health") { _, _ in "ok\n" }
        let application = application(router, logger: logger) {
            try await streams.waitUntilReady()
            try await info.waitUntilReady()
            try await notes.install(store: store)
        }
        // Services end in the opposite order: connections let go of their streams, and handlers give their answers,
        // while the manager still runs.
        var services = ServiceGroupConfiguration(
            services: [
                .init(service: streams), .init(service: http), .init(service: sse), .init(service: application),
            ],
            gracefulShutdownSignals: [.sigterm, .sigint],
            logger: logger
        )
        services.maximumGracefulShutdownDuration = .seconds(10)
        do {
            try await ServiceGroup(configuration: services).run()
        } catch {
            await notes.close()
            throw error
        }
        await notes.close()
    }

    private func application(
        _ router: Router<BasicRequestContext>,
        logger: Logger,
        prepare: @escaping @Sendable () async throws -> Void
    ) -> some ApplicationProtocol {
        var application = Application(
            router: router,
            // Hummingbird has no limit of its own. Without one, who sends half a request, or garbage, and goes on
            // sending keeps a connection for as long as it likes. A stream is a request, and is not idle.
            server: .http1(configuration: .init(idleTimeout: .seconds(Int64(idleTimeout)))),
            configuration: .init(address: .hostname(host, port: port)),
            onServerRunning: { channel in
                let port = channel.localAddress?.port ?? 0
                logger.notice("Listening on http://\(host):\(port)/mcp")
            },
            logger: logger
        )
        application.beforeServerStarts(perform: prepare)
        return application
    }
}
