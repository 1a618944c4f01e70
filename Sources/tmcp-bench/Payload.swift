/// The message that is sent: a JSON-RPC notification of 240 bytes that says when it was sent.
enum Payload {
    static let size = 240
    private static let head = #"{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":""#
    private static let tail = #""}}"#
    private static let digits = 19

    /// A message that is sent now.
    static func make(size: Int = Payload.size) -> String {
        let time = String(monotonicNanoseconds())
        let zeros = String(repeating: "0", count: digits - time.utf8.count)
        let padding = size - head.utf8.count - digits - tail.utf8.count
        return head + zeros + time + String(repeating: "x", count: padding) + tail
    }

    /// When a message was sent.
    static func sentAt(_ data: String) -> Int64 {
        data.utf8.dropFirst(head.utf8.count).prefix(digits).reduce(0) { $0 * 10 + Int64($1 &- UInt8(ascii: "0")) }
    }
}
