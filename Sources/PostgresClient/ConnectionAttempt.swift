import CLibPQ
import Logging

/// Makes a connection, driven by an event loop, within one deadline.
struct ConnectionAttempt {
    let configuration: ConnectionConfiguration
    let loop: EventLoop
    let logger: Logger

    /// Tries one server after another until one takes the connection, on the loop's thread.
    ///
    /// - Throws: ``PostgresError/Code/invalidConfiguration``, ``PostgresError/Code/connectFailed``,
    ///   ``PostgresError/Code/connectTimeout`` or ``PostgresError/Code/cancelled``.
    func connect(
        until deadline: ContinuousClock.Instant,
        isolation: isolated any Actor = #isolation
    ) async throws(PostgresError) -> ConnectionHandle {
        let options = withDefaultHost(configuration.options)
        guard let candidates = HostCandidate.list(options) else {
            return try await connect(options, name: "the server", until: deadline)
        }
        var failures: [PostgresError] = []
        for (index, candidate) in candidates.enumerated() {
            let share = Self.share(of: deadline, among: candidates.count - index)
            do throws(PostgresError) {
                return try await connect(candidate, options, until: share)
            } catch {
                guard Self.mayTryNext(after: error) else { throw error }
                failures.append(error)
            }
        }
        throw Self.summary(failures)
    }

    /// A host from the environment can be a list too.
    private func withDefaultHost(_ options: [String: String]) -> [String: String] {
        guard options["host"] == nil, options["hostaddr"] == nil, let defaults = PQconndefaults() else {
            return options
        }
        defer { PQconninfoFree(defaults) }
        var options = options
        var option = defaults
        while let keyword = option.pointee.keyword {
            let name = String(cString: keyword)
            if let value = option.pointee.val, ["host", "hostaddr", "port"].contains(name), options[name] == nil {
                options[name] = String(cString: value)
            }
            option += 1
        }
        return options
    }

    private func connect(
        _ candidate: HostCandidate,
        _ options: [String: String],
        until deadline: ContinuousClock.Instant,
        isolation: isolated any Actor = #isolation
    ) async throws(PostgresError) -> ConnectionHandle {
        guard candidate.needsResolution else {
            return try await connect(candidate.applied(to: options), name: candidate.name, until: deadline)
        }
        let addresses: [String]
        switch await HostResolver.resolve(candidate.host, on: loop, until: deadline) {
        case .addresses(let found):
            addresses = found
        case .failure(let text):
            throw PostgresError(.connectFailed, "could not find the address of \(candidate.host): \(text)")
        case nil:
            throw Self.interrupted(candidate.name)
        }
        var failures: [PostgresError] = []
        for (index, address) in addresses.enumerated() {
            var candidate = candidate
            candidate.address = address
            let share = Self.share(of: deadline, among: addresses.count - index)
            do throws(PostgresError) {
                return try await connect(candidate.applied(to: options), name: candidate.name, until: share)
            } catch {
                guard Self.mayTryNext(after: error) else { throw error }
                failures.append(error)
            }
        }
        throw Self.summary(failures)
    }

    private func connect(
        _ options: [String: String],
        name: String,
        until deadline: ContinuousClock.Instant,
        isolation: isolated any Actor = #isolation
    ) async throws(PostgresError) -> ConnectionHandle {
        let handle = try ConnectionHandle(starting: options, logger: logger)
        var step = PGRES_POLLING_WRITING
        while step != PGRES_POLLING_OK {
            guard step == PGRES_POLLING_READING || step == PGRES_POLLING_WRITING, handle.descriptor >= 0 else {
                throw handle.error(.connectFailed)
            }
            // Watched anew for each step, since each can have closed the descriptor and opened another of its number.
            let interest: EventLoop.Readiness = step == PGRES_POLLING_READING ? .readable : .writable
            switch try await loop.readiness(of: handle.descriptor, for: interest, until: deadline) {
            case nil: throw Self.interrupted(name)
            case .closing?: throw PostgresError(.systemResources, "the event loop is closed")
            default: step = PQconnectPoll(handle.pointer)
            }
        }
        PQsetErrorVerbosity(handle.pointer, PQERRORS_DEFAULT)
        return handle
    }

    /// A deadline that leaves the others their parts.
    private static func share(of deadline: ContinuousClock.Instant, among count: Int) -> ContinuousClock.Instant {
        let now = ContinuousClock.now
        return now + now.duration(to: deadline) / max(1, count)
    }

    private static func interrupted(_ name: String) -> PostgresError {
        guard !Task.isCancelled else { return PostgresError(.cancelled, "the task was cancelled while connecting") }
        return PostgresError(.connectTimeout, "no connection to \(name) within the connect timeout")
    }

    /// As libpq has it: a server that says no to the role or the database is the one that was meant.
    private static func mayTryNext(after error: PostgresError) -> Bool {
        guard error.code == .connectFailed || error.code == .connectTimeout else { return false }
        return error.sqlState.map { !$0.hasPrefix("28") && !$0.hasPrefix("3D") } ?? true
    }

    private static func summary(_ failures: [PostgresError]) -> PostgresError {
        // A server that answered says more than one that did not.
        let telling =
            failures.last { $0.sqlState != nil } ?? failures.last { $0.code == .connectFailed } ?? failures.last
        guard var summary = telling else { return PostgresError(.connectFailed, "there is no host to connect to") }
        summary.message = failures.map(\.message).joined(separator: "; ")
        return summary
    }
}
