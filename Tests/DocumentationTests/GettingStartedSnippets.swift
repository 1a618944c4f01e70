// The code of GettingStarted.md, Deployment.md and Errors.md. Tests/docs/snippets compares it with the articles.

import Hummingbird
import Logging
import MCPTransport
import ServiceLifecycle
import SessionManager
import SessionManagerPostgres
import Testing
import UnixSignals

// snippet: stream
/// Hands what is sent to a session to `write`, until the stream ends.
func carry(
    _ session: String,
    on streams: some StreamSessionManager,
    to write: (StreamMessage) async throws -> Void
) async throws {
    let messages = MessageStream()
    try await streams.create(session, controller: messages.controller)
    for await message in messages {
        try await write(message)
    }
    // Why it ended: the session is over, or the client should come back.
    print(messages.closing ?? .detached)
}
// end

// snippet: send
func tell(_ session: String, that text: String, through streams: some StreamSessionManager) async throws {
    let message: JSONValue = [
        "jsonrpc": "2.0",
        "method": "notifications/message",
        "params": ["level": "info", "data": .string(text)],
    ]
    switch try await streams.send([session], data: message.text)[0] {
    case .sent(let eventID): print("in the log as \(eventID)")
    case .unknownSession: print("there is no such session")
    }
}
// end

// snippet: service-group
func serve(_ handler: some MCPHandler, databaseURL: String) async throws {
    let logger = Logger(label: "notes")
    let streams = PostgresStreamSessionManager(
        configuration: PostgresSessionConfiguration(connectionString: databaseURL),
        logger: logger
    )
    let info = PostgresInfoSessionManager(sharing: streams)

    let router = Router()
    router.add(middleware: HTTPTransport(handler: handler, sessionManager: (streams, info)).middleware())
    var application = Application(router: router, logger: logger)
    application.beforeServerStarts { try await streams.waitUntilReady() }

    // Services end in the opposite order: connections let go of their streams while the manager still runs.
    var configuration = ServiceGroupConfiguration(
        services: [.init(service: streams), .init(service: application)],
        gracefulShutdownSignals: [.sigterm, .sigint],
        logger: logger
    )
    configuration.maximumGracefulShutdownDuration = .seconds(10)
    try await ServiceGroup(configuration: configuration).run()
}
// end

// snippet: failover
func configuration(password: String) -> PostgresSessionConfiguration {
    var configuration = PostgresSessionConfiguration(
        connectionString: "postgresql://notes_server@pooler.internal:6432/notes?sslmode=verify-full"
    )
    // Past the pooler, and to whichever of the two is the primary.
    configuration.listenerConnectionString =
        "postgresql://notes_server@db1.internal,db2.internal/notes?sslmode=verify-full"
    configuration.password = password
    configuration.create = false
    return configuration
}
// end

// snippet: errors
func publish(_ uri: String, data: String, through streams: some StreamSessionManager) async -> Bool {
    do throws(SessionManagerError) {
        try await streams.publish(uri, data: data)
        return true
    } catch {
        switch error.code {
        case .unreachable, .notRunning:
            return false  // Nothing was done: it can be tried again.
        case .outcomeUnknown, .cancelled:
            return true  // It may have been sent, and clients bear one notification too many or too few.
        default:
            print(error.debugDescription)  // For a developer: it may hold ids and uris from clients.
            return false
        }
    }
}
// end

// snippet: testing
@Test("Who subscribed to a note hears of its change, through any process")
func subscribersHearOfChanges() async throws {
    let store = InMemorySessionStore()
    let info = InMemoryInfoSessionManager(store: store)
    let here = InMemoryStreamSessionManager(store: store)
    let elsewhere = InMemoryStreamSessionManager(store: store)

    let messages = MessageStream()
    try await here.create("session-1", controller: messages.controller)
    try await info.addSubscription("session-1", uri: "note://plan", principal: nil)
    #expect(try await elsewhere.publish("note://plan", data: "changed") == 1)

    var heard = messages.makeAsyncIterator()
    #expect(await heard.next()?.data == "changed")
}
// end
