//! A network namespace for one test, gone when it is dropped.

use std::{
    fs::File,
    process::{self, Command},
    thread,
};

use nix::{
    sched::{CloneFlags, setns},
    unistd::geteuid,
};

#[derive(Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// `None`, said aloud, where the test cannot run.
    pub fn new(role: &str) -> Option<Self> {
        if !geteuid().is_root() {
            assert!(std::env::var("CI").as_deref() != Ok("true"), "SKIP: needs root");
            eprintln!("SKIP: needs root");
            return None;
        }
        let name = format!("fw{}-{role}", process::id());
        output(Command::new("ip").args(["netns", "add", &name]));
        Some(Self { name })
    }

    pub fn ip(&self, line: &str) {
        output(Command::new("ip").args(["-n", &self.name]).args(line.split_whitespace()));
    }

    pub fn run(&self, program: &str, line: &str) {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, program]);
        output(command.args(line.split_whitespace()));
    }

    /// Runs `task` on a thread in the namespace; sockets made there stay in it.
    pub fn enter<T: Send>(&self, task: impl FnOnce() -> T + Send) -> T {
        let file = File::open(format!("/run/netns/{}", self.name)).unwrap();
        let inside = move || {
            setns(file, CloneFlags::CLONE_NEWNET).unwrap();
            task()
        };
        thread::scope(|scope| scope.spawn(inside).join().unwrap())
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.name]).status();
    }
}

fn output(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
