extension [Int64] {
    /// The value below which such a part of the sorted values lies; 0 for none.
    func percentile(_ part: Double) -> Int64 {
        isEmpty ? 0 : self[Swift.min(count - 1, Int(Double(count) * part))]
    }
}

extension [Double] {
    /// The middle of the values, sorted; not a number for none.
    var median: Double {
        guard !isEmpty else { return .nan }
        let sorted = sorted()
        return count % 2 == 1 ? sorted[count / 2] : (sorted[count / 2 - 1] + sorted[count / 2]) / 2
    }
}
