/// How the Streamable HTTP transport behaves. The defaults are meant to be kept.
public struct HTTPTransportConfiguration: Sendable {
    /// The path of the endpoint; `nil` answers on every path. Default: `/mcp`.
    public var path: String? = "/mcp"

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

    /// Whether GET is answered with 405: then nothing reaches a client that has no request under way. Default: `false`.
    public var disableSSE = false

    /// The size of the largest request body, in bytes. Default: 4 MiB.
    public var maximumBodySize = 4 * 1_048_576

    /// How many messages one batch may hold (revision 2025-03-26 alone has batches). Default: 50.
    public var maximumBatchSize = 50

    /// How many bytes of messages may wait for a client that reads slowly before its stream is cut off. The client can
    /// resume it. Default: 1 MiB.
    public var streamBufferSize = 1_048_576

    /// How often a comment is written to an open stream. Default: 15 seconds.
    public var keepAliveInterval: Duration = .seconds(15)

    /// How long a client waits before it comes back to a stream that the server has let go of. Default: 300
    /// milliseconds.
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
