import Foundation

/// A process that a test started, with lines to and from it.
///
/// Not Foundation's: that one leaves the signals blocked that the starting thread happens to block, and refers to the
/// run loop of that thread in a way that the leak sanitizer cannot follow.
actor ChildProcess {
    struct NotStarted: Error, CustomStringConvertible {
        let description: String
    }

    nonisolated let id: pid_t
    private let socket: FileHandle
    private let chunks: AsyncStream<Data>
    private var unread = Data()
    private var isAwaited = false

    /// Starts a program.
    ///
    /// - Parameters:
    ///   - path: where it is.
    ///   - arguments: without its name.
    init(_ path: String, _ arguments: [String] = []) throws {
        // Closed in every other process that is started, or this one would not notice the end of its input.
        let kind = Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue)
        var ends: [Int32] = [0, 0]
        guard socketpair(AF_UNIX, kind, 0, &ends) == 0 else {
            throw NotStarted(description: "socketpair: \(String(cString: strerror(errno)))")
        }
        defer { close(ends[1]) }
        socket = FileHandle(fileDescriptor: ends[0], closeOnDealloc: true)
        id = try Self.spawn(path, arguments, socket: ends[1])
        let (chunks, arrived) = AsyncStream.makeStream(of: Data.self)
        self.chunks = chunks
        socket.readabilityHandler = { handle in
            let data = handle.availableData
            if data.isEmpty {
                handle.readabilityHandler = nil
                arrived.finish()
            } else {
                arrived.yield(data)
            }
        }
    }

    deinit {
        // For tests that fail half-way.
        if !isAwaited { kill(id, SIGKILL) }
    }

    private static func spawn(_ path: String, _ arguments: [String], socket: Int32) throws -> pid_t {
        var files = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&files)
        defer { posix_spawn_file_actions_destroy(&files) }
        posix_spawn_file_actions_adddup2(&files, socket, STDIN_FILENO)
        posix_spawn_file_actions_adddup2(&files, socket, STDOUT_FILENO)
        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        var blocked = sigset_t()
        sigemptyset(&blocked)
        posix_spawnattr_setsigmask(&attributes, &blocked)
        posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGMASK))

        var process: pid_t = 0
        let strings = ([path] + arguments).map { strdup($0) }
        defer { for string in strings { free(string) } }
        let number = posix_spawn(&process, path, &files, &attributes, strings + [nil], environ)
        guard number == 0 else { throw NotStarted(description: "\(path): \(String(cString: strerror(number)))") }
        return process
    }

    /// Writes to its standard input.
    func write(_ text: String) throws {
        try socket.write(contentsOf: Data(text.utf8))
    }

    /// Ends its standard input.
    func closeInput() {
        shutdown(socket.fileDescriptor, Int32(SHUT_WR))
    }

    /// The next line of its standard output; `nil` at the end.
    func nextLine() async -> String? {
        while true {
            if let end = unread.firstIndex(of: UInt8(ascii: "\n")) {
                defer { unread = Data(unread[unread.index(after: end)...]) }
                return String(decoding: unread[..<end], as: UTF8.self)
            }
            var iterator = chunks.makeAsyncIterator()
            guard let data = await iterator.next(isolation: self) else { return nil }
            unread += data
        }
    }

    nonisolated func signal(_ number: Int32) {
        kill(id, number)
    }

    /// Returns, when the process is no more, what `waitpid` says of it: 0 if all went well. To be called once.
    @discardableResult
    func waitUntilExit() async -> Int32 {
        isAwaited = true
        return await withCheckedContinuation { [id] continuation in
            DispatchQueue.global().async {
                var status: Int32 = 0
                while waitpid(id, &status, 0) == -1, errno == EINTR {}
                continuation.resume(returning: status)
            }
        }
    }
}
