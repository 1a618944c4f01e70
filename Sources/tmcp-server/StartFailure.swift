import Foundation
import NIOCore
import PostgresClient
import SessionManager

/// Why the server could not start or go on, in a sentence that says what to do.
struct StartFailure: Error {
    var sentence: String

    init(sentence: String) {
        self.sentence = sentence
    }

    init(_ error: any Error, host: String, port: Int, store: String) {
        sentence =
            switch error {
            case let error as StartFailure: error.sentence
            case let error as SessionManagerError: StartFailure.sentence(error, store: store)
            case let error as PostgresError: StartFailure.sentence(error)
            case let error as IOError: StartFailure.sentence(error, host: host, port: port)
            default: "it failed: \(StartFailure.escaped(String(describing: error)))"
            }
    }

    private static let reachDatabase = "check --database-url, and that the server runs and lets you in"

    private static func sentence(_ error: SessionManagerError, store: String) -> String {
        switch error.code {
        // What the library advises speaks of a connection string, which is an option of this server.
        case .unreachable:
            joined("the database cannot be reached: \(error.message)", reachDatabase)
        case .configuration where error.sqlState != nil:
            joined(error.message, reachDatabase)
        case .notInstalled where error.sqlState == "42501":
            // What the library advises speaks of its own options, which this server does not have.
            joined(
                error.message,
                "let the owner of the database run CREATE EXTENSION IF NOT EXISTS tmcp_session_manager, then SELECT "
                    + "tmcp.create_store('\(store)') if there is no such store, then SELECT tmcp.grant_usage('\(store)', role)"
            )
        default:
            joined(error.message, error.hint)
        }
    }

    private static func sentence(_ error: PostgresError) -> String {
        switch error.code {
        case .invalidConfiguration:
            return joined(error.message, error.hint ?? "give --database-url postgresql://user@host:port/database")
        case .connectFailed, .connectTimeout:
            return joined("the database cannot be reached: \(error.message)", reachDatabase)
        case .server where error.sqlState == "42501":
            let hint = "let the owner of the database run GRANT CREATE ON DATABASE for this role"
            return joined("the role may not create the notes: \(error.message)", hint)
        default:
            return joined(error.message, error.hint)
        }
    }

    private static func sentence(_ error: IOError, host: String, port: Int) -> String {
        switch error.errnoCode {
        case EADDRINUSE: "port \(port) of \(host) is in use: choose another with --port"
        case EACCES: "port \(port) needs more rights than this user has: choose one from 1024 up with --port"
        case EADDRNOTAVAIL: "\(escaped(host)) is no address of this machine: choose another with --host"
        default: "\(escaped(host)) port \(port) cannot be listened to: \(escaped(error.description))"
        }
    }

    private static func joined(_ message: String, _ hint: String?) -> String {
        var parts = [message, hint].compactMap { $0 }
        for index in parts.indices {
            // libpq adds advice of its own, as a question, in another line or in the same.
            let line = parts[index].prefix { !$0.isNewline }
            let statement = line.range(of: " Is the server running").map { line[..<$0.lowerBound] } ?? line
            parts[index] = escaped(String(statement.hasSuffix(".") ? statement.dropLast() : statement))
        }
        return parts.joined(separator: ": ")
    }

    /// Without control characters, which a database's message or an argument may hold.
    private static func escaped(_ text: String) -> String {
        text.unicodeScalars.map { $0.properties.generalCategory == .control ? $0.escaped(asASCII: true) : String($0) }
            .joined()
    }
}
