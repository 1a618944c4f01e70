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

    private let shell: ChildProcess

    private static let root = URL(fileURLWithPath: #filePath)
        .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent()

    private init() throws {
        shell = try ChildProcess(Self.root.appending(path: "Tests/cluster/with-cluster").path, ["--", "bash"])
    }

    /// Runs `body` with a server that is removed afterwards.
    static func with<Value: Sendable>(_ body: (TestCluster) async throws -> Value) async throws -> Value {
        let cluster = try TestCluster()
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

    private func remove() async {
        await shell.closeInput()
        while await shell.nextLine() != nil {}
        await shell.waitUntilExit()
    }

    /// Runs a command of the shell's, and returns what it prints.
    @discardableResult
    func run(_ command: String) async throws -> String {
        try await shell.write("{ \(command)\n} 2>&1 </dev/null\necho \"=$?\"\n")
        var printed: [String] = []
        while let line = await shell.nextLine() {
            if line == "=0" { return printed.joined(separator: "\n") }
            if line.hasPrefix("=") { break }
            printed.append(line)
        }
        throw CommandFailed(description: "\(command): \(printed.joined(separator: "\n"))")
    }

    /// Restarts the server; `immediate` is as if it had crashed.
    func restart(mode: String) async throws {
        try await run("\"$TMCP_AS_SERVER\" pg_ctl restart --silent --wait --mode=\(mode) --log=\"$TMCP_SERVER_LOG\"")
    }

    /// Has the server take encrypted connections alone, as `localhost`, and returns the file with its certificate.
    func requireTLS() async throws -> String {
        try await run(
            """
            "$TMCP_AS_SERVER" openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=localhost \
                -addext subjectAltName=DNS:localhost -keyout server.key -out server.crt >/dev/null 2>&1 &&
            psql --quiet --command="ALTER SYSTEM SET ssl = on" &&
            sed -i 's/^host /hostssl /' "$PGDATA/pg_hba.conf"
            """
        )
        try await restart(mode: "fast")
        return try await run("echo \"$PGDATA/server.crt\"")
    }

    /// After ``requireTLS()``: has the server want a certificate of each client beside its password, and returns the files
    /// with one for a client and with its key.
    func requireClientCertificates() async throws -> (certificate: String, key: String) {
        // The server's own certificate vouches for the client's as well. The key is read by whoever runs the tests.
        let folder = try await run(
            """
            client=$(dirname "$PGDATA")/client && mkdir -m 700 "$client" &&
            openssl req -newkey rsa:2048 -nodes -subj /CN="$PGUSER" -keyout "$client/key" -out "$client/request" \
                >/dev/null 2>&1 &&
            openssl x509 -req -in "$client/request" -days 1 -CA "$PGDATA/server.crt" -CAkey "$PGDATA/server.key" \
                -set_serial 1 -out "$client/certificate" >/dev/null 2>&1 &&
            chmod 600 "$client/key" &&
            psql --quiet --command="ALTER SYSTEM SET ssl_ca_file = 'server.crt'" &&
            sed -i '/^hostssl /s/$/ clientcert=verify-full/' "$PGDATA/pg_hba.conf" &&
            echo "$client"
            """
        )
        try await restart(mode: "fast")
        return ("\(folder)/certificate", "\(folder)/key")
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
