//! The file, its mistakes, and the example that is shipped.

use super::*;
use crate::{cli::Arguments, config::Wanted, settings::Live};

const EXAMPLE: &str = include_str!("../../../../docs/firewall.toml");

fn mistakes(text: &str) -> Vec<String> {
    let errors = parse("firewall.toml", text).unwrap_err();
    errors.0.iter().map(ToString::to_string).collect()
}

/// The first line of the only mistake.
fn mistake(text: &str) -> String {
    let mistakes = mistakes(text);
    assert_eq!(mistakes.len(), 1, "{mistakes:?}");
    mistakes[0].lines().next().unwrap().to_owned()
}

fn arguments(line: &str) -> crate::cli::args::Run {
    let words = ["firewall", "run"].into_iter().chain(line.split_whitespace());
    match Arguments::read(words).unwrap().command {
        crate::cli::Command::Run(run) => *run,
        _ => unreachable!("it is `run`"),
    }
}

mod the_example {
    use super::*;

    /// With every key that stands behind a #; prose has a blank there.
    fn complete() -> String {
        let is_key = |line: &&str| line.starts_with(|first: char| first.is_ascii_lowercase());
        let line = |line| str::strip_prefix(line, '#').filter(is_key).unwrap_or(line);
        EXAMPLE.lines().map(|one| format!("{}\n", line(one))).collect()
    }

    #[test]
    fn is_read_as_it_is() {
        let file = parse("firewall.toml", EXAMPLE).unwrap();
        assert_eq!(file.interfaces.unwrap().len(), 2);
        assert_eq!(file.rules.unwrap(), Path::new("iptables/rules.v4"));
        assert!(ALL.iter().all(|setting| file.settings.get(setting).is_none()));
    }

    #[test]
    fn has_every_setting_with_its_default() {
        let file = parse("firewall.toml", &complete()).unwrap();
        let defaults = Live::default();
        for setting in ALL {
            let value = file.settings.get(setting);
            assert_eq!(value, Some(defaults.get(setting)), "{}", setting.name);
        }
    }

    #[test]
    fn has_every_key_of_the_other_sections_with_its_default() {
        let text = complete();
        let sections =
            [("run", &RUN[..]), ("tables", &TABLES), ("helper.ftp", &FTP), ("helper.tftp", &TFTP)];
        let table = toml::de::DeTable::parse(&text).unwrap().into_inner();
        for (section, keys) in sections {
            let found = section
                .split('.')
                .fold(&table, |table, part| table.get(part).unwrap().get_ref().as_table().unwrap());
            let found: Vec<_> = found.keys().map(|key| key.get_ref().to_string()).collect();
            let missing: Vec<_> =
                keys.iter().filter(|key| !found.iter().any(|f| f == *key)).collect();
            assert!(missing.is_empty() && found.len() == keys.len(), "{section}: {missing:?}");
        }
        let file = parse("firewall.toml", &text).unwrap();
        let silent = Wanted::new(&arguments("-i eth0"), File::default()).unwrap();
        let wanted = Wanted::new(&arguments("--config x"), file).unwrap();
        assert_eq!(wanted.hook, silent.hook);
        assert_eq!(wanted.log_level, silent.log_level);
        assert_eq!(wanted.sizes, silent.sizes);
        assert_eq!(wanted.ftp_ports, silent.ftp_ports);
        assert_eq!(wanted.ftp_loose, silent.ftp_loose);
        assert_eq!(wanted.helper_failure, silent.helper_failure);
        assert_eq!(wanted.ftp_refused_ports, silent.ftp_refused_ports);
        assert_eq!(wanted.tls_passive_range, silent.tls_passive_range);
        assert_eq!(wanted.max_connections, silent.max_connections);
        assert_eq!(wanted.max_buffers, silent.max_buffers);
        assert_eq!(wanted.max_holes_per_host, silent.max_holes_per_host);
        assert_eq!(wanted.tftp_ports, silent.tftp_ports);
        assert_eq!(wanted.drop_non_ip, silent.drop_non_ip);
        assert_eq!(wanted.unload_on_exit, silent.unload_on_exit);
    }
}

mod a_mistake {
    use super::*;

    #[test]
    fn is_told_with_its_place_and_what_to_write() {
        for (text, message) in [
            (
                "[conntrack]\nudp_timout = 3",
                "2:1: unknown setting 'conntrack.udp_timout'; did you mean udp_timeout?",
            ),
            ("[conntrak]\n", "1:2: unknown section 'conntrak'; did you mean conntrack?"),
            (
                "[run]\nport = 1",
                "2:1: unknown key 'run.port'; there are: interfaces, rules, rules6, sets, hook, \
                 drop_non_ip, unload_on_exit, log_level",
            ),
            ("[helper.tfpt]", "1:9: unknown helper 'helper.tfpt'; did you mean tftp?"),
            (
                "[helper.ftp]\nrefused_ports = [0]",
                "2:18: helper.ftp.refused_ports cannot be '0'; wanted is a list of ports and \
                 ranges, e.g. [3306, \"6000-6063\"]",
            ),
            (
                "[helper.ftp]\ntls_passive_range = \"900-1100\"",
                "2:21: helper.ftp.tls_passive_range cannot be '900-1100'; wanted is a range of \
                 ports from 1024 on, e.g. \"50000-50100\", or \"none\"",
            ),
            (
                "[helper.ftp]\nmax_connections = 0",
                "2:19: helper.ftp.max_connections cannot be '0'; wanted is a number from 1 to \
                 4194304",
            ),
            (
                "[conntrack]\nudp_timeout = \"1 donkey\"",
                "2:15: conntrack.udp_timeout cannot be '1 donkey'; wanted is a time from 1 to \
                 31536000 seconds (1 second to 365 days), e.g. 120, 2m or \"1h 30m\"",
            ),
            (
                "[conntrack]\ntcp_loose = 2",
                "2:13: conntrack.tcp_loose cannot be '2'; wanted is true or false (1 or 0)",
            ),
            (
                "[conntrack]\ntcp_max_retrans = 256",
                "2:19: conntrack.tcp_max_retrans cannot be '256'; wanted is a number from 0 to 255",
            ),
            (
                "[conntrack]\nnf_conntrack_max = 1000",
                "2:1: the size of a table stands under [tables], as max_flows",
            ),
            (
                "[tables]\nmax_flows = 0x1",
                "2:13: tables.max_flows cannot be '1'; wanted is a number from 16 to 67108864",
            ),
            (
                "[tables]\nmax_flows = 99999999999",
                "2:13: tables.max_flows cannot be '99999999999'; wanted is a number from 16 to \
                 67108864",
            ),
            (
                "[run]\ninterfaces = \"eth0\"",
                "2:14: run.interfaces cannot be 'eth0'; wanted is a list of names, e.g. [\"eth0\", \
                 \"eth1\"]",
            ),
            (
                "[run]\nhook = \"tcx\"",
                "2:8: run.hook cannot be 'tcx'; wanted is one of auto, xdp, xdp-generic, tc",
            ),
            (
                "[run]\nrules = [1]",
                "2:9: run.rules cannot be a TOML array; wanted is the path of a file, as text",
            ),
            (
                "[helper.ftp]\nports = [21, 70000]",
                "2:14: helper.ftp.ports cannot be '70000'; wanted is a port from 1 to 65535",
            ),
            (
                "[helper.ftp]\nloose = [\"192.0.2.0/33\"]",
                "2:10: helper.ftp.loose cannot be '192.0.2.0/33'; wanted is a list of networks, \
                 e.g. [\"192.0.2.0/24\"]",
            ),
            ("tables = 1", "1:10: tables cannot be '1'; wanted is a section: [tables]"),
        ] {
            assert_eq!(mistake(text), format!("firewall.toml:{message}"), "{text}");
        }
    }

    #[test]
    fn shows_the_line() {
        let all = mistakes("[tables]\nmax_flow = 3\n");
        assert_eq!(
            all,
            ["firewall.toml:2:1: unknown key 'tables.max_flow'; did you mean max_flows?\n  \
              max_flow = 3\n  ^^^^^^^^"]
        );
    }

    #[test]
    fn does_not_hide_the_others() {
        let text =
            "[run]\nhook = 1\ninterfaces = [\"a/b\", \"eth0\", 7.5, \"\"]\n[tables]\nx = 1\n";
        let places: Vec<_> = mistakes(text).iter().map(|one| one[..18].to_owned()).collect();
        assert_eq!(places.len(), 4, "{places:?}");
        assert!(places[0].starts_with("firewall.toml:2:8:"), "{places:?}");
        assert!(places[3].starts_with("firewall.toml:5:1:"), "{places:?}");
    }

    #[test]
    fn of_the_syntax_has_its_place_too() {
        assert!(mistake("[run]\nhook = \n").starts_with("firewall.toml:2:"));
        assert!(mistake("[run]\nhook = 'tc'\nhook = 'tc'\n").starts_with("firewall.toml:3:1:"));
    }
}

#[test]
fn times_and_switches_are_read_in_each_of_their_forms() {
    let text = "[conntrack]\nudp_timeout = 5\nnf_conntrack_icmp_timeout = \"1h 30m\"\n\
                tcp_loose = 0\ntcp_be_liberal = true\n";
    let file = parse("firewall.toml", text).unwrap();
    for (name, value) in [
        ("udp_timeout", "5s"),
        ("icmp_timeout", "1h 30m"),
        ("tcp_loose", "false"),
        ("tcp_be_liberal", "true"),
    ] {
        let value_read = file.settings.get(settings::find(name).unwrap()).unwrap();
        assert_eq!(value_read.to_string(), value, "{name}");
    }
}

#[test]
fn the_command_line_wins() {
    let text = "[run]\ninterfaces = [\"eth0\"]\nhook = \"tc\"\nrules = \"a\"\nlog_level = \"warn\"\n\
                [tables]\nmax_flows = 32\nmax_fragments = 64\n[conntrack]\ntcp_loose = true\n\
                [helper.ftp]\nports = []\nloose = [\"192.0.2.1\"]\nfailure = \"closed\"\n";
    let file = parse("firewall.toml", text).unwrap();
    let wanted = Wanted::new(&arguments("--config x"), file.clone()).unwrap();
    assert_eq!(wanted.interfaces[0].as_str(), "eth0");
    assert_eq!((wanted.hook, wanted.log_level), (HookChoice::Tc, LogLevel::Warn));
    assert_eq!((wanted.ftp_ports.to_string().as_str(), wanted.ftp_loose.len()), ("none", 1));
    assert_eq!((wanted.sizes.assured, wanted.sizes.fragments), (32, 64));
    let run = arguments(
        "--config x -i eth7 --hook xdp --rules b --max-flows 48 --no-loose --ftp-ports 2121 \
         --helper-failure open --log-level error",
    );
    let wanted = Wanted::new(&run, file).unwrap();
    assert_eq!(wanted.interfaces.len(), 1);
    assert_eq!(wanted.interfaces[0].as_str(), "eth7");
    assert_eq!((wanted.hook, wanted.log_level), (HookChoice::Xdp, LogLevel::Error));
    assert_eq!(wanted.rules.as_deref(), Some(Path::new("b")));
    assert_eq!((wanted.sizes.assured, wanted.sizes.fragments), (48, 64));
    assert_eq!(wanted.ftp_ports.to_string(), "2121");
    assert_eq!(wanted.helper_failure, HelperFailure::Open);
    let loose = wanted.settings.get(settings::find("tcp_loose").unwrap());
    assert_eq!(loose, Some(settings::Value::Switch(false)));
}

#[test]
fn without_an_interface_anywhere_it_says_where_to_name_one() {
    let run = arguments("--config /etc/firewall.toml");
    let message = Wanted::new(&run, File::default()).unwrap_err().to_string();
    assert!(message.contains("under [run] in /etc/firewall.toml"), "{message}");
}

#[test]
fn paths_count_from_where_the_file_lies() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("firewall.toml");
    fs::write(&path, "[run]\nrules = \"v4\"\nrules6 = \"/v6\"\n").unwrap();
    let file = read(&path).unwrap();
    assert_eq!(file.rules.unwrap(), directory.path().join("v4"));
    assert_eq!(file.rules6.unwrap(), Path::new("/v6"));
    let missing = read(&directory.path().join("nowhere.toml")).unwrap_err();
    assert!(format!("{missing:#}").contains("nowhere.toml"), "{missing:#}");
}

mod printed {
    use super::*;
    use crate::config::print;

    #[test]
    fn a_configuration_is_read_back_as_it_was() {
        let complete: String = EXAMPLE
            .lines()
            .map(|line| match line.strip_prefix('#') {
                Some(key) if key.starts_with(|first: char| first.is_ascii_lowercase()) => key,
                _ => line,
            })
            .flat_map(|line| [line, "\n"])
            .collect();
        let odd = "[run]\ninterfaces = [\"a\\\\b\", \"\u{e9}\"]\nrules = \"a \\\"file\\\"\\twith\\nall\"\n\
                   [helper.ftp]\nports = []\nloose = [\"192.0.2.0/24\", \"2001:db8::/32\"]\n\
                   [conntrack]\nudp_timeout = 90\n";
        for text in ["", EXAMPLE, &complete, odd] {
            let printed = print(&parse("before", text).unwrap());
            let again = print(&parse("printed", &printed).unwrap());
            assert_eq!(printed, again);
        }
        let printed = print(&parse("before", odd).unwrap());
        assert_eq!(
            printed,
            "[run]\ninterfaces = [\"a\\\\b\", \"\u{e9}\"]\nrules = \"a \\\"file\\\"\\twith\\nall\"\n\n\
             [conntrack]\nudp_timeout = \"1m 30s\"\n\n[helper.ftp]\nports = []\nloose = \
             [\"192.0.2.0/24\", \"2001:db8::/32\"]\n"
        );
    }
}
