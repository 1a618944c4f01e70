import Foundation
import SessionManager

/// The messages of `subscriptions/listen`, each of which says which request it belongs to.
///
/// Source: MCP 2026-07-28, `basic/patterns/subscriptions`.
struct Subscription: Sendable {
    /// The id of the request that opened the stream.
    let id: RequestID
    /// What the server will tell of.
    let filter: ChangeFilter

    /// The first message: what the server will tell of.
    var acknowledgement: String {
        let params: JSONValue = ["_meta": tag(nil), "notifications": filter.json]
        return MCPNotification(method: "notifications/subscriptions/acknowledged", params: params.object ?? [:]).text
    }

    /// A notification with the id of the subscription; `nil` for what does not tell of a change that was asked for.
    func tagged(_ data: String) -> String? {
        guard let json = try? JSONValue(parsing: Data(data.utf8)),
            case .notification(var notification)? = try? MCPMessage(json), isWanted(notification.method)
        else { return nil }
        notification.params["_meta"] = tag(notification.params["_meta"])
        return notification.text
    }

    private func isWanted(_ method: String) -> Bool {
        if method == "notifications/resources/updated" { return !filter.resources.isEmpty }
        return filter.lists.contains { method == "notifications/\($0.rawValue)/list_changed" }
    }

    /// The last message, when the server ends the stream in an orderly way.
    var completion: String {
        MCPText.result(["resultType": "complete", "_meta": tag(nil)], id: id)
    }

    private func tag(_ meta: JSONValue?) -> JSONValue {
        var members = meta?.object ?? [:]
        members[ModernRequest.MetaKey.subscriptionID] = id.json
        return .object(members)
    }
}

extension ChangeFilter {
    private static let names: [(member: String, list: ServerList)] = [
        ("toolsListChanged", .tools), ("promptsListChanged", .prompts), ("resourcesListChanged", .resources),
    ]

    /// The filter that a client asks for. Kinds of change that the transport does not know are left out.
    init(_ json: JSONValue?) throws(MCPError) {
        guard let members = json?.object else { throw .invalidParams("notifications must be an object") }
        self.init()
        for (member, list) in ChangeFilter.names {
            switch members[member] {
            case nil, .bool(false): break
            case .bool(true): lists.insert(list)
            default: throw .invalidParams("\(member) must be true or false")
            }
        }
        guard let subscriptions = members["resourceSubscriptions"] else { return }
        let uris = subscriptions.array?.compactMap(\.string)
        guard let uris, uris.count == subscriptions.array?.count else {
            throw .invalidParams("resourceSubscriptions must be an array of uris")
        }
        guard uris.count <= ChangeFilter.maximumResources else {
            throw .invalidParams("resourceSubscriptions may have \(ChangeFilter.maximumResources) uris")
        }
        resources = uris
    }

    var json: JSONValue {
        var members: [String: JSONValue] = [:]
        for (member, list) in ChangeFilter.names where lists.contains(list) { members[member] = true }
        if !resources.isEmpty { members["resourceSubscriptions"] = .array(resources.map { .string($0) }) }
        return .object(members)
    }

    /// What of this filter is in the other one as well.
    func limited(to other: ChangeFilter) -> ChangeFilter {
        // Byte by byte, as the database compares them: else one that only looks like an allowed one would pass for it.
        let others = Set(other.resources.map { Array($0.utf8) })
        return ChangeFilter(
            lists: lists.intersection(other.lists),
            resources: resources.filter { others.contains(Array($0.utf8)) }
        )
    }
}
