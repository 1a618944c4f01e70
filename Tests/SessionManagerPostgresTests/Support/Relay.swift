import Foundation
import NIOConcurrencyHelpers

/// A way to the test server that can be disturbed.
final class Relay: Sendable {
    struct Failure: Error {
        let call: String
        let number: Int32
    }

    private struct Link {
        let client: Int32
        let server: Int32
        /// Whether what the client sends goes on.
        var passesInput = true
        /// Whether what the server answers goes on.
        var passesOutput = true
    }

    private struct State {
        var links: [Int: Link] = [:]
        var lastLink = 0
        /// What the connection that is to lose its answers begins with.
        var fatalInput: Data?
    }

    /// What the threads of a relay share with it.
    private final class Board: Sendable {
        let state = NIOLockedValueBox(State())
    }

    /// A connection string to the server by way of the relay.
    let url: String
    private let listener: Int32
    private let board = Board()

    /// A relay to the server of a database.
    init(to database: TestDatabase) throws {
        guard let server = URLComponents(string: database.url) else { throw Failure(call: "URL", number: 0) }
        let listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        guard listener >= 0 else { throw Failure(call: "socket", number: errno) }
        self.listener = listener
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = in_addr_t(0x7f00_0001).bigEndian
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let isListening = withUnsafeMutablePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(listener, $0, length) == 0 && listen(listener, 128) == 0 && getsockname(listener, $0, &length) == 0
            }
        }
        guard isListening else { throw Failure(call: "bind", number: errno) }
        // Without encryption, since it reads along.
        url =
            database.replacing(host: "127.0.0.1", port: Int(UInt16(bigEndian: address.sin_port)))
            + "?sslmode=disable&gssencmode=disable"
        let host = server.host ?? "127.0.0.1"
        let port = String(server.port ?? 5432)
        Thread.detachNewThread { [board] in
            while true {
                let client = accept(listener, nil, nil)
                guard client >= 0 else { return }
                Thread.detachNewThread { Self.serve(client, host: host, port: port, board) }
            }
        }
    }

    deinit {
        shutdown(listener, Int32(SHUT_RDWR))
        Glibc.close(listener)
        cut()
    }

    /// Cuts all connections, as a network that fails would.
    func cut() {
        board.state.withLockedValue { state in
            for link in state.links.values {
                shutdown(link.client, Int32(SHUT_RDWR))
                shutdown(link.server, Int32(SHUT_RDWR))
            }
        }
    }

    /// Passes nothing on any more on the connections that there are, and leaves them open, as a proxy does whose server
    /// hangs. Connections that are made later work.
    func swallow() {
        board.state.withLockedValue { state in
            for number in state.links.keys {
                state.links[number]?.passesInput = false
                state.links[number]?.passesOutput = false
            }
        }
    }

    /// Passes no answers on any more on the next connection on which a client sends a text; what it sends goes on.
    func loseAnswers(to text: String) {
        board.state.withLockedValue { $0.fatalInput = Data(text.utf8) }
    }

    private static func serve(_ client: Int32, host: String, port: String, _ board: Board) {
        let server = connect(host: host, port: port)
        guard server >= 0 else {
            Glibc.close(client)
            return
        }
        let number = board.state.withLockedValue { state in
            state.lastLink += 1
            state.links[state.lastLink] = Link(client: client, server: server)
            return state.lastLink
        }
        let isDone = DispatchSemaphore(value: 0)
        Thread.detachNewThread {
            copy(from: server, to: client) { _ in
                board.state.withLockedValue { $0.links[number]?.passesOutput ?? false }
            }
            isDone.signal()
        }
        copy(from: client, to: server) { input in
            board.state.withLockedValue { state in
                if let fatal = state.fatalInput, input.range(of: fatal) != nil {
                    state.fatalInput = nil
                    state.links[number]?.passesOutput = false
                }
                return state.links[number]?.passesInput ?? false
            }
        }
        isDone.wait()
        board.state.withLockedValue { _ = $0.links.removeValue(forKey: number) }
        Glibc.close(client)
        Glibc.close(server)
    }

    /// Copies what `passes` lets through, until one of the sides ends; then the other has ended, too.
    private static func copy(from source: Int32, to sink: Int32, _ passes: (Data) -> Bool) {
        var buffer = [UInt8](repeating: 0, count: 65_536)
        while true {
            let count = read(source, &buffer, buffer.count)
            guard count > 0 else { break }
            guard passes(Data(buffer[..<count])) else { continue }
            guard send(sink, buffer, count, Int32(MSG_NOSIGNAL)) == count else { break }
        }
        shutdown(source, Int32(SHUT_RDWR))
        shutdown(sink, Int32(SHUT_RDWR))
    }

    private static func connect(host: String, port: String) -> Int32 {
        var hints = addrinfo()
        hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
        var list: UnsafeMutablePointer<addrinfo>?
        guard getaddrinfo(host, port, &hints, &list) == 0, let first = list?.pointee else { return -1 }
        defer { freeaddrinfo(list) }
        let descriptor = socket(first.ai_family, first.ai_socktype, first.ai_protocol)
        guard Glibc.connect(descriptor, first.ai_addr, first.ai_addrlen) == 0 else {
            Glibc.close(descriptor)
            return -1
        }
        return descriptor
    }
}
