//! What can stand in the configuration file.

use std::{
    fs,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    str::FromStr,
};

use anyhow::{Context as _, Result};
use clap::ValueEnum;

use super::document::{self, Entry, Mistakes};
use crate::{
    cli::{
        FtpPorts, InterfaceName,
        args::{ENTRIES, HelperFailure, HookChoice, LogLevel},
    },
    ftp::{Network, PortRange},
    rules::{error::Errors, source::Source},
    settings::{self, ALL, Chosen},
};

/// What a configuration file says; `None` and nothing chosen where it is silent.
#[derive(Clone, Debug, Default)]
pub struct File {
    pub interfaces: Option<Vec<InterfaceName>>,
    pub rules: Option<PathBuf>,
    pub rules6: Option<PathBuf>,
    pub sets: Option<PathBuf>,
    pub hook: Option<HookChoice>,
    pub drop_non_ip: Option<bool>,
    pub unload_on_exit: Option<bool>,
    pub log_level: Option<LogLevel>,
    pub max_flows: Option<u32>,
    pub max_embryonic: Option<u32>,
    pub max_expectations: Option<u32>,
    pub max_fragments: Option<u32>,
    pub ftp_ports: Option<FtpPorts>,
    pub ftp_loose: Option<Vec<Network>>,
    pub ftp_refused_ports: Option<Vec<PortRange>>,
    /// Outer: whether it is named; inner: a range, or none.
    pub tls_passive_range: Option<Option<PortRange>>,
    pub max_connections: Option<u32>,
    pub max_buffers: Option<u32>,
    pub max_holes_per_host: Option<u32>,
    pub tftp_ports: Option<FtpPorts>,
    pub helper_failure: Option<HelperFailure>,
    pub settings: Chosen,
}

const SECTIONS: [&str; 4] = ["run", "tables", "conntrack", "helper"];
const RUN: [&str; 8] =
    ["interfaces", "rules", "rules6", "sets", "hook", "drop_non_ip", "unload_on_exit", "log_level"];
const TABLES: [&str; 4] = ["max_flows", "max_embryonic", "max_expectations", "max_fragments"];
const FTP: [&str; 8] = [
    "ports",
    "loose",
    "refused_ports",
    "tls_passive_range",
    "max_connections",
    "max_buffers",
    "max_holes_per_host",
    "failure",
];
const TFTP: [&str; 1] = ["ports"];
const HELPERS: [&str; 2] = ["ftp", "tftp"];
/// Control connections, and holes of one host.
const CONNECTIONS: RangeInclusive<i64> = 1..=4_194_304;
/// Bytes.
const BUFFERS: RangeInclusive<i64> = 65_536..=4_294_967_295;

/// Reads a configuration file. Paths in it are relative to where it lies.
///
/// # Errors
/// When it cannot be read, or every mistake that is in it.
pub fn read(path: &Path) -> Result<File> {
    let text = fs::read_to_string(path)
        .with_context(|| format!("cannot read the configuration {}", path.display()))?;
    let mut file = parse(&path.display().to_string(), &text)?;
    let directory = path.parent().unwrap_or(Path::new(""));
    for rules in [&mut file.rules, &mut file.rules6, &mut file.sets].into_iter().flatten() {
        *rules = directory.join(&*rules);
    }
    Ok(file)
}

/// As [`read`]; paths stay as they are written.
///
/// # Errors
/// Every mistake in the text.
pub fn parse(name: &str, text: &str) -> Result<File, Errors> {
    let source = Source::new(name, text);
    let mistakes = Mistakes::default();
    let mut file = File::default();
    let table = document::parse(text, &mistakes);
    for entry in document::entries("", &table, &mistakes) {
        match entry.key {
            "run" => entry.section().iter().for_each(|entry| file.run(entry)),
            "tables" => entry.section().iter().for_each(|entry| file.tables(entry)),
            "conntrack" => entry.section().iter().for_each(|entry| file.conntrack(entry)),
            "helper" => entry.section().iter().for_each(|entry| file.helper(entry)),
            _ => entry.unknown("section", &SECTIONS),
        }
    }
    mistakes.finish(&source, file)
}

impl File {
    fn run(&mut self, entry: &Entry<'_>) {
        const RULES: &str = "wanted is the path of a file, as text";
        match entry.key {
            "interfaces" => {
                let wanted = "wanted is a list of names, e.g. [\"eth0\", \"eth1\"]";
                self.interfaces = entry.list(wanted, InterfaceName::from_str);
            }
            "rules" => self.rules = entry.text(RULES).map(PathBuf::from),
            "rules6" => self.rules6 = entry.text(RULES).map(PathBuf::from),
            "sets" => self.sets = entry.text(RULES).map(PathBuf::from),
            "hook" => self.hook = entry.read(one_of),
            "drop_non_ip" => self.drop_non_ip = entry.switch(),
            "unload_on_exit" => self.unload_on_exit = entry.switch(),
            "log_level" => self.log_level = entry.read(one_of),
            _ => entry.unknown("key", &RUN),
        }
    }

    fn tables(&mut self, entry: &Entry<'_>) {
        let place = match entry.key {
            "max_flows" => &mut self.max_flows,
            "max_embryonic" => &mut self.max_embryonic,
            "max_expectations" => &mut self.max_expectations,
            "max_fragments" => &mut self.max_fragments,
            _ => return entry.unknown("key", &TABLES),
        };
        *place = entry.read(|text| number(text, ENTRIES));
    }

    fn conntrack(&mut self, entry: &Entry<'_>) {
        match settings::find(entry.key) {
            Ok(setting) => {
                if let Some(value) = entry.read(|text| setting.kind().read(text)) {
                    self.settings.add(setting, value);
                }
            }
            Err(settings::Refused::NeedsRestart { key, .. }) => {
                entry.refuse_key(format!("the size of a table stands under [tables], as {key}"));
            }
            Err(settings::Refused::Unknown { .. }) => {
                let names: Vec<_> = ALL.iter().map(|setting| setting.name).collect();
                entry.unknown("setting", &names);
            }
        }
    }

    fn helper(&mut self, entry: &Entry<'_>) {
        match entry.key {
            "ftp" => entry.section().iter().for_each(|entry| self.ftp(entry)),
            "tftp" => entry.section().iter().for_each(|entry| self.tftp(entry)),
            _ => entry.unknown("helper", &HELPERS),
        }
    }

    fn tftp(&mut self, entry: &Entry<'_>) {
        match entry.key {
            "ports" => {
                let ports = entry.list("wanted is a list of ports, e.g. [69]", port);
                self.tftp_ports = ports.map(FtpPorts::new);
            }
            _ => entry.unknown("key", &TFTP),
        }
    }

    fn ftp(&mut self, entry: &Entry<'_>) {
        match entry.key {
            "ports" => {
                let ports = entry.list("wanted is a list of ports, e.g. [21, 2121]", port);
                self.ftp_ports = ports.map(FtpPorts::new);
            }
            "loose" => {
                let wanted = "wanted is a list of networks, e.g. [\"192.0.2.0/24\"]";
                let network = |text: &str| text.parse().map_err(|_| wanted.to_owned());
                self.ftp_loose = entry.list(wanted, network);
            }
            "refused_ports" => {
                let wanted = "wanted is a list of ports and ranges, e.g. [3306, \"6000-6063\"]";
                let range = |text: &str| text.parse().map_err(|_| wanted.to_owned());
                self.ftp_refused_ports = entry.list(wanted, range);
            }
            "tls_passive_range" | "tls-passive-range" => {
                self.tls_passive_range = entry.read(range_or_none);
            }
            "max_connections" => self.max_connections = entry.read(|it| number(it, CONNECTIONS)),
            "max_buffers" => self.max_buffers = entry.read(|it| number(it, BUFFERS)),
            "max_holes_per_host" => {
                self.max_holes_per_host = entry.read(|it| number(it, CONNECTIONS));
            }
            "failure" => self.helper_failure = entry.read(one_of),
            _ => entry.unknown("key", &FTP),
        }
    }
}

/// A range of unprivileged ports, or the word none.
fn range_or_none(text: &str) -> Result<Option<PortRange>, String> {
    if text == "none" {
        return Ok(None);
    }
    let range = text.parse::<PortRange>().ok().filter(|range| range.first() >= 1024);
    range.map(Some).ok_or_else(|| {
        "wanted is a range of ports from 1024 on, e.g. \"50000-50100\", or \"none\"".into()
    })
}

fn number(text: &str, range: RangeInclusive<i64>) -> Result<u32, String> {
    let number = text.parse::<i64>().ok().filter(|number| range.contains(number));
    number
        .and_then(|number| u32::try_from(number).ok())
        .ok_or_else(|| format!("wanted is a number from {} to {}", range.start(), range.end()))
}

fn port(text: &str) -> Result<std::num::NonZeroU16, String> {
    text.parse().map_err(|_| "wanted is a port from 1 to 65535".into())
}

fn one_of<T: ValueEnum>(text: &str) -> Result<T, String> {
    T::from_str(text, false).map_err(|_| {
        let names = T::value_variants().iter().filter_map(ValueEnum::to_possible_value);
        let names: Vec<_> = names.map(|value| value.get_name().to_owned()).collect();
        format!("wanted is one of {}", names.join(", "))
    })
}

#[cfg(test)]
mod tests;
