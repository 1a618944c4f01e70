/// A revision of the Model Context Protocol.
public enum ProtocolVersion: String, Sendable, Hashable, CaseIterable, Comparable {
    /// The revision of HTTP+SSE.
    case november2024 = "2024-11-05"
    /// The first revision with Streamable HTTP; the only one with batches.
    case march2025 = "2025-03-26"
    /// Brought the header `MCP-Protocol-Version`.
    case june2025 = "2025-06-18"
    /// Brought priming events and streams that the server may close early.
    case november2025 = "2025-11-25"
    /// The first revision without sessions: each request says what it has to about its client.
    case july2026 = "2026-07-28"

    /// What `initialize` offers to a client that asks for a revision it does not know.
    public static let latest = ProtocolVersion.november2025

    /// What a client speaks that does not say.
    public static let assumed = ProtocolVersion.march2025

    /// The revisions that Streamable HTTP serves.
    public static let streamableHTTP = allCases.filter { $0 >= .march2025 }

    /// The revisions that have sessions, which begin with `initialize`.
    static let withSessions = allCases.filter(\.hasSessions)

    /// Whether clients of the revision begin a session with `initialize`. The specification calls those that do
    /// legacy, and the others modern.
    public var hasSessions: Bool { self < .july2026 }

    /// The revision to agree on with a client that asks for `requested` and a transport that serves `served`.
    static func negotiated(requested: String, served: [ProtocolVersion]) -> ProtocolVersion {
        guard let version = ProtocolVersion(rawValue: requested), served.contains(version) else { return latest }
        return version
    }

    /// Whether the left revision is older than the right one.
    public static func < (left: ProtocolVersion, right: ProtocolVersion) -> Bool {
        // Revisions are dates, year first.
        left.rawValue < right.rawValue
    }
}
