//! What a cookie says beside its being right: the kernel's helpers make and check
//! SYN cookies (RFC 4987 section 3.6); the client's segment size is laid into the
//! sequence number that they are told, the other options into the low bits of the
//! timestamp.

use crate::{addr::Family, flow::Tuple, tables::Tables, time::Nanos};

use super::header::{Options, has};

/// Segment sizes that a cookie can tell, ascending, as the kernel's own.
const SIZES_V4: [u16; CLASSES] = [536, 1_300, 1_440, 1_460];
const SIZES_V6: [u16; CLASSES] = [1_220, 1_420, 1_440, 8_940];
const CLASSES: usize = 4;
/// A cookie is a sum with the sequence number, and the minute stands in its upper
/// byte. A number told higher by this much gives a cookie of another hour, which is
/// wrong for every other class.
const CLASS_STEP: u32 = 1 << 30;

/// Bits of the timestamp that tell options.
const SCALE: u32 = 0xf;
/// As a scale that no segment has: no scaling.
const NO_SCALE: u32 = 0xf;
const SACK: u32 = 1 << 4;
const ECN: u32 = 1 << 5;
const OPTIONS: u32 = 0x3f;

#[inline(always)]
const fn sizes(family: Family) -> [u16; CLASSES] {
    match family {
        Family::Ipv4 => SIZES_V4,
        Family::Ipv6 => SIZES_V6,
    }
}

/// The class of the largest size that is not above a client's; the first for a
/// client that says nothing.
#[inline(always)]
fn class_of(family: Family, mss: u16) -> u32 {
    let [_, second, third, fourth] = sizes(family);
    u32::from(mss >= second) + u32::from(mss >= third) + u32::from(mss >= fourth)
}

/// The segment size that a class stands for.
#[inline(always)]
pub const fn size_of_class(family: Family, class: u32) -> u16 {
    let [first, second, third, fourth] = sizes(family);
    match class {
        0 => first,
        1 => second,
        2 => third,
        _ => fourth,
    }
}

/// The cookie for a SYN with this initial sequence number; `None` when the kernel
/// has none.
#[inline(always)]
pub fn make<T: Tables>(tables: &T, tuple: &Tuple, isn: u32, mss: u16) -> Option<u32> {
    let class = class_of(tuple.src.family(), mss);
    tables.make_cookie(tuple, isn.wrapping_add(class.wrapping_mul(CLASS_STEP)))
}

/// The class of segment size of a right cookie, `None` for a wrong one.
#[inline(always)]
pub fn check<T: Tables>(tables: &T, tuple: &Tuple, isn: u32, cookie: u32) -> Option<u32> {
    for class in 0..CLASSES as u32 {
        let told = isn.wrapping_add(class.wrapping_mul(CLASS_STEP));
        if tables.check_cookie(tuple, told, cookie) {
            return Some(class);
        }
    }
    None
}

/// A timestamp of now whose low bits tell these options.
#[inline(always)]
pub const fn stamp(now: Nanos, options: &Options) -> u32 {
    // About a millisecond (RFC 7323 section 5.4).
    let clock = (now.0 >> 20) as u32 & !OPTIONS;
    let scale = if options.has(has::SCALE) { options.scale as u32 & SCALE } else { NO_SCALE };
    let sack = if options.has(has::SACK_PERMITTED) { SACK } else { 0 };
    let ecn = if options.has(has::ECN) { ECN } else { 0 };
    clock | scale | sack | ecn
}

/// The options that a timestamp tells: scale, SACK and ECN.
#[inline(always)]
pub const fn told_by(stamp: u32) -> Options {
    let scale = stamp & SCALE;
    let mut present = 0;
    if scale != NO_SCALE {
        present |= has::SCALE;
    }
    if stamp & SACK != 0 {
        present |= has::SACK_PERMITTED;
    }
    if stamp & ECN != 0 {
        present |= has::ECN;
    }
    let scale = if scale == NO_SCALE { 0 } else { scale as u8 };
    Options { tsval: 0, tsecr: 0, mss: 0, scale, present }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_tells_the_options_that_went_into_it() {
        for scale in [None, Some(0), Some(7), Some(14)] {
            for present in [0, has::SACK_PERMITTED, has::ECN, has::SACK_PERMITTED | has::ECN] {
                let with_scale = if scale.is_some() { has::SCALE } else { 0 };
                let options = Options {
                    scale: scale.unwrap_or(0),
                    present: present | with_scale,
                    ..Options::default()
                };
                assert_eq!(told_by(stamp(Nanos::from_secs(12_345), &options)), options);
            }
        }
    }

    #[test]
    fn a_class_is_never_above_what_the_client_said() {
        for family in [Family::Ipv4, Family::Ipv6] {
            let least = size_of_class(family, 0);
            for mss in [0, 535, 536, 1_219, 1_300, 1_400, 1_440, 1_459, 1_460, 9_000, u16::MAX] {
                let size = size_of_class(family, class_of(family, mss));
                assert!(size <= mss.max(least), "{family:?} {mss}: {size}");
            }
        }
    }
}
