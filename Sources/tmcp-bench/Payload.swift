/// The message that is sent: a JSON-RPC notification of 240 bytes that says when it was sent.
enum Payload {
    static let size = 240
    private static let head = #"{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":""#
    private static let tail = #""}}"#
    private static let digits = 19

    private static let end = ending(size: size)

    private static func ending(size: Int) -> String {
        String(repeating: "x", count: size - head.utf8.count - digits - tail.utf8.count) + tail
    }

    /// A message that is sent now.
    static func make() -> String { make(end) }

    /// A message of another size that is sent now.
    static func make(size: Int) -> String { make(ending(size: size)) }

    private static func make(_ end: String) -> String {
        String(unsafeUninitializedCapacity: head.utf8.count + digits + end.utf8.count) { buffer in
            var count = buffer.update(fromContentsOf: head.utf8)
            var rest = monotonicNanoseconds()
            for place in (count..<count + digits).reversed() {
                buffer[place] = UInt8(ascii: "0") + UInt8(rest % 10)
                rest /= 10
            }
            count += digits
            return buffer[count...].update(fromContentsOf: end.utf8)
        }
    }

    /// When a message was sent.
    static func sentAt(_ data: String) -> Int64 {
        data.utf8.dropFirst(head.utf8.count).prefix(digits).reduce(0) { $0 * 10 + Int64($1 &- UInt8(ascii: "0")) }
    }
}
