import HTTPTypes
import Hummingbird

/// Who may talk to a transport at all, before anything is known of sessions.
struct AccessRules: Sendable {
    var allowedOrigins: AllowedOrigins
    var allowedHosts: [String]?
    var cors: CORS?

    func check(_ request: Request) throws(Refusal) {
        if let origin = try RequestHead.single(.origin, in: request.headers) {
            guard allowedOrigins.allows(origin) || cors?.allows(origin) ?? false else {
                throw Refusal(.forbidden, .refused("Origin not allowed"))
            }
        }
        if let allowedHosts {
            guard let host = request.head.authority?.lowercased(),
                allowedHosts.contains(where: { $0.lowercased() == host })
            else {
                throw Refusal(.forbidden, .refused("Host not allowed"))
            }
        }
    }

    /// The response to a request that passes the check, with what browsers want to know.
    func respond(
        to request: Request,
        _ dispatch: () async throws(Refusal) -> Response
    ) async -> Response {
        var response: Response
        do throws(Refusal) {
            try check(request)
            response = try await dispatch()
        } catch {
            response = error.response
        }
        if let cors {
            response.headers.append(contentsOf: cors.headers(for: request.headers[.origin]))
        }
        if request.method == .head { response.body = ResponseBody() }
        return response
    }
}
