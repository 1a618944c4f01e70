import SessionManager
import Testing

@testable import SessionManagerPostgres

@Suite("An outage of the server", .serialized, .timeLimit(.minutes(3)))
struct OutageTests {
    @Test("A restart, and a crash, while messages flow", arguments: ["fast", "immediate"])
    func restart(mode: String) async throws {
        try await TestCluster.with { cluster in
            let database = TestDatabase(url: try await cluster.url)
            try await database.withManagers(2, configure: { $1.durability = .full }) { managers in
                try await expectSurvival(of: managers) { traffic in
                    await traffic.progress(by: 20)
                    try await cluster.restart(mode: mode)
                    await traffic.progress(by: 20)
                    try await cluster.restart(mode: mode)
                    await traffic.progress(by: 20)
                }
            }
        }
    }

    @Test("A failover to a standby that the connection string names, while messages flow")
    func failover() async throws {
        try await TestCluster.with { cluster in
            let primary = TestDatabase(url: try await cluster.url)
            let standbyPort = try await cluster.addStandby()
            let parts = primary.url.split(separator: "@", maxSplits: 1)
            let address = try #require(parts.last?.split(separator: "/").first)
            let host = try #require(address.split(separator: ":").first)
            let database = TestDatabase(
                url: "\(parts[0])@\(address),\(host):\(standbyPort)/postgres?target_session_attrs=read-write"
            )
            try await database.withManagers(2, configure: { $1.durability = .full }) { managers in
                try await expectSurvival(of: managers) { traffic in
                    await traffic.progress(by: 20)
                    try await cluster.failOver()
                    await traffic.progress(by: 40)
                }
            }
            try await cluster.removeStandby()
        }
    }
}
