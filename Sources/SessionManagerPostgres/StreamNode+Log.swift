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
                let messages = try await functions.replay(
                    replay.stream,
                    after: after,
                    through: replay.through,
                    page: Self.page
                )
                guard !messages.isEmpty else { return perform(registry.caughtUp(replay)) }
                // No faster than the client reads, so that it can catch up with more than its buffer holds.
                await stream.controller.waitUntilDrained()
                metrics.fetched(messages.count)
                deliver { for message in messages { perform(registry.replayed(message, by: replay)) } }
                if Self.page.isLast(messages) { return perform(registry.caughtUp(replay)) }
                after = messages.last?.eventID ?? after
                backoff.reset()
            } catch {
                logger.warning("A stream cannot be replayed", metadata: ["tmcp.error": "\(error)"])
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
            case .sessionNotFound: .ended
            default: stream.closingAfterLoss
            }
        registry.close(stream.number, closing)
        record()
        await detach(stream.number)
    }

    /// Reads the log for the whole node, and does not give up: the streams get nothing else before.
    func run(_ fetch: StreamRegistry.Fetch) async {
        var after = fetch.after
        var backoff = Backoff()
        while let registration, registry.isWanted(fetch), !Task.isCancelled {
            do throws(SessionManagerError) {
                let page = try await functions.fetchMessages(of: registration.node, after: after, page: Self.page)
                guard let page else { return await abandon(registration) }
                deliver {
                    for logged in page { perform(registry.fetched(logged.message, targets: logged.targets, by: fetch)) }
                }
                metrics.fetched(page.count)
                if Self.page.isLast(page.map(\.message)) { return perform(registry.nodeCaughtUp(fetch)) }
                after = page.last?.message.eventID ?? after
                backoff.reset()
            } catch {
                if error.code == .purged { return await startOver(registration) }
                logger.warning("Missed messages cannot be fetched yet", metadata: ["tmcp.error": "\(error)"])
                try? await Task.sleep(for: backoff.next())
            }
        }
    }

    /// After being cut off for longer than the log reaches back: each client comes back, and is told for its own stream
    /// whether it has missed anything.
    private func startOver(_ former: StoreFunctions.Registration) async {
        registry.closeAll(\.closingAfterLoss)
        record()
        await abandon(former)
    }
}
