//! Parts of the language that iptables has and this firewall has not yet:
//! named in the refusal, with what to use instead where there is something.

use crate::rules::problem::Problem;

/// Matches: their name, the options that only they have, what to use instead.
const MATCHES: &[(&str, &[&str], Option<&str>)] = &[
    ("ah", &["--ahspi"], None),
    ("bpf", &["--bytecode", "--object-pinned"], None),
    ("cgroup", &["--path", "--cgroup"], Some("use -m owner --uid-owner")),
    ("cluster", &["--cluster-total-nodes"], None),
    (
        "connbytes",
        &["--connbytes", "--connbytes-dir", "--connbytes-mode"],
        Some("use -m hashlimit, which bounds packets or bytes in a time"),
    ),
    ("connlabel", &["--label"], None),
    ("cpu", &["--cpu"], None),
    ("dccp", &["--dccp-types", "--dccp-option"], None),
    ("dst", &["--dst-len", "--dst-opts"], Some("use -m ipv6header --soft --header dst")),
    ("devgroup", &["--src-group", "--dst-group"], Some("name the interfaces with -i or -o")),
    ("ecn", &[], None),
    ("esp", &["--espspi"], None),
    ("hbh", &["--hbh-len", "--hbh-opts"], Some("use -m ipv6header --soft --header hop")),
    ("ipcomp", &["--ipcompspi"], None),
    ("l2tp", &["--tid"], None),
    ("mh", &["--mh-type"], None),
    ("mport", &[], Some("use -m multiport")),
    (
        "physdev",
        &["--physdev-in", "--physdev-out", "--physdev-is-bridged"],
        Some("name the interfaces with -i or -o"),
    ),
    ("osf", &["--genre", "--log"], None),
    ("policy", &["--dir", "--pol", "--strict", "--reqid"], None),
    ("quota", &["--quota"], Some("use -m hashlimit, which bounds packets or bytes in a time")),
    (
        "rpfilter",
        &["--loose", "--validmark", "--accept-local"],
        Some("use the sysctl net.ipv4.conf.all.rp_filter"),
    ),
    ("rateest", &["--rateest1", "--rateest"], None),
    ("realm", &["--realm"], None),
    ("socket", &["--transparent", "--nowildcard"], Some("use -m owner --socket-exists in OUTPUT")),
    ("u32", &["--u32"], Some("match what -s, -d, -m length, -m ttl or -m string can")),
    ("unclean", &[], Some("use -m conntrack --ctstate INVALID")),
];

/// Targets and what to use instead.
const TARGETS: &[(&str, Option<&str>)] = &[
    ("AUDIT", Some("use LOG")),
    ("CHECKSUM", None),
    ("CLASSIFY", None),
    ("CONNSECMARK", None),
    ("DNPT", Some("use -t nat -A PREROUTING -d NETWORK -j NETMAP --to NETWORK")),
    ("HMARK", None),
    ("IDLETIMER", None),
    ("LED", None),
    ("NFQUEUE", None),
    ("QUEUE", None),
    ("RATEEST", None),
    ("SAME", Some("use SNAT with --persistent")),
    ("SECMARK", None),
    ("SNPT", Some("use -t nat -A POSTROUTING -s NETWORK -j NETMAP --to NETWORK")),
    ("TARPIT", Some("use DROP")),
    ("TCPOPTSTRIP", None),
    ("TEE", None),
    ("TPROXY", None),
    ("TRACE", Some("use LOG")),
    ("ULOG", Some("use LOG")),
];

/// Options of a target or a known match that come later.
const OPTIONS: &[(&str, &str)] = &[
    ("--chunk-types", "sctp"),
    ("--hashlimit-rate-match", "hashlimit"),
    ("--hashlimit-rate-interval", "hashlimit"),
    ("--limit-iface-in", "addrtype"),
    ("--limit-iface-out", "addrtype"),
    ("--suppl-groups", "owner"),
    ("--cmd-owner", "owner"),
    ("--pid-owner", "owner"),
    ("--sid-owner", "owner"),
    ("--rt-0-res", "rt"),
    ("--rt-0-addrs", "rt"),
    ("--rt-0-not-strict", "rt"),
    ("--left-shift-mark", "CONNMARK"),
    ("--right-shift-mark", "CONNMARK"),
    ("--ctevents", "CT"),
    ("--expevents", "CT"),
    ("--zone", "CT"),
    ("--map-mark", "SET"),
    ("--map-prio", "SET"),
    ("--map-queue", "SET"),
];

fn refusal(what: String, instead: Option<&str>) -> Problem {
    let problem = Problem::new(what);
    match instead {
        Some(instead) => problem.advise(instead),
        None => problem.advise("take the rule out: it would not be enforced"),
    }
}

pub(super) fn match_named(name: &str) -> Option<Problem> {
    let (name, _, instead) = MATCHES.iter().find(|(known, ..)| *known == name)?;
    Some(refusal(format!("the match '{name}' is not supported yet"), *instead))
}

pub(super) fn is_target(name: &str) -> bool {
    TARGETS.iter().any(|(known, _)| *known == name)
}

pub(super) fn target(name: &str) -> Option<Problem> {
    let (name, instead) = TARGETS.iter().find(|(known, _)| *known == name)?;
    Some(refusal(format!("the target {name} is not supported yet"), *instead))
}

/// The match or target to which an option belongs that comes later.
pub(super) fn owner(option: &str) -> Option<&'static str> {
    let of_match = MATCHES.iter().find(|(_, options, _)| options.contains(&option));
    let known = OPTIONS.iter().find(|(known, _)| *known == option);
    of_match.map(|(name, ..)| *name).or(known.map(|(_, owner)| *owner))
}

pub(super) fn option(name: &str) -> Option<Problem> {
    let owner = owner(name)?;
    match_named(owner).map_or_else(
        || Some(refusal(format!("{name} of '{owner}' is not supported yet"), None)),
        |problem| Some(Problem { message: format!("{name}: {}", problem.message), ..problem }),
    )
}
