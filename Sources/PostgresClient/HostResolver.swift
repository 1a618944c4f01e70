import CLibPQ
import Glibc

/// Looks names of hosts up without blocking the event loop.
enum HostResolver {
    /// The numeric addresses of a host, or an error's text.
    enum Answer: Sendable {
        case addresses([String])
        case failure(String)
    }

    /// Looks a name up.
    ///
    /// - Returns: `nil` if the deadline passed or the task was cancelled before.
    static func resolve(
        _ host: String,
        on loop: EventLoop,
        until deadline: ContinuousClock.Instant,
        isolation: isolated any Actor = #isolation
    ) async -> Answer? {
        await loop.firstValue(until: deadline) { finish in
            // `getaddrinfo` cannot be interrupted; after the deadline its answer goes nowhere.
            let status = DetachedThread.start {
                let answer = lookUp(host)
                loop.execute { finish(answer) }
            }
            if status != 0 { finish(.failure("there is no thread for it")) }
        }
    }

    private static func lookUp(_ host: String) -> Answer {
        var hints = addrinfo()
        hints.ai_family = AF_UNSPEC
        hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
        var list: UnsafeMutablePointer<addrinfo>?
        let status = getaddrinfo(host, nil, &hints, &list)
        guard status == 0 else { return .failure(String(cString: gai_strerror(status))) }
        defer { freeaddrinfo(list) }
        var addresses: [String] = []
        var entry = list
        while let current = entry {
            var buffer = [CChar](repeating: 0, count: Int(NI_MAXHOST))
            let named = getnameinfo(
                current.pointee.ai_addr,
                current.pointee.ai_addrlen,
                &buffer,
                socklen_t(buffer.count),
                nil,
                0,
                NI_NUMERICHOST
            )
            if named == 0 {
                let address = String(decoding: buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
                if !addresses.contains(address) { addresses.append(address) }
            }
            entry = current.pointee.ai_next
        }
        return addresses.isEmpty ? .failure("it has no address") : .addresses(addresses)
    }
}
