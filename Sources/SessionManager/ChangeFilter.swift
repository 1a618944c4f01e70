/// A list that a server offers, and of whose changes a client may want to hear.
public enum ServerList: String, Sendable, Hashable, CaseIterable {
    /// What `tools/list` answers.
    case tools
    /// What `prompts/list` answers.
    case prompts
    /// What `resources/list` answers.
    case resources
}

/// What a stream without a session listens for.
///
/// Source: MCP 2026-07-28, `basic/patterns/subscriptions`, "Notification Filter".
public struct ChangeFilter: Sendable, Hashable {
    /// The lists of whose changes the client wants to hear. Default: none.
    public var lists: Set<ServerList>

    /// The most resources that one stream may listen for: 1,000. A client may open several.
    public static let maximumResources = 1000

    /// The uris of the resources of whose changes the client wants to hear, at most ``maximumResources`` of 1 to 2,048
    /// bytes each. Default: none.
    public var resources: [String]

    /// Whether a resource can have this uri: 1 to 2,048 bytes without NUL.
    package static func canBeResource(_ uri: String) -> Bool {
        (1...2048).contains(uri.utf8.count) && !uri.utf8.contains(0)
    }

    /// A filter.
    public init(lists: Set<ServerList> = [], resources: [String] = []) {
        self.lists = lists
        self.resources = resources
    }
}
