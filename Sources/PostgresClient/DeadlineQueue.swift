/// Elements that each wait for a moment, earliest first: a binary heap with removal by ticket.
struct DeadlineQueue<Element> {
    /// Names an element that was inserted, so that it can be removed before its time.
    struct Ticket: Hashable, Sendable {
        fileprivate let number: UInt64
    }

    private struct Entry {
        let deadline: ContinuousClock.Instant
        let number: UInt64

        /// Equal deadlines come out in the order in which they went in.
        func precedes(_ other: Entry) -> Bool {
            deadline == other.deadline ? number < other.number : deadline < other.deadline
        }
    }

    /// Holds entries of removed elements too, until they surface or outnumber the rest.
    private var heap: [Entry] = []
    private var elements: [UInt64: Element] = [:]
    private var lastNumber: UInt64 = 0

    init() {}

    /// How many elements wait.
    var count: Int { elements.count }

    /// Inserts an element that is due at `deadline`.
    mutating func insert(_ element: Element, at deadline: ContinuousClock.Instant) -> Ticket {
        lastNumber += 1
        elements[lastNumber] = element
        heap.append(Entry(deadline: deadline, number: lastNumber))
        siftUp(from: heap.count - 1)
        return Ticket(number: lastNumber)
    }

    /// Takes out an element before its time; `nil` if it is no longer there.
    @discardableResult
    mutating func remove(_ ticket: Ticket) -> Element? {
        let element = elements.removeValue(forKey: ticket.number)
        if heap.count > 64, heap.count > 2 * elements.count {
            compact()
        }
        return element
    }

    /// The earliest deadline of an element that still waits.
    mutating func nextDeadline() -> ContinuousClock.Instant? {
        while let first = heap.first, elements[first.number] == nil {
            removeFirst()
        }
        return heap.first?.deadline
    }

    /// Takes out the earliest element that is due at `now`, if there is one.
    mutating func popDue(at now: ContinuousClock.Instant) -> Element? {
        guard let deadline = nextDeadline(), deadline <= now else { return nil }
        let first = heap[0]
        removeFirst()
        return elements.removeValue(forKey: first.number)
    }

    private mutating func compact() {
        // An array sorted by deadline is a heap.
        heap = heap.filter { elements[$0.number] != nil }.sorted { $0.precedes($1) }
    }

    private mutating func removeFirst() {
        let last = heap.removeLast()
        guard !heap.isEmpty else { return }
        heap[0] = last
        siftDown(from: 0)
    }

    private mutating func siftUp(from start: Int) {
        var child = start
        while child > 0 {
            let parent = (child - 1) / 2
            guard heap[child].precedes(heap[parent]) else { return }
            heap.swapAt(child, parent)
            child = parent
        }
    }

    private mutating func siftDown(from start: Int) {
        var parent = start
        while true {
            var first = parent
            for child in [2 * parent + 1, 2 * parent + 2] where child < heap.count && heap[child].precedes(heap[first])
            {
                first = child
            }
            guard first != parent else { return }
            heap.swapAt(first, parent)
            parent = first
        }
    }
}
