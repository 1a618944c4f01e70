import Foundation

/// The pages whose requests are answered at all. A page that a browser was tricked into taking for one of this
/// machine's (DNS rebinding) still names its own origin.
public enum AllowedOrigins: Sendable, Hashable {
    /// Pages of `localhost`, `127.0.0.1` and `[::1]`, on any port.
    case local
    /// Pages of this machine and of these origins, such as `https://app.example.com`.
    case localAnd([String])
    /// Pages of every origin: for a server that is public anyway and trusts nothing but its own authentication.
    case any

    /// Whether requests from pages of `origin` are answered.
    func allows(_ origin: String) -> Bool {
        switch self {
        case .any: true
        case .local: AllowedOrigins.isLocal(origin)
        case .localAnd(let origins): origins.contains(origin) || AllowedOrigins.isLocal(origin)
        }
    }

    private static func isLocal(_ origin: String) -> Bool {
        guard let url = URLComponents(string: origin), url.scheme == "http" || url.scheme == "https",
            url.user == nil, url.path.isEmpty, url.query == nil, url.fragment == nil
        else { return false }
        return ["localhost", "127.0.0.1", "::1", "[::1]"].contains(url.host?.lowercased())
    }
}
