import Foundation
import PostgresClient
import SessionManager
import Testing

@testable import SessionManagerPostgres

@Suite("A process that is stopped by a signal", .serialized, .timeLimit(.minutes(3)))
struct PausedProcessTests {
    /// What the process prints, see `Tests/StreamHolder`.
    private struct Holder {
        private let process: ChildProcess
        private(set) var positions: [String: EventID] = [:]
        /// The messages of each stream, as `{bytes} {data}`.
        private(set) var messages: [String: [String]] = [:]
        private(set) var closings: [String: String] = [:]

        /// Starts the process, and returns when it has opened its streams.
        init(_ database: TestDatabase, holding ids: [String]) async throws {
            let program = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath()
                .deletingLastPathComponent().appending(path: "stream-holder")
            process = try ChildProcess(program.path, [database.url, database.store] + ids)
            try await read { $0.positions.count == ids.count }
        }

        func signal(_ number: Int32) {
            process.signal(number)
        }

        /// Reads what it prints until a condition holds.
        mutating func read(until condition: (Holder) -> Bool) async throws {
            while !condition(self) {
                let line = try #require(await process.nextLine(), "the process has ended")
                let words = line.split(separator: " ", maxSplits: 3).map(String.init)
                switch words[0] {
                case "opened": positions[words[1]] = EventID(rawValue: try #require(Int64(words[2])))
                case "message": messages[words[1], default: []].append(words[3])
                default: closings[words[1]] = words[2]
                }
            }
        }

        /// Ends the process, and reads the rest.
        mutating func end(reading count: Int) async throws {
            signal(SIGCONT)
            await process.closeInput()
            try await read { $0.closings.count == count }
            #expect(await process.waitUntilExit() == 0, "a sanitizer's report, for instance")
        }
    }

    @Test("for longer than the freshness window closes what it has lost meanwhile, and goes on with the rest")
    func stopped() async throws {
        let database = try TestDatabase()
        try await database.withManagers(1) { managers in
            try await database.query(
                "SELECT tmcp.configure_store($1, freshness_window => '1 second')",
                [.text(database.store)]
            )
            let ids = ["kept", "quiet", "taken", "started", "ended"]
            var holder = try await Holder(database, holding: ids)
            try await managers[0].send(nil, data: "1")
            try await holder.read { holder in ids.allSatisfy { holder.messages[$0] == ["1 1"] } }

            holder.signal(SIGSTOP)
            // This one waits in its socket, and the rest in the log alone.
            try await managers[0].send(["kept", "taken", "ended"], data: "2")
            try await database.wait(
                until: """
                    SELECT st.node IS NULL FROM tmcp.streams AS st JOIN tmcp.stores AS s USING (store)
                    WHERE s.name = '\(database.store)' AND st.id = 'kept'
                    """
            )
            try await managers[0].send(["kept", "taken"], data: "3")
            let taken = MessageStream()
            try await managers[0].create(
                "taken",
                controller: taken.controller,
                options: StreamOptions(lastEventID: holder.positions["taken"])
            )
            let started = MessageStream()
            try await managers[0].create("started", controller: started.controller)
            try await managers[0].delete("ended")
            try await managers[0].send(nil, data: "4")
            try await managers[0].send(["kept"], data: String(repeating: "x", count: 10_000))

            holder.signal(SIGCONT)
            try await holder.read { $0.closings.count == 3 }
            #expect(holder.closings == ["taken": "takenOver", "started": "takenOver", "ended": "ended"])
            try await managers[0].send(["kept", "quiet", "taken"], data: "5")
            try await holder.read { $0.messages["kept"]?.last == "1 5" && $0.messages["quiet"]?.last == "1 5" }
            let large = "10000 " + String(repeating: "x", count: 20)
            #expect(holder.messages["kept"] == ["1 1", "1 2", "1 3", "1 4", large, "1 5"])
            #expect(holder.messages["quiet"] == ["1 1", "1 4", "1 5"])
            #expect(holder.messages["ended"]?.allSatisfy { ["1 1", "1 2"].contains($0) } == true)
            #expect(await taken.next(5) == ["1", "2", "3", "4", "5"])
            #expect(await started.next(1) == ["4"])

            try await holder.end(reading: ids.count)
            #expect(holder.closings["kept"] == "detached" && holder.closings["quiet"] == "detached")
            #expect(try await managers[0].has("kept") == false)
        }
    }
}
