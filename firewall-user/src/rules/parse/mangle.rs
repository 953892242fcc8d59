//! The options of targets that change a packet or a mark.

use firewall_common::{addr::Family, control::is_reserved};

use super::{
    extras::words::{byte, class, dscp, mark, tos, word32},
    items::Item,
    lines::Word,
    options::Opt,
    values::{Parsed, wrong},
};
use crate::rules::{
    extra::{Masked, TOS_NAME_MASK},
    mangle::{CtMark, Hops, Mangle, Masks, SegmentSize},
    problem::Problem,
    source::Span,
};

/// An option of one of these targets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::rules) enum Field {
    SetMark,
    SetXmark,
    AndMark,
    OrMark,
    XorMark,
    SaveMark,
    RestoreMark,
    PacketMask,
    ConnectionMask,
    BothMasks,
    SetDscp,
    SetDscpClass,
    SetTos,
    AndTos,
    OrTos,
    XorTos,
    TtlSet,
    TtlAdd,
    TtlSubtract,
    HopLimitSet,
    HopLimitAdd,
    HopLimitSubtract,
    SetMss,
    ClampMss,
}

impl Field {
    /// The targets that it belongs to.
    pub(super) const fn targets(self) -> &'static [&'static str] {
        match self {
            Self::SetMark | Self::SetXmark | Self::AndMark | Self::OrMark | Self::XorMark => {
                &["MARK", "CONNMARK"]
            }
            Self::SaveMark
            | Self::RestoreMark
            | Self::PacketMask
            | Self::ConnectionMask
            | Self::BothMasks => &["CONNMARK"],
            Self::SetDscp | Self::SetDscpClass => &["DSCP"],
            Self::SetTos | Self::AndTos | Self::OrTos | Self::XorTos => &["TOS"],
            Self::TtlSet | Self::TtlAdd | Self::TtlSubtract => &["TTL"],
            Self::HopLimitSet | Self::HopLimitAdd | Self::HopLimitSubtract => &["HL"],
            Self::SetMss | Self::ClampMss => &["TCPMSS"],
        }
    }

    const fn is_mask(self) -> bool {
        matches!(self, Self::PacketMask | Self::ConnectionMask | Self::BothMasks)
    }
}

pub(super) const TARGETS: [&str; 7] = ["MARK", "CONNMARK", "DSCP", "TOS", "TTL", "HL", "TCPMSS"];

/// What the options of a target mean; `None` for the name of another one.
pub(super) fn read(
    name: &str,
    span: Span,
    items: &[Item],
    family: Family,
) -> Option<Parsed<Mangle>> {
    TARGETS.contains(&name).then(|| target(name, span, items, family))
}

fn target(name: &str, span: Span, items: &[Item], family: Family) -> Parsed<Mangle> {
    match (name, family) {
        ("TTL", Family::Ipv6) => {
            return Err((span, Problem::new("TTL in IPv6 rules").advise("write -j HL --hl-set")));
        }
        ("HL", Family::Ipv4) => {
            return Err((span, Problem::new("HL in IPv4 rules").advise("write -j TTL --ttl-set")));
        }
        _ => {}
    }
    let mut own = items.iter().filter(|item| field(item).is_some_and(|field| !field.is_mask()));
    let Some(item) = own.next() else {
        let problem = Problem::new(format!("{name} does nothing by itself"));
        return Err((span, problem.advise(format!("write {} behind it", wanted(name)))));
    };
    if let Some(second) = own.next() {
        let problem = Problem::new(format!("{} does not go with {}", second.name, item.name));
        return Err((second.whole_span(), problem.advise("write a rule for each")));
    }
    let mangle = one(name, item)?;
    match mangle {
        Mangle::CtMark(CtMark::Save(_)) => {
            masks(items).map(|masks| Mangle::CtMark(CtMark::Save(masks)))
        }
        Mangle::CtMark(CtMark::Restore(_)) => {
            masks(items).map(|masks| Mangle::CtMark(CtMark::Restore(masks)))
        }
        _ => match items.iter().find(|item| field(item).is_some_and(Field::is_mask)) {
            Some(mask) => {
                let problem = Problem::new(format!("{} does not go with {}", mask.name, item.name));
                let advice = "it is of --save-mark and --restore-mark; write value/mask here";
                Err((mask.whole_span(), problem.advise(advice)))
            }
            None => Ok(mangle),
        },
    }
}

fn field(item: &Item) -> Option<Field> {
    match item.opt {
        Opt::Mangle(field) => Some(field),
        _ => None,
    }
}

/// The options of which a target needs one.
fn wanted(name: &str) -> &'static str {
    match name {
        "MARK" => "--set-mark, --set-xmark, --and-mark, --or-mark or --xor-mark",
        "CONNMARK" => "--set-mark, --save-mark or --restore-mark",
        "DSCP" => "--set-dscp or --set-dscp-class",
        "TOS" => "--set-tos, --and-tos, --or-tos or --xor-tos",
        "TTL" => "--ttl-set, --ttl-inc or --ttl-dec",
        "HL" => "--hl-set, --hl-inc or --hl-dec",
        _ => "--set-mss or --clamp-mss-to-pmtu",
    }
}

/// What one option says.
fn one(name: &str, item: &Item) -> Parsed<Mangle> {
    let marked = |mark| match name {
        "MARK" => Mangle::Mark(mark),
        _ => Mangle::CtMark(CtMark::Set(mark)),
    };
    let Some(word) = item.args.first() else {
        return Ok(match field(item) {
            Some(Field::SaveMark) => Mangle::CtMark(CtMark::Save(Masks::ALL)),
            Some(Field::RestoreMark) => Mangle::CtMark(CtMark::Restore(Masks::ALL)),
            _ => Mangle::SegmentSize(SegmentSize::Clamp),
        });
    };
    let Some(field) = field(item) else { return Ok(Mangle::SegmentSize(SegmentSize::Clamp)) };
    Ok(match field {
        Field::SetMark => {
            let Masked { value, mask } = allowed(word, mark(word)?)?;
            marked(Masked { value, mask: mask | value })
        }
        Field::SetXmark => marked(allowed(word, mark(word)?)?),
        Field::AndMark => marked(Masked { value: 0, mask: !bits(word)? }),
        Field::OrMark => bits(word).map(|value| marked(Masked { value, mask: value }))?,
        Field::XorMark => marked(Masked { value: bits(word)?, mask: 0 }),
        Field::SetDscp => Mangle::Dscp(dscp(word)?),
        Field::SetDscpClass => Mangle::Dscp(class(word)?),
        Field::SetTos => Mangle::Tos(set_tos(word)?),
        Field::AndTos => Mangle::Tos(Masked { value: 0, mask: !tos_bits(word)? & 0xff }),
        Field::OrTos => tos_bits(word).map(|value| Mangle::Tos(Masked { value, mask: value }))?,
        Field::XorTos => Mangle::Tos(Masked { value: tos_bits(word)?, mask: 0 }),
        Field::TtlSet => Mangle::Ttl(Hops::Set(byte(word)?)),
        Field::TtlAdd => Mangle::Ttl(Hops::Add(some(word)?)),
        Field::TtlSubtract => Mangle::Ttl(Hops::Subtract(some(word)?)),
        Field::HopLimitSet => Mangle::HopLimit(Hops::Set(byte(word)?)),
        Field::HopLimitAdd => Mangle::HopLimit(Hops::Add(some(word)?)),
        Field::HopLimitSubtract => Mangle::HopLimit(Hops::Subtract(some(word)?)),
        Field::SetMss => Mangle::SegmentSize(SegmentSize::Set(size(word)?)),
        Field::SaveMark
        | Field::RestoreMark
        | Field::PacketMask
        | Field::ConnectionMask
        | Field::BothMasks
        | Field::ClampMss => Mangle::SegmentSize(SegmentSize::Clamp),
    })
}

/// `--nfmask`, `--ctmask`, or `--mask` for both.
fn masks(items: &[Item]) -> Parsed<Masks> {
    let mut masks = Masks::ALL;
    let mut given: Vec<Field> = Vec::new();
    for item in items {
        let Some(field) = field(item).filter(|field| field.is_mask()) else { continue };
        if given.contains(&field)
            || given.iter().any(|other| (*other == Field::BothMasks) != (field == Field::BothMasks))
        {
            let problem = Problem::new(format!("{} is a second mask of the same", item.name));
            return Err((
                item.whole_span(),
                problem.advise("write --mask, or --nfmask and --ctmask"),
            ));
        }
        given.push(field);
        let value = bits(&item.args[0])?;
        if field != Field::ConnectionMask {
            masks.packet = value;
        }
        if field != Field::PacketMask {
            masks.connection = value;
        }
    }
    Ok(masks)
}

/// A mark that is none of the daemon's own.
fn allowed(word: &Word, mark: Masked) -> Parsed<Masked> {
    if mark.mask == u32::MAX && is_reserved(mark.value) {
        let problem = Problem::new(format!("the mark {:#x} is the firewall's own", mark.value));
        return wrong(word, problem.advise("choose another one"));
    }
    Ok(mark)
}

fn bits(word: &Word) -> Parsed<u32> {
    word32(&word.text).ok_or_else(|| {
        let problem = Problem::new(format!("'{}' is no mark", word.text));
        (word.span(), problem.advise("write a number, as 0x1"))
    })
}

/// A name speaks of its own bits, a number without a mask of all eight.
fn set_tos(word: &Word) -> Parsed<Masked> {
    let tos = tos(word)?;
    let is_name = tos.mask == TOS_NAME_MASK && !word.text.contains('/');
    Ok(if is_name || word.text.contains('/') { tos } else { Masked { mask: 0xff, ..tos } })
}

fn tos_bits(word: &Word) -> Parsed<u32> {
    word32(&word.text).filter(|value| *value <= 0xff).ok_or_else(|| {
        let problem = Problem::new(format!("'{}' is no type of service", word.text));
        (word.span(), problem.advise("write 0 to 255, as 0x10"))
    })
}

fn some(word: &Word) -> Parsed<u8> {
    match byte(word)? {
        0 => wrong(word, Problem::new("0 hops change nothing").advise("write 1 to 255")),
        count => Ok(count),
    }
}

fn size(word: &Word) -> Parsed<u16> {
    const MOST: u32 = 65_515;
    let size = word32(&word.text).filter(|size| *size <= MOST);
    size.and_then(|size| u16::try_from(size).ok()).ok_or_else(|| {
        let problem = Problem::new(format!("'{}' is no segment size", word.text));
        (word.span(), problem.advise(format!("write 0 to {MOST}")))
    })
}
