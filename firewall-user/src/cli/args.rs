//! Every command and option; the doc comments are the help text.

use std::{ffi::OsString, net::IpAddr, path::PathBuf, time::Duration};

use clap::{Args, CommandFactory as _, Parser, Subcommand, ValueEnum, error::ErrorKind};

use super::{
    explain::Explain,
    filter::FlowFilter,
    value::{self, FtpPorts, InterfaceName},
    watched::LineFilter,
};
use crate::ftp::Network;

/// Where an instance is pinned unless something else is said.
pub const DEFAULT_PIN: &str = "/sys/fs/bpf/firewall";

/// Of a table.
pub(crate) const ENTRIES: std::ops::RangeInclusive<i64> = 16..=67_108_864;

/// A stateful firewall in XDP and TC that takes iptables rules and follows FTP
#[derive(Parser, Clone, Debug)]
#[command(
    name = "firewall",
    version,
    propagate_version = true,
    max_term_width = 100,
    after_help = "`firewall iptables …`, ip6tables, iptables-save, ip6tables-save, iptables-restore, \
                  ip6tables-restore and ipset take the arguments of these programs: docs/old-names.md"
)]
pub struct Arguments {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

/// What every command takes.
#[derive(Args, Clone, Debug)]
pub struct Global {
    /// Directory on a bpffs where this instance keeps its programs and tables
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "FIREWALL_PIN",
        default_value = DEFAULT_PIN,
        value_parser = value::path
    )]
    pub pin: PathBuf,

    /// How to print what is listed; json is one object per line
    #[arg(short, long, global = true, value_name = "FORMAT", default_value = "text")]
    pub output: Output,
}

#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    Text,
    Json,
}

#[derive(Subcommand, Clone, Debug)]
pub enum Command {
    Run(Box<Run>),
    Check(Check),
    Apply(Apply),
    /// Keep the rules that `apply --confirm` brought
    Confirm,
    Save(Save),
    Rules(Rules),
    /// Tracked connections
    #[command(subcommand)]
    Conntrack(Conntrack),
    /// Sets of addresses and ports that rules name, in the words of ipset(8)
    #[command(subcommand)]
    Set(Sets),
    /// Connections that a helper has announced
    #[command(subcommand)]
    Expect(Expect),
    Recent(Recent),
    Stats(Stats),
    /// Who enforces, where, under which rules
    Status,
    Monitor(Monitor),
    Explain(Box<Explain>),
    /// Say why packets were dropped lately, and what is likely to be wrong
    Why,
    Link(Link),
    /// Take everything out of the kernel: programs, tables, pins
    Unload,
}

/// Enforce in the foreground; prints `ready` when packets are judged
#[derive(Args, Clone, Debug)]
pub struct Run {
    /// Interface whose packets are judged; repeat it for each
    #[arg(
        short,
        long = "interface",
        value_name = "IF",
        required_unless_present_any = ["config", "state"]
    )]
    pub interfaces: Vec<InterfaceName>,

    /// Settings from a file, see docs/firewall.toml; what is given here wins
    #[arg(short, long, value_name = "FILE", value_parser = value::path)]
    pub config: Option<PathBuf>,

    /// Begin as `firewall save --all DIR` found it; an instance that is there goes on as it
    /// is
    #[arg(
        long,
        value_name = "DIR",
        value_parser = value::path,
        conflicts_with_all = ["config", "rules", "rules6", "sets"]
    )]
    pub state: Option<PathBuf>,

    /// IPv4 rules, as iptables-save writes them
    #[arg(long, value_name = "FILE")]
    pub rules: Option<PathBuf>,

    /// IPv6 rules, as ip6tables-save writes them
    #[arg(long, value_name = "FILE")]
    pub rules6: Option<PathBuf>,

    /// Sets that the rules name, as `ipset save` writes them; over a running instance,
    /// sets stay as they are
    #[arg(long, value_name = "FILE")]
    pub sets: Option<PathBuf>,

    /// Where packets are judged on their way in [default: auto]
    #[arg(long, value_name = "HOOK")]
    pub hook: Option<HookChoice>,

    /// Remove everything on SIGINT and SIGTERM instead of leaving it to enforce
    #[arg(long)]
    pub unload_on_exit: bool,

    /// Drop frames that are not IP, ARP among them, instead of passing them
    #[arg(long)]
    pub drop_non_ip: bool,

    /// What the daemon tells of itself [default: info]
    #[arg(long, value_name = "LEVEL", env = "FIREWALL_LOG_LEVEL")]
    pub log_level: Option<LogLevel>,

    // Groups with a heading of their own come last: it holds for what follows.
    #[command(flatten)]
    pub helper: HelperOptions,

    #[command(flatten)]
    pub tracking: Tracking,
}

/// How FTP control connections are followed.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "FTP")]
pub struct HelperOptions {
    /// Ports of FTP control connections, or `none` [default: 21]
    #[arg(long, value_name = "LIST")]
    pub ftp_ports: Option<FtpPorts>,

    /// Hosts that may announce another address than their own; repeat it for each
    #[arg(long, value_name = "NETWORK")]
    pub ftp_loose: Vec<Network>,

    /// Control connections while the daemon is away: open lets them pass unread,
    /// closed drops what would have to be read [default: open]
    #[arg(long, value_name = "MODE")]
    pub helper_failure: Option<HelperFailure>,
}

/// How connections are tracked.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Connection tracking")]
pub struct Tracking {
    /// Confirmed flows of each family that its table holds [default: 262144]
    #[arg(long, value_name = "ENTRIES", value_parser = clap::value_parser!(u32).range(ENTRIES))]
    pub max_flows: Option<u32>,

    /// Flows of IPv4 seen in one direction only that their table holds; that of IPv6 holds
    /// a fourth [default: 262144]
    #[arg(long, value_name = "ENTRIES", value_parser = clap::value_parser!(u32).range(ENTRIES))]
    pub max_embryonic: Option<u32>,

    /// Connections that are expected at a time [default: 16384]
    #[arg(long, value_name = "ENTRIES", value_parser = clap::value_parser!(u32).range(ENTRIES))]
    pub max_expectations: Option<u32>,

    /// Datagrams whose later fragments are on the way [default: 8192]
    #[arg(long, value_name = "ENTRIES", value_parser = clap::value_parser!(u32).range(ENTRIES))]
    pub max_fragments: Option<u32>,

    /// Do not pick up TCP connections that were running before (tcp_loose = false)
    #[arg(long)]
    pub no_loose: bool,
}

#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum HookChoice {
    /// For each interface by what it is: where packets are forwarded from, XDP in the
    /// driver if it can, else generic XDP; TC where nothing is forwarded from, behind
    /// receive offload, and without Ethernet header
    Auto,
    /// XDP in the driver, or fail
    Xdp,
    /// XDP on the network stack's buffers: any Ethernet driver, slower
    XdpGeneric,
    /// TC ingress
    Tc,
}

#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum HelperFailure {
    Open,
    Closed,
}

#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
}

/// Read and compile rules without applying them
#[derive(Args, Clone, Debug)]
#[command(group(clap::ArgGroup::new("files").required(true).multiple(true)))]
pub struct Check {
    /// Rules, as iptables-save writes them or people type them; `-` is stdin
    #[arg(value_name = "FILE", value_parser = value::path, group = "files")]
    pub file: Option<PathBuf>,

    /// They are ip6tables rules, as those of a file are whose name ends in .v6
    #[arg(long, requires = "file")]
    pub ipv6: bool,

    /// Rules for IPv4
    #[arg(long, value_name = "FILE", value_parser = value::path, group = "files")]
    pub rules: Option<PathBuf>,

    /// Rules for IPv6
    #[arg(long, value_name = "FILE", value_parser = value::path, group = "files")]
    pub rules6: Option<PathBuf>,

    /// Fail where there is a warning, too
    #[arg(long)]
    pub strict: bool,

    /// Say of each chain what established connections remember, and which rules prevent it
    #[arg(long, short)]
    pub verbose: bool,
}

/// Replace the running rules, all at once: of one family, or of both and with their sets
#[derive(Args, Clone, Debug)]
#[command(group(clap::ArgGroup::new("files").required(true).multiple(true)))]
pub struct Apply {
    /// Rules, as iptables-save writes them or people type them; `-` is stdin
    #[arg(value_name = "FILE", value_parser = value::path, group = "files",
        conflicts_with_all = ["rules", "rules6"])]
    pub file: Option<PathBuf>,

    /// They are ip6tables rules, as those of a file are whose name ends in .v6; those for IPv4
    /// stay
    #[arg(long, requires = "file")]
    pub ipv6: bool,

    /// Rules for IPv4, together with the other files
    #[arg(long, value_name = "FILE", value_parser = value::path, group = "files")]
    pub rules: Option<PathBuf>,

    /// Rules for IPv6, together with the other files
    #[arg(long, value_name = "FILE", value_parser = value::path, group = "files")]
    pub rules6: Option<PathBuf>,

    /// Sets that come with the rules, as `ipset save` writes them: each that the file creates
    /// is replaced as a whole, the others stay
    #[arg(long, value_name = "FILE", value_parser = value::path, group = "files")]
    pub sets: Option<PathBuf>,

    /// Go back to the old rules after this time unless `firewall confirm` comes
    #[arg(long, value_name = "SECONDS", value_parser = value::seconds)]
    pub confirm: Option<Duration>,

    /// Say what would change, and change nothing
    #[arg(short = 'n', long, conflicts_with = "confirm")]
    pub dry_run: bool,

    /// Also rules that cut the session from which this is typed, or have no table filter
    #[arg(long)]
    pub force: bool,
}

/// Print the running rules as iptables-save does, or save everything for `run --state`
#[derive(Args, Clone, Debug)]
pub struct Save {
    /// Write the rules of both families and every setting to this directory, all at once
    #[arg(long, value_name = "DIR", value_parser = value::path, conflicts_with_all = ["ipv6", "counters"])]
    pub all: Option<PathBuf>,

    /// Those of ip6tables
    #[arg(long)]
    pub ipv6: bool,

    /// With [packets:bytes]
    #[arg(short, long)]
    pub counters: bool,
}

/// Print chains, rules and counters as `iptables -L -v -n --line-numbers` does
#[derive(Args, Clone, Debug)]
pub struct Rules {
    /// Those of ip6tables
    #[arg(long)]
    pub ipv6: bool,
}

/// The lists of `-m recent`: which there are, what is in one, and changes by hand
#[derive(Args, Clone, Debug)]
pub struct Recent {
    /// A list that a rule names; without it all are counted
    pub name: Option<String>,

    /// +ADDRESS notes that it was seen now, -ADDRESS takes it out, / empties the list
    #[arg(allow_hyphen_values = true, value_name = "EDIT", value_parser = value::recent_edit)]
    pub edit: Option<RecentEdit>,
}

/// A change of a list, as /proc/net/xt_recent takes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecentEdit {
    Add(IpAddr),
    Remove(IpAddr),
    Flush,
}

/// Counters of packets, drops and events, and how full the tables are
#[derive(Args, Clone, Debug)]
pub struct Stats {
    /// Who has most flows in each table, also while there is room
    #[arg(long)]
    pub top: bool,
}

#[derive(Subcommand, Clone, Debug)]
pub enum Conntrack {
    /// Print flows as conntrack(8) does
    List(Box<FlowFilter>),
    /// Print how many flows there are
    Count(Box<FlowFilter>),
    /// Delete the flows that the options describe, and print them
    Delete(Box<FlowFilter>),
    /// Delete every flow
    Flush,
    Events(Box<Events>),
    /// Change a setting of the running instance
    Set(Set),
    /// Print every setting with its value and default
    Settings,
}

/// Change a setting of the running instance, for as long as it is loaded
#[derive(Args, Clone, Debug)]
pub struct Set {
    /// As the sysctl is called, with or without nf_conntrack_
    pub name: String,

    /// A time (120, 2m, "1h 30m"), a number, or 0 and 1
    #[arg(allow_hyphen_values = true)]
    pub value: String,
}

/// Print flows as they begin, change and end, as `conntrack -E` does, until interrupted
#[derive(Args, Clone, Debug)]
pub struct Events {
    /// Only these: NEW, UPDATES, DESTROY; or ALL
    #[arg(
        short = 'e',
        long,
        value_name = "EVENTS",
        value_delimiter = ',',
        ignore_case = true,
        default_value = "ALL",
        hide_possible_values = true
    )]
    pub event_mask: Vec<EventName>,

    /// With the time in front of each line, in seconds since 1970; JSON always has it
    #[arg(long)]
    pub timestamp: bool,

    #[command(flatten)]
    pub filter: FlowFilter,
}

/// An event, as conntrack(8) spells it.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
#[value(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum EventName {
    All,
    New,
    #[value(alias = "UPDATE")]
    Updates,
    Destroy,
}

/// Show what happens, as it happens, until interrupted: drops, new and ended flows,
/// what the FTP helper does
#[derive(Args, Clone, Debug)]
pub struct Monitor {
    /// Only these: drops, flows, helper
    #[arg(
        long,
        value_name = "WHAT",
        value_delimiter = ',',
        default_value = "drops,flows,helper",
        hide_possible_values = true
    )]
    pub only: Vec<Watched>,

    #[command(flatten)]
    pub filter: LineFilter,
}

/// What a monitor shows.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watched {
    Drops,
    Flows,
    Helper,
}

/// Make links by which this program answers as iptables, ip6tables, their save and
/// restore, ipset and conntrack
#[derive(Args, Clone, Debug)]
pub struct Link {
    /// Where: a directory that stands in PATH before that of the programs themselves
    #[arg(long, value_name = "DIR", value_parser = value::path)]
    pub dir: PathBuf,

    /// Also in the place of what is there and no link of ours
    #[arg(long)]
    pub force: bool,

    /// Take the links away
    #[arg(long, conflicts_with = "force")]
    pub remove: bool,
}

#[derive(Subcommand, Clone, Debug)]
pub enum Sets {
    Create(SetCreate),
    /// Put an element into a set
    Add(SetElement),
    /// Take an element out of a set
    Del(SetElement),
    /// Say whether an element is in a set; the exit status is 1 when it is not
    Test(SetElement),
    List(SetList),
    /// Print sets as lines that `restore` takes
    Save(SetName),
    /// Take all elements out of a set, or of every set
    Flush(SetName),
    /// Remove a set, or every set; not while a rule or a list names it
    Destroy(SetName),
    /// Give a set another name
    Rename(SetPair),
    /// Exchange what two sets of one type hold, while rules ask them
    Swap(SetPair),
    Restore(SetRestore),
}

/// Make a set
#[derive(Args, Clone, Debug)]
pub struct SetCreate {
    /// By which rules name it
    pub name: String,

    /// hash:ip, hash:net, hash:ip,port, hash:net,port, bitmap:port or list:set
    #[arg(value_name = "TYPE")]
    pub kind: String,

    /// As in ipset(8): family inet6, timeout 300, maxelem 1000000, counters, comment, …
    pub options: Vec<String>,

    /// It may be there already
    #[arg(long)]
    pub exist: bool,
}

/// An element of a set.
#[derive(Args, Clone, Debug)]
pub struct SetElement {
    pub set: String,

    /// 192.0.2.1, 192.0.2.0/24, 192.0.2.1,tcp:80, 80, or a set
    pub element: String,

    /// As in ipset(8): timeout 300, packets 0, bytes 0, comment "…", nomatch
    pub options: Vec<String>,

    /// It may be there, or not be there, already
    #[arg(long)]
    pub exist: bool,
}

/// Print sets with their elements
#[derive(Args, Clone, Debug)]
pub struct SetList {
    /// Only this one
    pub name: Option<String>,

    /// Without their elements
    #[arg(long)]
    pub terse: bool,

    /// Only what they are called
    #[arg(long)]
    pub names: bool,

    /// Elements in their order
    #[arg(long)]
    pub sorted: bool,
}

/// A set, or every set.
#[derive(Args, Clone, Debug)]
pub struct SetName {
    pub name: Option<String>,
}

/// Two names.
#[derive(Args, Clone, Debug)]
pub struct SetPair {
    pub from: String,
    pub to: String,
}

/// Do what the lines of a file say, as `ipset save` writes them: all of it, or nothing
#[derive(Args, Clone, Debug)]
pub struct SetRestore {
    /// `-` is stdin
    #[arg(value_name = "FILE", default_value = "-", value_parser = value::path)]
    pub file: PathBuf,

    /// What is done already is no mistake
    #[arg(long)]
    pub exist: bool,
}

#[derive(Subcommand, Clone, Debug)]
pub enum Expect {
    /// Print expectations as `conntrack -L expect` does
    List,
}

impl Arguments {
    /// The process's own arguments. Wrong usage ends it with status 2.
    pub fn from_process() -> Self {
        Self::read(std::env::args_os()).unwrap_or_else(|error| error.exit())
    }

    /// # Errors
    /// Wrong usage, or a request for help.
    pub fn read(
        arguments: impl IntoIterator<Item = impl Into<OsString> + Clone>,
    ) -> Result<Self, clap::Error> {
        let arguments = Self::try_parse_from(arguments)?;
        arguments.command.check()?;
        Ok(arguments)
    }
}

impl Command {
    fn check(&self) -> Result<(), clap::Error> {
        match self {
            Self::Explain(packet) => match packet.asked() {
                Err(message) => {
                    Err(Arguments::command().error(ErrorKind::ArgumentConflict, message))
                }
                Ok(_) => Ok(()),
            },
            Self::Conntrack(Conntrack::Delete(filter)) if filter.is_empty() => {
                let message = "which flows? to delete every one: firewall conntrack flush";
                Err(Arguments::command().error(ErrorKind::MissingRequiredArgument, message))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::{self, Wanted},
        settings::ALL,
    };

    fn read(line: &str) -> Result<Arguments, clap::Error> {
        Arguments::read(["firewall"].into_iter().chain(line.split_whitespace()))
    }

    fn refused(line: &str) -> String {
        let error = read(line).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{line}");
        error.to_string()
    }

    #[test]
    fn the_definition_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn run_has_the_defaults_of_the_manual() {
        let arguments = read("run -i eth0 -i eth1 --rules /etc/iptables/rules.v4").unwrap();
        let Command::Run(run) = arguments.command else { panic!("not run") };
        assert_eq!(run.interfaces.len(), 2);
        let wanted = Wanted::new(&run, config::File::default()).unwrap();
        assert_eq!((wanted.hook, wanted.helper_failure), (HookChoice::Auto, HelperFailure::Open));
        assert_eq!((wanted.log_level, wanted.ftp_ports), (LogLevel::Info, FtpPorts::default()));
        assert_eq!((wanted.sizes.assured, wanted.sizes.embryonic), (262_144, 262_144));
        assert_eq!((wanted.sizes.expectations, wanted.sizes.fragments), (16_384, 8_192));
        assert!(!wanted.unload_on_exit && !wanted.drop_non_ip && wanted.rules6.is_none());
        assert!(ALL.iter().all(|setting| wanted.settings.get(setting).is_none()));
    }

    #[test]
    fn global_options_stand_before_or_behind_the_command() {
        for line in ["--pin /x -o json conntrack list", "conntrack list --pin /x -o json"] {
            let arguments = read(line).unwrap();
            assert_eq!(arguments.global.pin, PathBuf::from("/x"));
            assert_eq!(arguments.global.output, Output::Json);
        }
    }

    #[test]
    fn deleting_without_a_filter_points_to_flush() {
        assert!(refused("conntrack delete").contains("firewall conntrack flush"));
        assert!(read("conntrack delete -p udp").is_ok());
        assert!(read("conntrack flush").is_ok());
    }

    #[test]
    fn wrong_usage_is_refused_with_what_was_wanted() {
        assert!(refused("run").contains("--interface <IF>"));
        assert!(refused("run -i eth0 --hook tx").contains("xdp-generic"));
        assert!(refused("run -i eth0 --max-flows 3").contains("16..=67108864"));
        assert!(refused("apply rules --confirm 0").contains("from 1 to 86400"));
        assert!(refused("conntrack list -s 192.0.2.1/33").contains("is no network"));
        assert!(refused("chekc x").contains("check"));
        assert!(refused("conntrack events -e NEWS").contains("UPDATES, DESTROY"));
        assert!(refused("monitor --only flow").contains("flows"));
        let asked = |rest: &str| refused(&format!("explain -s 192.0.2.7 -d 192.0.2.9 {rest}"));
        assert!(asked("-p tcp --sport 1 --dport 2").contains("--in-interface"));
        assert!(asked("-i eth0 -p tcp --sport 1").contains("name --dport"));
        assert!(asked("-i eth0 -p tcp --dport 1").contains("name its --sport"));
        assert!(read("explain -i eth0 -p tcp -s ::1 -d ::2 --dport 1 --syn").is_ok());
        assert!(asked("-i eth0 -p icmp --dport 1").contains("has no ports"));
        assert!(asked("-i eth0 -p udp --sport 1 --dport 2 --syn").contains("need -p tcp"));
        assert!(asked("-i eth0 -p icmpv6").contains("-p icmp"));
        assert!(asked("-i eth0 -p tcp --sport 1 --dport 2 --tcp-flags X").contains("no flag"));
    }

    #[test]
    fn every_command_of_the_contract_is_there() {
        for line in [
            "check rules.v4",
            "check - --ipv6 -o json",
            "check rules.v4 --strict",
            "apply rules.v6 --ipv6 --confirm 60",
            "confirm",
            "save -c",
            "save --ipv6",
            "rules -o json",
            "conntrack list -f ipv6 -p tcp --dport 21",
            "conntrack count --state ESTABLISHED",
            "expect list",
            "conntrack set nf_conntrack_udp_timeout 5",
            "conntrack set udp_timeout -1",
            "conntrack settings -o json",
            "run --config /etc/firewall.toml",
            "stats",
            "stats --top",
            "status",
            "monitor -o json",
            "monitor --only drops,helper",
            "monitor -i eth0 --chain FORWARD --reason policy -p tcp -s 192.0.2.0/24 --dport 80",
            "conntrack events -e NEW,DESTROY -p tcp --dport 21 --timestamp",
            "conntrack events -o json",
            "link --dir /usr/local/sbin",
            "link --dir /usr/local/sbin --force",
            "link --dir /usr/local/sbin --remove",
            "set create blocklist hash:net family inet6 timeout 300",
            "set add blocklist 192.0.2.1 timeout 60 comment x --exist",
            "set test blocklist 192.0.2.1",
            "set list blocklist --terse --sorted -o json",
            "set save",
            "set swap a b",
            "set restore sets.txt --exist",
            "set flush",
            "run -i eth0 --sets sets.txt",
            "unload",
            "why -o json",
            "explain -i eth0 -p tcp -s 192.0.2.7 -d 198.51.100.9 --sport 40000 --dport 51000 --syn",
            "explain -i eth0 -p icmp -s 192.0.2.7 -d 198.51.100.9 --as-reply -o json",
        ] {
            assert!(read(line).is_ok(), "{line}: {:?}", read(line).err());
        }
    }

    #[test]
    fn asking_for_help_is_no_failure() {
        assert_eq!(read("run --help").unwrap_err().exit_code(), 0);
        assert_eq!(read("--version").unwrap_err().exit_code(), 0);
    }
}
