import Foundation
import Testing

/// How many descriptors and threads the process has.
struct ProcessResources {
    let descriptors: Int
    let threads: Int

    static func now() -> ProcessResources {
        func count(_ path: String) -> Int { (try? FileManager.default.contentsOfDirectory(atPath: path).count) ?? 0 }
        return ProcessResources(descriptors: count("/proc/self/fd"), threads: count("/proc/self/task"))
    }

    /// Other tests run at the same time, and a thread takes a moment to end: so with a margin, and not at once.
    static func expectNoGrowth(
        since before: ProcessResources,
        below margin: Int,
        sourceLocation: SourceLocation = #_sourceLocation
    ) async throws {
        let deadline = ContinuousClock.now + .seconds(20)
        var now = Self.now()
        while now.descriptors >= before.descriptors + margin || now.threads >= before.threads + margin,
            ContinuousClock.now < deadline
        {
            try await Task.sleep(for: .milliseconds(10))
            now = Self.now()
        }
        #expect(now.descriptors < before.descriptors + margin, sourceLocation: sourceLocation)
        #expect(now.threads < before.threads + margin, sourceLocation: sourceLocation)
    }
}
