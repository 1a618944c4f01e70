/// Parameters in the shape that libpq takes them.
struct EncodedParameters: Sendable {
    /// The most parameters that a statement can have: the protocol counts them in 16 bits.
    static let maximumCount = 65_535
    /// The most bytes that they can have together: the server takes no message of 1 GB.
    static let maximumLength = 1_000_000_000

    /// The values' types, 0 to have one inferred.
    private(set) var types: [UInt32] = []
    /// 1 for binary, 0 for text.
    private(set) var formats: [Int32] = []
    private(set) var lengths: [Int32] = []
    /// Where each value starts in ``bytes``; -1 for NULL.
    private(set) var offsets: [Int] = []
    /// All values, one after another.
    private(set) var bytes: [UInt8] = []

    /// Encodes parameters.
    ///
    /// - Throws: ``PostgresError/Code/invalidParameter`` for too many or too long ones, or an inferred one that
    ///   holds a NUL character.
    init(_ parameters: [PostgresParameter]) throws(PostgresError) {
        guard parameters.count <= Self.maximumCount else {
            throw PostgresError(.invalidParameter, "\(parameters.count) parameters; \(Self.maximumCount) at most")
        }
        types.reserveCapacity(parameters.count)
        formats.reserveCapacity(parameters.count)
        lengths.reserveCapacity(parameters.count)
        offsets.reserveCapacity(parameters.count)
        for parameter in parameters {
            try append(parameter)
        }
    }

    private mutating func append(_ parameter: PostgresParameter) throws(PostgresError) {
        switch parameter {
        case .text(let value):
            try append(.text, value) { $0.append(contentsOf: $1.utf8) }
        case .int8(let value):
            try append(.int8, value) { $0.append(bigEndian: $1) }
        case .bool(let value):
            try append(.bool, value) { $0.append($1 ? 1 : 0) }
        case .textArray(let value):
            try append(.textArray, value) { bytes, elements in
                bytes.append(elements, of: .text, length: \.utf8.count) { $0.append(contentsOf: $1.utf8) }
            }
        case .int8Array(let value):
            try append(.int8Array, value) { bytes, elements in
                bytes.append(elements, of: .int8, length: { _ in 8 }) { $0.append(bigEndian: $1) }
            }
        case .inferred(let value):
            guard value?.utf8.contains(0) != true else {
                throw PostgresError(.invalidParameter, "parameter $\(offsets.count + 1) holds a NUL character")
            }
            try append(nil, value) { $0.append(contentsOf: $1.utf8) }
        }
    }

    private mutating func append<Value>(
        _ type: PostgresType?,
        _ value: Value?,
        encode: (inout [UInt8], Value) -> Void
    ) throws(PostgresError) {
        types.append(type?.rawValue ?? 0)
        formats.append(type == nil ? 0 : 1)
        guard let value else {
            offsets.append(-1)
            lengths.append(0)
            return
        }
        let start = bytes.count
        encode(&bytes, value)
        guard bytes.count <= Self.maximumLength else {
            throw PostgresError(.invalidParameter, "the parameters are over \(Self.maximumLength) bytes")
        }
        offsets.append(start)
        lengths.append(Int32(bytes.count - start))
        // libpq finds the end of a value in the text format by its NUL, and has an empty value start somewhere.
        bytes.append(0)
    }

    /// Calls `body` with the number of parameters and the arrays of libpq's `PQsendQueryParams`.
    func withPointers<Value>(
        _ body: (
            _ count: Int32,
            _ types: UnsafePointer<UInt32>?,
            _ values: UnsafePointer<UnsafePointer<CChar>?>?,
            _ lengths: UnsafePointer<Int32>?,
            _ formats: UnsafePointer<Int32>?
        ) -> Value
    ) -> Value {
        guard !offsets.isEmpty else { return body(0, nil, nil, nil, nil) }
        return bytes.withUnsafeBytes { bytes in
            let values = offsets.map { offset in
                offset < 0 ? nil : bytes.baseAddress.map { ($0 + offset).assumingMemoryBound(to: CChar.self) }
            }
            return body(Int32(offsets.count), types, values, lengths, formats)
        }
    }
}

extension [UInt8] {
    fileprivate mutating func append(bigEndian value: some FixedWidthInteger) {
        Swift.withUnsafeBytes(of: value.bigEndian) { append(contentsOf: $0) }
    }

    /// Appends a binary array: the number of dimensions, whether there is a NULL, the element type; for the dimension
    /// its length and lower bound; then each element after its length, which is -1 for NULL.
    fileprivate mutating func append<Value>(
        _ elements: [Value?],
        of type: PostgresType,
        length: (Value) -> Int,
        encode: (inout [UInt8], Value) -> Void
    ) {
        append(bigEndian: Int32(elements.isEmpty ? 0 : 1))
        append(bigEndian: Int32(elements.contains { $0 == nil } ? 1 : 0))
        append(bigEndian: type.rawValue)
        guard !elements.isEmpty else { return }
        append(bigEndian: Int32(clamping: elements.count))
        append(bigEndian: Int32(1))
        for element in elements {
            guard let element else {
                append(bigEndian: Int32(-1))
                continue
            }
            append(bigEndian: Int32(clamping: length(element)))
            encode(&self, element)
        }
    }
}
