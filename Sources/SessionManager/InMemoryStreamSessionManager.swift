/// Streams that live in this process alone: for an application that runs in one process, and for tests.
public struct InMemoryStreamSessionManager: StreamSessionManager {
    /// Tells the streams of this manager from those of another one over the same store.
    private final class Identity: Sendable {}

    private let store: InMemorySessionStore
    private let identity = Identity()

    /// A manager of the streams of `store`.
    ///
    /// - Parameter store: shared with an ``InMemoryInfoSessionManager``, so that subscriptions and log levels count.
    public init(store: InMemorySessionStore = InMemorySessionStore()) {
        self.store = store
    }

    private var holder: ObjectIdentifier { ObjectIdentifier(identity) }

    /// Opens or resumes the stream `id` for this manager.
    ///
    /// - Throws: `.streamHeld` when another manager holds it and no last event id was given, `.sessionNotFound` when
    ///   its session belongs to another principal, and `.invalidArgument` for an id that cannot be one.
    @discardableResult
    public func create(
        _ id: String,
        controller: any StreamController,
        options: StreamOptions
    ) async throws(SessionManagerError) -> StreamOpening {
        try await store.create(id, holder: holder, controller: controller, options: options)
    }

    /// Opens the stream `id` for this manager, without a session.
    ///
    /// - Throws: `.streamHeld` when there is a stream of that id, `.sessionLimitReached` or
    ///   `.principalSessionLimitReached` when there are as many as there may be, and `.invalidArgument` for an id or a
    ///   filter that cannot be one.
    @discardableResult
    public func listen(
        _ id: String,
        controller: any StreamController,
        filter: ChangeFilter,
        principal: String?
    ) async throws(SessionManagerError) -> EventID {
        try await store.listen(id, holder: holder, controller: controller, filter: filter, principal: principal)
    }

    /// Lets go of the stream `id`, if this manager holds it. The stream stays resumable.
    ///
    /// - Throws: nothing.
    public func detach(_ id: String) async throws(SessionManagerError) {
        await store.detach(id, holder: holder)
    }

    /// Ends the stream `id`.
    ///
    /// - Throws: `.invalidArgument` for an id that cannot be one.
    public func delete(_ id: String) async throws(SessionManagerError) {
        try await store.deleteStream(id)
    }

    /// Whether the stream `id` is open.
    ///
    /// - Throws: nothing.
    public func has(_ id: String) async throws(SessionManagerError) -> Bool {
        await store.isHeld(id)
    }

    /// Sends `data` to the streams of `sessions`, or to every session's standalone stream when `sessions` is `nil`.
    ///
    /// - Throws: `.messageTooLarge` when `data` is over the store's limit, and `.invalidArgument` when it holds a NUL
    ///   character; then nothing was sent.
    @discardableResult
    public func send(_ sessions: [String]?, data: String) async throws(SessionManagerError) -> [SendReceipt] {
        try await store.send(sessions, data: data)
    }

    /// Sends `data` to every session, and to every stream that listens for changes of `list`.
    ///
    /// - Throws: as ``send(_:data:)``.
    @discardableResult
    public func broadcast(_ list: ServerList, data: String) async throws(SessionManagerError) -> EventID {
        try await store.broadcast(list, data: data)
    }

    /// Sends `data` to everybody who is subscribed to the resource `uri`, and returns to how many streams.
    ///
    /// - Throws: as ``send(_:data:)``; `.invalidArgument` also for a uri that cannot be one.
    @discardableResult
    public func publish(_ uri: String, data: String, principal: String?) async throws(SessionManagerError) -> Int {
        try await store.publish(uri, data: data, principal: principal)
    }

    /// Sends `data` to every session whose log level lets a message of `level` through, and returns to how many.
    ///
    /// - Throws: as ``send(_:data:)``.
    @discardableResult
    public func log(_ level: LogLevel, data: String) async throws(SessionManagerError) -> Int {
        try await store.log(level, data: data)
    }
}
