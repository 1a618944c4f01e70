import CLibPQ
import Glibc

/// A notification, in the buffer in which libpq left it, which is freed with it.
package struct PostgresNotification: ~Copyable {
    private let handle: UnsafeMutablePointer<PGnotify>

    /// Takes over a notification, which is to be freed by nobody else.
    init(taking handle: UnsafeMutablePointer<PGnotify>) {
        self.handle = handle
    }

    deinit {
        PQfreemem(handle)
    }

    /// The channel that it came on.
    package var channel: String {
        handle.pointee.relname.map { String(cString: $0) } ?? ""
    }

    /// The payload.
    package var payload: String {
        handle.pointee.extra.map { String(cString: $0) } ?? ""
    }

    /// Calls `body` with the payload's bytes, which are valid until it returns. They are not copied.
    package func withPayload<Value, Failure: Error>(
        _ body: (UnsafeRawBufferPointer) throws(Failure) -> Value
    ) throws(Failure) -> Value {
        guard let start = handle.pointee.extra else { return try body(UnsafeRawBufferPointer(start: nil, count: 0)) }
        return try body(UnsafeRawBufferPointer(start: start, count: strlen(start)))
    }
}
