import Foundation
import Testing

/// A throwaway server of a test's own, which the test may stop, restart and replace.
///
/// It lives in a shell within `Tests/cluster/with-cluster`, and is removed when the shell's input ends, also when this
/// process dies.
actor TestCluster {
    struct CommandFailed: Error, CustomStringConvertible {
        let description: String
    }

    private let process = Process()
    private let input = Pipe()
    private let output = Pipe()
    private let chunks: AsyncStream<Data>
    private var unread = Data()

    private static let root = URL(fileURLWithPath: #filePath)
        .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent()

    private init() {
        let (chunks, arrived) = AsyncStream.makeStream(of: Data.self)
        self.chunks = chunks
        output.fileHandleForReading.readabilityHandler = { handle in
            let data = handle.availableData
            if data.isEmpty {
                handle.readabilityHandler = nil
                arrived.finish()
            } else {
                arrived.yield(data)
            }
        }
    }

    /// Runs `body` with a server that is removed afterwards.
    static func with<Value: Sendable>(_ body: (TestCluster) async throws -> Value) async throws -> Value {
        let cluster = TestCluster()
        try await cluster.start()
        do {
            let value = try await body(cluster)
            await cluster.remove()
            return value
        } catch {
            await cluster.remove()
            throw error
        }
    }

    /// Where the server is, for a superuser.
    var url: String {
        get async throws { try await run("echo \"$TMCP_TEST_DATABASE_URL\"") }
    }

    private func start() async throws {
        process.executableURL = Self.root.appending(path: "Tests/cluster/with-cluster")
        process.arguments = ["--", "bash"]
        process.standardInput = input
        process.standardOutput = output
        try process.run()
    }

    private func remove() async {
        try? input.fileHandleForWriting.close()
        while await nextLine() != nil {}
        process.waitUntilExit()
    }

    /// Runs a command of the shell's, and returns what it prints.
    @discardableResult
    func run(_ command: String) async throws -> String {
        try input.fileHandleForWriting.write(contentsOf: Data("{ \(command)\n} 2>&1 </dev/null\necho \"=$?\"\n".utf8))
        var printed: [String] = []
        while let line = await nextLine() {
            if line == "=0" { return printed.joined(separator: "\n") }
            if line.hasPrefix("=") { break }
            printed.append(line)
        }
        throw CommandFailed(description: "\(command): \(printed.joined(separator: "\n"))")
    }

    private func nextLine() async -> String? {
        while true {
            if let end = unread.firstIndex(of: UInt8(ascii: "\n")) {
                defer { unread = Data(unread[unread.index(after: end)...]) }
                return String(decoding: unread[..<end], as: UTF8.self)
            }
            var iterator = chunks.makeAsyncIterator()
            guard let data = await iterator.next(isolation: self) else { return nil }
            unread += data
        }
    }

    /// Restarts the server; `immediate` is as if it had crashed.
    func restart(mode: String) async throws {
        try await run("\"$TMCP_AS_SERVER\" pg_ctl restart --silent --wait --mode=\(mode) --log=\"$TMCP_SERVER_LOG\"")
    }

    /// Makes a standby, which confirms every commit of durability `full`, and returns its port.
    func addStandby() async throws -> String {
        try await run(
            """
            standby=$(dirname "$PGDATA")/standby &&
            mkdir -m 700 "$standby" && chown --reference="$PGDATA" "$standby" &&
            "$TMCP_AS_SERVER" pg_basebackup --pgdata="$standby" --write-recovery-conf --checkpoint=fast &&
            standby_port=$((PGPORT + 1)) &&
            "$TMCP_AS_SERVER" sh -c "echo port = $standby_port >>'$standby/postgresql.auto.conf'" &&
            "$TMCP_AS_SERVER" pg_ctl start --silent --wait --pgdata="$standby" --log="$TMCP_SERVER_LOG" &&
            psql --quiet --command="ALTER SYSTEM SET synchronous_standby_names = '*'" &&
            psql --quiet --tuples-only --command='SELECT pg_reload_conf()' >/dev/null &&
            echo "$standby_port"
            """
        )
    }

    /// Ends the primary as if it had crashed, and makes the standby the primary.
    func failOver() async throws {
        try await run(
            """
            "$TMCP_AS_SERVER" pg_ctl stop --silent --mode=immediate &&
            "$TMCP_AS_SERVER" psql --quiet --port="$standby_port" --command="ALTER SYSTEM RESET synchronous_standby_names" &&
            "$TMCP_AS_SERVER" pg_ctl promote --silent --wait --pgdata="$standby"
            """
        )
    }

    /// Removes the standby.
    func removeStandby() async throws {
        try await run("\"$TMCP_AS_SERVER\" pg_ctl stop --silent --mode=immediate --pgdata=\"$standby\"")
    }
}
