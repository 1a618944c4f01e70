import PostgresClient
import SessionManager
import Testing

@testable import SessionManagerPostgres

@Suite("A server that takes encrypted connections alone", .serialized, .timeLimit(.minutes(3)))
struct TLSTests {
    @Test("is used as its connection string says: verified by name, by both connections, for messages of any size")
    func verified() async throws {
        try await TestCluster.with { cluster in
            let certificate = try await cluster.requireTLS()
            let server = TestDatabase(url: try await cluster.url)
            let database = TestDatabase(
                url: server.replacing(host: "localhost") + "?sslmode=verify-full&sslrootcert=\(certificate)"
            )
            try await database.withManagers(2, configure: { $1.applicationName = database.store }) { managers in
                try await expectSurvival(of: managers) { await $0.progress(by: 50) }
                let stream = MessageStream(byteLimit: 16_000_000)
                try await managers[0].create("large", controller: stream.controller)
                let large = String(repeating: "x", count: 3_000_000)
                for data in [large, "1", large] { try await managers[1].send(["large"], data: data) }
                #expect(await stream.next(3).map(\.utf8.count) == [large.utf8.count, 1, large.utf8.count])
                let encrypted: Int64 = try await database.query(
                    """
                    SELECT count(*) FILTER (WHERE l.ssl) FROM pg_stat_activity AS a JOIN pg_stat_ssl AS l USING (pid)
                    WHERE a.application_name = $1
                    """,
                    [.text(database.store)]
                ).value()
                #expect(encrypted == 4, "two of each process")
            }

            let byName = server.replacing(host: "localhost")
            let trusting = "sslmode=verify-full&sslrootcert=\(certificate)"
            for (wrong, url) in [
                "a name that the certificate does not have": server.replacing(host: "127.0.0.1") + "?" + trusting,
                "a certificate that nobody vouches for": byName + "?sslmode=verify-full",
                "no encryption": byName + "?sslmode=disable",
            ] {
                var configuration = TestDatabase(url: url).configuration
                configuration.create = false
                let manager = PostgresStreamSessionManager(configuration: configuration, logger: database.logger)
                let error = await #expect(throws: SessionManagerError.self, "\(wrong)") { try await manager.run() }
                #expect(error?.code == .unreachable || error?.code == .configuration, "\(wrong)")
            }
        }
    }

    @Test("and asks for certificates is shown that of the connection string, by both connections")
    func clientCertificate() async throws {
        try await TestCluster.with { cluster in
            let trusted = try await cluster.requireTLS()
            let client = try await cluster.requireClientCertificates()
            let url =
                TestDatabase(url: try await cluster.url).replacing(host: "localhost")
                + "?sslmode=verify-full&sslrootcert=\(trusted)"
            let database = TestDatabase(url: url + "&sslcert=\(client.certificate)&sslkey=\(client.key)")
            try await database.withManagers(1, configure: { $1.applicationName = database.store }) { managers in
                let stream = MessageStream()
                try await managers[0].create("a", controller: stream.controller)
                try await managers[0].send(["a"], data: "1")
                #expect(await stream.next(1) == ["1"])
                let shown: Int64 = try await database.query(
                    """
                    SELECT count(*) FILTER (WHERE l.client_dn = '/CN=postgres')
                    FROM pg_stat_activity AS a JOIN pg_stat_ssl AS l USING (pid) WHERE a.application_name = $1
                    """,
                    [.text(database.store)]
                ).value()
                #expect(shown == 2)
            }

            let without = PostgresStreamSessionManager(
                configuration: TestDatabase(url: url + "&sslcert=/nonexistent").configuration,
                logger: database.logger
            )
            let error = await #expect(throws: SessionManagerError.self) { try await without.run() }
            #expect(error?.code == .configuration)
            #expect(error?.message.contains("certificate") == true)
        }
    }
}
