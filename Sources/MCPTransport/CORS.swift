import HTTPTypes
import Hummingbird

/// Which pages of other origins may read the transport's responses in a browser.
public struct CORS: Sendable, Hashable {
    /// The origins that are let in.
    public enum AllowedOrigin: Sendable, Hashable {
        /// Every origin: `*`.
        case any
        /// These origins, such as `https://app.example.com`.
        case only([String])
    }

    /// The origins that are let in. Default: every one.
    public var origin: AllowedOrigin
    /// The methods that a page may use. Default: GET, POST, DELETE and OPTIONS.
    public var methods: [String]
    /// The request headers that a page may send. Default: those that MCP has, `Authorization`, and every other, `*`. To
    /// browsers `*` means neither `Authorization` nor, with ``credentials``, anything.
    public var allowedHeaders: [String]
    /// The response headers that a page may read. Default: `MCP-Session-Id`, without which there is no session.
    public var exposedHeaders: [String]
    /// Whether a page may send cookies and the like. Browsers ignore it for ``AllowedOrigin/any``. Default: `false`.
    public var credentials: Bool
    /// How long a browser may remember the answer, in seconds. Default: `nil`, as long as the browser thinks fit.
    public var maxAge: Int?

    /// The default of ``allowedHeaders``.
    public static let defaultHeaders = [
        "*", "Authorization", "Content-Type", "Last-Event-ID", "MCP-Protocol-Version", "MCP-Session-Id", "Mcp-Method",
        "Mcp-Name",
    ]

    /// Rules for pages of other origins.
    public init(
        origin: AllowedOrigin = .any,
        methods: [String] = ["GET", "POST", "DELETE", "OPTIONS"],
        allowedHeaders: [String] = CORS.defaultHeaders,
        exposedHeaders: [String] = ["MCP-Session-Id"],
        credentials: Bool = false,
        maxAge: Int? = nil
    ) {
        self.origin = origin
        self.methods = methods
        self.allowedHeaders = allowedHeaders
        self.exposedHeaders = exposedHeaders
        self.credentials = credentials
        self.maxAge = maxAge
    }

    func allows(_ origin: String) -> Bool {
        switch self.origin {
        case .any: true
        case .only(let origins): origins.contains(origin)
        }
    }

    func headers(for origin: String?) -> HTTPFields {
        var headers = HTTPFields()
        switch self.origin {
        case .any:
            headers[.accessControlAllowOrigin] = "*"
        case .only:
            // A cache must not hand one origin's answer to another.
            headers[.vary] = "Origin"
            guard let origin, allows(origin) else { return headers }
            headers[.accessControlAllowOrigin] = origin
        }
        headers[.accessControlAllowMethods] = methods.joined(separator: ", ")
        headers[.accessControlAllowHeaders] = allowedHeaders.joined(separator: ", ")
        if !exposedHeaders.isEmpty {
            headers[.accessControlExposeHeaders] = exposedHeaders.joined(separator: ", ")
        }
        if credentials { headers[.accessControlAllowCredentials] = "true" }
        if let maxAge { headers[.accessControlMaxAge] = String(maxAge) }
        return headers
    }
}
