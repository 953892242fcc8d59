//! From what people type to the setting that they mean.

use std::fmt;

use super::catalogue::{ALL, Setting};
use crate::rules::problem::nearest;

/// What stands before the names of nf_conntrack.
const PREFIXES: [&str; 3] =
    ["net.netfilter.nf_conntrack_", "net/netfilter/nf_conntrack_", "nf_conntrack_"];

/// Sizes of tables: as the configuration file and nf_conntrack call them, and the
/// option of `firewall run`.
const SIZES: [(&str, &str); 6] = [
    ("max_flows", "max_flows"),
    ("max", "max_flows"),
    ("max_embryonic", "max_embryonic"),
    ("max_expectations", "max_expectations"),
    ("expect_max", "max_expectations"),
    ("max_fragments", "max_fragments"),
];

/// Names that are suggested at once.
const SUGGESTED: usize = 4;

/// Why a name names no setting that can be changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The size of a table, with its name in the configuration file.
    NeedsRestart { name: String, key: &'static str },
    /// With those that were probably meant.
    Unknown { name: String, nearest: Vec<&'static str> },
}

impl std::error::Error for Refused {}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NeedsRestart { name, key } => write!(
                f,
                "{name} is the size of a table, which cannot change while it is used: set {key} \
                 under [tables] in the configuration file, or give --{} to `firewall run`; end \
                 the daemon, run `firewall unload` (every flow is forgotten), and start it again",
                key.replace('_', "-")
            ),
            Self::Unknown { name, nearest } => {
                write!(f, "there is no setting '{name}'; ")?;
                match nearest.as_slice() {
                    [] => f.write_str("`firewall conntrack settings` lists all"),
                    [one] => write!(f, "did you mean {one}?"),
                    several => write!(f, "did you mean one of {}?", several.join(", ")),
                }
            }
        }
    }
}

/// The setting of this name, with or without `nf_conntrack_` or the whole path of
/// the sysctl.
///
/// # Errors
/// When it is none, or one that cannot change.
pub fn find(name: &str) -> Result<&'static Setting, Refused> {
    let short = PREFIXES.iter().find_map(|prefix| name.strip_prefix(prefix)).unwrap_or(name);
    if let Some(setting) = ALL.iter().find(|setting| setting.name == short) {
        return Ok(setting);
    }
    if let Some((_, key)) = SIZES.iter().find(|(size, _)| *size == short) {
        return Err(Refused::NeedsRestart { name: name.into(), key });
    }
    Err(Refused::Unknown { name: name.into(), nearest: meant(short) })
}

/// The name that differs by a letter or two, else those that have the word in
/// them.
fn meant(word: &str) -> Vec<&'static str> {
    let names = || ALL.iter().map(|setting| setting.name);
    if let Some(name) = nearest(word, names()) {
        return vec![name];
    }
    let parts = || word.split(['_', '.', '-']).filter(|part| part.len() > 2);
    let fits = |name: &&str| parts().count() > 0 && parts().all(|part| name.contains(part));
    names().filter(fits).take(SUGGESTED).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(name: &str) -> String {
        find(name).unwrap_err().to_string()
    }

    #[test]
    fn the_names_of_the_sysctls_are_understood_in_every_form() {
        for name in [
            "udp_timeout",
            "nf_conntrack_udp_timeout",
            "net.netfilter.nf_conntrack_udp_timeout",
            "net/netfilter/nf_conntrack_udp_timeout",
        ] {
            assert_eq!(find(name).unwrap().name, "udp_timeout");
        }
    }

    #[test]
    fn an_unknown_name_is_answered_with_those_that_are_near() {
        assert_eq!(
            message("udp_timout"),
            "there is no setting 'udp_timout'; did you mean udp_timeout?"
        );
        let several = message("established");
        assert!(several.ends_with("one of tcp_timeout_established, sctp_timeout_established?"));
        assert!(message("gibberish").ends_with("`firewall conntrack settings` lists all"));
    }

    #[test]
    fn the_size_of_a_table_needs_a_restart() {
        let message = message("nf_conntrack_max");
        for part in ["nf_conntrack_max", "max_flows under [tables]", "--max-flows", "unload"] {
            assert!(message.contains(part), "{message}");
        }
    }

    #[test]
    fn no_two_settings_share_a_name() {
        for (number, setting) in ALL.iter().enumerate() {
            assert_eq!(setting.number(), number, "{}", setting.name);
        }
    }
}
