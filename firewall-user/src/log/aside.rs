//! Words of a thread that waits for nobody: another one says them.
//!
//! Who reads the log may stop reading: a pipe that nobody empties, a journal that hangs. Whoever
//! writes then stands still, and a thread that must not hands its lines over, as long as there is
//! room for them.

use std::{
    cell::RefCell,
    fmt::{self, Write as _},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread,
};

use anyhow::{Context as _, Result};
use tracing::{
    Dispatch, Event, Level, Subscriber, dispatcher,
    field::{Field, Visit},
};
use tracing_subscriber::{Layer, layer::Context, registry::LookupSpan};

/// Lines that wait to be said.
const LINES: usize = 1_024;

thread_local! {
    static ASIDE: RefCell<Option<Sayings>> = const { RefCell::new(None) };
}

struct Sayings {
    lines: SyncSender<(Level, String)>,
    lost: Arc<AtomicU64>,
}

/// From now on another thread says what this one has to say.
///
/// # Errors
/// When there can be no thread.
pub fn speak_aside() -> Result<()> {
    let (lines, said) = sync_channel(LINES);
    let lost = Arc::new(AtomicU64::new(0));
    let log = dispatcher::get_default(Dispatch::clone);
    let missing = Arc::clone(&lost);
    thread::Builder::new()
        .name("log".to_owned())
        .spawn(move || dispatcher::with_default(&log, || say(&said, &missing)))
        .context("cannot start the thread of the log")?;
    ASIDE.set(Some(Sayings { lines, lost }));
    Ok(())
}

fn say(lines: &Receiver<(Level, String)>, lost: &AtomicU64) {
    while let Ok((level, line)) = lines.recv() {
        match level {
            Level::ERROR => tracing::error!(target: "helper", "{line}"),
            Level::WARN => tracing::warn!(target: "helper", "{line}"),
            Level::INFO => tracing::info!(target: "helper", "{line}"),
            _ => tracing::debug!(target: "helper", "{line}"),
        }
        let lost = lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            tracing::warn!(target: "helper", "{lost} lines were left out: the log was not read");
        }
    }
}

/// A layer that gets what such a thread says from the other one.
#[derive(Debug)]
pub struct Aside<L>(pub L);

impl<S, L> Layer<S> for Aside<L>
where
    S: Subscriber + for<'s> LookupSpan<'s>,
    L: Layer<S>,
{
    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        ASIDE.with_borrow(|sayings| match sayings {
            Some(sayings) => sayings.take(event),
            None => self.0.on_event(event, context),
        });
    }
}

impl Sayings {
    fn take(&self, event: &Event<'_>) {
        let mut line = Line::default();
        event.record(&mut line);
        let is_lost = matches!(
            self.lines.try_send((*event.metadata().level(), line.0)),
            Err(TrySendError::Full(_))
        );
        self.lost.fetch_add(u64::from(is_lost), Ordering::Relaxed);
    }
}

/// An event's words.
#[derive(Default)]
struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a string does not fail.
        let _ = match field.name() {
            "message" => write!(self.0, "{value:?}"),
            name => write!(self.0, " {name}={value:?}"),
        };
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, mpsc};

    use tracing_subscriber::{layer::SubscriberExt as _, registry};

    use super::*;

    /// A log that stands still at its first line, until it is told to go on.
    struct Stuck {
        go_on: Mutex<Receiver<()>>,
        heard: mpsc::Sender<String>,
    }

    impl<S: Subscriber> Layer<S> for Stuck {
        fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
            let _ = self.go_on.lock().unwrap().recv();
            let mut line = Line::default();
            event.record(&mut line);
            self.heard.send(line.0).unwrap();
        }
    }

    #[test]
    fn a_thread_goes_on_while_nobody_reads_the_log_and_what_is_left_out_is_told() {
        const SAID: usize = 3 * LINES;
        let (go_on, stuck) = mpsc::channel();
        let (heard, hearing) = mpsc::channel();
        let log = registry().with(Aside(Stuck { go_on: Mutex::new(stuck), heard }));
        let talk = move || {
            tracing::subscriber::with_default(log, || {
                speak_aside().unwrap();
                for number in 0..SAID {
                    tracing::warn!("line {number}");
                }
            });
        };
        // It ends, though nothing was read.
        thread::spawn(talk).join().unwrap();
        drop(go_on);
        let heard: Vec<_> = hearing.iter().collect();
        assert_eq!(heard[0], "line 0");
        let told: usize = heard
            .iter()
            .filter_map(|line| line.strip_suffix(" lines were left out: the log was not read"))
            .map(|lost| lost.parse::<usize>().unwrap())
            .sum();
        assert!(told > 0);
        let lines = heard.iter().filter(|line| line.starts_with("line ")).count();
        assert_eq!(lines + told, SAID);
    }
}
