import Foundation
import Logging
import SessionManager

/// Requests of the server to the client: sampling, elicitation, roots, ping.
///
/// The client POSTs its answer, which may reach another process. So whoever asks first opens a stream of its own,
/// within the session; the id of the JSON-RPC request says which. The process that gets the answer sends it to that
/// stream, and needs to know nothing else. An answer cannot leave its session: the id of a stream begins with that of
/// the session. And the end of the session ends the wait.
struct ClientRequests: Sendable {
    private static let idLength = 22

    let streams: any StreamSessionManager
    let held: HeldStreams

    /// Asks the client, and waits for its answer.
    ///
    /// - Parameter transmit: sends a message to the client.
    func send(
        _ method: String,
        params: [String: JSONValue],
        session: String,
        context: MCPContext,
        timeout: Duration,
        transmit: @escaping @Sendable (String) async throws(SessionManagerError) -> Void
    ) async throws -> JSONValue {
        let id = SecureRandom.base64URL(bytes: 16)
        let request: JSONValue = [
            "jsonrpc": "2.0", "id": .string(id), "method": .string(method), "params": .object(params),
        ]
        let answer = try await held.withPrivateStream(
            ClientRequests.streamID(id, session: session),
            session: session,
            principal: context.principal,
            logger: context.logger
        ) { messages in
            await ClientRequests.answer(from: messages, within: timeout) { () throws(SessionManagerError) in
                try await transmit(request.text)
            }
        }
        switch answer {
        case .success(let result): return try result.get()
        case .failure(let failure):
            if failure.shouldTellClient { await withdraw(id, because: failure, transmit: transmit) }
            throw failure.error
        }
    }

    /// Passes an answer on to whoever waits for it, in any process. Nobody may be waiting any more.
    func deliver(_ response: MCPResponse, session: String) async throws(SessionManagerError) {
        guard case .string(let id) = response.id, id.utf8.count == ClientRequests.idLength,
            id.utf8.allSatisfy(SecureRandom.isBase64URL)
        else { return }
        try await streams.send([ClientRequests.streamID(id, session: session)], data: response.text)
    }

    private static func streamID(_ id: String, session: String) -> String {
        "\(session)/answer-\(id)"
    }

    /// Why there is no answer.
    private enum Failure: Error {
        case notSent(SessionManagerError)
        case timedOut
        case cancelled
        case ended(StreamClosing?)

        var error: any Error {
            switch self {
            case .notSent(let error): error
            case .timedOut: ClientRequestError.timedOut
            case .cancelled: CancellationError()
            case .ended(.ended): ClientRequestError.sessionEnded
            case .ended: ClientRequestError.interrupted
            }
        }

        var shouldTellClient: Bool {
            switch self {
            case .timedOut, .cancelled: true
            case .notSent, .ended: false
            }
        }
    }

    private static func answer(
        from messages: MessageStream,
        within timeout: Duration,
        afterSending send: @escaping @Sendable () async throws(SessionManagerError) -> Void
    ) async -> Result<Result<JSONValue, MCPError>, Failure> {
        await withTaskGroup(of: Result<Result<JSONValue, MCPError>, Failure>.self) { group in
            group.addTask {
                do throws(SessionManagerError) {
                    try await send()
                } catch {
                    return .failure(.notSent(error))
                }
                for await message in messages {
                    if let json = try? JSONValue(parsing: Data(message.data.utf8)),
                        case .response(let response)? = try? MCPMessage(json)
                    {
                        return .success(response.outcome)
                    }
                }
                return .failure(Task.isCancelled ? .cancelled : .ended(messages.closing))
            }
            group.addTask {
                (try? await Task.sleep(for: timeout)) == nil ? .failure(.cancelled) : .failure(.timedOut)
            }
            let first = await group.next() ?? .failure(.cancelled)
            group.cancelAll()
            return first
        }
    }

    /// Tells the client that nobody waits any more, before the answer ends the stream. In a task of its own, since the
    /// caller's may be cancelled.
    private func withdraw(
        _ id: String,
        because failure: Failure,
        transmit: @escaping @Sendable (String) async throws(SessionManagerError) -> Void
    ) async {
        let reason: JSONValue = if case .timedOut = failure { "timed out" } else { "no longer needed" }
        let cancellation = MCPNotification(
            method: "notifications/cancelled",
            params: ["requestId": .string(id), "reason": reason]
        )
        // A client that cannot be reached any more waits for nothing either.
        await Task { try? await transmit(cancellation.text) }.value
    }
}

/// Why a request to the client has no answer.
public enum ClientRequestError: Error, Sendable, Hashable {
    /// The client did not answer in time. It was told that nobody waits any more.
    case timedOut
    /// The session ended.
    case sessionEnded
    /// This process lost its hold on the sessions, so that an answer would not find it.
    case interrupted
}
