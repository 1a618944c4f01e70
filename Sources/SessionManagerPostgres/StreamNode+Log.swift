import Logging
import PostgresClient
import SessionManager

/// Reading the log for what notifications did not carry.
extension StreamNode {
    private static let page = LogPage(count: 1000, bytes: 262_144)

    /// Reads the log for one stream. Reading does no harm, so it is tried again as long as the stream is open.
    func run(_ replay: StreamRegistry.Replay) async {
        var after = replay.after
        var backoff = Backoff()
        while let stream = registry.stream(of: replay), !Task.isCancelled {
            do throws(SessionManagerError) {
                // No faster than the client reads, so that it can catch up with more than its buffer holds; and before
                // the page is read, so that none is kept for a client that reads slowly.
                await stream.controller.waitUntilDrained()
                let messages = try await functions.replay(
                    replay.stream,
                    after: after,
                    through: replay.through,
                    page: Self.page
                )
                guard !messages.isEmpty else { return perform(registry.caughtUp(replay)) }
                metrics.fetched(messages.count)
                var dealtWith = messages[..<0]
                deliver { dealtWith = registry.replayed(messages, by: replay) }
                if dealtWith.count == messages.count {
                    if Self.page.isLast(messages) { return perform(registry.caughtUp(replay)) }
                } else if dealtWith.isEmpty {
                    // It has read everything, and still takes nothing.
                    return perform(registry.refused(replay))
                }
                // What the client did not take is read once more when it has read the rest.
                after = dealtWith.last?.eventID ?? after
                backoff.reset()
            } catch {
                warn("A stream cannot be replayed", error)
                guard error.isTransient else { return await close(replay, error) }
                try? await Task.sleep(for: backoff.next())
            }
        }
    }

    /// The client comes back and resumes, or is told that it cannot: better than a stream with a hole.
    private func close(_ replay: StreamRegistry.Replay, _ failure: SessionManagerError) async {
        guard let stream = registry.stream(of: replay) else { return }
        let closing: StreamClosing =
            switch failure.code {
            case .purged: .purged
            // One that listens must not end as if nothing was missing.
            case .sessionNotFound: stream.lists == nil ? .ended : .purged
            default: stream.closingAfterLoss
            }
        registry.close(stream.number, closing)
        record()
        await detach(stream.number, stream.position)
    }

    /// Reads the log for the whole node, and does not give up: the streams get nothing else before.
    func run(_ fetch: StreamRegistry.Fetch) async {
        var after = fetch.after
        var stream = StoreFunctions.endOfEvent
        var backoff = Backoff()
        while let registration, registry.isWanted(fetch), !Task.isCancelled {
            do throws(SessionManagerError) {
                let page = try await functions.fetchMessages(
                    of: registration.node,
                    after: after,
                    stream: stream,
                    page: Self.page
                )
                guard let page else { return await abandon(registration) }
                deliver {
                    for logged in page { perform(registry.fetched(logged.message, targets: logged.targets, by: fetch)) }
                }
                metrics.fetched(page.count)
                if Self.page.isLast(page.map(\.message)) { return perform(registry.nodeCaughtUp(fetch)) }
                if let last = page.last { (after, stream) = (last.message.eventID, last.stream) }
                backoff.reset()
            } catch {
                var failure = error
                if error.code == .purged {
                    do throws(SessionManagerError) {
                        return try await catchUpEach(registration, insteadOf: fetch)
                    } catch {
                        failure = error
                    }
                }
                if failure.code == .nodeFenced { return await abandon(registration) }
                warn("Missed messages cannot be fetched yet", failure)
                try? await Task.sleep(for: backoff.next())
            }
        }
    }

    /// The log no longer has all that follows the node's position. That says little about its streams: one of them may
    /// have got by a replay what was removed since, while the position stands where the last notification was. So the
    /// database is asked about each stream by how far that one has come, and each that has missed nothing yet reads for
    /// itself what is left.
    private func catchUpEach(
        _ registration: StoreFunctions.Registration,
        insteadOf fetch: StreamRegistry.Fetch
    ) async throws(SessionManagerError) {
        try await changingStreams { () async throws(SessionManagerError) in
            if let position = try await reattach(registration) {
                perform(registry.madeSure(at: position, insteadOf: fetch))
            } else {
                // Without streams there is nothing to miss, and a new node begins where the log is now.
                await abandon(registration)
            }
        }
    }
}
