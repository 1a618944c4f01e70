import Glibc

/// A server to try, out of the list that a connection string can have.
///
/// libpq goes through the list by itself, but has a timeout for each host only where it blocks: driven by an event loop
/// it would spend all the time on a first host that swallows packets, and never come to the one that has
/// taken over. So each is tried as a connection of its own.
struct HostCandidate: Hashable, Sendable {
    /// The name or the directory of a socket; empty for libpq's default.
    var host: String
    /// The numeric address; empty to have the name resolved.
    var address: String
    /// Empty for libpq's default.
    var port: String

    /// The servers that the options name, in their order, or `nil` if libpq has to go through them by itself.
    static func list(_ options: [String: String]) -> [HostCandidate]? {
        // With prefer-standby the list is gone through twice, and a service can hold another list.
        guard options["service"] == nil, options["target_session_attrs"] != "prefer-standby" else { return nil }
        let hosts = split(options["host"])
        let addresses = split(options["hostaddr"])
        let ports = split(options["port"])
        let count = options["hostaddr"] == nil ? hosts.count : addresses.count
        guard hosts.count == count || options["host"] == nil, ports.count == count || ports.count == 1 else {
            // Lists that do not fit each other are for libpq to refuse.
            return nil
        }
        return (0..<count).map { index in
            HostCandidate(
                host: hosts.count == count ? hosts[index] : "",
                address: addresses.count == count ? addresses[index] : "",
                port: ports.count == 1 ? ports[0] : ports[index]
            )
        }
    }

    private static func split(_ list: String?) -> [String] {
        (list ?? "").split(separator: ",", omittingEmptySubsequences: false).map(String.init)
    }

    /// The options with this server instead of the list.
    func applied(to options: [String: String]) -> [String: String] {
        var options = options
        options["host"] = host.isEmpty ? nil : host
        options["hostaddr"] = address.isEmpty ? nil : address
        options["port"] = port.isEmpty ? nil : port
        return options
    }

    /// Whether its name has to be looked up, which libpq would do blocking the event loop.
    var needsResolution: Bool {
        address.isEmpty && !host.isEmpty && !host.hasPrefix("/") && !host.hasPrefix("@") && !isNumeric
    }

    private var isNumeric: Bool {
        var address = in6_addr()
        return inet_pton(AF_INET, host, &address) == 1 || inet_pton(AF_INET6, host, &address) == 1
    }

    /// The server, for messages.
    var name: String {
        let name = host.isEmpty ? (address.isEmpty ? "the default host" : address) : host
        return port.isEmpty ? name : "\(name), port \(port)"
    }
}
