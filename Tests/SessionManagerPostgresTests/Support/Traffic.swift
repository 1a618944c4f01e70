import SessionManager
import SessionManagerPostgres
import Testing

/// Messages that are sent while something goes wrong, and what became of each.
actor Traffic {
    enum Outcome: Equatable {
        case sent(EventID)
        /// The sender was told that nobody knows.
        case unknown
        /// The sender was told that nothing was sent.
        case notSent
    }

    private var outcomes: [String: [String: Outcome]] = [:]
    private var codes: Set<SessionManagerError.Code> = []
    private var waiting: (count: Int, continuation: CheckedContinuation<Void, Never>)?
    private(set) var count = 0
    private var isOver = false

    /// Sends one message after another to the streams in turn, until ``end()``.
    func send(to streams: [String], from manager: some StreamSessionManager, named sender: String) async {
        var number = 0
        while !isOver {
            number += 1
            await send("\(sender) \(number)", to: streams[number % streams.count], from: manager)
        }
    }

    /// Sends a message to one stream.
    func send(_ data: String, to stream: String, from manager: some StreamSessionManager) async {
        let outcome: Outcome
        do throws(SessionManagerError) {
            let receipts = try await manager.send([stream], data: data)
            guard case .sent(let eventID) = receipts.first else {
                Issue.record("\(stream) is unknown")
                return
            }
            outcome = .sent(eventID)
        } catch {
            codes.insert(error.code)
            outcome = error.code == .outcomeUnknown ? .unknown : .notSent
        }
        outcomes[stream, default: [:]][data] = outcome
        count += 1
        if let waiting, count >= waiting.count {
            self.waiting = nil
            waiting.continuation.resume()
        }
    }

    /// Returns when so many more sends were answered.
    func progress(by more: Int) async {
        await withCheckedContinuation { waiting = (count + more, $0) }
    }

    /// Has the senders stop.
    func end() {
        isOver = true
    }

    /// Checks that a stream got what was sent to it, once and in order, and that senders were told the truth.
    func expectDelivered(
        _ received: [StreamMessage],
        to stream: String,
        sourceLocation: SourceLocation = #_sourceLocation
    ) {
        let ids = received.map(\.eventID)
        #expect(zip(ids, ids.dropFirst()).allSatisfy { $0 < $1 }, "out of order or twice", sourceLocation: sourceLocation)
        #expect(Set(received.map(\.data)).count == received.count, "twice", sourceLocation: sourceLocation)
        let events = Dictionary(received.map { ($0.data, $0.eventID) }) { first, _ in first }
        for (data, outcome) in outcomes[stream] ?? [:] {
            switch outcome {
            case .sent(let eventID):
                #expect(events[data] == eventID, "\(data) was sent to \(stream)", sourceLocation: sourceLocation)
            case .notSent:
                #expect(events[data] == nil, "\(data) was not sent to \(stream)", sourceLocation: sourceLocation)
            case .unknown: break
            }
        }
        #expect(
            codes.isSubset(of: [.outcomeUnknown, .unreachable]),
            "\(codes.map(\.rawValue))",
            sourceLocation: sourceLocation
        )
    }
}

/// Opens streams at the managers in turn, has every manager send to all of them while `disturb` runs, and checks what
/// arrives. No stream may be closed meanwhile.
func expectSurvival(
    of managers: [PostgresStreamSessionManager],
    streamCount: Int = 6,
    _ disturb: (Traffic) async throws -> Void
) async throws {
    let traffic = Traffic()
    let ids = (0..<streamCount).map { "s\($0)" }
    let streams = ids.map { _ in MessageStream(byteLimit: 64_000_000) }
    for (index, id) in ids.enumerated() {
        try await managers[index % managers.count].create(id, controller: streams[index].controller)
    }
    try await withThrowingTaskGroup(of: Void.self) { group in
        for (index, manager) in managers.enumerated() {
            group.addTask { await traffic.send(to: ids, from: manager, named: "m\(index)") }
        }
        let disturbance = await Result { try await disturb(traffic) }
        await traffic.end()
        try await group.waitForAll()
        try disturbance.get()
    }
    // Everything that was sent before comes before this.
    for id in ids {
        while try await !managers[0].reachesEnd(id) {}
    }
    for (id, stream) in zip(ids, streams) {
        let received = await stream.untilEnd()
        #expect(stream.closing == nil)
        await traffic.expectDelivered(received, to: id)
    }
}

extension StreamSessionManager {
    fileprivate func reachesEnd(_ id: String) async throws -> Bool {
        do throws(SessionManagerError) {
            try await send([id], data: "end")
            return true
        } catch {
            guard error.code == .outcomeUnknown || error.code == .unreachable else { throw error }
            return false
        }
    }
}

extension MessageStream {
    /// The messages up to the one that says `end`.
    func untilEnd() async -> [StreamMessage] {
        var messages: [StreamMessage] = []
        for await message in self {
            if message.data == "end" { break }
            messages.append(message)
        }
        return messages
    }
}
