import SessionManager

/// The messages of `subscriptions/listen`, each of which says which request it belongs to.
///
/// Source: MCP 2026-07-28, `basic/patterns/subscriptions`.
struct Subscription: Sendable {
    /// The id of the request that opened the stream.
    let id: RequestID
    /// What the server will tell of.
    let filter: ChangeFilter
    /// The name and version of the server; `nil` if it does not say.
    let serverInfo: JSONValue?

    /// The first message: what the server will tell of.
    var acknowledgement: String {
        let params: JSONValue = ["_meta": meta, "notifications": filter.json]
        return MCPNotification(method: "notifications/subscriptions/acknowledged", params: params.object ?? [:]).text
    }

    /// A notification with the id of the subscription; `nil` for what does not tell of a change that was asked for.
    func tagged(_ change: PublishedChange?) -> String? {
        guard let change, isWanted(change.method) else { return nil }
        return change.text(for: id)
    }

    private func isWanted(_ method: String) -> Bool {
        if method == "notifications/resources/updated" { return !filter.resources.isEmpty }
        return filter.lists.contains { method == "notifications/\($0.rawValue)/list_changed" }
    }

    /// The last message, when the server ends the stream in an orderly way.
    var completion: String {
        let result = ModernResult.completed(["_meta": meta], of: "subscriptions/listen", serverInfo: serverInfo)
        return MCPText.result(result, id: id)
    }

    private var meta: JSONValue { .object([ModernRequest.MetaKey.subscriptionID: id.json]) }
}
