import Foundation

/// What was measured, as a table for people and as JSON for programs.
struct Report: Codable {
    /// One line of the table.
    struct Row: Codable {
        let what: String
        let unit: String
        /// The median of each contestant.
        var medians: [String: Double] = [:]
        /// The median of the ratios of the rounds, tmcp to the other.
        var ratios: [String: Double] = [:]
        var target = ""
        /// Whether the target is met; `nil` where there is none.
        var isMet: Bool?
        var note: String?
    }

    var rows: [Row] = []
    var conditions: [String: String] = [:]

    private var samples: [String: [String: [Double]]] = [:]

    private enum CodingKeys: String, CodingKey {
        case rows, conditions
    }

    /// Keeps what one round measured.
    mutating func sample(_ what: String, _ design: Design, _ value: Double) {
        samples[what, default: [:]][design.rawValue, default: []].append(value)
        FileHandle.standardError.write(Data("  \(what): \(design) \(Report.text(value))\n".utf8))
    }

    /// The median of what was sampled.
    func median(_ what: String, _ design: Design) -> Double {
        samples[what]?[design.rawValue]?.median ?? .nan
    }

    /// Makes a row of the samples.
    ///
    /// - Parameter target: what it is called, and whether the ratios meet it.
    mutating func row(
        _ what: String,
        unit: String,
        target: String = "",
        note: String? = nil,
        isMet: ((_ ratio: (Design) -> Double) -> Bool)? = nil
    ) {
        var row = Row(what: what, unit: unit, target: target, note: note)
        let all = samples[what] ?? [:]
        row.medians = all.mapValues(\.median)
        let own = all[Design.tmcp.rawValue] ?? []
        for (design, values) in all where design != Design.tmcp.rawValue {
            row.ratios[design] = zip(own, values).map { $0 / $1 }.median
        }
        let ratios = row.ratios
        row.isMet = isMet.map { $0 { ratios[$0.rawValue] ?? .nan } }
        rows.append(row)
    }

    /// Adds a row about the contestant alone.
    mutating func row(
        _ what: String,
        unit: String,
        value: Double,
        target: String = "",
        isMet: Bool? = nil,
        note: String? = nil
    ) {
        rows.append(Row(what: what, unit: unit, medians: ["tmcp": value], target: target, isMet: isMet, note: note))
    }

    /// The table as text.
    var table: String {
        var lines = [["what", "unit", "tmcp", "(a)", "(b)", "(c)", "to (a)", "to (b)", "to (c)", "target", "met"]]
        for row in rows {
            lines.append(
                [row.what, row.unit]
                    + Design.allCases.map { row.medians[$0.rawValue].map(Report.text) ?? "" }
                    + [Design.obvious, .redis, .floor].map { row.ratios[$0.rawValue].map(Report.ratio) ?? "" }
                    + [row.target, row.isMet.map { $0 ? "yes" : "NO" } ?? ""]
            )
        }
        let widths = lines[0].indices.map { column in lines.map { $0[column].count }.max() ?? 0 }
        var text = lines.map { line in
            zip(line, widths).map { $0.padding(toLength: $1, withPad: " ", startingAt: 0) }.joined(separator: "  ")
        }
        text.insert(widths.map { String(repeating: "-", count: $0) }.joined(separator: "  "), at: 1)
        text += rows.compactMap { row in row.note.map { "\(row.what): \($0)" } }
        text += conditions.sorted { $0.key < $1.key }.map { "\($0.key): \($0.value)" }
        return text.joined(separator: "\n")
    }

    static func text(_ value: Double) -> String {
        guard value.isFinite else { return "-" }
        return abs(value) >= 100 ? String(format: "%.0f", value) : String(format: "%.3g", value)
    }

    private static func ratio(_ value: Double) -> String {
        value.isFinite ? (value >= 10 ? String(format: "%.0f x", value) : String(format: "%.3g x", value)) : "-"
    }
}
