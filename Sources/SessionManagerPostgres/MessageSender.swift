import PostgresClient
import SessionManager

/// Sends messages, as many in one call as there are.
struct MessageSender: Sendable {
    /// Whom a message is for.
    enum Recipients: Sendable {
        case all
        case stream(String)
        case streams([String])
    }

    /// One message.
    struct Sending: Sendable {
        let recipients: Recipients
        let data: String

        /// The stream that it is for, if it is for one.
        var id: String? {
            if case .stream(let id) = recipients { id } else { nil }
        }

        /// How many receipts there are to be.
        var count: Int {
            if case .streams(let ids) = recipients { ids.count } else { 1 }
        }

        /// Its part of what goes into one call. One for many streams goes alone, in a call that takes its data once and
        /// not for each of them.
        var weight: Int {
            if case .streams = recipients { MessageSender.maximumWeight + 1 } else { data.utf8.count }
        }
    }

    /// How many bytes go into one call, unless a single message has more.
    static let maximumWeight = 1_048_576

    let functions: StoreFunctions
    let metrics: SessionMetrics

    /// Sends each message, and returns the receipts of each, one for each of its recipients.
    func send(_ sendings: [Sending]) async throws(SessionManagerError) -> [[SendReceipt]] {
        metrics.sends(sendings.reduce(0) { $0 + $1.count })
        let eventIDs = try await eventIDs(sendings)
        guard eventIDs.map(\.count) == sendings.map(\.count) else {
            throw SessionManagerError(.database, "the database did not answer for each of \(sendings.count) messages")
        }
        return eventIDs.map { eventIDs in
            eventIDs.map { eventID in eventID.map { .sent(EventID(rawValue: $0)) } ?? .unknownSession }
        }
    }

    private func eventIDs(_ sendings: [Sending]) async throws(SessionManagerError) -> [[Int64?]] {
        // A lone message has a function of its own, which costs less than half.
        if sendings.count == 1 {
            switch sendings[0].recipients {
            case .all:
                return [[try await functions.value("tmcp.broadcast", [.text(sendings[0].data)])]]
            case .stream(let id):
                return [[try await functions.value("tmcp.send", [.text(id), .text(sendings[0].data)])]]
            case .streams(let ids):
                return [try await functions.value("tmcp.multicast", [.textArray(ids), .text(sendings[0].data)])]
            }
        }
        let eventIDs: [Int64?] = try await functions.value(
            "tmcp.send_batch",
            [.textArray(sendings.map(\.id)), .textArray(sendings.map(\.data))]
        )
        return eventIDs.map { [$0] }
    }
}
