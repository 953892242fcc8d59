//! `-m string`, as options and as a listing shows it.

use crate::rules::extra::Text;

/// Its options.
pub(super) fn contained(one: &Text, not: &str) -> String {
    let option = if one.is_hex() { "hex-string" } else { "string" };
    let mut text = format!("{not}--{option} {} --algo {}", one.quoted(), one.algorithm.name());
    for (name, offset) in offsets(one) {
        text += &format!(" --{name} {offset}");
    }
    text + if one.ignores_case { " --icase" } else { "" }
}

/// As [`contained`], for a listing.
pub(super) fn listed_text(one: &Text, not: &str) -> String {
    // With the second blank that iptables writes where nothing is negated.
    let not = if not.is_empty() { " " } else { not };
    let mut text =
        format!(" STRING match {not}{} ALGO name {}", one.quoted(), one.algorithm.name());
    for (name, offset) in offsets(one) {
        text += &format!(" {} {offset}", name.to_ascii_uppercase());
    }
    text + if one.ignores_case { " ICASE" } else { "" }
}

/// Those that leave something out.
fn offsets(one: &Text) -> impl Iterator<Item = (&'static str, u16)> {
    let from = Some(one.from).filter(|from| *from != 0);
    let to = Some(one.to).filter(|to| *to != u16::MAX);
    [("from", from), ("to", to)].into_iter().filter_map(|(name, offset)| Some((name, offset?)))
}
