//! `-j`, `-g` and the options of targets, which may stand before or behind.

use firewall_common::{
    addr::Family,
    flow::helper,
    rule::RejectKind,
    synproxy::{header::has, offer::Offer},
};

use super::{
    Context,
    items::Item,
    later, mangle,
    matches::Protocol,
    nat,
    options::{NflogField, Opt},
    sets, values,
};
use crate::rules::{
    ast::{Log, Nflog, TableName, Target, UntrackForm},
    mangle::Mangle,
    names,
    nat::Nat,
    problem::{Problem, nearest},
    set::SetTarget,
    source::Span,
};

pub(super) const BUILTIN: [&str; 22] = [
    "ACCEPT",
    "DROP",
    "REJECT",
    "LOG",
    "NFLOG",
    "RETURN",
    "CT",
    "NOTRACK",
    "SYNPROXY",
    "MARK",
    "CONNMARK",
    "DSCP",
    "TOS",
    "TTL",
    "HL",
    "TCPMSS",
    "SET",
    "SNAT",
    "DNAT",
    "MASQUERADE",
    "REDIRECT",
    "NETMAP",
];

/// Whether a chain could not be told from a target of this name.
pub(super) fn is_reserved(name: &str) -> bool {
    BUILTIN.contains(&name) || later::is_target(name)
}

/// What people write for it, from other firewalls.
const SYNONYMS: &[(&str, &str)] = &[
    ("ALLOW", "ACCEPT"),
    ("PASS", "ACCEPT"),
    ("PERMIT", "ACCEPT"),
    ("BLOCK", "DROP"),
    ("DENY", "DROP"),
    ("DISCARD", "DROP"),
];

/// The target that was probably meant by a name that is none.
pub(in crate::rules) fn meant(name: &str) -> Option<&'static str> {
    let upper = name.to_ascii_uppercase();
    let synonym = SYNONYMS.iter().find(|(known, _)| *known == upper).map(|(_, target)| *target);
    synonym.or_else(|| nearest(name, BUILTIN))
}

/// What is read of a rule's target.
#[derive(Default)]
pub(super) struct Reading {
    /// The name after `-j` or `-g`.
    name: Option<(String, Span)>,
    is_goto: bool,
    /// A target that was refused already.
    is_wrong: bool,
    reject: Option<(Item, Option<RejectKind>)>,
    log: Log,
    /// The first option of LOG.
    log_option: Option<Item>,
    nflog: Nflog,
    /// The first option of NFLOG.
    nflog_option: Option<Item>,
    helper: Option<(Item, Option<u8>)>,
    /// `--notrack` of CT.
    untrack: Option<Item>,
    offer: Offer,
    /// The first option of SYNPROXY.
    offer_option: Option<Item>,
    /// Of what changes a packet or a mark.
    mangle: Vec<Item>,
    /// Of what translates addresses.
    nat: Vec<Item>,
    set: SetTarget,
    /// The first option of SET.
    set_option: Option<Item>,
}

impl Reading {
    pub(super) fn span(&self) -> Span {
        self.name.as_ref().map_or(Span::default(), |(_, span)| *span)
    }

    /// Whether the target has been named, and is this.
    pub(super) fn is(&self, target: &str) -> bool {
        self.name.as_ref().is_some_and(|(name, _)| name == target)
    }

    pub(super) fn jump(&mut self, context: &mut Context<'_, '_>, item: &Item) {
        if self.name.is_some() {
            let problem = Problem::new("a rule has one target");
            context.report.add(item.whole_span(), problem.advise("write a rule for each"));
            return;
        }
        let name = item.arg().to_owned();
        self.is_goto = item.opt == Opt::Goto;
        if self.is_goto && is_reserved(&name) {
            let problem = Problem::new(format!("-g takes a chain, and {name} is a target"));
            context.report.add(item.value_span(), problem.advise(format!("write -j {name}")));
            self.is_wrong = true;
        } else if let Some(problem) = later::target(&name) {
            context.report.add(item.value_span(), problem);
            self.is_wrong = true;
        }
        self.name = Some((name, item.value_span()));
    }

    pub(super) fn option(&mut self, context: &mut Context<'_, '_>, item: &Item) {
        let result = match item.opt {
            Opt::RejectWith => self.reject_with(context.family, item),
            Opt::Helper => {
                let helper = values::helper(&item.args[0]);
                self.helper = Some((item.clone(), helper.as_ref().ok().copied()));
                if item.negated {
                    let problem = Problem::new("'!' cannot stand with --helper of CT");
                    context.report.add(item.span, problem);
                }
                helper.map(|_| ())
            }
            Opt::NoTrack => {
                self.untrack = Some(item.clone());
                Ok(())
            }
            Opt::Mss | Opt::Wscale | Opt::Offer(_) => self.offer(item),
            Opt::Mangle(_) => {
                self.mangle.push(item.clone());
                Ok(())
            }
            Opt::Nat(_) => {
                self.nat.push(item.clone());
                Ok(())
            }
            Opt::SetTarget(_) => {
                self.set_option.get_or_insert_with(|| item.clone());
                sets::target(&mut self.set, item)
            }
            Opt::Nflog(field) => self.nflog(field, item),
            _ => self.log(item),
        };
        if let Err((span, problem)) = result {
            context.report.add(span, problem);
        }
    }

    fn reject_with(&mut self, family: Family, item: &Item) -> values::Parsed<()> {
        let name = item.arg();
        let kind = names::reject_kind(family, name);
        self.reject = Some((item.clone(), kind));
        if kind.is_some() {
            return Ok(());
        }
        let problem = Problem::new(format!("unknown kind of REJECT '{name}'"));
        let names: Vec<_> = names::reject_names(family).collect();
        let problem = match nearest(name, names.iter().copied()) {
            Some(near) => problem.did_you_mean(Some(near)),
            None => problem.advise(format!("write one of {}", names.join(", "))),
        };
        Err((item.value_span(), problem))
    }

    fn offer(&mut self, item: &Item) -> values::Parsed<()> {
        if item.negated {
            let problem = Problem::new(format!("'!' cannot stand with {} of SYNPROXY", item.name));
            return Err((item.span, problem.advise("take it out, or write -m tcpmss before it")));
        }
        self.offer_option.get_or_insert_with(|| item.clone());
        self.offer.present |= match item.opt {
            Opt::Mss => {
                self.offer.mss = values::segment_size(&item.args[0])?;
                has::MSS
            }
            Opt::Wscale => {
                self.offer.scale = values::window_scale(&item.args[0])?;
                has::SCALE
            }
            Opt::Offer(bit) => bit,
            _ => 0,
        };
        Ok(())
    }

    fn nflog(&mut self, field: NflogField, item: &Item) -> values::Parsed<()> {
        self.nflog_option.get_or_insert_with(|| item.clone());
        let (word, nflog) = (&item.args[0], &mut self.nflog);
        match field {
            NflogField::Prefix => nflog.prefix = values::nflog_prefix(word)?,
            NflogField::Group => nflog.group = values::upto(word, "group", u16::MAX)?,
            NflogField::Size => nflog.size = Some(values::upto(word, "size", u32::MAX)?),
            NflogField::Threshold => {
                nflog.threshold = Some(values::upto(word, "number of packets", u16::MAX)?);
            }
        }
        Ok(())
    }

    fn log(&mut self, item: &Item) -> values::Parsed<()> {
        self.log_option.get_or_insert_with(|| item.clone());
        match item.opt {
            Opt::LogPrefix => self.log.prefix = values::log_prefix(&item.args[0])?,
            Opt::LogLevel => self.log.level = values::log_level(&item.args[0])?,
            Opt::Log(bit) => self.log.options |= bit,
            _ => {}
        }
        Ok(())
    }

    /// The target, once all of the rule has been read.
    pub(super) fn finish(
        self,
        context: &mut Context<'_, '_>,
        table: TableName,
        protocol: Protocol,
    ) -> Target {
        self.check_options(context);
        let Some((name, span)) = &self.name else { return Target::Continue };
        if self.is_wrong {
            return Target::Continue;
        }
        let mangled = mangle::read(name, *span, &self.mangle, context.family);
        let target = match (mangled, Nat::kind_of(name)) {
            _ if self.is_goto => Ok(self.target(name)),
            (Some(mangle), _) => mangle.map(Target::Mangle),
            (None, Some(kind)) => {
                nat::read(context, kind, *span, &self.nat, protocol).map(Target::Nat)
            }
            (None, None) => Ok(self.target(name)),
        };
        let target = match target {
            Ok(target) => target,
            Err((span, problem)) => {
                context.report.add(span, problem);
                return Target::Continue;
            }
        };
        if let Some(problem) = misplaced(&target, table, protocol) {
            let at = match (&target, &self.reject) {
                (Target::Reject(RejectKind::TcpReset), Some((item, _))) => item.value_span(),
                _ => *span,
            };
            context.report.add(at, problem);
        }
        if let (Some(helper), Some(untrack)) = (&self.helper, &self.untrack) {
            let problem = Problem::new("a connection that is not tracked has no helper");
            let later = if helper.0.span.start < untrack.span.start { untrack } else { &helper.0 };
            context.report.add(later.span, problem.advise("write one of --helper and --notrack"));
        }
        if target == Target::Helper(0) && self.helper.is_none() {
            let problem = Problem::new("CT does nothing by itself");
            context.report.add(*span, problem.advise("write --helper ftp or --notrack behind it"));
        }
        if let Target::Set(set) = &target
            && set.add.is_none()
            && set.del.is_none()
        {
            let problem = Problem::new("SET does nothing by itself");
            context.report.add(*span, problem.advise("write --add-set or --del-set behind it"));
        }
        target
    }

    fn target(&self, name: &str) -> Target {
        match name {
            "ACCEPT" => Target::Accept,
            "DROP" => Target::Drop,
            "RETURN" => Target::Return,
            "REJECT" => {
                let given = self.reject.as_ref().and_then(|(_, kind)| *kind);
                Target::Reject(given.unwrap_or(RejectKind::PortUnreachable))
            }
            "LOG" => Target::Log(self.log.clone()),
            "NFLOG" => Target::Nflog(self.nflog.clone()),
            "CT" if self.untrack.is_some() && self.helper.is_none() => {
                Target::Untrack(UntrackForm::Ct)
            }
            "NOTRACK" => Target::Untrack(UntrackForm::Notrack),
            "SYNPROXY" => Target::Proxy(self.offer),
            "SET" => Target::Set(Box::new(self.set.clone())),
            "CT" => Target::Helper(self.helper.as_ref().and_then(|(_, id)| *id).unwrap_or(0)),
            chain if self.is_goto => Target::Goto(chain.to_owned()),
            chain => Target::Jump(chain.to_owned()),
        }
    }

    /// Options must belong to the rule's target.
    fn check_options(&self, context: &mut Context<'_, '_>) {
        if self.is_wrong {
            return;
        }
        let name = self.name.as_ref().map_or("", |(name, _)| name);
        let options = [
            (self.reject.as_ref().map(|(item, _)| item), "REJECT"),
            (self.log_option.as_ref(), "LOG"),
            (self.nflog_option.as_ref(), "NFLOG"),
            (self.helper.as_ref().map(|(item, _)| item), "CT"),
            (self.untrack.as_ref(), "CT"),
            (self.offer_option.as_ref(), "SYNPROXY"),
            (self.set_option.as_ref(), "SET"),
        ];
        for (item, owner) in options {
            if let Some(item) = item.filter(|_| name != owner) {
                let problem = Problem::new(format!("{} is an option of {owner}", item.name));
                context
                    .report
                    .add(item.span, problem.advise(format!("write -j {owner} before it")));
            }
        }
        for item in self.mangle.iter().chain(&self.nat) {
            let targets = match item.opt {
                Opt::Mangle(field) => field.targets(),
                Opt::Nat(field) => field.targets(),
                _ => continue,
            };
            if !targets.contains(&name) {
                let owner = targets.join(" and ");
                let problem = Problem::new(format!("{} is an option of {owner}", item.name));
                let advice = format!("write -j {} before it", targets[0]);
                context.report.add(item.span, problem.advise(advice));
            }
        }
    }
}

/// Whether a rule for this protocol can assign a helper; one that is wrong already counts
/// as right.
fn is_read(helper: u8, protocol: Protocol) -> bool {
    match (helper::protocol(helper), protocol) {
        (None, _) | (_, Protocol::Wrong) => true,
        (Some(read), Protocol::Only(number)) => read == number,
        (Some(_), _) => false,
    }
}

/// Targets that work in one table, or with one protocol only.
fn misplaced(target: &Target, table: TableName, protocol: Protocol) -> Option<Problem> {
    let is_tcp = matches!(protocol, Protocol::Only(6) | Protocol::Wrong);
    match target {
        Target::Drop if table == TableName::Nat => Some(not_for_filtering("DROP")),
        Target::Reject(_) if table == TableName::Nat => Some(not_for_filtering("REJECT")),
        Target::Nat(nat) if table != TableName::Nat => Some(
            Problem::new(format!("{} does not work in table {table}", nat.name()))
                .advise(format!("write -t nat -A {}", nat.chains()[0])),
        ),
        Target::Reject(_) if table != TableName::Filter => Some(
            Problem::new(format!("REJECT does not work in table {table}"))
                .advise("use DROP, or put the rule into table filter"),
        ),
        Target::Reject(RejectKind::TcpReset) if !is_tcp => {
            Some(Problem::new("tcp-reset can only answer TCP").advise("add -p tcp to the rule"))
        }
        Target::Helper(_) if table != TableName::Raw => Some(
            Problem::new(format!("CT does not work in table {table}"))
                .advise("write -t raw -A PREROUTING (or OUTPUT)"),
        ),
        Target::Helper(helper) if !is_read(*helper, protocol) => {
            let name = helper::name(*helper).unwrap_or_default();
            let (upper, lower) = match helper::protocol(*helper) {
                Some(17) => ("UDP", "udp"),
                _ => ("TCP", "tcp"),
            };
            let problem = Problem::new(format!("the helper {name} reads {upper}"));
            Some(problem.advise(format!("add -p {lower} to the rule")))
        }
        Target::Untrack(_) if table != TableName::Raw => Some(
            Problem::new(format!("{} does not work in table {table}", target.name()))
                .advise("write -t raw -A PREROUTING (or OUTPUT)"),
        ),
        Target::Proxy(_) if table != TableName::Filter => Some(
            Problem::new(format!("SYNPROXY does not work in table {table}"))
                .advise("put the rule into INPUT or FORWARD of table filter"),
        ),
        Target::Mangle(mangle) if mangle.is_of_mangle() && table != TableName::Mangle => Some(
            Problem::new(format!("{} does not work in table {table}", mangle.name()))
                .advise("put the rule into table mangle"),
        ),
        Target::Mangle(Mangle::SegmentSize(_)) if !is_tcp => {
            Some(Problem::new("TCPMSS changes TCP").advise("add -p tcp and --syn to the rule"))
        }
        Target::Proxy(_) if !is_tcp => {
            Some(Problem::new("SYNPROXY answers TCP").advise("add -p tcp to the rule"))
        }
        _ => None,
    }
}

/// In the sense of iptables' words: only the first packet of a connection comes there.
pub(super) fn not_for_filtering(verdict: &str) -> Problem {
    Problem::new(format!("table nat is not for filtering: {verdict} does not work there"))
        .advise("put the rule into table filter, or into PREROUTING of mangle")
}
