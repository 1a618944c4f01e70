/// The severity of a log message, as RFC 5424 orders it.
public enum LogLevel: String, Sendable, Hashable, Codable, CaseIterable, Comparable {
    case debug, info, notice, warning, error, critical, alert, emergency

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
