import Foundation
import PostgresClient
import SessionManager
import Testing

@testable import SessionManagerPostgres

@Suite("Streams that listen for changes without a session", .serialized, .timeLimit(.minutes(3)))
struct ListenTests {
    @Test("A change is published once, and reaches sessions and listening streams once", arguments: Backend.allCases)
    func bothEras(backend: Backend) async throws {
        try await backend.with { managers, infos in
            let session = MessageStream()
            try await infos[0].start("session", metadata: SessionMetadata(), principal: nil)
            try await infos[0].addSubscription("session", uri: "note://a", principal: nil)
            try await managers[0].create("session", controller: session.controller)
            let (both, tools, nothing) = (MessageStream(), MessageStream(), MessageStream())
            let filter = ChangeFilter(lists: [.tools, .prompts], resources: ["note://a", "note://b"])
            try await managers[0].listen("both", controller: both.controller, filter: filter, principal: nil)
            try await managers[1].listen(
                "tools",
                controller: tools.controller,
                filter: ChangeFilter(lists: [.tools]),
                principal: "alice"
            )
            try await managers[1].listen(
                "nothing",
                controller: nothing.controller,
                filter: ChangeFilter(),
                principal: nil
            )
            #expect(try await managers[1].publish("note://a", data: "a") == 2)
            #expect(try await managers[0].publish("note://b", data: "b") == 1)
            try await managers[1].broadcast(.tools, data: "tools")
            try await managers[0].broadcast(.resources, data: "resources")
            try await managers[0].send(nil, data: "for sessions")
            try await managers[1].broadcast(.prompts, data: "prompts")
            try await managers[1].send(["tools", "nothing"], data: "last")
            #expect(await session.next(5) == ["a", "tools", "resources", "for sessions", "prompts"])
            #expect(await both.next(4) == ["a", "b", "tools", "prompts"])
            #expect(await tools.next(2) == ["tools", "last"])
            #expect(await nothing.next(1) == ["last"])
        }
    }

    @Test("The messages of changes are those that psql would send")
    func notifications() async throws {
        let database = try TestDatabase()
        try await database.withManagers(1) { managers in
            try await database.withConnection { connection in
                for list in ServerList.allCases {
                    let text: String = try await connection.query(
                        "SELECT tmcp.list_changed($1)",
                        [.text(list.rawValue)]
                    ).value()
                    #expect(ChangeNotification.listChanged(list) == text)
                }
                let uri = "note://\"a\"\\\n\u{1F600}"
                let text: String = try await connection.query("SELECT tmcp.resource_updated($1)", [.text(uri)]).value()
                let ours = try JSONValue(parsing: Data(ChangeNotification.resourceUpdated(uri).utf8))
                let theirs = try JSONValue(parsing: Data(text.utf8))
                #expect(ours == theirs)
            }
            let stream = MessageStream()
            let filter = ChangeFilter(lists: [.tools], resources: ["note://a"])
            try await managers[0].listen("a", controller: stream.controller, filter: filter, principal: nil)
            try await managers[0].listChanged(.tools)
            #expect(try await managers[0].resourceUpdated("note://a") == 1)
            #expect(
                await stream.next(2) == [
                    ChangeNotification.listChanged(.tools), ChangeNotification.resourceUpdated("note://a"),
                ]
            )
        }
    }

    @Test("A change of a resource that each user has is told to that user alone", arguments: Backend.allCases)
    func principals(backend: Backend) async throws {
        try await backend.with { managers, infos in
            let streams = ["alice", "bob", nil].map { (principal: $0, stream: MessageStream()) }
            for (principal, stream) in streams {
                try await managers[0].listen(
                    principal ?? "nobody",
                    controller: stream.controller,
                    filter: ChangeFilter(resources: ["note://mine"]),
                    principal: principal
                )
            }
            try await infos[0].start("session", metadata: SessionMetadata(), principal: "bob")
            try await infos[0].addSubscription("session", uri: "note://mine", principal: "bob")
            #expect(try await managers[1].publish("note://mine", data: "alice", principal: "alice") == 1)
            #expect(try await managers[1].publish("note://mine", data: "bob", principal: "bob") == 2)
            #expect(try await managers[1].publish("note://mine", data: "carol", principal: "carol") == 0)
            #expect(try await managers[1].publish("note://mine", data: "all") == 4)
            #expect(await streams[0].stream.next(2) == ["alice", "all"])
            #expect(await streams[1].stream.next(2) == ["bob", "all"])
            #expect(await streams[2].stream.next(1) == ["all"])
        }
    }

    @Test("A stream ends with its connection, and nobody resumes it", arguments: Backend.allCases)
    func end(backend: Backend) async throws {
        try await backend.with { managers, _ in
            let stream = MessageStream()
            let filter = ChangeFilter(resources: ["note://a"])
            let position = try await managers[0].listen(
                "a",
                controller: stream.controller,
                filter: filter,
                principal: nil
            )
            let other = MessageStream()
            await #expect(throws: SessionManagerError.self) {
                try await managers[1].listen("a", controller: other.controller, filter: filter, principal: nil)
            }
            await #expect(throws: SessionManagerError.self) {
                try await managers[1].create("a", controller: other.controller, options: .init(lastEventID: position))
            }
            try await managers[0].detach("a")
            #expect(stream.closing == .detached)
            #expect(try await managers[1].has("a") == false)
            #expect(try await managers[1].publish("note://a", data: "nobody") == 0)
            // It may be ended from anywhere as well.
            let next = MessageStream()
            try await managers[0].listen("b", controller: next.controller, filter: filter, principal: nil)
            try await managers[1].delete("b")
            #expect(await next.next(1) == [])
            #expect(next.closing == .ended)
        }
    }

    @Test("What cannot be listened for is refused, and those that listen at the same time are not")
    func refusals() async throws {
        let database = try TestDatabase()
        try await database.withManagers(1) { managers in
            let filters: [ChangeFilter] = [
                ChangeFilter(resources: [""]), ChangeFilter(resources: ["note://a"]),
                ChangeFilter(resources: (0...1000).map { "note://\($0)" }),
                ChangeFilter(resources: [String(repeating: "x", count: 2049)]), ChangeFilter(lists: [.tools]),
            ]
            let codes = await withTaskGroup(of: (Int, SessionManagerError.Code?).self) { group in
                for (index, filter) in filters.enumerated() {
                    group.addTask {
                        do throws(SessionManagerError) {
                            try await managers[0].listen(
                                "stream \(index)",
                                controller: MessageStream().controller,
                                filter: filter,
                                principal: nil
                            )
                            return (index, nil)
                        } catch {
                            return (index, error.code)
                        }
                    }
                }
                return await group.reduce(into: [Int: SessionManagerError.Code]()) { $0[$1.0] = $1.1 }
            }
            #expect(codes == [0: .invalidArgument, 2: .invalidArgument, 3: .invalidArgument])
            let isOpen = try await managers[0].has("stream 4")
            #expect(isOpen)
        }
    }

    @Test("A stream misses nothing when the connections of its process are lost, and large messages reach it")
    func lostConnections() async throws {
        let database = try TestDatabase()
        try await database.withManagers(2, configure: { $1.applicationName = "\(database.store)_\($0)" }) { managers in
            let stream = MessageStream()
            let filter = ChangeFilter(lists: [.tools], resources: ["note://a"])
            try await managers[0].listen("a", controller: stream.controller, filter: filter, principal: nil)
            let large = String(repeating: "x", count: 20_000)
            try await database.withConnection { observer in
                _ = try await observer.query(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = $1",
                    [.text("\(database.store)_0")]
                )
            }
            try await managers[1].broadcast(.tools, data: "1")
            try await managers[1].broadcast(.prompts, data: "not for it")
            try await managers[1].publish("note://a", data: large)
            try await managers[1].broadcast(.tools, data: large)
            try await managers[1].publish("note://a", data: "4")
            #expect(await stream.next(4).map(\.utf8.count) == [1, 20_000, 20_000, 1])
        }
    }

    @Test("A stream whose process was thought dead for too long is closed, so that its client listens again")
    func fenced() async throws {
        let database = try TestDatabase()
        try await database.withManagers(1) { managers in
            let stream = MessageStream()
            let filter = ChangeFilter(lists: [.tools])
            try await managers[0].listen("a", controller: stream.controller, filter: filter, principal: nil)
            try await database.withConnection { connection in
                // Another process finds it dead before it finds out itself.
                _ = try await connection.query(
                    """
                    WITH dead AS (
                        UPDATE tmcp.nodes SET heartbeat_at = '-infinity'
                        WHERE store = (SELECT store FROM tmcp.stores WHERE name = $1)
                    )
                    SELECT 1
                    """,
                    [.text(database.store)]
                )
                // One cleanup at a time does anything, and other tests have theirs.
                while try await connection.query(
                    "SELECT EXISTS (SELECT FROM tmcp.streams WHERE id = 'a' AND store = (SELECT store FROM tmcp.stores WHERE name = $1))",
                    [.text(database.store)]
                ).value() {
                    _ = try await connection.query("SELECT tmcp.cleanup()")
                }
            }
            #expect(await stream.next(1) == [])
            #expect(stream.closing == .purged)
            let again = MessageStream()
            try await managers[0].listen("again", controller: again.controller, filter: filter, principal: nil)
            try await managers[0].listChanged(.tools)
            #expect(await again.next(1) == [ChangeNotification.listChanged(.tools)])
        }
    }

    @Test("A stream that turns out to be gone while its message is read from the log ends as one that missed something")
    func goneDuringReplay() async throws {
        let database = try TestDatabase()
        try await database.withManagers(1) { managers in
            let stream = MessageStream()
            let filter = ChangeFilter(resources: ["note://a"])
            try await managers[0].listen("a", controller: stream.controller, filter: filter, principal: nil)
            try await database.withConnection { connection in
                // Without a word to its process, as if that had been lost.
                _ = try await connection.query("SET session_replication_role = replica")
                let deleted: Int64 = try await connection.query(
                    """
                    DELETE FROM tmcp.streams AS st USING tmcp.stores AS s
                    WHERE s.store = st.store AND s.name = $1 AND st.id = 'a' RETURNING st.stream
                    """,
                    [.text(database.store)]
                ).value()
                _ = try await connection.query(
                    """
                    SELECT pg_notify(n.channel, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint || ' ' || $1 || E' -\\n')
                    FROM tmcp.nodes AS n JOIN tmcp.stores AS s USING (store) WHERE s.name = $2
                    """,
                    [.text("\(deleted)"), .text(database.store)]
                )
            }
            #expect(await stream.next(1) == [])
            #expect(stream.closing == .purged)
        }
    }
}
