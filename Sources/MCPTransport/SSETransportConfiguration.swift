/// How the HTTP+SSE transport behaves. The defaults are meant to be kept.
public struct SSETransportConfiguration: Sendable {
    /// The path that a client opens its stream on. Default: `/sse`.
    public var path = "/sse"

    /// The path that a client POSTs its messages to. Default: `/message`.
    public var endpoint = "/message"

    /// Makes the id of a new session: up to 255 visible ASCII characters without a slash, and nobody can guess the
    /// next one. Default: 128 random bits in hexadecimal digits.
    public var makeSessionID: @Sendable () -> String = { SecureRandom.hex(bytes: 16) }

    /// The pages whose requests are answered. Default: those of this machine. Origins of ``cors`` are let in as well.
    public var allowedOrigins: AllowedOrigins = .local

    /// The names, with port if there is one, under which clients may address the server, as in the `Host` header; in
    /// capitals or not. Default: `nil`, any.
    public var allowedHosts: [String]?

    /// Which pages of other origins may read responses. Default: `nil`, none, and no CORS header is sent.
    public var cors: CORS?

    /// The size of the largest request body, in bytes. Default: 4 MiB.
    public var maximumBodySize = 4 * 1_048_576

    /// How many messages one batch may hold. Default: 50.
    public var maximumBatchSize = 50

    /// How many bytes of messages may wait for a client that reads slowly before its session is ended. Default: 1 MiB.
    public var streamBufferSize = 1_048_576

    /// How often a comment is written to an open stream. Default: 15 seconds.
    public var keepAliveInterval: Duration = .seconds(15)

    /// How long a client waits before it opens a new session after its stream has ended. Default: 300 milliseconds.
    public var reconnectDelay: Duration = .milliseconds(300)

    /// How long a client may take to read what waits when its stream has ended. Default: 5 seconds.
    public var drainTime: Duration = .seconds(5)

    /// Whether the application serves HTTP/2, alone or next to HTTP/1.1. The connection of a GET's stream ends with
    /// the stream, and over HTTP/1.1 says so in advance with `Connection: close`, lest a proxy puts the next request
    /// on it; HTTP/2 forbids that header. Default: `false`.
    public var servesHTTP2 = false

    /// The default configuration.
    public init() {}
}
