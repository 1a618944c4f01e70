import SessionManager

@testable import MCPTransport

/// Answers methods whose names say what they do.
struct TestHandler: MCPHandler {
    struct Failure: Error {
        var secret = "password=hunter2"
    }

    static let capabilities: JSONValue = [
        "prompts": ["listChanged": true], "resources": ["listChanged": true, "subscribe": true],
        "tools": ["listChanged": true],
    ]

    let gate = Gate()

    func respond(to request: MCPRequest, context: MCPContext) async throws -> JSONValue {
        switch request.method {
        case "initialize":
            return ["capabilities": TestHandler.capabilities, "serverInfo": ["name": "test", "version": "1"]]
        case "echo": return .object(request.params)
        case "fail": throw Failure()
        case "refuse": throw MCPError.invalidParams("no")
        case "code": throw MCPError(code: request.params["code"]?.integer.map(Int.init(clamping:)) ?? 0, message: "no")
        case "principal": return ["principal": context.principal.map { .string($0) } ?? .null]
        case "client": return context.session.clientCapabilities ?? .null
        case "progress":
            try await context.reportProgress(1, total: 2)
            try await context.reportProgress(2, total: 2)
            return ["done": true]
        case "progress-then-wait":
            try await context.reportProgress(1)
            try await gate.wait()
            return ["done": true]
        case "wait":
            await gate.entered()
            try await gate.wait()
            return ["done": true]
        case "ask":
            return try await context.request("sampling/createMessage", params: request.params)
        case "ask-briefly":
            do {
                return try await context.request("ping", timeout: .milliseconds(50))
            } catch ClientRequestError.timedOut {
                return "timed out"
            }
        case "tools/call": return try await callTool(request, context)
        case "tools/list": return ["tools": []]
        case "resources/read": throw MCPError.resourceNotFound(request.params["uri"]?.string ?? "")
        case "need-sampling": throw MCPError.missingClientCapability(["sampling": [:]])
        case "log":
            for level in ["debug", "error"] {
                try await context.notify(
                    MCPNotification(method: "notifications/message", params: ["level": .string(level), "data": "x"])
                )
            }
            return [:]
        case "subscribe":
            try await context.subscribe(to: request.params["uri"]?.string ?? "")
            return [:]
        default: throw MCPError.methodNotFound(request.method)
        }
    }

    /// Everybody may hear of lists but prompts, and of what is not secret.
    func authorize(_ filter: ChangeFilter, context: MCPContext) async throws -> ChangeFilter {
        if context.principal == "banned" { throw MCPError.invalidParams("no") }
        var allowed = ChangeFilter(
            lists: filter.lists.subtracting([.prompts]),
            resources: filter.resources.filter { !$0.contains("secret") || context.principal == "alice" }
        )
        // More than was asked for does not count.
        allowed.lists.insert(.resources)
        allowed.resources.append("note://unasked")
        return allowed
    }

    private func callTool(_ request: MCPRequest, _ context: MCPContext) async throws -> JSONValue {
        let arguments = request.params["arguments"]
        switch request.params["name"] {
        case "region":
            for name in ["Region", "Count", "Exact"] {
                try context.requireParameterHeader(name, matches: arguments?[name.lowercased()])
            }
            return ["content": []]
        case "no-token": try context.requireParameterHeader("no token", matches: "a")
        case "ask": return ["content": [try await context.request("elicitation/create")]]
        case "ask-url": return ["content": [try await context.request("elicitation/create", params: ["mode": "url"])]]
        case "ask-model": return ["content": [try await context.request("sampling/createMessage")]]
        case "ask-tools":
            return ["content": [try await context.request("sampling/createMessage", params: ["tools": []])]]
        case "ask-ping": return ["content": [try await context.request("ping")]]
        case "two-questions":
            let name = try await context.request("elicitation/create", params: ["message": "name?"])
            let colour = try await context.request("elicitation/create", params: ["message": "colour?"])
            return ["content": [name, colour]]
        default: break
        }
        return ["content": [], "name": request.params["name"] ?? .null]
    }

    func receive(_ notification: MCPNotification, context: MCPContext) async throws {
        if notification.method == "tell-session" {
            try await context.notify(MCPNotification(method: "told", params: notification.params))
        }
    }
}

/// Holds handlers back until a test lets them go on, or cancels them.
actor Gate {
    private var isOpen = false
    private var waiting: [Int: CheckedContinuation<Void, any Error>] = [:]
    private var last = 0
    private var arrivals = 0
    private var arrivalWaiter: CheckedContinuation<Void, Never>?
    private(set) var cancellations = 0

    func open() {
        isOpen = true
        for continuation in waiting.values { continuation.resume() }
        waiting = [:]
    }

    func entered() {
        arrivals += 1
        arrivalWaiter?.resume()
        arrivalWaiter = nil
    }

    func waitForArrival() async {
        if arrivals > 0 { return }
        await withCheckedContinuation { arrivalWaiter = $0 }
    }

    func wait() async throws {
        if isOpen { return }
        last += 1
        let number = last
        try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { (continuation: CheckedContinuation<Void, any Error>) in
                if Task.isCancelled {
                    cancellations += 1
                    continuation.resume(throwing: CancellationError())
                } else {
                    waiting[number] = continuation
                }
            }
        } onCancel: {
            Task { await cancel(number) }
        }
    }

    private func cancel(_ number: Int) {
        guard let continuation = waiting.removeValue(forKey: number) else { return }
        cancellations += 1
        continuation.resume(throwing: CancellationError())
    }
}
