//! The index of a long ruleset: which rules a packet cannot match is told by its
//! addresses, protocol and ports alone, and the walk does not come by those.
//!
//! The values of each [`Field`] are cut into *classes*: two values of one class fulfil
//! the same rules' conditions about the field. A tree finds a value's class. Each rule
//! is filed under one field, in the list of every class that it fits; a rule that no
//! field narrows is *unfiled*. A packet has one class of each field, so that at most
//! [`FIELDS`] lists and the unfiled rules hold all that it can match; [`Search`] merges
//! them in the order of the rules.
//!
//! The index leaves out, it decides nothing: whoever finds a rule by it checks all of
//! the rule's conditions. An index that cannot be read leaves out nothing.
//!
//! Everything stands in one array of [`Line`]s for each generation, written by user
//! space (`rules::classifier` there) before the generation is in force.

mod search;
mod tree;

use core::mem::size_of;

use bytemuck::{Pod, Zeroable};

pub use self::search::{List, Next, Search, is_wide};
use crate::{headers::Headers, scratch::Scratch};

/// Lines of both families in one generation.
pub const LINES_PER_GENERATION: u32 = 65_536;
/// Words of a line, and children of a tree's node.
pub const WORDS: usize = 16;
/// What a node of the tree tells apart its children by: the greatest value of each but
/// the last.
pub const SEPARATORS: usize = WORDS - 1;
/// Levels of the deepest tree: 16^4 classes.
pub const LEVELS: usize = 4;
/// Lines of a node of IPv6 addresses: one for each word of the address.
pub const LINES_OF_WIDE: u32 = 4;
/// Spans in a line.
pub const SPANS: u32 = WORDS as u32 / 2;
/// Numbers of rules in a line of [`FamilyLine::unfiled`].
pub const UNFILED: u32 = WORDS as u32 * 2;
/// So many rules of a walk are looked at one by one before the index is asked: to
/// classify a packet costs as much as they do, and most walks end here.
pub const PLAIN_RULES: u32 = 8;

/// What rules are told apart by. A packet's value is the same for all packets of one
/// direction of a flow.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Field {
    Source = 0,
    Destination = 1,
    /// Protocol and source port as one number: [`port_value`].
    SourcePort = 2,
    DestinationPort = 3,
}

pub const FIELDS: usize = 4;

impl Field {
    pub const ALL: [Self; FIELDS] =
        [Self::Source, Self::Destination, Self::SourcePort, Self::DestinationPort];
}

/// A protocol's ports stand beside one another.
#[inline(always)]
pub const fn port_value(protocol: u8, port: u16) -> u32 {
    (protocol as u32) << 16 | port as u32
}

/// One cell of the index: a cache line of words.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Line {
    pub words: [u32; WORDS],
}

/// Line `family` of a generation: IPv4 is 0, IPv6 is 1. Places are numbers of lines
/// within the generation.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct FamilyLine {
    /// The family's rules: the first, and one behind the last. Without an index both
    /// are 0.
    pub first: u32,
    pub end: u32,
    /// Of each rule from the first on, 16 bits: the number of the next rule that is
    /// unfiled, itself included.
    pub unfiled: u32,
    /// Entries of all lists, one a word: [`entry`].
    pub entries: u32,
    /// One behind the last line of this family. For those who change the rules; programs
    /// do not read it, nor what follows.
    pub lines: u32,
    /// Changes of the family's rules since its index was built.
    pub late: u32,
    pub _unused: [u32; WORDS - 6],
}

/// Line [`field_line`] of a generation.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct FieldLine {
    /// Levels of the tree; 0 when nothing asks for the field's class.
    pub depth: u32,
    /// The root of the tree, the nodes below it one after another, and so on.
    pub levels: [u32; LEVELS],
    /// The lists of the classes: of each, two words, the number of its first entry and
    /// one behind its last. 0 when no rule is filed here.
    pub spans: u32,
    pub _unused: [u32; WORDS - LEVELS - 2],
}

/// Where a field of a family is described.
#[inline(always)]
pub const fn field_line(family: u32, field: u32) -> u32 {
    2 + family * FIELDS as u32 + field
}

/// Lines that stand at the beginning of every index.
pub const FIXED_LINES: u32 = field_line(2, 0);

/// One rule of a list: the rule's number in the upper half; in the lower half 0, or the
/// class of *another* field that a packet must have for this rule, by [`check`].
#[inline(always)]
pub const fn entry(rule: u16, check: u16) -> u32 {
    (rule as u32) << 16 | check as u32
}

/// The field in the two upper bits, the class in the others. Classes with equal
/// lower bits are taken for one another.
#[inline(always)]
pub const fn check(field: u32, class: u32) -> u16 {
    ((field & 3) << CLASS_BITS | class & CLASS_MASK) as u16
}

const CLASS_BITS: u32 = 14;
const CLASS_MASK: u32 = (1 << CLASS_BITS) - 1;

/// The index of the ruleset generations.
pub trait Index {
    /// A line of the index in a slot.
    fn line(&self, slot: u32, line: u32) -> Option<&Line>;
}

/// 0 for IPv4, 1 for IPv6.
#[inline(always)]
pub const fn family_of(headers: &Headers) -> u32 {
    (headers.version != 4) as u32
}

/// Moves the walk on the desk to the next rule that its packet may match. `look_up` and
/// `advance` do for one field what [`Search`]'s methods of these names do: the kernel's
/// programs have them checked by themselves.
#[inline(always)]
pub fn seek<I: Index>(
    index: &I,
    scratch: &mut Scratch,
    look_up: impl Fn(&mut Scratch, u32),
    advance: impl Fn(&mut Scratch, u32),
) -> Next {
    if scratch.search.is_ready == 0 {
        scratch.search.begin(index, scratch.walk.slot, &scratch.headers);
        for field in 0..FIELDS as u32 {
            look_up(scratch, field);
        }
    }
    let next = search::next(index, scratch, advance);
    if let Next::Rule(rule) = next {
        scratch.walk.index = rule;
    }
    next
}

const _: () = assert!(size_of::<Line>() == 64);
const _: () = assert!(size_of::<FamilyLine>() == size_of::<Line>());
const _: () = assert!(size_of::<FieldLine>() == size_of::<Line>());
