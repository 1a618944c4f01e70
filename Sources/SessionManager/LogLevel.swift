/// The severity of a log message, as RFC 5424 orders it.
public enum LogLevel: String, Sendable, Hashable, Codable, CaseIterable, Comparable {
    /// Details for whoever looks for a mistake. The least severe.
    case debug
    /// What happens in the normal course of things.
    case info
    /// Normal, and worth to be seen.
    case notice
    /// Something that may become an error.
    case warning
    /// Something failed.
    case error
    /// A part does not work any more.
    case critical
    /// Somebody has to act at once.
    case alert
    /// Nothing works any more. The most severe.
    case emergency

    /// Whether the left level is less severe than the right one.
    public static func < (left: LogLevel, right: LogLevel) -> Bool { left.severity < right.severity }

    private var severity: Int {
        switch self {
        case .debug: 0
        case .info: 1
        case .notice: 2
        case .warning: 3
        case .error: 4
        case .critical: 5
        case .alert: 6
        case .emergency: 7
        }
    }
}
