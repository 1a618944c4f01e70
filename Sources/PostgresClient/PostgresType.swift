/// The object id of a type, as `pg_type` has it.
struct PostgresType: RawRepresentable, Hashable, Sendable {
    let rawValue: UInt32

    static let bool = PostgresType(rawValue: 16)
    static let bytea = PostgresType(rawValue: 17)
    static let char = PostgresType(rawValue: 18)
    static let name = PostgresType(rawValue: 19)
    static let int8 = PostgresType(rawValue: 20)
    static let int2 = PostgresType(rawValue: 21)
    static let int4 = PostgresType(rawValue: 23)
    static let text = PostgresType(rawValue: 25)
    static let oid = PostgresType(rawValue: 26)
    static let json = PostgresType(rawValue: 114)
    static let float4 = PostgresType(rawValue: 700)
    static let float8 = PostgresType(rawValue: 701)
    static let unknown = PostgresType(rawValue: 705)
    static let textArray = PostgresType(rawValue: 1009)
    static let bpchar = PostgresType(rawValue: 1042)
    static let int8Array = PostgresType(rawValue: 1016)
    static let varchar = PostgresType(rawValue: 1043)
    static let jsonb = PostgresType(rawValue: 3802)
}
