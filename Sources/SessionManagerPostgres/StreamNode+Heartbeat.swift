import Logging
import PostgresClient
import SessionManager

/// Saying that the process is alive.
extension StreamNode {
    /// Beats at the configured interval, until the node stops.
    func keepAlive() async {
        while !Task.isCancelled {
            let jitter = Double.random(in: 0.9...1.1)
            try? await Task.sleep(for: configuration.heartbeatInterval * jitter)
            guard !Task.isCancelled, !isStopped else { return }
            do throws(SessionManagerError) {
                try await beat()
            } catch {
                logger.warning("A heartbeat failed", metadata: ["tmcp.error": "\(error)"])
            }
        }
    }

    private func beat() async throws(SessionManagerError) {
        guard let registration else { return }
        let isAlive = try await functions.heartbeat(registration.node)
        if !isAlive {
            // Silent for longer than the freshness window: others may hold its streams by now.
            await abandon(registration)
        }
        await checkListener()
        await detachRemaining()
        errand.yield(.cleanUp)
    }

    /// Makes sure that the listening connection is heard on the other side, and still listens.
    private func checkListener() async {
        guard let listener, let registration else { return }
        let deadline = eventLoop.schedule(at: .now + .seconds(5)) {
            Task { await listener.close() }
        }
        defer { eventLoop.cancel(deadline) }
        let listens = try? await listener.query(
            "SELECT count(*) = 2 FROM pg_listening_channels() AS c WHERE c = ANY ($1)",
            [.textArray([registration.channel, registration.lossChannel])]
        ).value(as: Bool.self)
        if listens == false {
            logger.warning("The listening connection no longer listens; it is opened again")
            await listener.close()
        }
    }
}
