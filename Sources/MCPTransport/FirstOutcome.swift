/// What happens first, for the one task that waits for it. Later outcomes do not count.
struct FirstOutcome<Outcome: Sendable> {
    /// `nil` as long as nothing has happened.
    private(set) var outcome: Outcome?
    private var waiter: CheckedContinuation<Outcome, Never>?

    mutating func settle(_ outcome: Outcome) {
        guard self.outcome == nil else { return }
        self.outcome = outcome
        waiter?.resume(returning: outcome)
        waiter = nil
    }

    /// Has a task resumed with the outcome, now or when there is one.
    mutating func tell(_ waiter: CheckedContinuation<Outcome, Never>) {
        if let outcome { waiter.resume(returning: outcome) } else { self.waiter = waiter }
    }
}
