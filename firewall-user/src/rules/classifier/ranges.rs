//! Which values of a field each rule fits, as ranges.

use std::ops::Range;

use firewall_common::{
    addr::{Addr, Family},
    classifier::{Field, port_value},
    rule::{PortRange, PortSet, PortSide, Rule, condition},
};

/// Both ends belong to it.
pub(super) type Span = (u128, u128);

/// A field of a family's packets.
#[derive(Clone, Copy, Debug)]
pub(super) struct Domain {
    pub(super) field: Field,
    pub(super) family: Family,
}

impl Domain {
    /// No value is greater.
    pub(super) fn greatest(self) -> u128 {
        match (self.field, self.family) {
            (Field::SourcePort | Field::DestinationPort, _) => port_value(u8::MAX, u16::MAX).into(),
            (_, Family::Ipv4) => u32::MAX.into(),
            (_, Family::Ipv6) => u128::MAX,
        }
    }
}

/// The ranges of all rules of a family, rule by rule.
#[derive(Debug, Default)]
pub(super) struct Ranges {
    all: Vec<Span>,
    /// Of each rule, its part of `all`; `None` when it fits every value, as far as this
    /// is known.
    of_rules: Vec<Option<Range<u32>>>,
}

impl Ranges {
    pub(super) fn of(domain: Domain, rules: &[Rule], port_sets: &[PortSet]) -> Self {
        let mut ranges = Self { all: Vec::new(), of_rules: Vec::with_capacity(rules.len()) };
        for rule in rules {
            let start = ranges.all.len();
            let is_narrow = match domain.field {
                Field::Source => {
                    ranges.address(domain, rule, condition::SRC, (rule.src, rule.src_mask))
                }
                Field::Destination => {
                    ranges.address(domain, rule, condition::DST, (rule.dst, rule.dst_mask))
                }
                Field::SourcePort | Field::DestinationPort => ranges.ports(domain, rule, port_sets),
            };
            let part = start as u32..ranges.all.len() as u32;
            ranges.of_rules.push(is_narrow.then_some(part));
        }
        ranges
    }

    /// Of all rules.
    pub(super) fn all(&self) -> &[Span] {
        &self.all
    }

    /// Of each rule; `None` when it fits every value.
    pub(super) fn of_rules(&self) -> impl Iterator<Item = Option<Range<usize>>> {
        self.of_rules
            .iter()
            .map(|part| part.as_ref().map(|part| part.start as usize..part.end as usize))
    }

    /// Adds the addresses that a rule fits; `false` when these may be all.
    fn address(
        &mut self,
        domain: Domain,
        rule: &Rule,
        condition: u32,
        (prefix, mask): (Addr, Addr),
    ) -> bool {
        if rule.present & condition == 0 {
            return false;
        }
        let greatest = domain.greatest();
        let (prefix, mask) = (number(prefix) & greatest, number(mask) & greatest);
        // A mask with holes, as 255.0.255.0: what its upper part fits is more than it
        // does, which is right for what must fit and wrong for what must not.
        let below = greatest.checked_shr(leading_ones(mask, greatest)).unwrap_or(0);
        let has_holes = mask != greatest & !below;
        let span = (prefix & !below, prefix & !below | below);
        match (rule.invert & condition != 0, has_holes) {
            (false, _) => self.all.push(span),
            (true, false) => self.all.extend(outside(&[span], (0, greatest))),
            (true, true) => return false,
        }
        true
    }

    /// Adds the protocols and ports that a rule fits; `false` when these may be all.
    fn ports(&mut self, domain: Domain, rule: &Rule, port_sets: &[PortSet]) -> bool {
        if rule.present & condition::PROTOCOL == 0 {
            return false;
        }
        let all = (port_value(rule.protocol, 0).into(), port_value(rule.protocol, u16::MAX).into());
        if rule.invert & condition::PROTOCOL != 0 {
            self.all.extend(outside(&[all], (0, domain.greatest())));
            return true;
        }
        let of_protocol = |range: &PortRange| {
            let value = |port| u128::from(port_value(rule.protocol, port));
            (value(range.first), value(range.last))
        };
        let (one, range, side) = match domain.field {
            Field::SourcePort => (condition::SPORT, rule.sport, PortSide::Source),
            _ => (condition::DPORT, rule.dport, PortSide::Destination),
        };
        let mut fit = vec![all];
        let mut narrow = |condition: u32, spans: Vec<Span>| {
            let is_negated = rule.invert & condition != 0;
            let spans = if is_negated { outside(&spans, all) } else { joined(spans) };
            fit = common(&fit, &spans);
        };
        if rule.present & one != 0 {
            narrow(one, vec![of_protocol(&range)]);
        }
        for (condition, set) in
            [condition::PORTS_0, condition::PORTS_1].into_iter().zip(rule.port_sets)
        {
            let Some(set) = port_sets.get(usize::from(set)) else { continue };
            if rule.present & condition == 0 || set.side != side as u8 {
                continue;
            }
            let ranges = set.ranges.iter().filter(|range| range.first <= range.last);
            narrow(condition, ranges.map(of_protocol).collect());
        }
        self.all.extend(fit);
        true
    }
}

fn number(address: Addr) -> u128 {
    address.words.iter().fold(0, |sum, word| sum << 32 | u128::from(u32::from_be(*word)))
}

/// The ones that a mask begins with, in an address that has all bits of `greatest`.
fn leading_ones(mask: u128, greatest: u128) -> u32 {
    (mask ^ greatest).leading_zeros() - greatest.leading_zeros()
}

/// In order, those that touch made one.
fn joined(mut spans: Vec<Span>) -> Vec<Span> {
    spans.sort_unstable();
    let mut joined: Vec<Span> = Vec::with_capacity(spans.len());
    for (first, last) in spans {
        match joined.last_mut() {
            Some(before) if first <= before.1.saturating_add(1) => before.1 = before.1.max(last),
            _ => joined.push((first, last)),
        }
    }
    joined
}

/// What `within` holds beside these.
fn outside(spans: &[Span], within: Span) -> Vec<Span> {
    let mut others = Vec::new();
    let mut next = Some(within.0);
    for (first, last) in joined(spans.to_vec()) {
        if let Some(from) = next
            && from < first
        {
            others.push((from, first - 1));
        }
        next = last.checked_add(1).filter(|next| *next <= within.1);
    }
    others.extend(next.map(|from| (from, within.1)));
    others
}

/// What is in both, each in order.
fn common(ours: &[Span], theirs: &[Span]) -> Vec<Span> {
    let mut both = Vec::new();
    for (first, last) in ours {
        for (start, end) in theirs {
            let (first, last) = (*first.max(start), *last.min(end));
            if first <= last {
                both.push((first, last));
            }
        }
    }
    both
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_outside_is_the_rest() {
        assert_eq!(outside(&[], (0, 9)), [(0, 9)]);
        assert_eq!(outside(&[(3, 4), (6, 6)], (0, 9)), [(0, 2), (5, 5), (7, 9)]);
        assert_eq!(outside(&[(8, 9), (0, 1)], (0, 9)), [(2, 7)]);
        assert_eq!(outside(&[(0, u128::MAX)], (0, u128::MAX)), []);
    }

    #[test]
    fn spans_that_touch_are_one() {
        assert_eq!(joined(vec![(5, 6), (1, 2), (3, 3), (6, 9)]), [(1, 3), (5, 9)]);
    }

    #[test]
    fn a_mask_begins_with_so_many_ones() {
        let v4 = u128::from(u32::MAX);
        assert_eq!(leading_ones(0xffff_ff00, v4), 24);
        assert_eq!(leading_ones(0xff00_ff00, v4), 8);
        assert_eq!((leading_ones(0, v4), leading_ones(v4, v4)), (0, 32));
        assert_eq!((leading_ones(0, u128::MAX), leading_ones(u128::MAX, u128::MAX)), (0, 128));
    }
}
