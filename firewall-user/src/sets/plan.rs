//! What a list of commands makes of the sets, before any of it is so.

use std::{
    collections::{HashMap, HashSet},
    hash::{BuildHasherDefault, Hasher},
    ops::ControlFlow,
};

use anyhow::Result;
use firewall_common::{
    set::{Entry, EntryKey, HOST, Kind, MEMBERS, SLOTS, SetHeader, Tick, entry_flag, set_flag},
    time::Nanos,
};

use super::{
    command::{Action, Added},
    element::Element,
    header::{self, kind},
    refusal::Refusal,
    words::Word,
};
use crate::kernel::{
    maps::now,
    sets::{CommentBytes, Inner, SetTables},
};

/// The sets as they would be.
#[derive(Debug)]
pub struct Plan {
    pub(super) tables: SetTables,
    /// By slot.
    pub(super) slots: Vec<Option<Named>>,
    pub(super) by_name: HashMap<String, u32>,
    /// Slots of sets that only the other ruleset knows, or is to know: nobody else may
    /// have them.
    pub(super) hidden: HashSet<u32>,
    pub(super) contents: Vec<Contents>,
    /// By slot, how many rules name it; read when somebody asks.
    references: Option<Vec<u32>>,
    pub(super) now: Nanos,
}

/// A name and what it leads to, a place in [`Plan::contents`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) name: String,
    pub(super) contents: usize,
}

/// A set's contents: those of a store with changes, or new ones.
#[derive(Debug)]
pub(super) struct Contents {
    pub(super) header: SetHeader,
    /// The store that it is already.
    pub(super) store: Option<u32>,
    pub(super) is_header_new: bool,
    /// What is to be put in, or taken out.
    pub(super) changes: Changes,
    /// Elements that are new, less those taken out.
    pub(super) grown: i64,
    /// Elements of the store when they were first counted.
    counted: Option<i64>,
    opened: Option<Opened>,
}

/// The maps of a store.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) entries: Inner<Entry>,
    pub(super) comments: Option<Inner<CommentBytes>>,
}

/// An element that is to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct New {
    pub(super) entry: Entry,
    pub(super) comment: Option<Box<str>>,
}

pub(super) type Changes = HashMap<EntryKey, Option<New>, BuildHasherDefault<KeyHasher>>;

/// Mixes the words of a key: a million of them are put into a table.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_ne_bytes(word));
        }
    }

    fn write_u64(&mut self, word: u64) {
        const MIX: u64 = 0x9e37_79b9_7f4a_7c15;
        self.0 = (self.0 ^ word).wrapping_mul(MIX).rotate_left(29);
    }

    fn write_u32(&mut self, word: u32) {
        self.write_u64(word.into());
    }

    fn write_u16(&mut self, word: u16) {
        self.write_u64(word.into());
    }

    fn write_u8(&mut self, word: u8) {
        self.write_u64(word.into());
    }
}

impl Contents {
    pub(super) fn new(header: SetHeader) -> Self {
        Self {
            header,
            store: None,
            is_header_new: false,
            changes: Changes::default(),
            grown: 0,
            counted: None,
            opened: None,
        }
    }

    pub(super) fn of_store(header: SetHeader, store: u32) -> Self {
        Self { store: Some(store), ..Self::new(header) }
    }

    /// The maps of the store that these are already.
    pub(super) fn opened(&mut self, tables: &SetTables) -> Result<Option<&Opened>, Refusal> {
        let Some(store) = self.store else { return Ok(None) };
        if self.opened.is_none() {
            let comments = match self.header.has(set_flag::COMMENT) {
                true => Some(tables.comments(store).map_err(failed)?),
                false => None,
            };
            let entries = tables.entries(store).map_err(failed)?;
            self.opened = Some(Opened { entries, comments });
        }
        Ok(self.opened.as_ref())
    }

    /// An element that would be there.
    pub(super) fn get(
        &mut self,
        tables: &SetTables,
        key: &EntryKey,
        now: Nanos,
    ) -> Result<Option<Entry>, Refusal> {
        let found = match self.changes.get(key) {
            Some(change) => change.as_ref().map(|new| new.entry),
            None => match self.opened(tables)? {
                Some(opened) => opened.entries.get(key).map_err(|error| failed(error.into()))?,
                None => None,
            },
        };
        Ok(found.filter(|entry| !entry.is_expired(now)))
    }

    /// Whether one more element fits. A single one is left to the map of the store.
    fn has_room(&mut self, tables: &SetTables, now: Nanos) -> Result<bool, Refusal> {
        if self.store.is_some() && self.counted.is_none() {
            if self.grown < 1 {
                return Ok(true);
            }
            let mut count = 0;
            if let Some(opened) = self.opened(tables)? {
                let each = |_: &EntryKey, entry: &Entry| {
                    count += i64::from(!entry.is_expired(now));
                    ControlFlow::Continue(())
                };
                opened.entries.for_each(each).map_err(|error| failed(error.into()))?;
            }
            self.counted = Some(count);
        }
        Ok(self.counted.unwrap_or(0) + self.grown < i64::from(self.header.maxelem))
    }

    fn put(&mut self, key: EntryKey, new: New, was_there: bool) {
        if !was_there {
            self.grown += 1;
        }
        if !self.header.has_prefix(key.prefix) && kind(&self.header).has_networks() {
            self.header.add_prefix(key.prefix);
            self.is_header_new = true;
        }
        self.changes.insert(key, Some(new));
    }

    fn take_out(&mut self, key: EntryKey) {
        self.grown -= 1;
        if self.store.is_some() {
            self.changes.insert(key, None);
        } else {
            self.changes.remove(&key);
        }
    }

    /// Makes room in a set with `forceadd`: some element goes.
    fn evict(&mut self) {
        let victim = self.changes.iter().find(|(_, change)| change.is_some()).map(|(key, _)| *key);
        if let Some(key) = victim {
            self.take_out(key);
        }
    }
}

#[allow(clippy::needless_pass_by_value, reason = "it stands behind map_err")]
pub(super) fn failed(error: anyhow::Error) -> Refusal {
    Refusal::new(format!("{error:#}"))
}

impl Plan {
    /// The sets as they are. Whoever commits the plan has held
    /// [`crate::kernel::pins::Pins::lock_sets`] since before.
    ///
    /// # Errors
    /// When the maps cannot be read.
    pub fn of(tables: &SetTables) -> Result<Self> {
        let mut plan = Self {
            tables: tables.clone(),
            slots: vec![None; SLOTS as usize],
            by_name: HashMap::new(),
            hidden: tables.taken()?.into_iter().map(|set| set.slot).collect(),
            contents: Vec::new(),
            references: None,
            now: now(),
        };
        for set in tables.names()? {
            let header = tables.header(set.store)?;
            plan.by_name.insert(set.name.clone(), set.slot);
            plan.hidden.remove(&set.slot);
            plan.slots[set.slot as usize] =
                Some(Named { name: set.name, contents: plan.contents.len() });
            plan.contents.push(Contents::of_store(header, set.store));
        }
        Ok(plan)
    }

    /// Notes what the command does. With `exist`, what is done already is no mistake.
    ///
    /// # Errors
    /// Why it cannot be done. What a command of many elements had noted by then stays:
    /// the plan is to be dropped.
    pub fn execute(&mut self, action: &Action<'_>, exist: bool) -> Result<(), Refusal> {
        match *action {
            Action::Create { name, ref header } => self.create(name, header, exist),
            Action::Add { set, element, ref with } => self.add(set, element, with, exist),
            Action::Delete { set, element, ref with } => self.delete(set, element, with, exist),
            Action::Test { .. } => Ok(()),
            Action::Flush(Some(name)) => {
                let slot = self.slot(name)?;
                self.flush(slot);
                Ok(())
            }
            Action::Flush(None) => {
                (0..SLOTS).for_each(|slot| self.flush(slot));
                Ok(())
            }
            Action::Destroy(Some(name)) => self.destroy(name),
            Action::Destroy(None) => self.destroy_all(),
            Action::Rename(from, to) => self.rename(from, to),
            Action::Swap(one, other) => self.swap(one, other),
        }
    }

    /// Whether the element is in the set.
    ///
    /// # Errors
    /// When there is no such set, or the element is none of its type.
    pub fn test(&mut self, set: &str, word: Word<'_>, with: &Added<'_>) -> Result<bool, Refusal> {
        let at = self.contents_of(set)?;
        let header = self.contents[at].header;
        if kind(&header) == Kind::ListSet {
            let member = self.member(word)?;
            return Ok(header.members.contains(&(member as u16 + 1)));
        }
        let element = Element::read(word, &header)?;
        let mut keys = Vec::new();
        element
            .each(&header, |key| {
                keys.push(key);
                if keys.len() > 1 { Err(()) } else { Ok(()) }
            })
            .ok();
        let [key] = keys[..] else {
            return Err(Refusal::syntax(word.column, "one element can be tested, not a range"));
        };
        let lengths = match kind(&header).has_networks() && element.is_host() {
            true => (0..=HOST).rev().collect(),
            false => vec![key.prefix],
        };
        for length in lengths {
            let may_be = header.has_prefix(length) || length == HOST;
            let at_length = EntryKey {
                prefix: length,
                address: key.address.and(firewall_common::addr::Addr::mask(
                    firewall_common::addr::Family::Ipv6,
                    length,
                )),
                ..key
            };
            if may_be
                && let Some(entry) = self.contents[at].get(&self.tables, &at_length, self.now)?
            {
                let is_exception = entry.flags & entry_flag::NOMATCH != 0;
                return Ok(is_exception == with.is_exception);
            }
        }
        Ok(false)
    }

    pub(super) fn slot(&self, name: &str) -> Result<u32, Refusal> {
        self.by_name.get(name).copied().ok_or_else(Refusal::no_set)
    }

    pub(super) fn contents_of(&self, name: &str) -> Result<usize, Refusal> {
        let slot = self.slot(name)?;
        let named = self.slots[slot as usize].as_ref();
        named.map(|named| named.contents).ok_or_else(Refusal::no_set)
    }

    fn create(&mut self, name: &str, header: &SetHeader, exist: bool) -> Result<(), Refusal> {
        if let Ok(at) = self.contents_of(name) {
            if exist && header::is_same(&self.contents[at].header, header) {
                return Ok(());
            }
            let message = "Set cannot be created: set with the same name already exists";
            return Err(Refusal::new(message));
        }
        self.place(name, Contents::new(*header)).map(drop)
    }

    /// Gives contents a name and a slot that nobody has.
    pub(super) fn place(&mut self, name: &str, contents: Contents) -> Result<u32, Refusal> {
        let is_free =
            |slot: &u32| self.slots[*slot as usize].is_none() && !self.hidden.contains(slot);
        let free = (0..SLOTS).find(is_free).ok_or_else(|| {
            let message =
                "Kernel error received: maximal number of sets reached, cannot create more.";
            Refusal::new(message).advise(format!("there may be {SLOTS} of them: destroy one"))
        })?;
        self.by_name.insert(name.to_owned(), free);
        let contents_at = self.contents.len();
        self.slots[free as usize] = Some(Named { name: name.to_owned(), contents: contents_at });
        self.contents.push(contents);
        Ok(free)
    }

    fn add(
        &mut self,
        set: &str,
        word: Word<'_>,
        with: &Added<'_>,
        exist: bool,
    ) -> Result<(), Refusal> {
        let at = self.contents_of(set)?;
        let header = self.contents[at].header;
        check(&header, with)?;
        if kind(&header) == Kind::ListSet {
            return self.list(set, word, with, exist);
        }
        let element = Element::read(word, &header)?;
        let (tables, now) = (&self.tables, self.now);
        let contents = &mut self.contents[at];
        element.each(&header, |key| {
            let before = contents.get(tables, &key, now)?;
            if before.is_some() && !exist {
                return Err(Refusal::new("Element cannot be added to the set: it's already added"));
            }
            if before.is_none() && !contents.has_room(tables, now)? {
                if !header.has(set_flag::FORCEADD) {
                    return Err(full());
                }
                contents.evict();
            }
            contents.put(key, new(&header, with, before, now), before.is_some());
            Ok(())
        })
    }

    fn delete(
        &mut self,
        set: &str,
        word: Word<'_>,
        with: &Added<'_>,
        exist: bool,
    ) -> Result<(), Refusal> {
        let at = self.contents_of(set)?;
        let header = self.contents[at].header;
        if kind(&header) == Kind::ListSet {
            return self.unlist(set, word, with, exist);
        }
        let element = Element::read(word, &header)?;
        let (tables, now) = (&self.tables, self.now);
        let contents = &mut self.contents[at];
        element.each(&header, |key| {
            if contents.get(tables, &key, now)?.is_some() {
                contents.take_out(key);
            } else if !exist {
                return Err(absent());
            }
            Ok(())
        })
    }

    fn flush(&mut self, slot: u32) {
        if let Some(named) = &mut self.slots[slot as usize] {
            let empty = header::emptied(&self.contents[named.contents].header);
            named.contents = self.contents.len();
            self.contents.push(Contents::new(empty));
        }
    }

    fn destroy(&mut self, name: &str) -> Result<(), Refusal> {
        let slot = self.slot(name)?;
        if self.is_used(slot)? {
            return Err(in_use());
        }
        self.by_name.remove(name);
        self.slots[slot as usize] = None;
        Ok(())
    }

    fn destroy_all(&mut self) -> Result<(), Refusal> {
        for slot in 0..SLOTS {
            if self.slots[slot as usize].is_some() && self.is_used(slot)? {
                return Err(in_use());
            }
        }
        self.by_name.clear();
        self.slots.fill(None);
        Ok(())
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<(), Refusal> {
        let slot = self.slot(from)?;
        if self.by_name.contains_key(to) {
            let message = "Set cannot be renamed: a set with the new name already exists";
            return Err(Refusal::new(message));
        }
        if self.is_used(slot)? {
            return Err(Refusal::new("Set cannot be renamed: it is in use by another system"));
        }
        self.by_name.remove(from);
        self.by_name.insert(to.to_owned(), slot);
        if let Some(named) = &mut self.slots[slot as usize] {
            named.name = to.to_owned();
        }
        Ok(())
    }

    fn swap(&mut self, one: &str, other: &str) -> Result<(), Refusal> {
        let first = self.contents_of(one)?;
        let second = self
            .contents_of(other)
            .map_err(|_| Refusal::new("Sets cannot be swapped: the second set does not exist"))?;
        let of = |at: usize| (self.contents[at].header.kind, self.contents[at].header.family);
        if of(first) != of(second) {
            return Err(Refusal::new("The sets cannot be swapped: their type does not match"));
        }
        for (name, contents) in [(one, second), (other, first)] {
            let slot = self.slot(name)? as usize;
            if let Some(named) = &mut self.slots[slot] {
                named.contents = contents;
            }
        }
        Ok(())
    }

    /// Whether a rule in force or a list names the slot.
    fn is_used(&mut self, slot: u32) -> Result<bool, Refusal> {
        if self.references.is_none() {
            self.references = Some(self.tables.references().map_err(failed)?);
        }
        let by_rules = self.references.as_ref().is_some_and(|counts| counts[slot as usize] != 0);
        Ok(by_rules || self.lists_with(slot) != 0)
    }

    pub(super) fn lists_with(&self, slot: u32) -> usize {
        let lists = self.slots.iter().flatten().map(|named| &self.contents[named.contents].header);
        lists.filter(|header| header.members.contains(&(slot as u16 + 1))).count()
    }

    /// The slot of a set that is an element of a list.
    fn member(&self, word: Word<'_>) -> Result<u32, Refusal> {
        self.slot(word.text).map_err(|_| {
            let message = "Set to be added/deleted/tested as element does not exist.";
            Refusal { column: word.column, ..Refusal::new(message) }
        })
    }

    /// Adds a set to a list, which gets new contents: packets see the old list or the new.
    fn list(
        &mut self,
        set: &str,
        word: Word<'_>,
        with: &Added<'_>,
        exist: bool,
    ) -> Result<(), Refusal> {
        let slot = self.member(word)?;
        let inner = self.contents_of(word.text)?;
        if kind(&self.contents[inner].header) == Kind::ListSet {
            return Err(Refusal::new("Sets with list:set type cannot be added to the set."));
        }
        let at = self.own_list(set)?;
        let key = EntryKey::member(slot);
        let before = self.contents[at].get(&self.tables, &key, self.now)?;
        if before.is_some() && !exist {
            return Err(Refusal::new("Element cannot be added to the set: it's already added"));
        }
        let new = new(&self.contents[at].header, with, before, self.now);
        let mut members = members(&self.contents[at].header);
        let place = match with.beside {
            Some((name, is_before)) => {
                let beside = self.slot(name).ok().map(|slot| slot as u16 + 1);
                let found = members.iter().position(|member| Some(*member) == beside);
                found.map(|found| if is_before { found } else { found + 1 }).ok_or_else(|| {
                    let message =
                        "The set to which you referred with 'before' or 'after' does not exist.";
                    Refusal::new(message)
                })?
            }
            None => members.len(),
        };
        if before.is_none() {
            if members.len() >= MEMBERS {
                let message = "The list is full, more elements cannot be added.";
                return Err(Refusal::new(message).advise(format!("a list takes {MEMBERS} sets")));
            }
            members.insert(place, slot as u16 + 1);
            set_members(&mut self.contents[at].header, &members);
        }
        self.contents[at].put(key, new, before.is_some());
        Ok(())
    }

    fn unlist(
        &mut self,
        set: &str,
        word: Word<'_>,
        _: &Added<'_>,
        exist: bool,
    ) -> Result<(), Refusal> {
        let slot = self.member(word)?;
        let at = self.own_list(set)?;
        let key = EntryKey::member(slot);
        if self.contents[at].get(&self.tables, &key, self.now)?.is_none() {
            return if exist { Ok(()) } else { Err(absent()) };
        }
        let contents = &mut self.contents[at];
        let mut members = members(&contents.header);
        members.retain(|member| *member != slot as u16 + 1);
        set_members(&mut contents.header, &members);
        contents.take_out(key);
        Ok(())
    }

    /// The contents of a list as new ones, without members whose time is over.
    fn own_list(&mut self, set: &str) -> Result<usize, Refusal> {
        let at = self.contents_of(set)?;
        if self.contents[at].store.is_none() {
            return Ok(at);
        }
        let mut header = self.contents[at].header;
        let mut members = members(&header);
        let mut kept = Changes::default();
        for member in members.clone() {
            let key = EntryKey::member(u32::from(member) - 1);
            match self.contents[at].get(&self.tables, &key, self.now)? {
                Some(entry) => {
                    let comment = self.contents[at].comment(&self.tables, &key)?;
                    kept.insert(key, Some(New { entry, comment }));
                }
                None => members.retain(|known| *known != member),
            }
        }
        set_members(&mut header, &members);
        let slot = self.slot(set)? as usize;
        if let Some(named) = &mut self.slots[slot] {
            named.contents = self.contents.len();
        }
        let grown = kept.len() as i64;
        self.contents.push(Contents { changes: kept, grown, ..Contents::new(header) });
        Ok(self.contents.len() - 1)
    }
}

impl Contents {
    /// Of an element of the store.
    pub(super) fn comment(
        &mut self,
        tables: &SetTables,
        key: &EntryKey,
    ) -> Result<Option<Box<str>>, Refusal> {
        let Some(Opened { comments: Some(comments), .. }) = self.opened(tables)? else {
            return Ok(None);
        };
        let bytes = comments.get(key).map_err(|error| failed(error.into()))?;
        Ok(bytes.map(|bytes| comment_text(&bytes).into()))
    }
}

/// A comment without the zero bytes behind it.
pub(super) fn comment_text(bytes: &CommentBytes) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

/// The members of a list, slots plus one.
pub(super) fn members(header: &SetHeader) -> Vec<u16> {
    header.members.iter().copied().take_while(|member| *member != 0).collect()
}

pub(super) fn set_members(header: &mut SetHeader, members: &[u16]) {
    header.members = [0; MEMBERS];
    for (place, member) in header.members.iter_mut().zip(members) {
        *place = *member;
    }
}

/// What a set was not made for.
fn check(header: &SetHeader, with: &Added<'_>) -> Result<(), Refusal> {
    if with.timeout.is_some() && !header.has(set_flag::TIMEOUT) {
        let message = "Timeout cannot be used: set was created without timeout support";
        return Err(Refusal::new(message));
    }
    if (with.packets.is_some() || with.bytes.is_some()) && !header.has(set_flag::COUNTERS) {
        let message =
            "Packet/byte counters cannot be used: set was created without counter support";
        return Err(Refusal::new(message));
    }
    if with.comment.is_some() && !header.has(set_flag::COMMENT) {
        let message = "Comment cannot be used: set was created without comment support";
        return Err(Refusal::new(message));
    }
    if with.is_exception && !kind(header).has_networks() {
        return Err(Refusal::usage(0, "Unknown argument: `nomatch'"));
    }
    if with.beside.is_some() && kind(header) != Kind::ListSet {
        return Err(Refusal::usage(0, "Unknown argument: `before' or `after'"));
    }
    Ok(())
}

/// The element as it will be; what has counted goes on counting.
fn new(header: &SetHeader, with: &Added<'_>, before: Option<Entry>, now: Nanos) -> New {
    let before = before.unwrap_or_default();
    let seconds = with.timeout.unwrap_or(header.timeout);
    let entry = Entry {
        packets: with.packets.unwrap_or(before.packets),
        bytes: with.bytes.unwrap_or(before.bytes),
        expires: match header.has(set_flag::TIMEOUT) {
            true => Tick::after(now, seconds),
            false => Tick::NEVER,
        },
        flags: if with.is_exception { entry_flag::NOMATCH } else { 0 },
    };
    New { entry, comment: with.comment.filter(|comment| !comment.is_empty()).map(Into::into) }
}

pub(super) fn full() -> Refusal {
    Refusal::new("Hash is full, cannot add more elements")
}

fn absent() -> Refusal {
    Refusal::new("Element cannot be deleted from the set: it's not added")
}

pub(super) fn in_use() -> Refusal {
    Refusal::new("Set cannot be destroyed: it is in use by a kernel component")
}
