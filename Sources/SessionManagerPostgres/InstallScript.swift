/// The plain install script, for servers that do not have the files of the extension.
enum InstallScript {
    static let text = ""
}
