import Logging
import PostgresClient
import SessionManager

/// Hearing what is sent, and the way back when nothing is heard.
extension StreamNode {
    /// Opens a listening connection whenever there is none, until the node stops.
    func keepListening() async {
        for await _ in disturbances {
            var backoff = Backoff()
            while !isSettled, !isStopped, !Task.isCancelled {
                do throws(SessionManagerError) {
                    try await settle()
                    metrics.reconnected()
                } catch {
                    logger.warning(
                        "Notifications cannot be heard",
                        metadata: [
                            "tmcp.error": "\(error)",
                            "tmcp.reason": "\(listenerConfiguration.redacted(error.message))",
                        ]
                    )
                    try? await Task.sleep(for: backoff.next())
                }
            }
        }
    }

    /// Opens a listening connection, makes sure that notifications arrive on it and that the streams are still this
    /// node's, and catches up. This is the one way back from everything: a lost connection, and a node that was fenced.
    func settle() async throws(SessionManagerError) {
        let connection: PostgresConnection
        do {
            connection = try await PostgresConnection.connect(
                configuration: listenerConfiguration,
                on: eventLoop,
                logger: logger,
                onNotification: { [weak self] notification in
                    let channel = notification.channel
                    notification.withPayload { payload in
                        nonisolated(unsafe) let payload = payload
                        self?.assumeIsolated { $0.heard(payload, on: channel) }
                    }
                },
                onClose: { [weak self] _ in
                    self?.assumeIsolated { $0.listenerClosed() }
                }
            )
        } catch {
            throw SessionManagerError(connecting: error)
        }
        listener = connection
        do throws(SessionManagerError) {
            let registration = try await changingStreams { () async throws(SessionManagerError) in
                try await currentRegistration()
            }
            try await subscribe(connection, registration)
            try await checkNotificationsArrive(on: connection, registration)
            // After LISTEN, so that nothing is sent to them unheard; and since what became of them meanwhile was not.
            try await changingStreams { () async throws(SessionManagerError) in _ = try await reattach(registration) }
            await stopFormerNodes()
            // Else what the log no longer has for a stream that was closed would count as missed by the node.
            await detachRemaining()
            // Any of this may have been undone while the rest was under way.
            guard listener === connection, self.registration?.node == registration.node, !isStopped else {
                throw SessionManagerError.listenerLost
            }
        } catch {
            listener = nil
            await connection.close()
            throw error
        }
        isSettled = true
        perform(registry.listening())
    }

    /// This process is this node no more, whatever the reason: it registers anew, with the streams that it still has.
    func abandon(_ former: StoreFunctions.Registration) async {
        guard registration?.node == former.node, !isStopped else { return }
        logger.warning("This node registers anew", metadata: ["tmcp.node": "\(former.node)"])
        registration = nil
        formerNodes.insert(former.node)
        unsettle()
        await listener?.close()
    }

    /// Has the streams let go of that only the database thinks this process has, since nobody heard that they were
    /// attached. After the others were taken along, since a stream that listens ends with its node.
    func stopFormerNodes() async {
        for node in formerNodes {
            do throws(SessionManagerError) {
                try await functions.stopNode(node)
                formerNodes.remove(node)
            } catch {
                // It has no heartbeat any more, so that they are free soon anyway.
                warn("A former node could not be stopped", error)
            }
        }
    }

    private func unsettle() {
        isSettled = false
        registry.cutOff()
        disturbed.yield()
    }

    /// To be called by ``changingStreams(_:)``.
    func currentRegistration() async throws(SessionManagerError) -> StoreFunctions.Registration {
        if let registration { return registration }
        let registration = try await functions.registerNode(name: listenerConfiguration.applicationName)
        self.registration = registration
        registry.registered(at: registration.position)
        return registration
    }

    private func subscribe(
        _ connection: PostgresConnection,
        _ registration: StoreFunctions.Registration
    ) async throws(SessionManagerError) {
        do {
            try await connection.listen(to: registration.channel)
            try await connection.listen(to: registration.lossChannel)
        } catch {
            throw SessionManagerError(error)
        }
    }

    private func checkNotificationsArrive(
        on connection: PostgresConnection,
        _ registration: StoreFunctions.Registration
    ) async throws(SessionManagerError) {
        let token = "probe \(UInt64.random(in: .min ... .max))"
        // A direct connection hears it sooner or later, and a server may be slow.
        let patience = await connection.isPooled ? .seconds(2) : listenerConfiguration.connectTimeout
        _ = try await functions.calls.query("SELECT pg_notify($1, $2)", [.text(registration.channel), .text(token)])
        if await hears(token, within: patience) { return }
        guard listener === connection, !isStopped else {
            throw SessionManagerError.listenerLost
        }
        throw await ListenerDiagnosis(listener: connection, calls: functions.calls).error(after: patience)
    }

    private func hears(_ token: String, within patience: Duration) async -> Bool {
        if lastProbe == token { return true }
        guard listener != nil, !isStopped else { return false }
        let timer = eventLoop.schedule(at: .now + patience) { self.assumeIsolated { $0.endProbe(heard: false) } }
        defer { eventLoop.cancel(timer) }
        return await withCheckedContinuation { probe = Probe(token: token, continuation: $0) }
    }

    /// Answers whoever waits for the notification to oneself.
    func endProbe(heard: Bool) {
        probe?.continuation.resume(returning: heard)
        probe = nil
    }

    private func listenerClosed() {
        listener = nil
        unsettle()
        endProbe(heard: false)
    }

    private func heard(_ payload: UnsafeRawBufferPointer, on channel: String) {
        guard let registration else { return }
        if channel == registration.lossChannel {
            guard let loss = try? StreamLoss(parsing: String(decoding: payload, as: UTF8.self)) else {
                return misheard()
            }
            registry.lost(loss)
            return record()
        }
        guard channel == registration.channel else { return }
        do throws(NotificationFrame.Malformed) {
            let frames = try NotificationFrame.parse(payload)
            if deliver({ for frame in frames { perform(registry.received(trusted(frame))) } }) > 0 {
                metrics.deliveryTook(since: registry.position)
            }
        } catch {
            heard(word: String(decoding: payload, as: UTF8.self))
        }
    }

    /// With an inline limit of 0 no message travels in a notification, so one that does is not from the extension.
    private func trusted(_ frame: NotificationFrame) -> NotificationFrame {
        guard configuration.inlineLimit == 0 else { return frame }
        return NotificationFrame(eventID: frame.eventID, targets: frame.targets, data: nil)
    }

    private func heard(word: String) {
        if word == "outbox" {
            errand.yield(.flushOutbox)
        } else if word.hasPrefix("probe ") {
            lastProbe = word
            if probe?.token == word { endProbe(heard: true) }
        } else {
            misheard()
        }
    }

    private func misheard() {
        logger.warning("A notification was not understood; the log is read instead")
        perform(registry.misheard())
    }
}
