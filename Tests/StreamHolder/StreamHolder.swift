import Foundation
import Logging
import SessionManager
import SessionManagerPostgres

/// A process that holds streams and prints what becomes of them, for tests that stop processes.
///
///     stream-holder URL STORE STREAM...
///
/// It prints, a line each, `opened {stream} {event id}`, `message {stream} {event id} {bytes} {data}` and
/// `closed {stream} {why}`, and ends with its standard input.
@main
struct StreamHolder {
    static func main() async throws {
        var arguments = CommandLine.arguments.dropFirst()
        guard let url = arguments.popFirst(), let store = arguments.popFirst() else {
            FileHandle.standardError.write(Data("usage: stream-holder URL STORE STREAM...\n".utf8))
            exit(2)
        }
        var configuration = PostgresSessionConfiguration(connectionString: url)
        configuration.store = store
        configuration.heartbeatInterval = .milliseconds(200)
        var logger = Logger(label: "stream-holder")
        logger.logLevel = .critical
        let manager = PostgresStreamSessionManager(configuration: configuration, logger: logger)
        let running = Task { try await manager.run() }
        try await withThrowingTaskGroup(of: Void.self) { group in
            for id in arguments {
                let stream = MessageStream()
                let opening = try await manager.create(id, controller: stream.controller)
                say("opened \(id) \(opening.position)")
                group.addTask {
                    for await message in stream {
                        say("message \(id) \(message.eventID) \(message.data.utf8.count) \(message.data.prefix(20))")
                    }
                    say("closed \(id) \(stream.closing.map { "\($0)" } ?? "?")")
                }
            }
            await endOfInput()
            running.cancel()
        }
        try await running.value
    }

    private static func say(_ line: String) {
        FileHandle.standardOutput.write(Data("\(line)\n".utf8))
    }

    private static func endOfInput() async {
        await withCheckedContinuation { continuation in
            DispatchQueue.global().async {
                _ = FileHandle.standardInput.readDataToEndOfFile()
                continuation.resume()
            }
        }
    }
}
