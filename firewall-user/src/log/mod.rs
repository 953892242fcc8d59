//! Where the daemon's words go: to the systemd journal when stderr is connected
//! to it, else to stderr.
//!
//! Two kinds: what the daemon tells of itself (`tracing`), and the lines of LOG
//! rules, which keep the syslog level that their rule gives.

mod aside;
mod journal;
mod limit;

use std::io::{IsTerminal as _, Write as _, stderr};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::{fmt, layer::SubscriberExt as _, util::SubscriberInitExt as _};

use self::{aside::Aside, journal::Journal};
pub use self::{aside::speak_aside, limit::RateLimit};
use crate::cli::args::LogLevel;

/// The name under which journal and syslog show us.
const IDENTIFIER: &str = "firewall";

impl From<LogLevel> for LevelFilter {
    fn from(level: LogLevel) -> Self {
        match level {
            LogLevel::Error => Self::ERROR,
            LogLevel::Warn => Self::WARN,
            LogLevel::Info => Self::INFO,
            LogLevel::Debug => Self::DEBUG,
        }
    }
}

/// Begins to log what `tracing` and `log` are told. The first call counts.
pub fn init(level: LogLevel) {
    let registry = tracing_subscriber::registry().with(LevelFilter::from(level));
    let journal = journal::is_stderr().then(tracing_journald::layer).and_then(Result::ok);
    let started = match journal {
        Some(layer) => {
            let layer = layer.with_syslog_identifier(IDENTIFIER.into());
            registry.with(Aside(layer)).try_init()
        }
        None => {
            let layer = fmt::layer().with_writer(stderr).with_target(false);
            registry.with(Aside(layer.with_ansi(stderr().is_terminal()))).try_init()
        }
    };
    // Only a second call fails, and then the first one's choice holds.
    drop(started);
}

/// Writes the line of a LOG rule; `level` is syslog's, 0 (emerg) to 7 (debug).
///
/// A line for which the journal has no room is lost: the log never stops the
/// daemon. The caller limits how many lines there are, by a [`RateLimit`].
pub fn packet(level: u8, line: &str) {
    match Journal::of_stderr() {
        Some(journal) => journal.send(level, line),
        None => {
            let _ = writeln!(stderr().lock(), "{line}");
        }
    }
}
