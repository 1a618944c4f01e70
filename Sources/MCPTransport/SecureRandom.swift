/// Random text from the operating system's secure generator.
enum SecureRandom {
    private static let base64URLAlphabet = Array(
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_".utf8
    )

    /// `count` bytes as hexadecimal digits.
    static func hex(bytes count: Int) -> String {
        hex(bytes(count))
    }

    /// `bytes`, which need not be random, as hexadecimal digits.
    static func hex(_ bytes: some Sequence<UInt8>) -> String {
        bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
    }

    /// At least `count` bytes' worth of randomness as characters of base64url, six bits each.
    static func base64URL(bytes count: Int) -> String {
        let characters = (count * 8 + 5) / 6
        return String(decoding: bytes(characters).map { base64URLAlphabet[Int($0 & 63)] }, as: UTF8.self)
    }

    static func isBase64URL(_ byte: UInt8) -> Bool { base64URLAlphabet.contains(byte) }

    private static func bytes(_ count: Int) -> [UInt8] {
        var generator = SystemRandomNumberGenerator()
        return (0..<count).map { _ in UInt8.random(in: .min ... .max, using: &generator) }
    }
}
