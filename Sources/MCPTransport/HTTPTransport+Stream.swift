import HTTPTypes
import Hummingbird
import Logging
import NIOCore
import SessionManager

extension HTTPTransport {
    /// GET: opens the session's standalone stream, or resumes the stream that `Last-Event-ID` names.
    func get(_ request: Request, from caller: MCPCaller, logger: Logger) async throws(Refusal) -> Response {
        guard RequestHead.accepts("text/event-stream", in: request.headers) else {
            throw Refusal(.notAcceptable, .refused("Accept must list text/event-stream"))
        }
        let cursor = try lastEvent(of: request)
        let session = try await activeSession(of: request, caller: caller)
        var request = request
        // A GET has no body; collecting it is what makes it safe to watch the connection afterwards.
        try await request.collectWholeBody(upTo: 1024)
        let stream = try await openStream(cursor, of: session, caller: caller, logger: logger)
        try await requireLive(session, of: stream, caller: caller)
        return streamResponse(
            stream,
            prelude: prelude(of: stream, after: cursor, for: session),
            watching: request
        )
    }

    /// A session that ended after it was looked up, and before its stream was opened, did not take this stream along.
    private func requireLive(
        _ session: ActiveSession,
        of stream: Exchange.OpenStream,
        caller: MCPCaller
    ) async throws(Refusal) {
        do throws(SessionManagerError) {
            if try await messages.info.metadata(session.id, principal: caller.principal) != nil { return }
            try await messages.streams.delete(stream.name.streamID(session: session.id))
        } catch {
            throw Refusal(error)
        }
        throw Refusal(.notFound, .sessionNotFound)
    }

    /// - Parameter request: the request of a GET; `nil` for the stream of a POST.
    func streamResponse(
        _ stream: Exchange.OpenStream,
        prelude: ByteBuffer,
        watching request: Request?
    ) -> Response {
        let reconnectDelay = configuration.reconnectDelay
        return respond(
            with: EventStreamResponse(
                stream: stream.outgoing,
                prelude: prelude,
                endsWithAnswer: stream.name != .standalone,
                // The handler of a POST runs in this process, and is waited for.
                closesOnShutdown: request != nil,
                timing: timing,
                encode: { message in
                    let cursor = EventCursor(stream: stream.name, eventID: message.eventID)
                    return ServerSentEvent.message(message.data, cursor: cursor)
                },
                epilogue: { $0.comesBack ? ServerSentEvent.retry(reconnectDelay) : nil }
            ),
            watching: request
        )
    }

    /// - Parameter request: the request whose connection is watched, and ends with the stream; `nil` for neither.
    func respond(with response: EventStreamResponse, watching request: Request?) -> Response {
        Response(
            status: .ok,
            headers: ServerSentEvent.headers(closing: request != nil && !configuration.servesHTTP2),
            body: response.body(watching: request)
        )
    }

    var timing: StreamTiming {
        StreamTiming(keepAliveInterval: configuration.keepAliveInterval, drainTime: configuration.drainTime)
    }

    private func lastEvent(of request: Request) throws(Refusal) -> EventCursor? {
        guard let text = try RequestHead.single(.lastEventID, in: request.headers), !text.isEmpty else { return nil }
        guard let cursor = EventCursor(parsing: text) else {
            throw Refusal(.badRequest, .invalidRequest("Last-Event-ID is not an id that this server gave out"))
        }
        return cursor
    }

    private func openStream(
        _ cursor: EventCursor?,
        of session: ActiveSession,
        caller: MCPCaller,
        logger: Logger
    ) async throws(Refusal) -> Exchange.OpenStream {
        let options = StreamOptions(
            lastEventID: cursor?.eventID,
            sessionID: session.id,
            principal: caller.principal
        )
        do throws(SessionManagerError) {
            let stream = try await messages.held.openStream(
                cursor?.stream ?? .standalone,
                of: session.id,
                bufferBytes: configuration.streamBufferSize,
                options: options,
                logger: logger
            )
            if stream.name != .standalone, stream.opening.replay == .purged {
                // The answer is lost with the rest. To leave the client waiting for it would be worse than to say so.
                await stream.outgoing.lease.release()
                throw SessionManagerError(.purged, "the log no longer reaches back to the event")
            }
            return stream
        } catch {
            guard error.code == .purged else { throw Refusal(error) }
            throw Refusal(.badRequest, .refused("The stream is no longer in the log: send the request again"))
        }
    }

    /// What the client needs before the first message: an id to resume from.
    func prelude(of stream: Exchange.OpenStream, after cursor: EventCursor?, for session: ActiveSession) -> ByteBuffer {
        // A client that resumes has an id already, unless what it stood for is gone.
        if cursor != nil, stream.opening.replay == .complete { return ServerSentEvent.comment("resumed") }
        var buffer = ServerSentEvent.comment(stream.opening.replay == .purged ? "purged" : "open")
        var priming = ServerSentEvent.priming(
            EventCursor(stream: stream.name, eventID: stream.opening.start),
            dispatched: session.protocolVersion >= .november2025
        )
        buffer.writeBuffer(&priming)
        return buffer
    }
}
