//! The arguments of conntrack(8).

use clap::{
    CommandFactory as _, Parser, ValueEnum,
    error::{ContextKind, ContextValue, ErrorKind},
};

use super::options;
use crate::{
    cli::{FlowFilter, args::EventName},
    listing::flow::text::Labels,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Command {
    List,
    Get,
    Delete,
    Flush,
    Count,
    Events,
    Statistics,
    Help,
    Version,
}

#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Table {
    #[value(name = "conntrack")]
    Flows,
    #[value(name = "expect", alias = "expectation")]
    Expectations,
    /// Of flows that are on their way in or out.
    #[value(name = "dying", alias = "unconfirmed")]
    Passing,
}

/// What a call asks for.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) command: Command,
    pub(super) table: Table,
    pub(super) filter: FlowFilter,
    pub(super) events: Vec<EventName>,
    /// `-o extended,id`
    pub(super) labels: Labels,
    /// `-o timestamp`
    pub(super) shows_time: bool,
}

/// A part of the output, as conntrack(8) spells it.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum Label {
    Extended,
    Id,
    Timestamp,
    /// Of flows: not known, and no part of the line.
    Ktimestamp,
    Labels,
    Userspace,
}

/// The tracked connections of the running firewall
#[derive(Parser, Debug)]
#[command(
    name = "conntrack",
    disable_help_flag = true,
    disable_version_flag = true,
    max_term_width = 100,
    after_help = "FIREWALL_PIN names the instance's directory; docs/old-names.md tells what \
                  differs from conntrack(8)"
)]
struct Line {
    /// List flows or expectations
    #[arg(short = 'L', long = "dump", value_name = "TABLE", num_args = 0..=1,
          default_missing_value = "conntrack", hide_possible_values = true)]
    list: Option<Table>,

    /// Show the one flow that the options describe
    #[arg(short = 'G', long = "get", value_name = "TABLE", num_args = 0..=1,
          default_missing_value = "conntrack", hide_possible_values = true)]
    get: Option<Table>,

    /// Delete the flows that the options describe
    #[arg(short = 'D', long = "delete", value_name = "TABLE", num_args = 0..=1,
          default_missing_value = "conntrack", hide_possible_values = true)]
    delete: Option<Table>,

    /// Delete every flow or expectation
    #[arg(short = 'F', long = "flush", value_name = "TABLE", num_args = 0..=1,
          default_missing_value = "conntrack", hide_possible_values = true)]
    flush: Option<Table>,

    /// Print how many there are
    #[arg(short = 'C', long = "count", value_name = "TABLE", num_args = 0..=1,
          default_missing_value = "conntrack", hide_possible_values = true)]
    count: Option<Table>,

    /// Print flows as they begin, change and end
    #[arg(short = 'E', long = "event", value_name = "TABLE", num_args = 0..=1,
          default_missing_value = "conntrack", hide_possible_values = true)]
    event: Option<Table>,

    /// Print counters of each CPU
    #[arg(short = 'S', long = "stats")]
    stats: bool,

    #[arg(short = 'V', long)]
    version: bool,

    #[arg(short = 'h', long)]
    help: bool,

    /// Only these events: NEW, UPDATES, DESTROY; or ALL
    #[arg(
        short = 'e',
        long,
        value_name = "EVENTS",
        value_delimiter = ',',
        ignore_case = true,
        hide_possible_values = true
    )]
    event_mask: Vec<EventName>,

    /// With more: extended, id, timestamp
    #[arg(
        short = 'o',
        long = "output",
        value_name = "LABELS",
        value_delimiter = ',',
        hide_possible_values = true
    )]
    output: Vec<Label>,

    /// Taken, and of no effect
    #[arg(short = 'b', long, value_name = "BYTES")]
    buffer_size: Option<u64>,

    #[command(flatten)]
    filter: FlowFilter,
}

/// # Errors
/// What is wrong, on one line.
pub(super) fn read(arguments: &[String]) -> Result<Call, String> {
    let words = ["conntrack"].into_iter().chain(arguments.iter().map(String::as_str));
    let line = Line::try_parse_from(words).map_err(|error| wrong(&error))?;
    let (command, table) = line.asked()?;
    let has = |label| line.output.contains(&label);
    let call = Call {
        command,
        table,
        events: line.event_mask.clone(),
        labels: Labels { family: has(Label::Extended), id: has(Label::Id) },
        shows_time: has(Label::Timestamp),
        filter: line.filter.clone(),
    };
    options::check(command, &line.given())?;
    call.check()?;
    Ok(call)
}

pub(super) fn help() -> String {
    Line::command().render_help().to_string()
}

fn wrong(error: &clap::Error) -> String {
    match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(option))
            if error.kind() == ErrorKind::UnknownArgument && option.starts_with('-') =>
        {
            options::unknown(option)
        }
        _ => first_line(error),
    }
}

fn first_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default();
    line.strip_prefix("error: ").unwrap_or(line).to_owned()
}

impl Line {
    /// The options that were given, by their names.
    fn given(&self) -> Vec<&'static str> {
        let own = [
            ("--event-mask", !self.event_mask.is_empty()),
            ("--output", !self.output.is_empty()),
            ("--buffer-size", self.buffer_size.is_some()),
        ];
        let all = options::of_filter(&self.filter).into_iter().chain(own);
        all.filter_map(|(name, is_given)| is_given.then_some(name)).collect()
    }

    fn asked(&self) -> Result<(Command, Table), String> {
        let of = |command, table: Option<Table>| table.map(|table| (command, table));
        let is = |command, is_given: bool| is_given.then_some((command, Table::Flows));
        let given = [
            of(Command::List, self.list),
            of(Command::Get, self.get),
            of(Command::Delete, self.delete),
            of(Command::Flush, self.flush),
            of(Command::Count, self.count),
            of(Command::Events, self.event),
            is(Command::Statistics, self.stats),
            is(Command::Version, self.version),
            is(Command::Help, self.help),
        ];
        let mut given = given.into_iter().flatten();
        match (given.next(), given.next()) {
            (Some(command), None) => Ok(command),
            (None, _) => Ok((Command::Help, Table::Flows)),
            (Some(_), Some(_)) => Err("Invalid commands combination".into()),
        }
    }
}

impl Call {
    fn check(&self) -> Result<(), String> {
        if self.command == Command::Get && self.table == Table::Flows {
            options::check_one_flow(&self.filter)?;
        }
        let is_of_flows = matches!(self.command, Command::Get | Command::Delete | Command::Events);
        match self.table {
            Table::Passing if self.command != Command::List => {
                Err("Can't do that command with tables `dying' and `unconfirmed'".into())
            }
            Table::Expectations if is_of_flows => {
                Err("of expectations there are -L, -F and -C only".into())
            }
            Table::Expectations if !self.filter.is_empty() => {
                Err("expectations are listed without options".into())
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(line: &str) -> Result<Call, String> {
        read(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn the_definition_is_consistent() {
        Line::command().debug_assert();
    }

    #[test]
    fn commands_take_a_table_or_none() {
        for (line, command, table) in [
            ("-L", Command::List, Table::Flows),
            ("-L conntrack -p tcp --dport 21", Command::List, Table::Flows),
            ("-L expect", Command::List, Table::Expectations),
            ("-L dying -p tcp", Command::List, Table::Passing),
            ("-L unconfirmed", Command::List, Table::Passing),
            ("-F -f ipv6", Command::Flush, Table::Flows),
            ("-D -s 192.0.2.1", Command::Delete, Table::Flows),
            ("-D -p tcp --orig-port-dst 21 -f ipv4", Command::Delete, Table::Flows),
            ("-G -p tcp -s 192.0.2.1 -d 192.0.2.2 --sport 1 --dport 2", Command::Get, Table::Flows),
            ("-F expect", Command::Flush, Table::Expectations),
            ("-E -e NEW,DESTROY -o timestamp", Command::Events, Table::Flows),
            ("-C", Command::Count, Table::Flows),
            ("-S", Command::Statistics, Table::Flows),
            ("--version", Command::Version, Table::Flows),
            ("", Command::Help, Table::Flows),
        ] {
            let call = call(line).unwrap_or_else(|message| panic!("{line}: {message}"));
            assert_eq!((call.command, call.table), (command, table), "{line}");
        }
    }

    #[test]
    fn labels_of_the_output_are_told_apart() {
        let call = call("-L -o extended,id").unwrap();
        assert!(call.labels.family && call.labels.id && !call.shows_time);
    }

    #[test]
    fn wrong_usage_is_one_line() {
        for (line, wanted) in [
            ("-L -D", "Invalid commands combination"),
            ("-L foo", "'foo'"),
            ("-L -o xml", "'xml'"),
            ("-L -p nope", "nope"),
            ("-I -p tcp", "`-I' is not offered here"),
            ("-L --zone 3", "`--zone' is not offered here"),
            ("-L -z", "`-z' is not offered here"),
            ("-L -Q", "unknown option `-Q'"),
            ("-F dying", "Can't do that command with tables `dying'"),
            ("-F -p tcp", "Illegal option `--protonum' with this command"),
            ("-F -p tcp -s 192.0.2.1", "Illegal option `--src'"),
            ("-F --dport 1", "Illegal option `--dport'"),
            ("-F -o id", "Illegal option `--output'"),
            ("-F expect -p tcp", "Illegal option `--protonum'"),
            ("-S -f ipv4", "Illegal option `--family'"),
            ("-G -p tcp -m 1", "Illegal option `--mark'"),
            ("-D expect -p tcp", "-L, -F and -C only"),
        ] {
            let message = call(line).map(|call| call.command).unwrap_err();
            assert!(message.contains(wanted) && !message.contains('\n'), "{line}: {message}");
        }
    }
}
