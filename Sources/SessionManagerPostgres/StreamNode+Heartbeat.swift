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
                warn("A heartbeat failed", error)
            }
        }
    }

    private func beat() async throws(SessionManagerError) {
        guard let registration else { return }
        if try await !isFresh(registration) {
            // Silent for longer than the freshness window: others may hold its streams by now.
            await abandon(registration)
        }
        // Not here: each may have to wait, and the next heartbeat must not.
        errand.yield(.detach)
        errand.yield(.cleanUp)
    }

    /// Says that the node is alive; `false` if it has been silent for too long.
    ///
    /// Over the listening connection, which is idle and never in a transaction. On the other one it would wait for all
    /// calls of this process, and somebody who holds a lock for ten seconds would have every process fenced.
    private func isFresh(_ registration: StoreFunctions.Registration) async throws(SessionManagerError) -> Bool {
        if let listener {
            do throws(PostgresError) {
                let isFresh = try await functions.heartbeat(registration.node, over: listener)
                // Until then it need not listen yet.
                if isSettled { try await check(listener, registration) }
                return isFresh
            } catch {
                // It is lost, and about to be opened again; or its role may listen and nothing else.
                logger.debug("The heartbeat goes over the other connection", metadata: ["tmcp.error": "\(error)"])
            }
        }
        return try await functions.heartbeat(registration.node)
    }

    /// Makes sure that the connection still listens: a pooler may have given it another server, or `DISCARD ALL`.
    private func check(
        _ listener: PostgresConnection,
        _ registration: StoreFunctions.Registration
    ) async throws(PostgresError) {
        let listens = try await listener.query(
            "SELECT count(*) = 2 FROM pg_listening_channels() AS c WHERE c = ANY ($1)",
            [.textArray([registration.channel, registration.lossChannel])]
        ).value(as: Bool.self)
        // What was asked for may not be what it has to listen to any more.
        guard !listens, self.registration?.node == registration.node else { return }
        logger.warning("The listening connection no longer listens; it is opened again")
        await listener.close()
    }
}
