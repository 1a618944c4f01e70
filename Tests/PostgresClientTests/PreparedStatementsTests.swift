import Testing

@testable import PostgresClient

@Suite("Prepared statements")
struct PreparedStatementsTests {
    private let key = PreparedStatements.Key(sql: "SELECT $1", types: [25])

    @Test("A statement is prepared once, run unnamed until that is confirmed, and by its name from then on")
    func lifeCycle() {
        var statements = PreparedStatements()
        let first = statements.use(key)
        #expect(first == .prepare(name: "tmcp_1", key))
        #expect(statements.use(key) == .unnamed)
        statements.completed(first, sqlState: nil)
        #expect(statements.use(key) == .named(name: "tmcp_1", key))
    }

    @Test("The same text with other types is another statement")
    func types() {
        var statements = PreparedStatements()
        let other = PreparedStatements.Key(sql: key.sql, types: [20])
        statements.completed(statements.use(key), sqlState: nil)
        #expect(statements.use(other) == .prepare(name: "tmcp_2", other))
    }

    @Test("A failed preparation is tried again under another name")
    func failure() {
        var statements = PreparedStatements()
        statements.completed(statements.use(key), sqlState: "42P01")
        #expect(statements.use(key) == .prepare(name: "tmcp_2", key))
    }

    @Test("A statement is forgotten when the server has lost it or its result has changed, and for no other error")
    func forgotten() {
        var statements = PreparedStatements()
        for (sqlState, isForgotten) in [("22012", false), ("26000", true), ("0A000", true)] {
            if case .prepare = statements.use(key) { statements.completed(.prepare(name: "n", key), sqlState: nil) }
            let use = statements.use(key)
            statements.completed(use, sqlState: sqlState)
            if case .prepare = statements.use(key) {
                #expect(isForgotten)
                statements.completed(.prepare(name: "n", key), sqlState: nil)
            } else {
                #expect(!isForgotten)
            }
        }
    }

    @Test("Beyond the limit statements run unnamed")
    func limit() {
        var statements = PreparedStatements(limit: 2)
        for number in 0..<2 {
            let use = statements.use(PreparedStatements.Key(sql: "SELECT \(number)", types: []))
            statements.completed(use, sqlState: nil)
        }
        #expect(statements.use(key) == .unnamed)
    }
}
