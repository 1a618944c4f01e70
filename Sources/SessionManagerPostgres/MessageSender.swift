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

        /// The streams that it is for, `nil` for all of them, as `tmcp.send_batch` takes them.
        var ids: [String?] {
            switch recipients {
            case .all: [nil]
            case .stream(let id): [id]
            case .streams(let ids): ids
            }
        }

        /// How many receipts there are to be.
        var count: Int {
            if case .streams(let ids) = recipients { ids.count } else { 1 }
        }

        /// Its part of what goes into one call, which has its data for each of its streams. Where that is much, or one of
        /// them would get it twice, it goes alone, in a call that takes its data once.
        var weight: Int {
            guard case .streams(let ids) = recipients else { return data.utf8.count }
            let weight = count * data.utf8.count
            return weight <= 65_536 && Set(ids).count == ids.count ? weight : MessageSender.maximumWeight + 1
        }
    }

    /// How many bytes go into one call, unless a single message has more.
    static let maximumWeight = 1_048_576

    let functions: StoreFunctions
    let metrics: SessionMetrics

    /// Sends each message, and returns the receipts of each, one for each of its recipients.
    func send(_ sendings: [Sending]) async throws(SessionManagerError) -> [[SendReceipt]] {
        let ids = sendings.flatMap(\.ids)
        metrics.sends(ids.count)
        let eventIDs = try await eventIDs(sendings, ids)
        guard eventIDs.count == ids.count else {
            throw SessionManagerError(.database, "the database answered for \(eventIDs.count) of \(ids.count) messages")
        }
        var rest = eventIDs[...]
        return sendings.map { sending in
            defer { rest = rest.dropFirst(sending.count) }
            return rest.prefix(sending.count).map { eventID in
                eventID.map { .sent(EventID(rawValue: $0)) } ?? .unknownSession
            }
        }
    }

    private func eventIDs(_ sendings: [Sending], _ ids: [String?]) async throws(SessionManagerError) -> [Int64?] {
        // A lone message has a function of its own, which costs less than half.
        if sendings.count == 1 {
            switch sendings[0].recipients {
            case .all:
                return [try await functions.value("tmcp.broadcast", [.text(sendings[0].data)])]
            case .stream(let id):
                return [try await functions.value("tmcp.send", [.text(id), .text(sendings[0].data)])]
            case .streams(let ids):
                return try await functions.value("tmcp.multicast", [.textArray(ids), .text(sendings[0].data)])
            }
        }
        let data = sendings.flatMap { sending in Array(repeating: sending.data, count: sending.count) }
        return try await functions.value("tmcp.send_batch", [.textArray(ids), .textArray(data)])
    }
}
