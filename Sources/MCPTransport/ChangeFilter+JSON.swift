import SessionManager

/// What a client asks to hear of, and what of it it may.
///
/// Source: MCP 2026-07-28, `basic/patterns/subscriptions`, "Notification Filter" and "Acknowledgment".
extension ChangeFilter {
    private static let names: [(member: String, list: ServerList)] = [
        ("toolsListChanged", .tools), ("promptsListChanged", .prompts), ("resourcesListChanged", .resources),
    ]

    /// The filter that a client asks for. Left out are kinds of change that the transport does not know, and uris that no
    /// resource can have.
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
        // Byte by byte, as the database compares them: two that only look the same are two.
        var seen: Set<[UInt8]> = []
        resources = uris.filter { ChangeFilter.canBeResource($0) && seen.insert(Array($0.utf8)).inserted }
        guard resources.count <= ChangeFilter.maximumResources else {
            throw .invalidParams("resourceSubscriptions may have \(ChangeFilter.maximumResources) uris")
        }
    }

    var json: JSONValue {
        var members: [String: JSONValue] = [:]
        for (member, list) in ChangeFilter.names where lists.contains(list) { members[member] = true }
        if !resources.isEmpty { members["resourceSubscriptions"] = .array(resources.map { .string($0) }) }
        return .object(members)
    }

    /// What of this filter a server of these capabilities tells of.
    func announced(by capabilities: JSONValue?) -> ChangeFilter {
        ChangeFilter(
            lists: lists.filter { capabilities?[$0.rawValue]?["listChanged"] == true },
            resources: capabilities?["resources"]?["subscribe"] == true ? resources : []
        )
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
