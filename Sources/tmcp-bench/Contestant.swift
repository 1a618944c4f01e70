/// One of the designs that are compared, in one process.
protocol Contestant: Sendable {
    /// Where the contestant's connections run, so that who calls it need not change threads; `nil` for no such place.
    var executor: (any TaskExecutor)? { get async throws }
    /// Opens the streams, all that the design can at the same time. Their messages go to the ``Reception``.
    func open(_ ids: [String]) async throws
    /// Opens streams as a server does, each with a buffer of its own. Nobody reads them: who does is the connection.
    func openWithBuffers(_ ids: [String]) async throws
    /// Sends to one stream, in whichever process it is open.
    func send(_ id: String, _ data: String) async throws
    /// Sends to every open stream.
    func broadcast(_ data: String) async throws
    /// Makes the sessions subscribers of a resource.
    func subscribe(_ ids: [String], to uri: String) async throws
    /// Sends to the subscribers of a resource.
    func publish(_ uri: String, _ data: String) async throws
    /// Does once what keeps the open streams alive, where the design does it for each stream.
    func keepAlive() async throws
    /// Opens streams again after an event, and has what was missed replayed.
    func resume(_ ids: [String], after event: Int64) async throws
    /// Lets go of streams, which stay resumable.
    func detach(_ ids: [String]) async throws
}

extension Contestant {
    func openWithBuffers(_ ids: [String]) async throws { throw Unsupported() }
    func broadcast(_ data: String) async throws { throw Unsupported() }
    func subscribe(_ ids: [String], to uri: String) async throws { throw Unsupported() }
    func publish(_ uri: String, _ data: String) async throws { throw Unsupported() }
    func keepAlive() async throws {}
    func resume(_ ids: [String], after event: Int64) async throws { throw Unsupported() }
    func detach(_ ids: [String]) async throws { throw Unsupported() }
}

/// A design has nothing of the kind.
struct Unsupported: Error {}

/// Which design a process runs.
enum Design: String, CaseIterable, Codable {
    /// The extension and its Swift client.
    case tmcp
    /// (a) The obvious design: two channels and a heartbeat for each session, no log.
    case obvious
    /// (b) Redis publish/subscribe, one channel for each session, no log.
    case redis
    /// (c) Bare `pg_notify` to one listener: no streams, nothing but the way from one process to another.
    case floor
}
