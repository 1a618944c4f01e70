import NIOConcurrencyHelpers
import SessionManager

/// Remembers what it was given.
final class RecordingController: StreamController {
    private struct State {
        var messages: [StreamMessage] = []
        var closing: StreamClosing?
    }

    private let state = NIOLockedValueBox(State())
    private let capacity: Int

    /// - Parameter capacity: how many messages it takes before it says that it is too slow.
    init(capacity: Int = .max) {
        self.capacity = capacity
    }

    var messages: [StreamMessage] { state.withLockedValue { $0.messages } }
    var received: [Int64] { messages.map(\.eventID.rawValue) }
    var closing: StreamClosing? { state.withLockedValue { $0.closing } }

    func enqueue(_ message: StreamMessage) -> Bool {
        state.withLockedValue { state in
            guard state.messages.count < capacity else { return false }
            state.messages.append(message)
            return true
        }
    }

    func close(_ closing: StreamClosing) {
        state.withLockedValue { $0.closing = closing }
    }
}
