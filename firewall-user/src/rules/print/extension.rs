//! `-m ipv6header` and `-m frag`, as options and as a listing shows them.

use super::extra::names;
use crate::rules::extra::{FragmentHeader, HEADERS, HeaderChain, More};

pub(super) fn header_chain(one: &HeaderChain) -> String {
    let not = if one.negated { "! " } else { "" };
    let soft = if one.is_soft { " --soft" } else { "" };
    format!("{not}--header {}{soft}", list(one.headers))
}

/// As [`header_chain`], for a listing: with numbers only, the bits.
pub(super) fn listed_header_chain(one: &HeaderChain, with_names: bool) -> String {
    let not = if one.negated { "!" } else { "" };
    let soft = if one.is_soft { " soft" } else { "" };
    match with_names {
        true => format!(" ipv6header flags:{not}{}{soft}", list(one.headers)),
        false => format!(" ipv6header flags:{not}{:#04X}{soft}", one.headers).replace("0X", "0x"),
    }
}

fn list(headers: u8) -> String {
    names(headers.into(), &HEADERS.map(|(name, .., bit)| (name, bit.into())))
}

/// Its options; none when it is any fragment's.
pub(super) fn fragment(one: &FragmentHeader) -> String {
    let not = |negated| if negated { "! " } else { "" };
    let mut options = Vec::new();
    if one.ids != FragmentHeader::ALL_IDS || one.ids_negated {
        options.push(format!("{}--fragid {}", not(one.ids_negated), ids(one)));
    }
    if let Some((negated, length)) = one.length {
        options.push(format!("{}--fraglen {length}", not(negated)));
    }
    options.extend(one.is_reserved.then(|| "--fragres".to_owned()));
    options.extend(one.is_first.then(|| "--fragfirst".to_owned()));
    options.extend(one.more.map(|more| match more {
        More::Yes => "--fragmore".to_owned(),
        More::No => "--fraglast".to_owned(),
    }));
    options.join(" ")
}

/// As [`fragment`], for a listing.
pub(super) fn listed_fragment(one: &FragmentHeader) -> String {
    let not = |negated| if negated { "!" } else { "" };
    let mut text = " frag ".to_owned();
    if one.ids != FragmentHeader::ALL_IDS || one.ids_negated {
        let name = if one.ids.0 == one.ids.1 { "id" } else { "ids" };
        text += &format!("{name}:{}{}", not(one.ids_negated), ids(one));
    }
    if let Some((negated, length)) = one.length {
        text += &format!(" length:{}{length}", not(negated));
    }
    text += if one.is_reserved { " reserved" } else { "" };
    text += if one.is_first { " first" } else { "" };
    text += match one.more {
        Some(More::Yes) => " more",
        Some(More::No) => " last",
        None => "",
    };
    text
}

fn ids(one: &FragmentHeader) -> String {
    match one.ids {
        (first, last) if first == last => first.to_string(),
        (first, last) => format!("{first}:{last}"),
    }
}
