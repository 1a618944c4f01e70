/// The messages that tell clients of changes, whatever revision they speak.
///
/// Source: MCP 2025-11-25, `server/tools`, `server/prompts` and `server/resources`. Clients of 2026-07-28 get the same,
/// with the id of their subscription, which whoever holds their stream adds.
public enum ChangeNotification {
    /// The message that tells of a changed list.
    public static func listChanged(_ list: ServerList) -> String {
        #"{"jsonrpc":"2.0","method":"notifications/\#(list.rawValue)/list_changed"}"#
    }

    /// The message that tells of a changed resource.
    public static func resourceUpdated(_ uri: String) -> String {
        let params = JSONValue.object(["uri": .string(uri)])
        return #"{"jsonrpc":"2.0","method":"notifications/resources/updated","params":\#(params.text)}"#
    }
}

extension StreamSessionManager {
    /// Tells every client that wants to know, of whichever revision and in whichever process, that a list has changed.
    ///
    /// - Throws: as ``StreamSessionManager/broadcast(_:data:)``.
    public func listChanged(_ list: ServerList) async throws(SessionManagerError) {
        try await broadcast(list, data: ChangeNotification.listChanged(list))
    }

    /// Tells every client that is subscribed to a resource, of whichever revision and in whichever process, that it has
    /// changed, and returns to how many streams that was sent.
    ///
    /// - Parameters:
    ///   - uri: the resource.
    ///   - principal: the only user to be told, for a uri behind which each user has a resource of its own. Default:
    ///     `nil`, everybody who is subscribed.
    /// - Throws: as ``StreamSessionManager/publish(_:data:principal:)``.
    @discardableResult
    public func resourceUpdated(_ uri: String, principal: String? = nil) async throws(SessionManagerError) -> Int {
        try await publish(uri, data: ChangeNotification.resourceUpdated(uri), principal: principal)
    }
}
