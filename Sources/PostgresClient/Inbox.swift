/// Where any thread leaves something for one to take.
package final class Inbox<Element: Sendable>: @unchecked Sendable {
    /// What became of an element.
    package enum Outcome {
        /// The inbox was empty: whoever takes is to be told.
        case first
        /// There were others, so that whoever takes has been told.
        case another
        /// It was not taken any more.
        case closed
    }

    // Under the lock.
    private let lock = Lock()
    private var elements: [Element] = []
    private var isClosed = false

    package init() {}

    /// How many elements wait.
    package var count: Int { lock.withLock { elements.count } }

    /// Leaves an element. Any thread may call it.
    package func append(_ element: Element) -> Outcome {
        lock.withLock {
            guard !isClosed else { return .closed }
            elements.append(element)
            return elements.count == 1 ? .first : .another
        }
    }

    /// Takes what was left, in the order in which it came.
    package func takeAll() -> [Element] {
        lock.withLock {
            defer { elements = [] }
            return elements
        }
    }

    /// Takes nothing more.
    package func close() {
        lock.withLock { isClosed = true }
    }
}
