//! `iptables -h`.

use super::super::{Program, failure::Failure};
use crate::rules;

/// The usage, and what is known of the matches and targets that stand beside `-h`: scripts ask
/// so whether there is one.
///
/// # Errors
/// A match that is not known.
pub(super) fn asked(program: Program, rule: &[String]) -> Result<String, Failure> {
    let mut text = text(program);
    for name in values(rule, "-m", "--match") {
        let Some(options) = match_options(name) else {
            let message = format!("Couldn't load match `{name}':No such file or directory\n");
            return Err(program.usage(&message));
        };
        text += &options;
    }
    text.extend(values(rule, "-p", "--protocol").filter_map(match_options));
    text.extend(values(rule, "-j", "--jump").filter_map(target_options));
    Ok(text)
}

fn match_options(name: &str) -> Option<String> {
    let lines = lines(rules::options_of_match(name)?);
    Some(format!("\n\n{name} match options (docs/rules.md tells what they take):{lines}"))
}

fn target_options(name: &str) -> Option<String> {
    let lines = lines(rules::options_of_target(name)?);
    Some(match lines.is_empty() {
        true => format!("\n\n{name} target takes no options"),
        false => format!("\n\n{name} target options (docs/rules.md tells what they take):{lines}"),
    })
}

fn lines(options: impl Iterator<Item = &'static str>) -> String {
    options.map(|option| format!("\n  {option}")).collect()
}

/// What follows an option, in the next word or in its own.
fn values<'a>(
    rule: &'a [String],
    short: &'a str,
    long: &'a str,
) -> impl Iterator<Item = &'a str> + 'a {
    let next = |at: usize| rule.get(at + 1).map(String::as_str);
    rule.iter().enumerate().filter_map(move |(at, word)| match word.as_str() {
        word if word == short || word == long => next(at),
        word => match word.strip_prefix(long) {
            Some(rest) => rest.strip_prefix('='),
            None => word.strip_prefix(short),
        },
    })
}

/// The commands and options that are taken.
pub(super) fn text(program: Program) -> String {
    let name = program.name;
    format!(
        "\
{}: the rules of the running firewall

Usage: {name} [-t table] -[ACD] chain rule
       {name} [-t table] -I chain [number] rule
       {name} [-t table] -R chain number rule
       {name} [-t table] -D chain number
       {name} [-t table] -[LS] [chain [number]] [-n] [-v] [-x] [--line-numbers]
       {name} [-t table] -[FZ] [chain]
       {name} [-t table] -N chain
       {name} [-t table] -X [chain]
       {name} [-t table] -E old-name new-name
       {name} [-t table] -P chain ACCEPT|DROP

  -A --append    add the rule at the chain's end
  -C --check     exit with 0 if the rule is there, else with 1
  -D --delete    take the rule out, or the one with this number
  -I --insert    put the rule at this place, else at the first
  -R --replace   put the rule in the place of the one with this number
  -L --list      list the rules; -S --list-rules: as commands
  -F --flush     take all rules out; -Z --zero: set counters to zero
  -N --new-chain, -X --delete-chain, -E --rename-chain, -P --policy

  -t --table TABLE         filter, unless something else is said
  -n --numeric             no names of ports
  -v --verbose             with counters and interfaces
  -x --exact               counters to the last digit
     --line-numbers        with the numbers of the rules
  -c --set-counters P B    packets and bytes that the rule begins with
  -w --wait [SECONDS]      wait for others who change the rules
  -W, --modprobe           taken, and of no effect
  -V --version, -h --help

FIREWALL_PIN names the instance's directory. Of rules, `firewall check` tells what is
understood; docs/old-names.md tells what differs from iptables.",
        program.version()
    )
}

#[cfg(test)]
mod tests {
    use firewall_common::addr::Family;

    use super::*;

    const PROGRAM: Program = Program { name: "iptables", family: Family::Ipv4 };

    fn help(line: &str) -> Result<String, Failure> {
        let words: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
        asked(PROGRAM, &words)
    }

    #[test]
    fn matches_and_targets_beside_it_are_told() {
        for (line, wanted) in [
            ("-m conntrack", "\n  --ctstate\n"),
            ("-m conntrack", "\n  --ctorigdstport"),
            ("--match=recent", "recent match options"),
            ("-p tcp -mset", "\n  --match-set"),
            ("-p tcp -mset", "\n  --dport"),
            (
                "-j REJECT",
                "REJECT target options (docs/rules.md tells what they take):\n  --reject-with",
            ),
            ("-j LOG", "\n  --log-macdecode"),
            ("-j CONNMARK", "\n  --restore-mark"),
            ("--jump=NETMAP", "\n  --to"),
            ("-j SET", "\n  --add-set"),
            ("-j ACCEPT", "ACCEPT target takes no options"),
        ] {
            let text = help(line).unwrap_or_else(|failure| panic!("{line}: {failure:?}"));
            assert!(text.contains("Usage: iptables") && text.contains(wanted), "{line}: {text}");
        }
        assert!(!help("-j FROB -p 50").unwrap().contains("docs/rules.md"));
    }

    #[test]
    fn a_match_that_is_not_known_is_wrong_usage() {
        let failure = help("-m frob").unwrap_err();
        assert_eq!(failure.status, 2);
        assert!(failure.message.contains("Couldn't load match `frob'"), "{}", failure.message);
    }
}
