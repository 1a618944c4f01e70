public import ServiceLifecycle

/// Lets a shutdown wait for the requests that are being handled, those whose clients have gone away included: a client
/// comes back for its answer, to any process.
///
/// Put the transports between the session manager and the application. Services end in the opposite order, so that no
/// request comes in any more, and the session manager still takes the answers:
///
/// ```swift
/// ServiceGroup(services: [streams, transport, application], gracefulShutdownSignals: [.sigterm], logger: logger)
/// ```
///
/// `maximumGracefulShutdownDuration` of the group says how long that may take.
extension HTTPTransport: Service {
    /// Returns when the application shuts down and every request has its answer.
    public func run() async throws {
        try await gracefulShutdown()
        await messages.inFlight.waitUntilAnswered()
    }
}

/// As for ``HTTPTransport``.
extension SSETransport: Service {
    /// Returns when the application shuts down and every request has its answer.
    public func run() async throws {
        try await gracefulShutdown()
        await messages.inFlight.waitUntilAnswered()
    }
}
