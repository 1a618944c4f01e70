import CLibPQ
import Foundation
import Glibc

@testable import PostgresClient

/// A server on a port of the system's choice that does with each connection what it is told: nothing, for instance.
final class SocketServer: Sendable {
    struct Failure: Error {
        let call: String
        let number: Int32
    }

    let port: UInt16
    private let listener: Int32

    /// Starts to accept; `serve` is called for each connection on a thread of its own, and the connection closed after
    /// it.
    init(serve: @escaping @Sendable (Int32) -> Void) throws {
        let listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        guard listener >= 0 else { throw Failure(call: "socket", number: errno) }
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
        self.listener = listener
        port = UInt16(bigEndian: address.sin_port)
        Thread.detachNewThread {
            while true {
                let accepted = accept(listener, nil, nil)
                guard accepted >= 0 else { return }
                Thread.detachNewThread {
                    serve(accepted)
                    Glibc.close(accepted)
                }
            }
        }
    }

    deinit {
        shutdown(listener, Int32(SHUT_RDWR))
        Glibc.close(listener)
    }

    /// A connection string to it.
    var url: String {
        "postgresql://somebody:secret@127.0.0.1:\(port)/somewhere?sslmode=disable&gssencmode=disable"
    }

    /// Reads until the other side closes.
    static func readToEnd(_ descriptor: Int32) {
        var buffer = [UInt8](repeating: 0, count: 65_536)
        while read(descriptor, &buffer, buffer.count) > 0 {}
    }

    /// Reads once, whatever there is.
    static func readSome(_ descriptor: Int32) {
        var buffer = [UInt8](repeating: 0, count: 65_536)
        _ = read(descriptor, &buffer, buffer.count)
    }

    static func send(_ bytes: [UInt8], to descriptor: Int32) {
        _ = Glibc.send(descriptor, bytes, bytes.count, Int32(MSG_NOSIGNAL))
    }
}

/// A way to the test server that can be cut.
final class Relay: Sendable {
    private let server: SocketServer
    private let cutter: Cutter

    /// All descriptors of the relay's connections.
    private actor Cutter {
        private var descriptors: [Int32] = []
        private(set) var isCut = false

        func add(_ pair: [Int32]) { descriptors += pair }

        func cut() {
            isCut = true
            for descriptor in descriptors { shutdown(descriptor, Int32(SHUT_RDWR)) }
            descriptors = []
        }
    }

    /// A relay.
    ///
    /// - Parameters:
    ///   - onConnect: called before the way on is opened.
    ///   - onInput: called with what the client sent, before it goes on.
    ///   - passesEnd: whether the client's connection is closed when the server closes its own.
    init(
        onConnect: @escaping @Sendable () -> Void = {},
        onInput: @escaping @Sendable ([UInt8]) -> Void = { _ in },
        passesEnd: Bool = true
    ) throws {
        let configuration = try TestDatabase.configuration()
        let host = configuration.options["host"] ?? "/var/run/postgresql"
        let port = configuration.options["port"] ?? "5432"
        let cutter = Cutter()
        self.cutter = cutter
        server = try SocketServer { client in
            onConnect()
            let upstream = Self.connect(host: host, port: port)
            guard upstream >= 0 else { return }
            Task { await cutter.add([client, upstream]) }
            Thread.detachNewThread {
                Self.copy(from: upstream, to: client)
                if passesEnd { shutdown(client, Int32(SHUT_RDWR)) }
            }
            Self.copy(from: client, to: upstream, onInput)
            shutdown(upstream, Int32(SHUT_RDWR))
            Glibc.close(upstream)
        }
    }

    /// The test server's configuration, through the relay.
    func configuration(host: String = "127.0.0.1") throws -> ConnectionConfiguration {
        let direct = try TestDatabase.configuration()
        var through = try ConnectionConfiguration(
            connectionString: "host=\(host) port=\(server.port) sslmode=disable gssencmode=disable"
        )
        through.user = direct.user
        through.password = direct.password
        through.database = direct.database
        through.connectTimeout = direct.connectTimeout
        return through
    }

    /// Cuts all connections, as a network that fails would.
    func cut() async {
        await cutter.cut()
    }

    private static func copy(from source: Int32, to sink: Int32, _ onInput: ([UInt8]) -> Void = { _ in }) {
        var buffer = [UInt8](repeating: 0, count: 65_536)
        while true {
            let count = read(source, &buffer, buffer.count)
            guard count > 0 else { break }
            let bytes = Array(buffer[..<count])
            onInput(bytes)
            SocketServer.send(bytes, to: sink)
        }
    }

    private static func connect(host: String, port: String) -> Int32 {
        guard host.hasPrefix("/") else {
            var hints = addrinfo()
            hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
            var list: UnsafeMutablePointer<addrinfo>?
            guard getaddrinfo(host, port, &hints, &list) == 0, let first = list?.pointee else { return -1 }
            defer { freeaddrinfo(list) }
            let descriptor = socket(first.ai_family, first.ai_socktype, first.ai_protocol)
            return Glibc.connect(descriptor, first.ai_addr, first.ai_addrlen) == 0 ? descriptor : -1
        }
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: "\(host)/.s.PGSQL.\(port)".utf8) }
        let descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
        let connected = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                Glibc.connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
        return connected == 0 ? descriptor : -1
    }
}
