//! Processes: run to the end within a deadline, or kept in the background.

use std::{
    io::{BufRead as _, BufReader, Read},
    os::unix::process::ExitStatusExt as _,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::wait;

/// What a finished process left.
#[derive(Clone, Debug)]
pub struct Finished {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl Finished {
    /// The exit status as a number; 128 + signal when it was killed.
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| 128 + self.status.signal().unwrap_or(0))
    }
}

/// Runs to the end and returns stdout; another status than 0 is an error that
/// carries stderr.
pub fn output(command: &mut Command) -> Result<String> {
    let finished = finish(command, Duration::from_secs(120))?;
    if !finished.status.success() {
        bail!("{command:?} ended with {}: {}", finished.status, finished.stderr.trim());
    }
    Ok(finished.stdout)
}

/// Runs to the end, whatever that is; kills it at the deadline.
pub fn finish(command: &mut Command, deadline: Duration) -> Result<Finished> {
    let mut process = Background::start(command)?;
    let name = format!("the end of {command:?}");
    let status = wait::until(&name, deadline, || process.child.try_wait().transpose());
    let status = match status {
        Ok(status) => status.context("cannot wait for a process")?,
        Err(late) => {
            process.kill();
            bail!("{late}\n{}{}", process.stdout(), process.stderr());
        }
    };
    process.join_readers();
    Ok(Finished { status, stdout: process.stdout(), stderr: process.stderr() })
}

/// A process whose output is collected while it runs; killed on drop.
#[derive(Debug)]
pub struct Background {
    child: Child,
    stdout: Arc<Mutex<Vec<u8>>>,
    stderr: Arc<Mutex<Vec<u8>>>,
    readers: Vec<thread::JoinHandle<()>>,
}

impl Background {
    pub fn start(command: &mut Command) -> Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("cannot run {command:?}"))?;
        let (stdout, out) = collect(child.stdout.take());
        let (stderr, err) = collect(child.stderr.take());
        Ok(Self { child, stdout, stderr, readers: [out, err].into_iter().flatten().collect() })
    }

    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    pub fn stdout(&self) -> String {
        text(&self.stdout)
    }

    pub fn stderr(&self) -> String {
        text(&self.stderr)
    }

    /// Its exit status, when it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill(self.pid(), signal).context("cannot send a signal")
    }

    /// Ends it by SIGKILL, and waits for that.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Waits for its own end.
    pub fn wait(&mut self, deadline: Duration) -> Result<ExitStatus> {
        let child = &mut self.child;
        let status =
            wait::until("the end of a process", deadline, || child.try_wait().transpose())?;
        self.join_readers();
        Ok(status?)
    }

    /// Waits for a line on stdout that starts so.
    pub fn wait_for_line(&mut self, start: &str) -> Result<String> {
        let what = format!("the line `{start}`");
        wait::until(&what, wait::DEADLINE, || {
            let line = self.stdout().lines().find(|line| line.starts_with(start)).map(String::from);
            match (line, self.ended()) {
                (Some(line), _) => Some(Ok(line)),
                (None, Some(status)) => {
                    Some(Err(anyhow::anyhow!("it ended with {status}: {}", self.stderr().trim())))
                }
                (None, None) => None,
            }
        })?
    }

    fn join_readers(&mut self) {
        for reader in self.readers.drain(..) {
            let _ = reader.join();
        }
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.kill();
    }
}

type Collected = (Arc<Mutex<Vec<u8>>>, Option<thread::JoinHandle<()>>);

fn collect(stream: Option<impl Read + Send + 'static>) -> Collected {
    let collected = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&collected);
    let reader = stream.map(|stream| {
        thread::spawn(move || {
            let mut stream = BufReader::new(stream);
            let mut line = Vec::new();
            while stream.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
                sink.lock().expect("no reader panics").append(&mut line);
            }
        })
    });
    (collected, reader)
}

fn text(collected: &Mutex<Vec<u8>>) -> String {
    String::from_utf8_lossy(&collected.lock().expect("no reader panics")).into_owned()
}
