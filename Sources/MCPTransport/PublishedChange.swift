import Foundation
import NIOConcurrencyHelpers
import SessionManager

/// A notification of a change, to be sent to everybody who listens for it.
struct PublishedChange: Sendable {
    /// What has changed, such as `notifications/tools/list_changed`.
    let method: String
    private let template: JSONTemplate

    /// `nil` for what is no notification.
    init?(_ data: String) {
        guard let json = try? JSONValue(parsing: Data(data.utf8)),
            case .notification(let notification)? = try? MCPMessage(json)
        else { return nil }
        method = notification.method
        template = JSONTemplate(data, opening: ["params", "_meta", ModernRequest.MetaKey.subscriptionID])
    }

    /// The text for the subscription `id`.
    func text(for id: RequestID) -> String { template.filled(with: id.json.text) }
}

/// The change that was looked at last: all who listen for it get it at about the same time.
final class LastChange: Sendable {
    private let last = NIOLockedValueBox<(data: String, change: PublishedChange?)?>(nil)

    /// The change that `data` tells of; `nil` if it tells of none.
    func change(_ data: String) -> PublishedChange? {
        // Byte by byte: the uris of two resources may look the same.
        if let last = last.withLockedValue({ $0 }), last.data.utf8.elementsEqual(data.utf8) { return last.change }
        let change = PublishedChange(data)
        last.withLockedValue { $0 = (data, change) }
        return change
    }
}
