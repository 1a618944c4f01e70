import SessionManager
import SessionManagerPostgres

@main
struct Example {
    static func main() async throws {
        let url = CommandLine.arguments.dropFirst().first ?? "postgresql://localhost/postgres"
        let streams = PostgresStreamSessionManager(
            configuration: PostgresSessionConfiguration(connectionString: url)
        )
        let info = PostgresInfoSessionManager(sharing: streams)

        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { try await streams.run() }

            // In the process that holds the client's SSE stream:
            let messages = MessageStream()
            try await streams.create("session-2", controller: messages.controller)
            try await info.addSubscription("session-2", uri: "note://plan", principal: nil)

            // In any process:
            try await streams.resourceUpdated("note://plan")

            for await message in messages {
                print("id: \(message.eventID)\ndata: \(message.data)\n")
                break
            }
            group.cancelAll()
        }
    }
}
