import CLibPQ
import Glibc
import Logging

/// libpq's connection, finished with its last reference. Of the event loop's thread alone.
///
/// The descriptor is to be taken out of the event loop before the last reference goes.
final class ConnectionHandle {
    let pointer: OpaquePointer
    private let logger: Logger
    /// What the server said while no call was under way, if it ended the session with it.
    private(set) var endOfSession: PostgresError?

    /// Starts to connect; `PQconnectPoll` is next.
    ///
    /// - Throws: ``PostgresError/Code/invalidConfiguration`` if libpq refuses the options.
    init(starting options: [String: String], logger: Logger) throws(PostgresError) {
        let pairs = options.sorted { $0.key < $1.key }
        var keywords = pairs.map { UnsafePointer(strdup($0.key)) }
        var values = pairs.map { UnsafePointer(strdup($0.value)) }
        keywords.append(nil)
        values.append(nil)
        let started = PQconnectStartParams(keywords, values, 0)
        for string in keywords + values { free(UnsafeMutableRawPointer(mutating: string)) }
        guard let started else { throw PostgresError(.systemResources, "no memory for a connection") }
        pointer = started
        self.logger = logger
        guard PQstatus(pointer) != CONNECTION_BAD else {
            let error = error(.invalidConfiguration)
            // A local socket can fail at once; what libpq says then begins like this. All else is about the options.
            guard error.message.hasPrefix("connection to server") else { throw error }
            throw self.error(.connectFailed)
        }
        // Until it is connected, SQLSTATEs are to be had from the text of the message only.
        PQsetErrorVerbosity(pointer, PQERRORS_VERBOSE)
        PQsetNoticeReceiver(
            pointer,
            { context, result in
                guard let context, let result else { return }
                Unmanaged<ConnectionHandle>.fromOpaque(context).takeUnretainedValue().received(notice: result)
            },
            Unmanaged.passUnretained(self).toOpaque()
        )
    }

    deinit {
        PQfinish(pointer)
    }

    /// May be another after each step of connecting.
    var descriptor: Int32 { PQsocket(pointer) }

    /// libpq's last error.
    func error(_ code: PostgresError.Code) -> PostgresError {
        let text = PQerrorMessage(pointer).map { String(cString: $0) } ?? ""
        return VerboseMessage(text).error(code)
    }

    /// The name as an SQL identifier, in quotation marks.
    func quotedIdentifier(_ name: String) throws(PostgresError) -> String {
        var name = name
        let quoted = name.withUTF8 { bytes in
            bytes.withMemoryRebound(to: CChar.self) { PQescapeIdentifier(pointer, $0.baseAddress, $0.count) }
        }
        guard let quoted else { throw error(.invalidParameter) }
        defer { PQfreemem(quoted) }
        return String(cString: quoted)
    }

    private func received(notice result: OpaquePointer) {
        let notice = PostgresError(result: result)
        logger.debug("PostgreSQL sent a notice", metadata: ["tmcp.sqlstate": "\(notice.sqlState ?? "")"])
        logger.trace("PostgreSQL sent a notice", metadata: ["tmcp.notice": "\(notice.message)"])
        if notice.endsSession || notice.sqlState?.hasPrefix("57P") == true {
            endOfSession = notice
        }
    }
}

/// A message of libpq's at `PQERRORS_VERBOSE`, from which the SQLSTATE can be read.
struct VerboseMessage {
    private(set) var message: String
    private(set) var sqlState: String?

    init(_ text: String) {
        var lines: [Substring] = []
        for line in text.split(separator: "\n") where !line.hasPrefix("LOCATION:") {
            lines.append(line)
        }
        message = lines.joined(separator: " ").split(whereSeparator: \.isWhitespace).joined(separator: " ")
        // "FATAL:  28P01: password ...": two blanks after the severity, whatever its language.
        for line in lines {
            let characters = Array(line)
            for start in characters.indices where characters[start...].starts(with: ":  ") {
                let state = characters[(start + 3)...].prefix(5)
                guard state.count == 5, state.allSatisfy({ $0.isASCII && ($0.isNumber || $0.isUppercase) }),
                    characters[(start + 8)...].starts(with: ": ")
                else { continue }
                sqlState = String(state)
            }
        }
    }

    func error(_ code: PostgresError.Code) -> PostgresError {
        PostgresError(code, message.isEmpty ? "libpq gave no reason" : message, sqlState: sqlState)
    }
}

extension PostgresError {
    /// The error or notice that a result holds.
    init(result: OpaquePointer) {
        func field(_ code: Int32) -> String? {
            PQresultErrorField(result, code).map { String(cString: $0) }
        }
        let severity = field(Int32(UInt8(ascii: "V")))
        let fallback = PQresultErrorMessage(result).map { String(cString: $0) } ?? ""
        self.init(
            .server,
            field(Int32(UInt8(ascii: "M"))) ?? VerboseMessage(fallback).message,
            sqlState: field(Int32(UInt8(ascii: "C"))),
            detail: field(Int32(UInt8(ascii: "D"))),
            hint: field(Int32(UInt8(ascii: "H"))),
            context: field(Int32(UInt8(ascii: "W"))),
            endsSession: severity == "FATAL" || severity == "PANIC"
        )
    }
}
