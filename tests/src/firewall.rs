//! The firewall in a namespace, with a pinned directory of its own.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Once,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use nix::{
    mount::{MsFlags, mount},
    sys::{
        signal::Signal,
        statfs::{BPF_FS_MAGIC, statfs},
    },
};
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    Netns,
    command::{Background, Finished, finish},
    netns, wait,
};

/// A gateway behind which clients reach FTP servers, and nothing else.
pub const FTP_RULES: &str = "\
*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
-A FORWARD -m state --state ESTABLISHED,RELATED -j ACCEPT
-A FORWARD -i eth0 -p tcp --dport 21 -m state --state NEW -j ACCEPT
COMMIT
";

const BPFFS: &str = "/sys/fs/bpf";
const DEADLINE: Duration = Duration::from_secs(30);

/// `$FIREWALL_BIN`, or what was built last in `target`, linked as a whole or not.
pub fn binary() -> Result<PathBuf> {
    if let Some(chosen) = env::var_os("FIREWALL_BIN") {
        return Ok(PathBuf::from(chosen));
    }
    let target =
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("a workspace")?.join("target");
    let whole = target.join(format!("{}-unknown-linux-musl", env::consts::ARCH));
    let built = ["release", "debug"].into_iter().flat_map(|profile| {
        [&target, &whole].map(|directory| directory.join(profile).join("firewall"))
    });
    let newest = built.filter_map(|file| {
        let changed = fs::metadata(&file).ok()?.modified().ok()?;
        Some((changed, file))
    });
    let newest = newest.max().map(|(_, file)| file);
    newest.context("needs the firewall's binary; run: cargo build --bin firewall")
}

/// What to start: interfaces, rules, further options.
#[derive(Clone, Debug, Default)]
pub struct Setup {
    interfaces: Vec<String>,
    rules: Option<String>,
    rules6: Option<String>,
    options: Vec<String>,
}

impl Setup {
    pub fn on(interfaces: &[&str]) -> Self {
        let interfaces = interfaces.iter().map(ToString::to_string).collect();
        Self { interfaces, ..Self::default() }
    }

    /// The IPv4 rules, as text.
    #[must_use]
    pub fn rules(mut self, rules: &str) -> Self {
        self.rules = Some(rules.into());
        self
    }

    /// The IPv6 rules, as text.
    #[must_use]
    pub fn rules6(mut self, rules: &str) -> Self {
        self.rules6 = Some(rules.into());
        self
    }

    /// The same rules for both families.
    #[must_use]
    pub fn both(self, rules: &str) -> Self {
        self.rules(rules).rules6(rules)
    }

    #[must_use]
    pub fn option(mut self, option: &str) -> Self {
        self.options.push(option.into());
        self
    }

    /// Starts it; it judges packets when this returns.
    pub fn start(self, netns: &Netns) -> Result<Firewall<'_>> {
        let mut firewall = Firewall::prepare(netns, self)?;
        firewall.restart()?;
        Ok(firewall)
    }

    /// Chooses the pinned directory and writes the rules, no more.
    pub fn prepare(self, netns: &Netns) -> Result<Firewall<'_>> {
        Firewall::prepare(netns, self)
    }
}

/// A running firewall. On drop it is unloaded, and its pins are removed.
#[derive(Debug)]
pub struct Firewall<'a> {
    netns: &'a Netns,
    setup: Setup,
    pin: PathBuf,
    files: TempDir,
    daemon: Option<Background>,
}

impl<'a> Firewall<'a> {
    fn prepare(netns: &'a Netns, setup: Setup) -> Result<Self> {
        mount_bpffs()?;
        let files = tempfile::Builder::new().prefix("fw-rules-").tempdir()?;
        let pin = Path::new(BPFFS).join(netns::unique());
        let mut firewall = Self { netns, setup: Setup::default(), pin, files, daemon: None };
        firewall.change(setup)?;
        Ok(firewall)
    }

    /// What the next start is told, over the same pinned directory.
    pub fn change(&mut self, setup: Setup) -> Result<()> {
        let texts = [("rules.v4", &setup.rules), ("rules.v6", &setup.rules6)];
        for (name, text) in texts {
            if let Some(text) = text {
                fs::write(self.files.path().join(name), text)?;
            }
        }
        self.setup = setup;
        Ok(())
    }

    /// The directory of its pinned maps, programs and links.
    pub fn pin(&self) -> &Path {
        &self.pin
    }

    /// `firewall ARGS --pin DIR` in the namespace.
    pub fn command(&self, arguments: &[&str]) -> Result<Command> {
        let mut command = self.netns.command(binary()?);
        command.args(arguments).env("FIREWALL_PIN", &self.pin);
        Ok(command)
    }

    /// A command in the firewall's namespace.
    pub fn in_its_namespace(&self, program: &str) -> Command {
        self.netns.command(program)
    }

    fn run_command(&self) -> Result<Command> {
        let mut command = self.command(&["run"])?;
        for interface in &self.setup.interfaces {
            command.args(["-i", interface]);
        }
        if self.setup.rules.is_some() {
            command.arg("--rules").arg(self.files.path().join("rules.v4"));
        }
        if self.setup.rules6.is_some() {
            command.arg("--rules6").arg(self.files.path().join("rules.v6"));
        }
        command.arg("--pin").arg(&self.pin).args(&self.setup.options);
        Ok(command)
    }

    /// Starts the daemon, again if it was killed, and waits for `ready`.
    pub fn restart(&mut self) -> Result<()> {
        self.kill();
        let mut daemon = Background::start(&mut self.run_command()?)?;
        daemon.wait_for_line("ready").context("the firewall did not get ready")?;
        self.daemon = Some(daemon);
        Ok(())
    }

    /// Starts it, which it must refuse; what it said.
    pub fn refusal(&self) -> Result<Finished> {
        let mut daemon = Background::start(&mut self.run_command()?)?;
        let mut answer = None;
        wait::until_true("the daemon to refuse", || {
            answer = daemon.ended();
            answer.is_some() || daemon.stdout().lines().any(|line| line == "ready")
        })?;
        let status = answer.context("it got ready instead of refusing")?;
        daemon.wait(DEADLINE)?;
        Ok(Finished { status, stdout: daemon.stdout(), stderr: daemon.stderr() })
    }

    /// Ends the daemon by SIGKILL; what it loaded goes on.
    pub fn kill(&mut self) {
        self.daemon = None;
    }

    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.daemon.as_ref().context("the daemon is not running")?.signal(signal)
    }

    /// Has the daemon stand still; returns when each of its threads does, which on a busy machine
    /// goes on until it has its turn.
    pub fn halt(&self) -> Result<()> {
        let daemon = self.daemon.as_ref().context("the daemon is not running")?;
        daemon.signal(Signal::SIGSTOP)?;
        let tasks = PathBuf::from(format!("/proc/{}/task", daemon.pid()));
        wait::until_true("the daemon to stand still", || stand_still(&tasks).unwrap_or(false))
    }

    /// All that the daemon has said since it was started.
    pub fn said(&self) -> String {
        self.daemon.as_ref().map(|daemon| daemon.stdout() + &daemon.stderr()).unwrap_or_default()
    }

    /// The daemon while it runs.
    pub fn daemon(&mut self) -> Option<&mut Background> {
        self.daemon.as_mut()
    }

    /// Runs a command of the firewall to its end.
    pub fn cli(&self, arguments: &[&str]) -> Result<Finished> {
        finish(&mut self.command(arguments)?, DEADLINE)
    }

    /// Its stdout; another exit status than 0 is an error.
    pub fn text(&self, arguments: &[&str]) -> Result<String> {
        let finished = self.cli(arguments)?;
        ensure!(
            finished.code() == 0,
            "firewall {} ended with {}: {}",
            arguments.join(" "),
            finished.code(),
            finished.stderr.trim()
        );
        Ok(finished.stdout)
    }

    /// What a listing command prints with `-o json`, one value a line.
    pub fn json(&self, arguments: &[&str]) -> Result<Vec<Value>> {
        let text = self.text(&[arguments, &["-o", "json"]].concat())?;
        let parse = |line: &str| {
            serde_json::from_str(line).with_context(|| format!("not a JSON line: {line}"))
        };
        text.lines().map(parse).collect()
    }

    /// Replaces the IPv4 rules of the running firewall.
    pub fn apply(&self, rules: &str) -> Result<()> {
        let finished = self.with_rules("apply", rules)?;
        ensure!(finished.code() == 0, "firewall apply: {}", finished.stderr.trim());
        Ok(())
    }

    /// Runs `check` or `apply` with rules in a file called `rules.v4`.
    pub fn with_rules(&self, command: &str, rules: &str) -> Result<Finished> {
        let directory = tempfile::Builder::new().prefix("fw-rules-").tempdir()?;
        let path = directory.path().join("rules.v4");
        fs::write(&path, rules)?;
        self.cli(&[command, &path.to_string_lossy()])
    }

    /// A counter of `firewall stats` by its name; 0 when it is not printed.
    pub fn stat(&self, name: &str) -> Result<u64> {
        let stats = self.json(&["stats"])?;
        let line = stats.iter().find(|line| line["name"] == name);
        Ok(line.and_then(|line| line["value"].as_u64()).unwrap_or(0))
    }

    /// Takes everything out of the kernel.
    pub fn unload(&mut self) -> Result<()> {
        self.kill();
        self.text(&["unload"]).map(drop)
    }
}

impl Drop for Firewall<'_> {
    fn drop(&mut self) {
        if let Some(daemon) = self.daemon.as_ref().filter(|_| std::thread::panicking()) {
            eprintln!("--- the daemon said:\n{}{}", daemon.stdout(), daemon.stderr());
        }
        let _ = self.unload();
        let _ = fs::remove_dir_all(&self.pin);
    }
}

/// Makes sure that /sys/fs/bpf is a bpffs, and removes the pins of test
/// processes that are gone.
pub fn mount_bpffs() -> Result<()> {
    static SWEEP: Once = Once::new();
    let is_bpffs = statfs(BPFFS).is_ok_and(|stat| stat.filesystem_type() == BPF_FS_MAGIC);
    if !is_bpffs {
        let none = None::<&str>;
        if let Err(error) = mount(Some("bpf"), BPFFS, Some("bpf"), MsFlags::empty(), none) {
            bail!("cannot mount a bpffs at {BPFFS}: {error}");
        }
    }
    SWEEP.call_once(|| {
        let stale = fs::read_dir(BPFFS).into_iter().flatten().flatten();
        for entry in stale.filter(|entry| netns::is_stale(&entry.file_name().to_string_lossy())) {
            let _ = fs::remove_dir_all(entry.path());
        }
    });
    Ok(())
}

/// Whether all threads of a process are stopped: the letter behind the name in proc_pid_stat(5).
fn stand_still(tasks: &Path) -> Result<bool> {
    for task in fs::read_dir(tasks)? {
        let text = fs::read_to_string(task?.path().join("stat"))?;
        let (_, behind) = text.rsplit_once(") ").context("no name in a thread's stat")?;
        if !behind.starts_with('T') {
            return Ok(false);
        }
    }
    Ok(true)
}
