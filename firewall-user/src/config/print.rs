//! A configuration as the file that says it.

use std::fmt::Write as _;

use clap::ValueEnum;

use super::File;
use crate::settings::{ALL, Value};

/// The text that is read as this configuration.
pub fn print(file: &File) -> String {
    let mut text = Document::default();
    text.section("run");
    let names =
        file.interfaces.as_ref().map(|names| list(names.iter().map(|name| quote(name.as_str()))));
    text.entry("interfaces", names);
    for (key, path) in [("rules", &file.rules), ("rules6", &file.rules6), ("sets", &file.sets)] {
        text.entry(key, path.as_ref().map(|path| quote(&path.display().to_string())));
    }
    text.entry("hook", file.hook.as_ref().map(name));
    text.entry("drop_non_ip", file.drop_non_ip.map(|value| value.to_string()));
    text.entry("unload_on_exit", file.unload_on_exit.map(|value| value.to_string()));
    text.entry("log_level", file.log_level.as_ref().map(name));
    text.section("tables");
    for (key, size) in [
        ("max_flows", file.max_flows),
        ("max_embryonic", file.max_embryonic),
        ("max_expectations", file.max_expectations),
        ("max_fragments", file.max_fragments),
    ] {
        text.entry(key, size.map(|size| size.to_string()));
    }
    text.section("conntrack");
    for setting in ALL {
        let value = file.settings.get(setting).map(|value| match value {
            Value::Seconds(_) => quote(&value.to_string()),
            Value::Switch(_) | Value::Count(_) => value.to_string(),
        });
        text.entry(setting.name, value);
    }
    text.section("helper.ftp");
    text.entry(
        "ports",
        file.ftp_ports.as_ref().map(|ports| list(ports.iter().map(|it| it.to_string()))),
    );
    let loose = file.ftp_loose.as_ref();
    text.entry("loose", loose.map(|all| list(all.iter().map(|one| quote(&one.to_string())))));
    let refused = file.ftp_refused_ports.as_ref();
    let refused = refused.map(|all| list(all.iter().map(|one| quote(&one.to_string()))));
    text.entry("refused_ports", refused);
    let range = file.tls_passive_range;
    let range =
        range.map(|range| quote(&range.map_or("none".to_owned(), |range| range.to_string())));
    text.entry("tls_passive_range", range);
    for (key, number) in [
        ("max_connections", file.max_connections),
        ("max_buffers", file.max_buffers),
        ("max_holes_per_host", file.max_holes_per_host),
    ] {
        text.entry(key, number.map(|number| number.to_string()));
    }
    text.entry("failure", file.helper_failure.as_ref().map(name));
    text.section("helper.tftp");
    let tftp = file.tftp_ports.as_ref();
    text.entry("ports", tftp.map(|ports| list(ports.iter().map(|it| it.to_string()))));
    text.text
}

/// Lines of TOML; a section begins with its first entry.
#[derive(Default)]
struct Document {
    text: String,
    section: Option<&'static str>,
}

impl Document {
    fn section(&mut self, name: &'static str) {
        self.section = Some(name);
    }

    fn entry(&mut self, key: &str, value: Option<String>) {
        let Some(value) = value else { return };
        if let Some(section) = self.section.take() {
            let blank = if self.text.is_empty() { "" } else { "\n" };
            let _ = writeln!(self.text, "{blank}[{section}]");
        }
        let _ = writeln!(self.text, "{key} = {value}");
    }
}

/// A text as TOML has it: its escapes are JSON's.
fn quote(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn list(items: impl Iterator<Item = String>) -> String {
    format!("[{}]", items.collect::<Vec<_>>().join(", "))
}

/// As the command line spells it.
fn name<T: ValueEnum>(value: &T) -> String {
    let name = value.to_possible_value();
    quote(name.as_ref().map_or("", |name| name.get_name()))
}
