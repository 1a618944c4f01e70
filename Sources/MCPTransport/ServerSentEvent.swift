import HTTPTypes
import NIOCore
import SessionManager

/// Writes the lines of `text/event-stream`.
enum ServerSentEvent {
    /// - Parameter closing: whether to say that the connection ends with the stream.
    static func headers(closing: Bool) -> HTTPFields {
        var headers: HTTPFields = [
            .contentType: "text/event-stream",
            .cacheControl: "no-cache, no-transform",
            // Tells nginx and its kin to pass events on as they come.
            .accelBuffering: "no",
        ]
        if closing { headers[.connection] = "close" }
        return headers
    }

    /// A message and its id. A line break in the message, which JSON allows between its tokens, starts a new `data`
    /// line, so that nothing in a message can pass for another field.
    static func message(_ data: String, cursor: EventCursor) -> ByteBuffer {
        var buffer = ByteBuffer()
        buffer.reserveCapacity(data.utf8.count + 80)
        buffer.writeString("id: \(cursor.text)\n")
        writeData(data, to: &buffer)
        buffer.writeString("\n")
        return buffer
    }

    /// A message without an id, in a revision that resumes nothing.
    static func message(_ data: String) -> ByteBuffer {
        var buffer = ByteBuffer()
        buffer.reserveCapacity(data.utf8.count + 16)
        writeData(data, to: &buffer)
        buffer.writeString("\n")
        return buffer
    }

    /// An event with a name and without an id, as HTTP+SSE has them.
    static func named(_ name: StaticString, data: String) -> ByteBuffer {
        var buffer = ByteBuffer(string: "event: \(name)\n")
        writeData(data, to: &buffer)
        buffer.writeString("\n")
        return buffer
    }

    /// Gives the client an id to resume from before there is a message.
    ///
    /// - Parameter dispatched: with an empty `data` field, as revision 2025-11-25 has it. Clients of older revisions
    ///   take that for a message that is not JSON; without the field they remember the id and nothing else happens.
    static func priming(_ cursor: EventCursor, dispatched: Bool) -> ByteBuffer {
        ByteBuffer(string: dispatched ? "id: \(cursor.text)\ndata:\n\n" : "id: \(cursor.text)\n\n")
    }

    /// How long the client waits before it comes back, in milliseconds.
    static func retry(_ delay: Duration) -> ByteBuffer {
        let (seconds, attoseconds) = delay.components
        return ByteBuffer(string: "retry: \(seconds * 1000 + attoseconds / 1_000_000_000_000_000)\n\n")
    }

    /// A line that clients skip.
    static func comment(_ text: StaticString) -> ByteBuffer {
        ByteBuffer(string: ": \(text)\n\n")
    }

    private static func writeData(_ data: String, to buffer: inout ByteBuffer) {
        let lines = data.utf8.split(omittingEmptySubsequences: false) {
            $0 == UInt8(ascii: "\n") || $0 == UInt8(ascii: "\r")
        }
        for line in lines {
            buffer.writeString("data: ")
            buffer.writeBytes(line)
            buffer.writeString("\n")
        }
    }
}
