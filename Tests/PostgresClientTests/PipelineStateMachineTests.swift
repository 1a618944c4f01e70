import Testing

@testable import PostgresClient

@Suite("Pipeline state machine")
struct PipelineStateMachineTests {
    private typealias Machine = PipelineStateMachine<Int, String, String, Int>

    private let refusal = PostgresError(.server, "division by zero", sqlState: "22012")
    private let termination = PostgresError(.server, "terminated", sqlState: "57P01", endsSession: true)
    private let loss = PostgresError(.connectionLost, "gone")

    /// A machine with calls that were submitted and sent.
    private func machine(sent count: Int, preliminaries: Int = 0) -> (Machine, [Int]) {
        var machine = Machine()
        let ids = (0..<count).map { number in
            let id = 100 + number
            machine.submit(id, "request \(number)", "caller \(number)")
            machine.sent(.unnamed, preliminaries: preliminaries)
            return id
        }
        return (machine, ids)
    }

    /// The completed call as text, or what else is to be done.
    private func receive(_ event: Machine.Event, _ machine: inout Machine) -> String {
        switch machine.received(event) {
        case .proceed: "proceed"
        case .complete(let caller, _, .success(let response)): "\(caller ?? "nobody") gets \(response)"
        case .complete(let caller, _, .failure(let error)): "\(caller ?? "nobody") gets \(error.sqlState ?? "")"
        case .giveUp: "give up"
        }
    }

    @Test("A call is over at its synchronization, not at its result")
    func success() {
        var (machine, _) = machine(sent: 2)
        #expect(receive(.response(1), &machine) == "proceed")
        #expect(receive(.endOfStatement, &machine) == "proceed")
        #expect(receive(.synchronized, &machine) == "caller 0 gets 1")
        #expect(receive(.response(2), &machine) == "proceed")
        #expect(receive(.endOfStatement, &machine) == "proceed")
        #expect(receive(.synchronized, &machine) == "caller 1 gets 2")
        #expect(machine.sentCount == 0)
    }

    @Test("A failed call leaves its neighbours alone")
    func failure() {
        var (machine, _) = machine(sent: 2)
        #expect(receive(.failure(refusal), &machine) == "proceed")
        #expect(receive(.endOfStatement, &machine) == "proceed")
        #expect(receive(.synchronized, &machine) == "caller 0 gets 22012")
        #expect(receive(.response(2), &machine) == "proceed")
        #expect(receive(.endOfStatement, &machine) == "proceed")
        #expect(receive(.synchronized, &machine) == "caller 1 gets 2")
    }

    @Test("The results of preliminary statements are not the call's")
    func preliminaries() {
        var (machine, _) = machine(sent: 1, preliminaries: 2)
        for response in [10, 11, 12] {
            #expect(receive(.response(response), &machine) == "proceed")
            #expect(receive(.endOfStatement, &machine) == "proceed")
        }
        #expect(receive(.synchronized, &machine) == "caller 0 gets 12")
    }

    @Test("When a preliminary statement fails the call fails with its error")
    func preliminaryFailure() {
        var (machine, _) = machine(sent: 1, preliminaries: 1)
        #expect(receive(.failure(refusal), &machine) == "proceed")
        #expect(receive(.endOfStatement, &machine) == "proceed")
        #expect(receive(.aborted, &machine) == "proceed")
        #expect(receive(.endOfStatement, &machine) == "proceed")
        #expect(receive(.synchronized, &machine) == "caller 0 gets 22012")
    }

    @Test("A call whose commit fails has failed, though it had a result")
    func commitFailure() {
        var (machine, _) = machine(sent: 1)
        #expect(receive(.response(1), &machine) == "proceed")
        #expect(receive(.endOfStatement, &machine) == "proceed")
        #expect(receive(.failure(refusal), &machine) == "proceed")
        #expect(receive(.endOfStatement, &machine) == "proceed")
        #expect(receive(.synchronized, &machine) == "caller 0 gets 22012")
    }

    @Test("While the socket takes no more, calls wait in order")
    func blocked() {
        var machine = Machine()
        machine.isOutputBlocked = true
        for number in 0..<3 { machine.submit(number, "request \(number)", "caller \(number)") }
        #expect(machine.nextRequest() == nil)
        machine.isOutputBlocked = false
        #expect(machine.nextRequest() == "request 0")
        machine.sent(.unnamed, preliminaries: 0)
        #expect(machine.nextRequest() == "request 1")
        #expect(machine.sentCount == 1)
        #expect(machine.waitingCount == 2)
    }

    @Test("Without pipelining a call waits until the one before it is answered")
    func oneByOne() {
        var (machine, _) = machine(sent: 1)
        machine.isPipelining = false
        machine.submit(1, "request 1", "caller 1")
        #expect(machine.nextRequest() == nil)
        _ = receive(.response(1), &machine)
        _ = receive(.endOfStatement, &machine)
        #expect(machine.nextRequest() == nil)
        _ = receive(.synchronized, &machine)
        #expect(machine.nextRequest() == "request 1")
    }

    @Test("A cancelled call that waits is never sent")
    func cancelWaiting() {
        var machine = Machine()
        let ids = (0..<3).map { number in
            let id = 100 + number
            machine.submit(id, "request \(number)", "caller \(number)")
            return id
        }
        #expect(machine.cancel(ids[1]) == "caller 1")
        #expect(machine.cancel(ids[1]) == nil)
        machine.sent(.unnamed, preliminaries: 0)
        #expect(machine.nextRequest() == "request 2")
    }

    @Test("A cancelled call that was sent keeps its place, and its result goes to nobody")
    func cancelSent() {
        var (machine, ids) = machine(sent: 2)
        #expect(machine.cancel(ids[0]) == "caller 0")
        #expect(machine.cancel(ids[0]) == nil)
        _ = receive(.response(1), &machine)
        _ = receive(.endOfStatement, &machine)
        #expect(receive(.synchronized, &machine) == "nobody gets 1")
        _ = receive(.response(2), &machine)
        _ = receive(.endOfStatement, &machine)
        #expect(receive(.synchronized, &machine) == "caller 1 gets 2")
        #expect(machine.cancel(ids[1]) == nil)
    }

    @Test("When the connection is lost, what was sent is unknown and what waits was not done")
    func lost() {
        var (machine, ids) = machine(sent: 3)
        machine.submit(3, "request 3", "caller 3")
        _ = machine.cancel(ids[1])
        let outcomes = machine.close(reason: loss)
        #expect(outcomes.map(\.0) == ["caller 0", "caller 2", "caller 3"])
        #expect(outcomes.map(\.1.code) == [.outcomeUnknown, .outcomeUnknown, .notExecuted])
        #expect(machine.close(reason: loss).isEmpty)
    }

    @Test("When the server says that it ends the session, that call was undone and the next were not begun")
    func terminated() {
        var (machine, _) = machine(sent: 2)
        _ = receive(.failure(termination), &machine)
        let outcomes = machine.close(reason: loss)
        #expect(outcomes.map(\.1.code) == [.server, .notExecuted])
        #expect(outcomes.first?.1.sqlState == "57P01")
    }

    @Test("When the session ends at the commit, the call's outcome is unknown")
    func terminatedAtCommit() {
        var (machine, _) = machine(sent: 2)
        _ = receive(.response(1), &machine)
        _ = receive(.endOfStatement, &machine)
        _ = receive(.failure(termination), &machine)
        #expect(machine.close(reason: loss).map(\.1.code) == [.outcomeUnknown, .outcomeUnknown])
    }

    @Test("A pooler that has lost its server does not know the outcome, so neither do we")
    func poolerLost() {
        var (machine, _) = machine(sent: 2)
        let crash = PostgresError(.server, "server conn crashed?", sqlState: "08P01", endsSession: true)
        _ = receive(.failure(crash), &machine)
        #expect(machine.close(reason: loss).map(\.1.code) == [.outcomeUnknown, .outcomeUnknown])
    }

    @Test("An ordinary error is the call's, also when the connection is lost before the synchronization")
    func lostAfterError() {
        var (machine, _) = machine(sent: 2)
        _ = receive(.failure(refusal), &machine)
        #expect(machine.close(reason: loss).map(\.1.code) == [.server, .outcomeUnknown])
    }

    @Test("Answers that fit no call end the connection instead of looping or trapping")
    func nonsense() {
        var empty = Machine()
        #expect(receive(.response(1), &empty) == "give up")
        #expect(receive(.synchronized, &empty) == "give up")

        var (silent, _) = machine(sent: 1)
        #expect(receive(.synchronized, &silent) == "give up")
        #expect(silent.close(reason: loss).map(\.1.code) == [.outcomeUnknown])

        var (endless, _) = machine(sent: 1)
        let actions = (0..<3).map { _ in receive(.endOfStatement, &endless) }
        #expect(actions.last == "give up")

        var (aborted, _) = machine(sent: 1)
        #expect(receive(.aborted, &aborted) == "give up")
    }
}
