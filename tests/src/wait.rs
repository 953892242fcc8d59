//! Waiting for something that becomes true.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

/// Long enough for a busy machine; reached only when something is wrong.
pub const DEADLINE: Duration = Duration::from_secs(20);

const INTERVAL: Duration = Duration::from_millis(5);

/// Asks until the answer is `Some`; at the deadline fails, saying what was
/// waited for.
pub fn until<T>(what: &str, deadline: Duration, mut ask: impl FnMut() -> Option<T>) -> Result<T> {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return Ok(answer);
        }
        if start.elapsed() > deadline {
            bail!("waited {deadline:?} in vain for {what}");
        }
        thread::sleep(INTERVAL);
    }
}

/// As [`until`], for a condition.
pub fn until_true(what: &str, mut ask: impl FnMut() -> bool) -> Result<()> {
    until(what, DEADLINE, || ask().then_some(()))
}
