//! Every option that is understood, in one table: its names, how many
//! arguments it takes, and whether `!` may stand before it.

use firewall_common::{set::ask::compare, synproxy::header::has};

use super::{
    extras::{
        ConnLimitField, Field, FragmentField, HashLimitField, RecentField, TextField, TimeField,
    },
    mangle, nat,
    sets::{SetOption, TargetOption},
};
use crate::rules::{
    ast::log_option,
    extra::{Action, Comparison, Way},
};

/// An option of NFLOG.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NflogField {
    Prefix,
    Group,
    Size,
    Threshold,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opt {
    // Commands.
    Append,
    Insert,
    Delete,
    Replace,
    New,
    Policy,
    Flush,
    DeleteChain,
    Zero,
    Rename,
    List,
    // Conditions without a match.
    Source,
    Destination,
    Input,
    Output,
    Protocol,
    Match,
    Jump,
    Goto,
    // Options of matches.
    Sport,
    Dport,
    Sports,
    Dports,
    Ports,
    Syn,
    TcpFlags,
    State,
    CtState,
    TcpOption,
    Fragment,
    /// An option of the matches of [`super::extras`].
    Extra(Field),
    /// An option of `-m set`, and one of `-j SET`.
    Set(SetOption),
    SetTarget(TargetOption),
    Helper,
    Comment,
    IcmpType,
    Icmpv6Type,
    // Options of targets.
    RejectWith,
    LogPrefix,
    LogLevel,
    Log(u8),
    Nflog(NflogField),
    NoTrack,
    Mss,
    Wscale,
    /// An option of the targets of [`super::mangle`].
    Mangle(mangle::Field),
    /// An option of the targets of [`super::nat`].
    Nat(nat::Field),
    /// A flag of SYNPROXY: bits of [`firewall_common::synproxy::header::has`].
    Offer(u8),
    // The rest.
    Table,
    Counters,
    OnlyIpv4,
    OnlyIpv6,
    /// Has no meaning here: `-w`, `-v`, `-n`.
    Ignored,
}

pub(super) struct Fact {
    pub(super) names: &'static [&'static str],
    pub(super) opt: Opt,
    /// Arguments: at least, at most.
    pub(super) arity: (usize, usize),
    pub(super) negatable: bool,
}

const fn plain(names: &'static [&'static str], opt: Opt, least: usize, most: usize) -> Fact {
    Fact { names, opt, arity: (least, most), negatable: false }
}

const fn negatable(names: &'static [&'static str], opt: Opt, count: usize) -> Fact {
    Fact { names, opt, arity: (count, count), negatable: true }
}

const fn recent(field: RecentField) -> Opt {
    Opt::Extra(Field::Recent(field))
}

const fn hashlimit(field: HashLimitField) -> Opt {
    Opt::Extra(Field::HashLimit(field))
}

const fn connlimit(field: ConnLimitField) -> Opt {
    Opt::Extra(Field::ConnLimit(field))
}

const fn fragment(field: FragmentField) -> Opt {
    Opt::Extra(Field::Fragment(field))
}

const fn time(field: TimeField) -> Opt {
    Opt::Extra(Field::Time(field))
}

const fn text(field: TextField) -> Opt {
    Opt::Extra(Field::Text(field))
}

/// The options of a match, as their first names.
pub(super) fn of_match(name: &str) -> impl Iterator<Item = &'static str> {
    let of_it = FACTS.iter().filter(move |fact| belongs_to(fact.opt, name));
    of_it.filter_map(|fact| fact.names.first().copied())
}

/// The options of a target, as their first names.
pub(super) fn of_target(name: &str) -> impl Iterator<Item = &'static str> {
    let of_it = FACTS.iter().filter(move |fact| is_for(fact.opt, name));
    of_it.filter_map(|fact| fact.names.first().copied())
}

fn is_for(opt: Opt, target: &str) -> bool {
    match opt {
        Opt::RejectWith => target == "REJECT",
        Opt::LogPrefix | Opt::LogLevel | Opt::Log(_) => target == "LOG",
        Opt::Nflog(_) => target == "NFLOG",
        Opt::Helper | Opt::NoTrack => target == "CT",
        Opt::Mss | Opt::Wscale | Opt::Offer(_) => target == "SYNPROXY",
        Opt::SetTarget(_) => target == "SET",
        Opt::Mangle(field) => field.targets().contains(&target),
        Opt::Nat(field) => field.targets().contains(&target),
        // Two that matches have, too.
        Opt::Extra(Field::Recent(RecentField::Mask)) => target == "CONNMARK",
        Opt::Extra(Field::Text(TextField::To)) => target == "NETMAP",
        _ => false,
    }
}

fn belongs_to(opt: Opt, name: &str) -> bool {
    match opt {
        Opt::Sport | Opt::Dport => matches!(name, "tcp" | "udp" | "sctp"),
        Opt::Syn | Opt::TcpFlags | Opt::TcpOption => name == "tcp",
        Opt::Sports | Opt::Dports | Opt::Ports => name == "multiport",
        Opt::State => name == "state",
        Opt::CtState => name == "conntrack",
        Opt::Helper => name == "helper",
        Opt::Comment => name == "comment",
        Opt::IcmpType => name == "icmp",
        Opt::Icmpv6Type => matches!(name, "icmp6" | "icmpv6" | "ipv6-icmp"),
        Opt::Set(_) => name == "set",
        Opt::Extra(Field::Mark) => matches!(name, "mark" | "connmark"),
        Opt::Extra(field) => field.kind().name() == name,
        _ => false,
    }
}

pub(super) const FACTS: &[Fact] = &[
    plain(&["-A", "--append"], Opt::Append, 1, 1),
    plain(&["-I", "--insert"], Opt::Insert, 1, 2),
    plain(&["-D", "--delete"], Opt::Delete, 1, 2),
    plain(&["-R", "--replace"], Opt::Replace, 2, 2),
    plain(&["-N", "--new-chain", "--new"], Opt::New, 1, 1),
    plain(&["-P", "--policy"], Opt::Policy, 2, 2),
    plain(&["-F", "--flush"], Opt::Flush, 0, 1),
    plain(&["-X", "--delete-chain"], Opt::DeleteChain, 0, 1),
    plain(&["-Z", "--zero"], Opt::Zero, 0, 2),
    plain(&["-E", "--rename-chain"], Opt::Rename, 2, 2),
    plain(&["-L", "--list"], Opt::List, 0, 2),
    plain(&["-S", "--list-rules"], Opt::List, 0, 2),
    negatable(&["-s", "--source", "--src"], Opt::Source, 1),
    negatable(&["-d", "--destination", "--dst", "--dest"], Opt::Destination, 1),
    negatable(&["-i", "--in-interface", "--in-iface"], Opt::Input, 1),
    negatable(&["-o", "--out-interface", "--out-iface"], Opt::Output, 1),
    negatable(&["-p", "--protocol", "--proto"], Opt::Protocol, 1),
    plain(&["-m", "--match"], Opt::Match, 1, 1),
    plain(&["-j", "--jump"], Opt::Jump, 1, 1),
    plain(&["-g", "--goto"], Opt::Goto, 1, 1),
    negatable(&["--sport", "--source-port"], Opt::Sport, 1),
    negatable(&["--dport", "--destination-port"], Opt::Dport, 1),
    negatable(&["--sports", "--source-ports"], Opt::Sports, 1),
    negatable(&["--dports", "--destination-ports"], Opt::Dports, 1),
    negatable(&["--ports", "--port"], Opt::Ports, 1),
    negatable(&["--syn"], Opt::Syn, 0),
    negatable(&["--tcp-flags"], Opt::TcpFlags, 2),
    negatable(&["--state"], Opt::State, 1),
    negatable(&["--ctstate"], Opt::CtState, 1),
    negatable(&["--helper"], Opt::Helper, 1),
    plain(&["--comment"], Opt::Comment, 1, 1),
    negatable(&["--icmp-type"], Opt::IcmpType, 1),
    negatable(&["--icmpv6-type"], Opt::Icmpv6Type, 1),
    plain(&["--reject-with"], Opt::RejectWith, 1, 1),
    plain(&["--log-prefix"], Opt::LogPrefix, 1, 1),
    plain(&["--log-level"], Opt::LogLevel, 1, 1),
    plain(&["--log-tcp-sequence"], Opt::Log(log_option::TCP_SEQUENCE), 0, 0),
    plain(&["--log-tcp-options"], Opt::Log(log_option::TCP_OPTIONS), 0, 0),
    plain(&["--log-ip-options"], Opt::Log(log_option::IP_OPTIONS), 0, 0),
    plain(&["--log-uid"], Opt::Log(log_option::UID), 0, 0),
    plain(&["--log-macdecode"], Opt::Log(log_option::MACDECODE), 0, 0),
    plain(&["--nflog-prefix"], Opt::Nflog(NflogField::Prefix), 1, 1),
    plain(&["--nflog-group"], Opt::Nflog(NflogField::Group), 1, 1),
    plain(&["--nflog-size"], Opt::Nflog(NflogField::Size), 1, 1),
    plain(&["--nflog-threshold"], Opt::Nflog(NflogField::Threshold), 1, 1),
    plain(&["--notrack"], Opt::NoTrack, 0, 0),
    negatable(&["--mss"], Opt::Mss, 1),
    plain(&["--wscale"], Opt::Wscale, 1, 1),
    plain(&["--sack-perm"], Opt::Offer(has::SACK_PERMITTED), 0, 0),
    plain(&["--timestamp"], Opt::Offer(has::TIMESTAMPS), 0, 0),
    plain(&["--ecn"], Opt::Offer(has::ECN), 0, 0),
    plain(&["--set-mark"], Opt::Mangle(mangle::Field::SetMark), 1, 1),
    plain(&["--set-xmark"], Opt::Mangle(mangle::Field::SetXmark), 1, 1),
    plain(&["--and-mark"], Opt::Mangle(mangle::Field::AndMark), 1, 1),
    plain(&["--or-mark"], Opt::Mangle(mangle::Field::OrMark), 1, 1),
    plain(&["--xor-mark"], Opt::Mangle(mangle::Field::XorMark), 1, 1),
    plain(&["--save-mark"], Opt::Mangle(mangle::Field::SaveMark), 0, 0),
    plain(&["--restore-mark"], Opt::Mangle(mangle::Field::RestoreMark), 0, 0),
    plain(&["--nfmask"], Opt::Mangle(mangle::Field::PacketMask), 1, 1),
    plain(&["--ctmask"], Opt::Mangle(mangle::Field::ConnectionMask), 1, 1),
    plain(&["--set-dscp"], Opt::Mangle(mangle::Field::SetDscp), 1, 1),
    plain(&["--set-dscp-class"], Opt::Mangle(mangle::Field::SetDscpClass), 1, 1),
    plain(&["--set-tos"], Opt::Mangle(mangle::Field::SetTos), 1, 1),
    plain(&["--and-tos"], Opt::Mangle(mangle::Field::AndTos), 1, 1),
    plain(&["--or-tos"], Opt::Mangle(mangle::Field::OrTos), 1, 1),
    plain(&["--xor-tos"], Opt::Mangle(mangle::Field::XorTos), 1, 1),
    plain(&["--ttl-set"], Opt::Mangle(mangle::Field::TtlSet), 1, 1),
    plain(&["--ttl-inc"], Opt::Mangle(mangle::Field::TtlAdd), 1, 1),
    plain(&["--ttl-dec"], Opt::Mangle(mangle::Field::TtlSubtract), 1, 1),
    plain(&["--hl-set"], Opt::Mangle(mangle::Field::HopLimitSet), 1, 1),
    plain(&["--hl-inc"], Opt::Mangle(mangle::Field::HopLimitAdd), 1, 1),
    plain(&["--hl-dec"], Opt::Mangle(mangle::Field::HopLimitSubtract), 1, 1),
    plain(&["--set-mss"], Opt::Mangle(mangle::Field::SetMss), 1, 1),
    plain(&["--clamp-mss-to-pmtu"], Opt::Mangle(mangle::Field::ClampMss), 0, 0),
    plain(&["--to-source"], Opt::Nat(nat::Field::ToSource), 1, 1),
    plain(&["--to-destination", "--to-dest"], Opt::Nat(nat::Field::ToDestination), 1, 1),
    plain(&["--to-ports", "--to-port"], Opt::Nat(nat::Field::ToPorts), 1, 1),
    plain(&["--random"], Opt::Nat(nat::Field::Random), 0, 0),
    plain(&["--random-fully"], Opt::Nat(nat::Field::RandomFully), 0, 0),
    plain(&["--persistent"], Opt::Nat(nat::Field::Persistent), 0, 0),
    negatable(&["-f", "--fragment", "--fragments"], Opt::Fragment, 0),
    negatable(&["--tcp-option"], Opt::TcpOption, 1),
    negatable(&["--length"], Opt::Extra(Field::Length), 1),
    negatable(&["--ttl-eq", "--ttl"], Opt::Extra(Field::Ttl(Comparison::Equal)), 1),
    plain(&["--ttl-lt"], Opt::Extra(Field::Ttl(Comparison::Below)), 1, 1),
    plain(&["--ttl-gt"], Opt::Extra(Field::Ttl(Comparison::Above)), 1, 1),
    negatable(&["--hl-eq", "--hl"], Opt::Extra(Field::HopLimit(Comparison::Equal)), 1),
    plain(&["--hl-lt"], Opt::Extra(Field::HopLimit(Comparison::Below)), 1, 1),
    plain(&["--hl-gt"], Opt::Extra(Field::HopLimit(Comparison::Above)), 1, 1),
    negatable(&["--tos"], Opt::Extra(Field::Tos), 1),
    negatable(&["--dscp"], Opt::Extra(Field::Dscp), 1),
    negatable(&["--dscp-class"], Opt::Extra(Field::DscpClass), 1),
    negatable(&["--src-range"], Opt::Extra(Field::SourceRange), 1),
    negatable(&["--dst-range"], Opt::Extra(Field::DestinationRange), 1),
    negatable(&["--mac-source"], Opt::Extra(Field::Mac), 1),
    negatable(&["--pkt-type"], Opt::Extra(Field::PacketType), 1),
    negatable(&["--src-type"], Opt::Extra(Field::SourceType), 1),
    negatable(&["--dst-type"], Opt::Extra(Field::DestinationType), 1),
    negatable(&["--mark"], Opt::Extra(Field::Mark), 1),
    negatable(&["--uid-owner"], Opt::Extra(Field::Uid), 1),
    negatable(&["--gid-owner"], Opt::Extra(Field::Gid), 1),
    negatable(&["--socket-exists"], Opt::Extra(Field::SocketExists), 0),
    negatable(&["--ctproto"], Opt::Extra(Field::CtProtocol), 1),
    negatable(&["--ctorigsrc"], Opt::Extra(Field::CtAddress(Way::OriginalSource)), 1),
    negatable(&["--ctorigdst"], Opt::Extra(Field::CtAddress(Way::OriginalDestination)), 1),
    negatable(&["--ctreplsrc"], Opt::Extra(Field::CtAddress(Way::ReplySource)), 1),
    negatable(&["--ctrepldst"], Opt::Extra(Field::CtAddress(Way::ReplyDestination)), 1),
    negatable(&["--ctorigsrcport"], Opt::Extra(Field::CtPort(Way::OriginalSource)), 1),
    negatable(&["--ctorigdstport"], Opt::Extra(Field::CtPort(Way::OriginalDestination)), 1),
    negatable(&["--ctreplsrcport"], Opt::Extra(Field::CtPort(Way::ReplySource)), 1),
    negatable(&["--ctrepldstport"], Opt::Extra(Field::CtPort(Way::ReplyDestination)), 1),
    negatable(&["--ctstatus"], Opt::Extra(Field::CtStatus), 1),
    negatable(&["--ctexpire"], Opt::Extra(Field::CtExpire), 1),
    plain(&["--ctdir"], Opt::Extra(Field::CtDirection), 1, 1),
    negatable(&["--rt-type"], Opt::Extra(Field::RoutingType), 1),
    negatable(&["--rt-segsleft"], Opt::Extra(Field::RoutingLeft), 1),
    negatable(&["--rt-len"], Opt::Extra(Field::RoutingLength), 1),
    negatable(&["--header"], Opt::Extra(Field::Header), 1),
    plain(&["--soft"], Opt::Extra(Field::Soft), 0, 0),
    negatable(&["--fragid"], fragment(FragmentField::Ids), 1),
    negatable(&["--fraglen"], fragment(FragmentField::Length), 1),
    plain(&["--fragres"], fragment(FragmentField::Reserved), 0, 0),
    plain(&["--fragfirst"], fragment(FragmentField::First), 0, 0),
    plain(&["--fragmore"], fragment(FragmentField::More), 0, 0),
    plain(&["--fraglast"], fragment(FragmentField::Last), 0, 0),
    plain(&["--mode"], Opt::Extra(Field::Mode), 1, 1),
    negatable(&["--probability"], Opt::Extra(Field::Probability), 1),
    negatable(&["--every"], Opt::Extra(Field::Every), 1),
    plain(&["--packet"], Opt::Extra(Field::Packet), 1, 1),
    plain(&["--limit"], Opt::Extra(Field::Limit), 1, 1),
    plain(&["--limit-burst"], Opt::Extra(Field::LimitBurst), 1, 1),
    negatable(&["--match-set"], Opt::Set(SetOption::MatchSet), 2),
    plain(&["--return-nomatch"], Opt::Set(SetOption::ReturnNomatch), 0, 0),
    negatable(&["--update-counters"], Opt::Set(SetOption::UpdateCounters), 0),
    negatable(&["--update-subcounters"], Opt::Set(SetOption::UpdateSubcounters), 0),
    negatable(&["--packets-eq"], Opt::Set(SetOption::Packets(compare::EQUAL)), 1),
    plain(&["--packets-lt"], Opt::Set(SetOption::Packets(compare::BELOW)), 1, 1),
    plain(&["--packets-gt"], Opt::Set(SetOption::Packets(compare::ABOVE)), 1, 1),
    negatable(&["--bytes-eq"], Opt::Set(SetOption::Bytes(compare::EQUAL)), 1),
    plain(&["--bytes-lt"], Opt::Set(SetOption::Bytes(compare::BELOW)), 1, 1),
    plain(&["--bytes-gt"], Opt::Set(SetOption::Bytes(compare::ABOVE)), 1, 1),
    plain(&["--add-set"], Opt::SetTarget(TargetOption::Add), 2, 2),
    plain(&["--del-set"], Opt::SetTarget(TargetOption::Del), 2, 2),
    plain(&["--map-set"], Opt::SetTarget(TargetOption::Map), 2, 2),
    plain(&["--exist"], Opt::SetTarget(TargetOption::Exist), 0, 0),
    plain(&["--timeout"], Opt::SetTarget(TargetOption::Timeout), 1, 1),
    negatable(&["--set"], recent(RecentField::Action(Action::Set)), 0),
    negatable(&["--rcheck"], recent(RecentField::Action(Action::Check)), 0),
    negatable(&["--update"], recent(RecentField::Action(Action::Update)), 0),
    negatable(&["--remove"], recent(RecentField::Action(Action::Remove)), 0),
    plain(&["--seconds"], recent(RecentField::Seconds), 1, 1),
    plain(&["--reap"], recent(RecentField::Reap), 0, 0),
    plain(&["--hitcount"], recent(RecentField::HitCount), 1, 1),
    plain(&["--rttl"], recent(RecentField::Ttl), 0, 0),
    plain(&["--name"], recent(RecentField::Name), 1, 1),
    plain(&["--rsource"], recent(RecentField::Source), 0, 0),
    plain(&["--rdest"], recent(RecentField::Destination), 0, 0),
    // Behind CONNMARK that target's own.
    plain(&["--mask"], recent(RecentField::Mask), 1, 1),
    negatable(&["--hashlimit-upto", "--hashlimit"], hashlimit(HashLimitField::UpTo), 1),
    negatable(&["--hashlimit-above"], hashlimit(HashLimitField::Above), 1),
    plain(&["--hashlimit-burst"], hashlimit(HashLimitField::Burst), 1, 1),
    plain(&["--hashlimit-mode"], hashlimit(HashLimitField::Mode), 1, 1),
    plain(&["--hashlimit-name"], hashlimit(HashLimitField::Name), 1, 1),
    plain(&["--hashlimit-srcmask"], hashlimit(HashLimitField::SrcMask), 1, 1),
    plain(&["--hashlimit-dstmask"], hashlimit(HashLimitField::DstMask), 1, 1),
    plain(&["--hashlimit-htable-size"], hashlimit(HashLimitField::Size), 1, 1),
    plain(&["--hashlimit-htable-max"], hashlimit(HashLimitField::Max), 1, 1),
    plain(&["--hashlimit-htable-gcinterval"], hashlimit(HashLimitField::GcInterval), 1, 1),
    plain(&["--hashlimit-htable-expire"], hashlimit(HashLimitField::Expire), 1, 1),
    negatable(&["--connlimit-upto"], connlimit(ConnLimitField::UpTo), 1),
    negatable(&["--connlimit-above"], connlimit(ConnLimitField::Above), 1),
    plain(&["--connlimit-mask"], connlimit(ConnLimitField::Mask), 1, 1),
    plain(&["--connlimit-saddr"], connlimit(ConnLimitField::Source), 0, 0),
    plain(&["--connlimit-daddr"], connlimit(ConnLimitField::Destination), 0, 0),
    plain(&["--timestart"], time(TimeField::Start), 1, 1),
    plain(&["--timestop"], time(TimeField::Stop), 1, 1),
    plain(&["--datestart"], time(TimeField::DateStart), 1, 1),
    plain(&["--datestop"], time(TimeField::DateStop), 1, 1),
    negatable(&["--monthdays"], time(TimeField::Monthdays), 1),
    negatable(&["--weekdays"], time(TimeField::Weekdays), 1),
    plain(&["--kerneltz", "--localtz"], time(TimeField::KernelZone), 0, 0),
    plain(&["--utc"], time(TimeField::Utc), 0, 0),
    plain(&["--contiguous"], time(TimeField::Contiguous), 0, 0),
    plain(&["--algo"], text(TextField::Algorithm), 1, 1),
    negatable(&["--string"], text(TextField::Text), 1),
    negatable(&["--hex-string"], text(TextField::Hex), 1),
    plain(&["--from"], text(TextField::From), 1, 1),
    // Behind a target of table nat that target's own.
    plain(&["--to"], text(TextField::To), 1, 1),
    plain(&["--icase"], text(TextField::IgnoreCase), 0, 0),
    plain(&["-t", "--table"], Opt::Table, 1, 1),
    plain(&["-c", "--set-counters"], Opt::Counters, 2, 2),
    plain(&["-4", "--ipv4"], Opt::OnlyIpv4, 0, 0),
    plain(&["-6", "--ipv6"], Opt::OnlyIpv6, 0, 0),
    plain(&["-w", "--wait"], Opt::Ignored, 0, 1),
    plain(&["-W", "--wait-interval"], Opt::Ignored, 0, 1),
    plain(&["-v", "--verbose"], Opt::Ignored, 0, 0),
    plain(&["-n", "--numeric"], Opt::Ignored, 0, 0),
    plain(&["-x", "--exact"], Opt::Ignored, 0, 0),
    plain(&["--line-numbers"], Opt::Ignored, 0, 0),
];

pub(super) fn find(name: &str) -> Option<&'static Fact> {
    // Most words are arguments, and the table is long.
    if !name.starts_with('-') {
        return None;
    }
    FACTS.iter().find(|fact| fact.names.contains(&name))
}

pub(super) fn names() -> impl Iterator<Item = &'static str> {
    FACTS.iter().flat_map(|fact| fact.names.iter().copied())
}

impl Opt {
    pub(super) const fn is_command(self) -> bool {
        matches!(
            self,
            Self::Append
                | Self::Insert
                | Self::Delete
                | Self::Replace
                | Self::New
                | Self::Policy
                | Self::Flush
                | Self::DeleteChain
                | Self::Zero
                | Self::Rename
                | Self::List
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_stands_for_two_options() {
        let mut all: Vec<_> = names().collect();
        all.sort_unstable();
        let count = all.len();
        all.dedup();
        assert_eq!(all.len(), count);
    }
}
