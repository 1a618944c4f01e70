import CLibPQ
import Glibc
import PostgresClient

/// A value that Redis answers.
enum RedisValue: Sendable {
    case bytes(String)
    case number(Int64)
    case array([RedisValue])
    case null
    case failure(String)

    var text: String? {
        guard case .bytes(let text) = self else { return nil }
        return text
    }
}

/// A minimal connection to Redis, for the fixture alone: commands are pipelined, and written together when they are
/// made together.
actor RedisConnection {
    struct Failure: Error {
        let message: String
    }

    nonisolated let eventLoop: EventLoop
    nonisolated var unownedExecutor: UnownedSerialExecutor { eventLoop.asUnownedSerialExecutor() }

    private let descriptor: Int32
    private let onMessage: @Sendable (_ channel: String, _ data: String) -> Void
    private var output: [UInt8] = []
    private var isFlushScheduled = false
    private var isBlocked = false
    private var input: [UInt8] = []
    private var waiting: [UnsafeContinuation<RedisValue, Never>] = []
    private var firstWaiting = 0

    /// Connects to 127.0.0.1.
    init(
        port: UInt16,
        onMessage: @escaping @Sendable (_ channel: String, _ data: String) -> Void = { _, _ in }
    ) async throws {
        eventLoop = try EventLoop()
        self.onMessage = onMessage
        descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        let descriptor = descriptor
        let connected = withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                Glibc.connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
        guard connected == 0 else { throw Failure(message: "cannot connect to Redis on port \(port)") }
        var one: Int32 = 1
        setsockopt(descriptor, Int32(IPPROTO_TCP), TCP_NODELAY, &one, socklen_t(MemoryLayout<Int32>.size))
        _ = fcntl(descriptor, F_SETFL, fcntl(descriptor, F_GETFL) | O_NONBLOCK)
        try watch()
    }

    private func watch() throws {
        try eventLoop.register(descriptor, for: .readable) { readiness in
            self.assumeIsolated { $0.became(readiness) }
        }
    }

    /// Sends a command and returns what Redis answers.
    func command(_ words: String...) async throws -> RedisValue {
        let value = await withUnsafeContinuation { continuation in
            append(words)
            waiting.append(continuation)
        }
        if case .failure(let message) = value { throw Failure(message: message) }
        return value
    }

    /// Sends a command that is answered by messages: `SUBSCRIBE`.
    func commandWithoutAnswer(_ words: String...) {
        append(words)
    }

    private func append(_ words: [String]) {
        output.append(contentsOf: "*\(words.count)\r\n".utf8)
        for word in words {
            output.append(contentsOf: "$\(word.utf8.count)\r\n".utf8)
            output.append(contentsOf: word.utf8)
            output.append(contentsOf: "\r\n".utf8)
        }
        guard !isFlushScheduled else { return }
        isFlushScheduled = true
        eventLoop.execute { self.assumeIsolated { $0.flush() } }
    }

    private func flush() {
        isFlushScheduled = false
        var offset = 0
        while offset < output.count {
            let count = output.withUnsafeBytes { bytes in
                Glibc.write(descriptor, bytes.baseAddress.map { $0 + offset }, bytes.count - offset)
            }
            guard count > 0 else { break }
            offset += count
        }
        output.removeFirst(offset)
        if output.isEmpty == isBlocked {
            isBlocked = !output.isEmpty
            try? eventLoop.modify(descriptor, for: isBlocked ? [.readable, .writable] : .readable)
        }
    }

    private func became(_ readiness: EventLoop.Readiness) {
        if readiness.contains(.writable) { flush() }
        guard readiness.contains(.readable) else { return }
        withUnsafeTemporaryAllocation(byteCount: 65_536, alignment: 1) { buffer in
            let count = Glibc.read(descriptor, buffer.baseAddress, buffer.count)
            if count > 0 { input.append(contentsOf: buffer[..<count]) }
        }
        var reader = RedisReader(bytes: input)
        var consumed = 0
        while let value = reader.value() {
            consumed = reader.offset
            take(value)
        }
        input.removeFirst(consumed)
    }

    private func take(_ value: RedisValue) {
        if case .array(let parts) = value, let kind = parts.first?.text, parts.count == 3 {
            if kind == "message", let channel = parts[1].text, let data = parts[2].text {
                return onMessage(channel, data)
            }
            if kind == "subscribe" { return onMessage("", "") }
        }
        guard firstWaiting < waiting.count else { return }
        waiting[firstWaiting].resume(returning: value)
        firstWaiting += 1
        if firstWaiting == waiting.count {
            waiting.removeAll(keepingCapacity: true)
            firstWaiting = 0
        }
    }
}

/// Reads values from what has arrived; `nil` where one is not complete.
private struct RedisReader {
    let bytes: [UInt8]
    var offset = 0

    mutating func value() -> RedisValue? {
        let start = offset
        if let value = parse() { return value }
        offset = start
        return nil
    }

    private mutating func parse() -> RedisValue? {
        guard offset < bytes.count else { return nil }
        let kind = bytes[offset]
        offset += 1
        switch kind {
        case UInt8(ascii: ":"):
            return number().map { .number($0) }
        case UInt8(ascii: "$"):
            guard let count = number() else { return nil }
            guard count >= 0 else { return .null }
            let end = offset + Int(count)
            guard end + 2 <= bytes.count else { return nil }
            defer { offset = end + 2 }
            return .bytes(String(decoding: bytes[offset..<end], as: UTF8.self))
        case UInt8(ascii: "*"):
            guard let count = number() else { return nil }
            var values: [RedisValue] = []
            for _ in 0..<max(0, count) {
                guard let value = parse() else { return nil }
                values.append(value)
            }
            return .array(values)
        default:
            guard let end = lineEnd() else { return nil }
            let text = String(decoding: bytes[offset..<end], as: UTF8.self)
            offset = end + 2
            return kind == UInt8(ascii: "-") ? .failure(text) : .bytes(text)
        }
    }

    private func lineEnd() -> Int? {
        var end = offset
        while end + 1 < bytes.count {
            if bytes[end] == 13 { return end }
            end += 1
        }
        return nil
    }

    private mutating func number() -> Int64? {
        guard let end = lineEnd() else { return nil }
        var value: Int64 = 0
        var isNegative = false
        for byte in bytes[offset..<end] {
            if byte == UInt8(ascii: "-") { isNegative = true } else { value = value * 10 + Int64(byte &- 48) }
        }
        offset = end + 2
        return isNegative ? -value : value
    }
}
