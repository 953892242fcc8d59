//! `iptables -h`.

use super::super::Program;

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
