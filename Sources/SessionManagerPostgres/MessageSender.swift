import PostgresClient
import SessionManager

/// Sends messages, as many in one call as there are.
struct MessageSender: Sendable {
    /// One message, and the streams that get it; `nil` stands for all.
    struct Sending: Sendable {
        let ids: [String?]
        let data: String
    }

    let functions: StoreFunctions
    let metrics: SessionMetrics

    /// Sends each message, and returns the receipts of each, one for each of its ids.
    func send(_ sendings: [Sending]) async throws(SessionManagerError) -> [[SendReceipt]] {
        let ids = sendings.flatMap(\.ids)
        metrics.sends(ids.count)
        let eventIDs = try await eventIDs(ids, sendings)
        guard eventIDs.count == ids.count else {
            throw SessionManagerError(.database, "the database answered for \(eventIDs.count) of \(ids.count) messages")
        }
        var rest = eventIDs[...]
        return sendings.map { sending in
            defer { rest = rest.dropFirst(sending.ids.count) }
            return rest.prefix(sending.ids.count).map { eventID in
                eventID.map { .sent(EventID(rawValue: $0)) } ?? .unknownSession
            }
        }
    }

    private func eventIDs(_ ids: [String?], _ sendings: [Sending]) async throws(SessionManagerError) -> [Int64?] {
        // A lone message has a function of its own, which costs less than half.
        if ids.count == 1, let sending = sendings.first {
            guard let id = ids[0] else {
                return [try await functions.value("tmcp.broadcast", [.text(sending.data)])]
            }
            return [try await functions.value("tmcp.send", [.text(id), .text(sending.data)])]
        }
        let data = sendings.flatMap { sending in Array(repeating: sending.data, count: sending.ids.count) }
        return try await functions.value("tmcp.send_batch", [.textArray(ids), .textArray(data)])
    }
}
