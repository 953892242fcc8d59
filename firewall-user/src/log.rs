pub fn init(_: crate::cli::args::LogLevel) {}
pub fn packet(level: u8, line: &str) {
    eprintln!("<{level}>{line}");
}
