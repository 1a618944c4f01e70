import Logging
import NIOConcurrencyHelpers

/// Remembers what is logged.
final class LogRecorder: Sendable {
    private struct Handler: LogHandler {
        let recorder: LogRecorder
        var metadata: Logger.Metadata = [:]
        var logLevel = Logger.Level.debug

        subscript(metadataKey key: String) -> Logger.Metadata.Value? {
            get { metadata[key] }
            set { metadata[key] = newValue }
        }

        func log(event: LogEvent) {
            let fields = (event.metadata ?? [:]).mapValues { "\($0)" }
            recorder.entries.withLockedValue { $0.append((event.message.description, fields)) }
        }
    }

    private let entries = NIOLockedValueBox<[(message: String, metadata: [String: String])]>([])

    var logger: Logger {
        Logger(label: "test") { _ in Handler(recorder: self) }
    }

    /// The metadata of all entries with a message.
    func metadata(of message: String) -> [[String: String]] {
        entries.withLockedValue { $0.filter { $0.message == message }.map(\.metadata) }
    }
}
