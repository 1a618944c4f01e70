import Testing

@testable import PostgresClient

@Suite("Deadline queue")
struct DeadlineQueueTests {
    private let start = ContinuousClock.now

    @Test("Elements come out by deadline, equal ones in the order in which they went in, and none early")
    func order() {
        var queue = DeadlineQueue<Int>()
        let deadlines = [5, 3, 8, 3, 1, 9, 2, 3].map { start + .seconds($0) }
        for (number, deadline) in deadlines.enumerated() { _ = queue.insert(number, at: deadline) }
        #expect(queue.nextDeadline() == start + .seconds(1))
        #expect(queue.popDue(at: start) == nil)
        var due: [Int] = []
        while let element = queue.popDue(at: start + .seconds(5)) { due.append(element) }
        #expect(due == [4, 6, 1, 3, 7, 0])
        #expect(queue.count == 2)
        #expect(queue.nextDeadline() == start + .seconds(8))
    }

    @Test("A removed element never comes out, and its deadline is not waited for")
    func removal() {
        var queue = DeadlineQueue<String>()
        let first = queue.insert("first", at: start)
        _ = queue.insert("second", at: start + .seconds(1))
        #expect(queue.remove(first) == "first")
        #expect(queue.remove(first) == nil)
        #expect(queue.nextDeadline() == start + .seconds(1))
        #expect(queue.popDue(at: start + .seconds(2)) == "second")
        #expect(queue.nextDeadline() == nil)
    }

    @Test("Any mix of insertions and removals comes out as a sorted list would")
    func model() {
        var queue = DeadlineQueue<Int>()
        var model: [Int: ContinuousClock.Instant] = [:]
        var tickets: [Int: DeadlineQueue<Int>.Ticket] = [:]
        for number in 0..<5_000 {
            let deadline = start + .milliseconds(Int.random(in: 0..<1_000_000))
            tickets[number] = queue.insert(number, at: deadline)
            model[number] = deadline
            // Most timers are cancelled, as timeouts are.
            if number % 10 != 0, let ticket = tickets[number - 1] {
                queue.remove(ticket)
                model[number - 1] = nil
            }
        }
        var last = start
        while let deadline = queue.nextDeadline() {
            #expect(deadline >= last)
            last = deadline
            let element = queue.popDue(at: deadline)
            #expect(element.flatMap { model.removeValue(forKey: $0) } == deadline)
        }
        #expect(model.isEmpty)
    }
}
