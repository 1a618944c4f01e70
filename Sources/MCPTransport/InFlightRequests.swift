import NIOConcurrencyHelpers

/// The requests that this process is handling, to be found when their client cancels one.
final class InFlightRequests: Sendable {
    struct Key: Hashable {
        var sessionID: String
        var requestID: RequestID
    }

    private struct Entry {
        var number: UInt64
        var cancel: @Sendable () -> Void
    }

    private let entries = NIOLockedValueBox<(last: UInt64, byKey: [Key: Entry])>((0, [:]))

    /// Remembers how to cancel a request. The number that is returned ends it with ``remove(_:number:)``.
    func add(_ key: Key, cancel: @escaping @Sendable () -> Void) -> UInt64 {
        entries.withLockedValue { entries in
            entries.last += 1
            entries.byKey[key] = Entry(number: entries.last, cancel: cancel)
            return entries.last
        }
    }

    /// Forgets a request, unless its id is used by a later one.
    func remove(_ key: Key, number: UInt64) {
        entries.withLockedValue { entries in
            guard entries.byKey[key]?.number == number else { return }
            entries.byKey.removeValue(forKey: key)
        }
    }

    /// Cancels a request, if this process is handling it.
    func cancel(_ key: Key) {
        let entry = entries.withLockedValue { $0.byKey[key] }
        entry?.cancel()
    }
}
