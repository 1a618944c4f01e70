import SessionManager
import Testing

@Suite struct MessageStreamTests {
    static func message(_ id: Int64, size: Int = 1) -> StreamMessage {
        StreamMessage(eventID: EventID(rawValue: id), data: String(repeating: "x", count: size))
    }

    @Test("Messages are read in order, and afterwards the reason of the end")
    func order() async {
        let stream = MessageStream()
        #expect(stream.controller.enqueue(MessageStreamTests.message(1)))
        #expect(stream.controller.enqueue(MessageStreamTests.message(2)))
        #expect(stream.closing == nil)
        stream.controller.close(.takenOver)
        stream.controller.close(.ended)
        var ids: [Int64] = []
        for await message in stream { ids.append(message.eventID.rawValue) }
        #expect(ids == [1, 2])
        #expect(stream.closing == .takenOver)
    }

    /// A limit for so many bytes of data in so many messages.
    static func limit(_ bytes: Int, messages: Int) -> Int { bytes + messages * MessageStream.bytesPerMessage }

    @Test("A full buffer takes nothing more until something was read")
    func bound() async {
        let stream = MessageStream(byteLimit: MessageStreamTests.limit(10, messages: 2))
        var iterator = stream.makeAsyncIterator()
        #expect(stream.controller.enqueue(MessageStreamTests.message(1, size: 6)))
        #expect(!stream.controller.enqueue(MessageStreamTests.message(2, size: 5)))
        #expect(stream.controller.enqueue(MessageStreamTests.message(3, size: 4)))
        #expect(await iterator.next()?.eventID.rawValue == 1)
        #expect(stream.controller.enqueue(MessageStreamTests.message(4, size: 6)))
        #expect(!stream.controller.enqueue(MessageStreamTests.message(5, size: 1)))
    }

    @Test("A message over the bound is taken when nothing else waits")
    func largeMessage() async {
        let stream = MessageStream(byteLimit: 10)
        var iterator = stream.makeAsyncIterator()
        #expect(stream.controller.enqueue(MessageStreamTests.message(1, size: 100)))
        #expect(!stream.controller.enqueue(MessageStreamTests.message(2, size: 1)))
        #expect(await iterator.next()?.data.count == 100)
        #expect(stream.controller.enqueue(MessageStreamTests.message(3, size: 100)))
    }

    @Test("Empty messages fill the buffer, too, and are waited for")
    func emptyMessages() async {
        let stream = MessageStream(byteLimit: MessageStreamTests.limit(0, messages: 3))
        for id in 1...3 as ClosedRange<Int64> {
            #expect(stream.controller.enqueue(MessageStreamTests.message(id, size: 0)))
        }
        #expect(!stream.controller.enqueue(MessageStreamTests.message(4, size: 0)))
        async let drained: Void = stream.controller.waitUntilDrained()
        var iterator = stream.makeAsyncIterator()
        for id in 1...3 as ClosedRange<Int64> { #expect(await iterator.next()?.eventID.rawValue == id) }
        await drained
    }

    @Test("Nothing is taken after the end, or when nobody reads any more")
    func end() async {
        let closed = MessageStream()
        closed.controller.close(.ended)
        #expect(!closed.controller.enqueue(MessageStreamTests.message(1)))

        let abandoned = MessageStream()
        let reader = Task { for await _ in abandoned {} }
        reader.cancel()
        await reader.value
        #expect(!abandoned.controller.enqueue(MessageStreamTests.message(1)))
    }

    @Test("A reader and a writer in different threads lose nothing and break no bound")
    func concurrency() async {
        let stream = MessageStream(byteLimit: MessageStreamTests.limit(100, messages: 10))
        let controller = stream.controller
        let writer = Task.detached {
            for id in 1...10_000 as ClosedRange<Int64> {
                while !controller.enqueue(MessageStreamTests.message(id, size: 7)) {
                    await controller.waitUntilDrained()
                }
            }
            controller.close(.ended)
        }
        var expected: Int64 = 1
        for await message in stream {
            #expect(message.eventID.rawValue == expected)
            expected += 1
        }
        await writer.value
        #expect(expected == 10_001)
    }
}
