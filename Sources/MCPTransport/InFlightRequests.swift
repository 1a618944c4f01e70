import Logging
import NIOConcurrencyHelpers
import SessionManager

/// The requests that this process is handling, to be found when their client cancels one.
///
/// The cancellation may reach another process. A request that takes longer than a second therefore opens a stream of
/// its own, whose id any process can tell from the request's; a message on it cancels the request. Most requests are
/// answered sooner, and cost nothing.
final class InFlightRequests: Sendable {
    struct Key: Hashable, Sendable {
        var sessionID: String
        var requestID: RequestID

        /// The stream on which the request hears that it is cancelled; `nil` for an id that is too long to be in one.
        var streamID: String? {
            let id = requestID.json.text.utf8
            guard id.count <= 200 else { return nil }
            // Hexadecimal digits, so that no id of a client can look like another stream's.
            return "\(sessionID)/cancel-\(SecureRandom.hex(id))"
        }
    }

    /// A request that is being handled.
    struct Handle: Sendable {
        fileprivate let key: Key
        fileprivate let number: UInt64
        fileprivate let task: Task<String, Never>
        fileprivate let watch: Task<Void, Never>
        fileprivate let requests: InFlightRequests

        /// The answer, when there is one.
        func answer() async -> String {
            let answer = await task.value
            watch.cancel()
            requests.remove(key, number: number)
            return answer
        }
    }

    private struct Entry {
        var number: UInt64
        var task: Task<String, Never>
    }

    private static let delay: Duration = .seconds(1)

    private struct Work {
        var running = 0
        var whenIdle: [AsyncStream<Void>.Continuation] = []
    }

    private let entries = NIOLockedValueBox<(last: UInt64, byKey: [Key: Entry])>((0, [:]))
    private let work = NIOLockedValueBox(Work())
    private let streams: any StreamSessionManager
    private let held: HeldStreams

    init(streams: any StreamSessionManager, held: HeldStreams) {
        self.streams = streams
        self.held = held
    }

    /// Gets answers and sends them, on its own: a client that goes away is answered all the same, since it may come
    /// back for the answer. A shutdown waits for it.
    func perform(_ answer: @escaping @Sendable () async -> Void) {
        work.withLockedValue { $0.running += 1 }
        Task {
            await answer()
            let idle = work.withLockedValue { work -> [AsyncStream<Void>.Continuation] in
                work.running -= 1
                guard work.running == 0 else { return [] }
                defer { work.whenIdle = [] }
                return work.whenIdle
            }
            for waiter in idle { waiter.finish() }
        }
    }

    /// Returns when every answer has been sent, or when cancelled.
    func waitUntilAnswered() async {
        let (idle, waiter) = AsyncStream.makeStream(of: Void.self)
        work.withLockedValue { work in
            if work.running == 0 { waiter.finish() } else { work.whenIdle.append(waiter) }
        }
        for await _ in idle {}
    }

    /// Remembers a request until its answer has been waited for.
    func add(_ key: Key, principal: String?, task: Task<String, Never>, logger: Logger) -> Handle {
        let number = entries.withLockedValue { entries in
            entries.last += 1
            entries.byKey[key] = Entry(number: entries.last, task: task)
            return entries.last
        }
        let watch = Task { await self.watch(key, principal: principal, task: task, logger: logger) }
        return Handle(key: key, number: number, task: task, watch: watch, requests: self)
    }

    /// Cancels a request, here or in whichever process handles it. One that nobody handles is left alone.
    func cancel(_ key: Key, logger: Logger) async {
        if let entry = entries.withLockedValue({ $0.byKey[key] }) {
            entry.task.cancel()
            return
        }
        guard let streamID = key.streamID, await !passOn(to: streamID, logger: logger) else { return }
        // A request that is handled elsewhere, but not for long enough to have its stream, has it soon: twice as long
        // as its process waits, or longer where that has much to do. Most often the request has just been answered.
        Task {
            for factor in [2, 4, 8] {
                guard (try? await Task.sleep(for: InFlightRequests.delay * factor)) != nil else { return }
                if await passOn(to: streamID, logger: logger) { return }
            }
        }
    }

    /// Cancels the request of the stream, if there is one. Returns whether there is nothing left to do.
    private func passOn(to streamID: String, logger: Logger) async -> Bool {
        do throws(SessionManagerError) {
            return try await !streams.send([streamID], data: "cancel").contains(.unknownSession)
        } catch {
            logger.warning("A cancellation was not passed on", metadata: ["tmcp.error": "\(error)"])
            return true
        }
    }

    /// Forgets a request, unless its id is used by a later one.
    private func remove(_ key: Key, number: UInt64) {
        entries.withLockedValue { entries in
            guard entries.byKey[key]?.number == number else { return }
            entries.byKey.removeValue(forKey: key)
        }
    }

    private func watch(_ key: Key, principal: String?, task: Task<String, Never>, logger: Logger) async {
        guard let streamID = key.streamID, (try? await Task.sleep(for: InFlightRequests.delay)) != nil else { return }
        do throws(SessionManagerError) {
            try await held.withPrivateStream(streamID, session: key.sessionID, principal: principal, logger: logger) {
                for await _ in $0 { task.cancel() }
            }
        } catch {
            logger.warning("A request cannot be cancelled from elsewhere", metadata: ["tmcp.error": "\(error)"])
        }
    }
}
