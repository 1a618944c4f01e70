import Dispatch
import Foundation
import Glibc

/// A TCP connection that sends exactly the bytes it is given, well-formed or not.
actor TestConnection {
    struct Timeout: Error, CustomStringConvertible {
        var description: String
    }

    struct Reply {
        var status: Int
        /// Names in lower case.
        var headers: [String: String]
        var body = ""
    }

    private let descriptor: Int32
    private let queue = DispatchQueue(label: "test-connection")
    private var received: [UInt8] = []
    private var isAtEnd = false
    private var isClosed = false
    private var eventText = ""
    private var bodyIsChunked = false
    private var bodyIsAtEnd = false

    init(port: Int) throws {
        descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = in_port_t(port).bigEndian
        address.sin_addr.s_addr = inet_addr("127.0.0.1")
        let result = withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
        guard result == 0 else { throw Timeout(description: "no connection to port \(port)") }
    }

    deinit {
        if !isClosed { Glibc.close(descriptor) }
    }

    // MARK: Sending

    func send(_ text: String) async {
        let bytes = Array(text.utf8)
        let descriptor = descriptor
        await withCheckedContinuation { continuation in
            queue.async {
                var sent = 0
                while sent < bytes.count {
                    let count = bytes[sent...].withUnsafeBytes {
                        Glibc.send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL))
                    }
                    guard count > 0 else { break }
                    sent += count
                }
                continuation.resume()
            }
        }
    }

    /// Shrinks what the kernel takes in for this client, so that not reading is felt at the server sooner.
    func shrinkReceiveBuffer() {
        var size: Int32 = 4096
        setsockopt(descriptor, SOL_SOCKET, SO_RCVBUF, &size, socklen_t(MemoryLayout<Int32>.size))
    }

    func close() {
        guard !isClosed else { return }
        isClosed = true
        Glibc.close(descriptor)
    }

    /// Closes with a reset instead of an orderly end.
    func reset() {
        var linger = linger(l_onoff: 1, l_linger: 0)
        setsockopt(descriptor, SOL_SOCKET, SO_LINGER, &linger, socklen_t(MemoryLayout<linger>.size))
        close()
    }

    // MARK: Receiving

    /// The status and headers of the next response, and its body unless it is a stream of events.
    func reply(within seconds: Double = 10) async throws -> Reply {
        let deadline = Date().addingTimeInterval(seconds)
        let separator = Array("\r\n\r\n".utf8)
        while received.firstRange(of: separator) == nil { try await receive(until: deadline, for: "a response") }
        guard let end = received.firstRange(of: separator) else { throw Timeout(description: "no head") }
        let lines = String(decoding: received[..<end.lowerBound], as: UTF8.self).components(separatedBy: "\r\n")
        received.removeSubrange(..<end.upperBound)
        var reply = Reply(status: Int(lines[0].split(separator: " ")[1]) ?? 0, headers: [:])
        for line in lines.dropFirst() {
            let parts = line.split(separator: ":", maxSplits: 1)
            reply.headers[parts[0].lowercased()] = parts[1].trimmingCharacters(in: .whitespaces)
        }
        bodyIsChunked = reply.headers["transfer-encoding"] == "chunked"
        bodyIsAtEnd = false
        eventText = ""
        guard reply.headers["content-type"] != "text/event-stream" else { return reply }
        if let length = reply.headers["content-length"].flatMap(Int.init) {
            while received.count < length { try await receive(until: deadline, for: "a body") }
            reply.body = String(decoding: received[..<length], as: UTF8.self)
            received.removeSubrange(..<length)
        }
        return reply
    }

    /// The next event as its lines, comments included; `nil` when the response has ended.
    func event(within seconds: Double = 10) async throws -> [String]? {
        let deadline = Date().addingTimeInterval(seconds)
        while true {
            if let end = eventText.range(of: "\n\n") {
                let lines = eventText[..<end.lowerBound].components(separatedBy: "\n")
                eventText.removeSubrange(..<end.upperBound)
                return lines
            }
            if bodyIsAtEnd { return nil }
            guard decodeChunk() else {
                if isAtEnd { return nil }
                try await receive(until: deadline, for: "an event")
                continue
            }
        }
    }

    /// The next message: what follows `data:` in an event that has some. Comments and priming events are passed over.
    func message(within seconds: Double = 10) async throws -> (id: String?, data: String)? {
        let deadline = Date().addingTimeInterval(seconds)
        while let lines = try await event(within: deadline.timeIntervalSinceNow) {
            let data = lines.compactMap { $0.hasPrefix("data: ") ? String($0.dropFirst(6)) : nil }
            guard !data.isEmpty else { continue }
            let id = lines.first { $0.hasPrefix("id: ") }.map { String($0.dropFirst(4)) }
            return (id, data.joined(separator: "\n"))
        }
        return nil
    }

    /// Whether the server closes the connection in time. What it still sends is read and dropped.
    func isClosedByServer(within seconds: Double = 10) async -> Bool {
        let deadline = Date().addingTimeInterval(seconds)
        while !isAtEnd {
            received.removeAll()
            guard (try? await receive(until: deadline, for: "the end")) != nil else { return false }
        }
        return true
    }

    private func decodeChunk() -> Bool {
        guard let end = received.firstRange(of: Array("\r\n".utf8)) else { return false }
        guard let size = Int(String(decoding: received[..<end.lowerBound], as: UTF8.self), radix: 16) else {
            return false
        }
        guard received.count >= end.upperBound + size + 2 else { return false }
        if size == 0 { bodyIsAtEnd = true }
        eventText += String(decoding: received[end.upperBound..<end.upperBound + size], as: UTF8.self)
        received.removeSubrange(..<(end.upperBound + size + 2))
        return true
    }

    private func receive(until deadline: Date, for what: String) async throws {
        let milliseconds = Int32(max(0, deadline.timeIntervalSinceNow * 1000))
        let descriptor = descriptor
        let bytes: [UInt8]? = await withCheckedContinuation { continuation in
            queue.async {
                var poller = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
                guard poll(&poller, 1, milliseconds) > 0 else { return continuation.resume(returning: nil) }
                var buffer = [UInt8](repeating: 0, count: 65_536)
                let count = recv(descriptor, &buffer, buffer.count, 0)
                continuation.resume(returning: Array(buffer.prefix(max(count, 0))))
            }
        }
        guard let bytes else { throw Timeout(description: "waited in vain for \(what)") }
        if bytes.isEmpty {
            isAtEnd = true
            if what != "an event", what != "the end" { throw Timeout(description: "the server closed before \(what)") }
        }
        received += bytes
    }
}
