/// Opens SSE streams in this process and sends messages to streams in any process.
///
/// A *stream* has an id; the standalone stream of an MCP session has the id of the session. At any moment a stream is
/// held by at most one process, and a message reaches it there, whichever process sent it.
///
/// Each method names the errors that are its own. A manager that keeps its streams elsewhere adds what can go wrong on
/// the way there: see its own documentation.
public protocol StreamSessionManager: Sendable {
    /// Opens the stream `id` in this process and hands its messages to `controller` from then on.
    ///
    /// With ``StreamOptions/lastEventID`` the stream is resumed: what followed that event is handed over first, then
    /// what is sent from now on, without a gap and without a duplicate, wherever the stream was held before.
    ///
    /// - Throws: ``SessionManagerError`` with code ``SessionManagerError/Code/streamHeld`` when another live process
    ///   holds the stream and no last event id was given, ``SessionManagerError/Code/sessionNotFound`` when the session
    ///   belongs to another principal, and ``SessionManagerError/Code/invalidArgument`` for an id that cannot be one.
    @discardableResult
    func create(
        _ id: String,
        controller: any StreamController,
        options: StreamOptions
    ) async throws(SessionManagerError) -> StreamOpening

    /// Opens the stream `id` in this process, without a session, and hands it what concerns `filter` from then on.
    ///
    /// For revision 2026-07-28, which has no sessions. Whoever reads a resource once this has returned misses no change of
    /// it. The stream is not resumed: it ends when this process lets go of it with ``detach(_:)``, or is gone. Whether the
    /// client may hear of these resources is for the caller to decide before.
    ///
    /// - Parameters:
    ///   - id: new and random.
    ///   - controller: takes the messages.
    ///   - filter: what to listen for.
    ///   - principal: the authenticated user, if any.
    /// - Returns: the event after which every message is delivered.
    /// - Throws: ``SessionManagerError`` with code ``SessionManagerError/Code/invalidArgument`` for an id or a filter that
    ///   cannot be one, ``SessionManagerError/Code/streamHeld`` when there is a stream of that id, and
    ///   ``SessionManagerError/Code/sessionLimitReached`` or ``SessionManagerError/Code/principalSessionLimitReached``
    ///   when as many streams listen as there may be sessions.
    @discardableResult
    func listen(
        _ id: String,
        controller: any StreamController,
        filter: ChangeFilter,
        principal: String?
    ) async throws(SessionManagerError) -> EventID

    /// Lets go of the stream `id`, whose client is gone. A session's stream stays resumable until retention ends.
    ///
    /// A stream that this process does not hold is left alone.
    ///
    /// - Throws: ``SessionManagerError``, nothing of its own.
    func detach(_ id: String) async throws(SessionManagerError)

    /// Ends the stream `id` wherever it is held: its controller is closed with ``StreamClosing/ended``.
    ///
    /// - Throws: ``SessionManagerError`` with code ``SessionManagerError/Code/invalidArgument`` for an id that cannot
    ///   be one. A stream that does not exist is no error.
    func delete(_ id: String) async throws(SessionManagerError)

    /// Whether the stream `id` is open in a process that is alive.
    ///
    /// - Throws: ``SessionManagerError``, nothing of its own. An id that no stream can have is no error.
    func has(_ id: String) async throws(SessionManagerError) -> Bool

    /// Sends `data` to the standalone streams of `sessions`, or to those of every session when `sessions` is `nil`.
    ///
    /// It is sent to all of them or to none. A session that is named twice gets it once.
    ///
    /// - Returns: one receipt for each of `sessions`, in that order; for a broadcast, exactly one.
    /// - Throws: ``SessionManagerError`` with code ``SessionManagerError/Code/messageTooLarge`` when `data` is over the
    ///   store's limit, and ``SessionManagerError/Code/invalidArgument`` when it holds a NUL character; then nothing was
    ///   sent to anybody.
    @discardableResult
    func send(_ sessions: [String]?, data: String) async throws(SessionManagerError) -> [SendReceipt]

    /// Sends `data` to the standalone streams of every session, and to every stream that listens for changes of `list`.
    ///
    /// - Returns: the event id of the message.
    /// - Throws: ``SessionManagerError`` with code ``SessionManagerError/Code/messageTooLarge`` when `data` is over the
    ///   store's limit, and ``SessionManagerError/Code/invalidArgument`` when it holds a NUL character; then nothing
    ///   was sent.
    @discardableResult
    func broadcast(_ list: ServerList, data: String) async throws(SessionManagerError) -> EventID

    /// Sends `data` to every session that subscribed to the resource `uri` and every stream that listens for it, and
    /// returns to how many.
    ///
    /// - Parameter principal: the only user who gets it; `nil` for everybody who is subscribed.
    /// - Throws: ``SessionManagerError`` with code ``SessionManagerError/Code/messageTooLarge`` when `data` is over the
    ///   store's limit, and ``SessionManagerError/Code/invalidArgument`` when it holds a NUL character or the uri
    ///   cannot be one; then nothing was sent.
    @discardableResult
    func publish(_ uri: String, data: String, principal: String?) async throws(SessionManagerError) -> Int

    /// Sends `data` to every session whose log level lets a message of `level` through, and returns to how many.
    ///
    /// - Throws: ``SessionManagerError`` with code ``SessionManagerError/Code/messageTooLarge`` when `data` is over the
    ///   store's limit, and ``SessionManagerError/Code/invalidArgument`` when it holds a NUL character; then nothing
    ///   was sent.
    @discardableResult
    func log(_ level: LogLevel, data: String) async throws(SessionManagerError) -> Int
}

extension StreamSessionManager {
    /// Opens the stream `id` with the default options.
    ///
    /// - Throws: as ``create(_:controller:options:)``.
    @discardableResult
    public func create(
        _ id: String,
        controller: any StreamController
    ) async throws(SessionManagerError) -> StreamOpening {
        try await create(id, controller: controller, options: StreamOptions())
    }

    /// Sends `data` to everybody who is subscribed to the resource `uri`, and returns to how many.
    ///
    /// - Throws: as ``publish(_:data:principal:)``.
    @discardableResult
    public func publish(_ uri: String, data: String) async throws(SessionManagerError) -> Int {
        try await publish(uri, data: data, principal: nil)
    }
}
