import DequeModule
import Logging
import PostgresClient
import SessionManager

/// Which streams are this node's: opening, letting go, and taking back.
extension StreamNode {
    /// What the database calls this node; `nil` while it is about to register anew.
    var number: Int64? { registration?.node }

    /// Opens streams, all in one call.
    func attach(_ attachments: [StreamAttachment]) async throws(SessionManagerError) -> [StreamAttachment.Outcome] {
        // Whatever was refused by the fencing was not opened; and fenced it may be again before it comes to that, where
        // everything is slow.
        let deadline = ContinuousClock.now + listenerConfiguration.connectTimeout
        var outcomes: [StreamAttachment.Outcome?] = Array(repeating: nil, count: attachments.count)
        var remaining = Array(attachments.indices)
        repeat {
            do throws(SessionManagerError) {
                let latest = try await attachOnce(remaining.map { attachments[$0] })
                for (place, outcome) in zip(remaining, latest) { outcomes[place] = outcome }
                remaining = remaining.filter { outcomes[$0]?.isFenced ?? true }
            } catch {
                if error.code == .nodeFenced, ContinuousClock.now < deadline { continue }
                // Others are open by now, and their callers are to hear of it.
                guard remaining.count < attachments.count else { throw error }
                for place in remaining { outcomes[place] = .refused(error) }
                break
            }
        } while !remaining.isEmpty && ContinuousClock.now < deadline
        return outcomes.compactMap { $0 }
    }

    private func attachOnce(
        _ attachments: [StreamAttachment]
    ) async throws(SessionManagerError) -> [StreamAttachment.Outcome] {
        try await changingStreams { () async throws(SessionManagerError) in
            try requireNotStopped()
            let registration = try await currentRegistration()
            registry.attachingBegan()
            defer { registry.attachingEnded() }
            do throws(SessionManagerError) {
                return try await attach(attachments, registration)
            } catch {
                await abandon(registration, after: error)
                throw error
            }
        }
    }

    private func requireNotStopped() throws(SessionManagerError) {
        guard !isStopped else { throw SessionManagerError.stopped }
    }

    private func attach(
        _ attachments: [StreamAttachment],
        _ registration: StoreFunctions.Registration
    ) async throws(SessionManagerError) -> [StreamAttachment.Outcome] {
        var outcomes: [StreamAttachment.Outcome?] = Array(repeating: nil, count: attachments.count)
        let ofSessions = attachments.indices.filter { attachments[$0].filter == nil }
        let attached = try await attachToSessions(ofSessions.map { attachments[$0] }, registration)
        for (place, outcome) in zip(ofSessions, attached) { outcomes[place] = outcome }
        // These fail one by one, and so nothing is thrown once a stream is open.
        await withTaskGroup(of: (place: Int, outcome: StreamAttachment.Outcome).self) { group in
            for (place, attachment) in attachments.enumerated() {
                guard let filter = attachment.filter else { continue }
                group.addTask { (place, await self.listen(attachment, for: filter, registration)) }
            }
            for await (place, outcome) in group { outcomes[place] = outcome }
        }
        return outcomes.compactMap { $0 }
    }

    private func listen(
        _ attachment: StreamAttachment,
        for filter: ChangeFilter,
        _ registration: StoreFunctions.Registration
    ) async -> StreamAttachment.Outcome {
        do throws(SessionManagerError) {
            let opened = try await functions.listen(
                attachment.id,
                for: filter,
                principal: attachment.options.principal,
                on: registration.node
            )
            try requireNotStopped()
            let stream = StreamRegistry.Stream(
                number: opened.stream,
                id: attachment.id,
                isStandalone: false,
                lists: filter.lists,
                controller: attachment.controller,
                position: opened.position,
                delivered: opened.position
            )
            perform(registry.attached(stream, replayAfter: nil))
            record()
            let opening = StreamOpening(replay: .none, position: opened.position)
            return .opened(opening, stream: latestOpening(of: opened.stream))
        } catch {
            await abandon(registration, after: error)
            return .refused(error)
        }
    }

    private func attachToSessions(
        _ attachments: [StreamAttachment],
        _ registration: StoreFunctions.Registration
    ) async throws(SessionManagerError) -> [StreamAttachment.Outcome] {
        guard !attachments.isEmpty else { return [] }
        do throws(SessionManagerError) {
            let attached = try await functions.attach(attachments, to: registration.node)
            // Stopping closes the streams that there are; these would stay open for ever.
            try requireNotStopped()
            defer { record() }
            return zip(attachments, attached).map { opened($0, $1) }
        } catch {
            guard error.isOfLock, attachments.count > 1 else { throw error }
        }
        // Somebody holds the row of one of them, and nothing was done: the others are strangers to that. Unless more of them
        // wait for as long: then it is all of them, or the order lock, and whatever else this node does would wait, too.
        var outcomes: [StreamAttachment.Outcome] = []
        var refused: [SessionManagerError] = []
        for attachment in attachments {
            let outcome =
                refused.count < 2 ? await attachAlone(attachment, registration) : .refused(refused[refused.count - 1])
            if case .refused(let error) = outcome, error.isOfLock { refused.append(error) }
            outcomes.append(outcome)
        }
        return outcomes
    }

    private func attachAlone(
        _ attachment: StreamAttachment,
        _ registration: StoreFunctions.Registration
    ) async -> StreamAttachment.Outcome {
        do throws(SessionManagerError) {
            let attached = try await attachToSessions([attachment], registration)
            return attached.first ?? .refused(SessionManagerError(.database, "the database opened no stream"))
        } catch {
            await abandon(registration, after: error)
            return .refused(error)
        }
    }

    /// Without an answer, the database may have opened streams that this process does not know of.
    private func abandon(_ registration: StoreFunctions.Registration, after error: SessionManagerError) async {
        if error.code == .nodeFenced || error.code == .outcomeUnknown { await abandon(registration) }
    }

    private func opened(
        _ attachment: StreamAttachment,
        _ attached: StoreFunctions.Attached
    ) -> StreamAttachment.Outcome {
        switch attached {
        case .held: return .held
        case .absent: return .absent
        case .opened(let number, let opening):
            let stream = StreamRegistry.Stream(
                number: number,
                id: attachment.id,
                isStandalone: attachment.options.sessionID.map { $0 == attachment.id } ?? true,
                controller: attachment.controller,
                position: opening.position,
                delivered: opening.position
            )
            perform(registry.attached(stream, replayAfter: opening.start))
            return .opened(opening, stream: latestOpening(of: number))
        }
    }

    private func latestOpening(of stream: Int64) -> StreamAttachment.Opened? {
        registry.streams[stream].map { StreamAttachment.Opened(number: stream, attachment: $0.attachment) }
    }

    /// Lets go of a stream whose opener does not wait for it any more. What was refused is somebody else's, and so is a
    /// stream that was opened anew since.
    func undo(_ outcome: StreamAttachment.Outcome) async {
        guard case .opened(_, let opened?) = outcome, let stream = registry.streams[opened.number],
            stream.attachment == opened.attachment
        else { return }
        registry.close(stream.number, .detached)
        record()
        await detach(stream.number, stream.position)
    }

    /// Lets go of a stream whose client is gone.
    func detach(_ id: String) async {
        guard let stream = registry.stream(id: id) else { return }
        registry.close(stream.number, .detached)
        record()
        await detach(stream.number, stream.position)
    }

    /// Tells the database that a stream was let go of.
    ///
    /// - Parameter position: the event at which it was attached. A call whose connection is lost may still be carried out,
    ///   after the client has come back.
    func detach(_ number: Int64, _ position: EventID) async {
        undetached[number] = position
        await detachRemaining()
    }

    /// Tells the database of all streams that were let go of. What it cannot be told now it is told with a heartbeat.
    ///
    /// In one call at a time: what comes meanwhile goes together into the next, so that a thousand clients who leave
    /// while somebody holds one of the rows do not each wait for that.
    func detachRemaining() async {
        if isDetaching {
            guard await withCheckedContinuation({ detachesWaiting.append($0) }) == .lead else { return }
        }
        isDetaching = true
        await tellOfDetached()
        if let next = detachesWaiting.popFirst() { next.resume(returning: .lead) } else { isDetaching = false }
    }

    private func tellOfDetached() async {
        // They get an answer when this call does, since their streams go into it.
        var told: Deque<CheckedContinuation<DetachTurn, Never>> = []
        defer { for waiting in told { waiting.resume(returning: .done) } }
        do throws(SessionManagerError) {
            try await changingStreams { () async throws(SessionManagerError) in
                swap(&told, &detachesWaiting)
                // A stream that was opened again meanwhile is held again.
                undetached = undetached.filter { registry.streams[$0.key] == nil }
                guard let registration, !undetached.isEmpty else { return }
                let streams = undetached
                let held = try await functions.detach(streams, from: registration.node)
                undetached = undetached.filter { streams[$0.key] != $0.value || held.contains($0.key) }
            }
        } catch {
            warn("Streams could not be detached yet", error)
        }
    }

    /// Has one change at a time made to what the database knows of this node's streams. A detach that was overtaken by
    /// an attach of the same stream, for instance, would leave a stream that gets nothing.
    func changingStreams<Value>(
        _ change: () async throws(SessionManagerError) -> Value
    ) async throws(SessionManagerError) -> Value {
        if isChangingStreams {
            await withCheckedContinuation { changesWaiting.append($0) }
        }
        isChangingStreams = true
        defer {
            if let next = changesWaiting.popFirst() { next.resume() } else { isChangingStreams = false }
        }
        return try await change()
    }

    /// Makes sure of the streams. To be called by ``changingStreams(_:)``.
    ///
    /// - Returns: the event at which they were this node's; `nil` if there are none.
    func reattach(_ registration: StoreFunctions.Registration) async throws(SessionManagerError) -> EventID? {
        let streams = Array(registry.streams.values)
        guard !streams.isEmpty else { return nil }
        let (outcomes, position) = try await functions.reattach(streams, to: registration.node)
        for (stream, outcome) in zip(streams, outcomes) {
            switch outcome {
            case .attached:
                registry.reattached(stream.number, position: position)
            case .purged:
                registry.close(stream.number, .purged)
                undetached[stream.number] = stream.position
            case .taken: registry.close(stream.number, .takenOver)
            case .locked: registry.close(stream.number, stream.closingAfterLoss)
            // A stream without a session was not ended by anybody, but by its node having been thought dead.
            case .ended: registry.close(stream.number, stream.lists == nil ? .ended : .purged)
            }
        }
        record()
        return position
    }
}
