import PostgresClient
import SessionManager
import Testing

@testable import SessionManagerPostgres

@Suite("An error of the database", .timeLimit(.minutes(1)))
struct ErrorTests {
    @Test(
        "says what to do about it, and whether a batch that it ended is tried again one by one",
        arguments: [
            (PostgresError(.outcomeUnknown, "lost"), SessionManagerError.Code.outcomeUnknown, "no harm", false),
            (PostgresError(.server, "", sqlState: "57014"), .timeout, "statementTimeout", false),
            (PostgresError(.server, "", sqlState: "55P03"), .timeout, "lock", false),
            (PostgresError(.server, "", sqlState: "22021"), .invalidArgument, "\\u0000", true),
            (PostgresError(.invalidParameter, ""), .invalidArgument, "NUL", true),
            (PostgresError(.server, "", sqlState: "TM004", hint: "the server's own"), .messageTooLarge, "own", true),
        ]
    )
    func hints(error: PostgresError, code: SessionManagerError.Code, hint: String, isRefusal: Bool) {
        let error = SessionManagerError(error)
        #expect(error.code == code)
        #expect(error.hint?.contains(hint) == true)
        #expect(error.isRefusal == isRefusal)
    }

    @Test("is none of the server's when its answer was not understood: that was done, and is not done again")
    func misunderstood() {
        #expect(!SessionManagerError(PostgresError(.unexpectedResult, "")).isRefusal)
        #expect(!SessionManagerError(.database, "the database answered for 1 of 2 messages").isRefusal)
        #expect(SessionManagerError(PostgresError(.server, "", sqlState: "23505")).isRefusal)
    }

    @Test(
        "that keeps a process from starting sends nobody to look in the wrong place",
        arguments: [
            (PostgresError(.connectFailed, "refused"), "host and the port"),
            (PostgresError(.connectFailed, "", sqlState: "28P01"), "password"),
            (PostgresError(.connectFailed, "", sqlState: "3D000"), "database"),
            (PostgresError(.connectFailed, "", sqlState: "53300"), "max_connections"),
            (PostgresError(.connectFailed, "", sqlState: "57P03"), "refused"),
            (PostgresError(.cancelled, "the task was cancelled while connecting"), nil),
        ] as [(PostgresError, String?)]
    )
    func connecting(error: PostgresError, hint: String?) {
        let error = SessionManagerError(connecting: error)
        #expect(error.hint?.contains(hint ?? "") ?? (hint == nil))
        #expect(hint != nil || error.hint == nil)
    }
}
