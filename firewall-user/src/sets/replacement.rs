//! Sets that come together with rules: what a file says of them, beside those in force.
//!
//! A set that the file creates has just what the file says, in a slot of its own: the rules
//! of before go on asking the one that they know until they count no more. A set that is
//! already as the file wants it stays, counters and all; so does one that the file does not
//! speak of, unless it is destroyed there.

use std::{
    collections::{HashMap, HashSet},
    ops::ControlFlow,
};

use anyhow::Result;
use firewall_common::set::{Entry, EntryKey, Kind, SetHeader, set_flag};

use super::{
    command::Action,
    header::{self, kind},
    plan::{Contents, Named, New, Plan, in_use, members, set_members},
    refusal::Refusal,
    restore::each_line,
};
use crate::kernel::{
    sets::SetTables,
    worlds::{self, World},
};

/// A file of sets, as `ipset save` writes it.
#[derive(Clone, Debug)]
pub struct File {
    /// As messages call it.
    pub name: String,
    pub text: String,
}

/// The sets as they are to be.
#[derive(Debug)]
pub struct Replacement {
    pub(super) plan: Plan,
    /// Those in force.
    pub(super) before: Vec<worlds::Named>,
    /// Names of sets that the file creates.
    created: HashSet<String>,
}

/// What a set holds: of each element its flags and its comment.
pub(super) type Held = HashMap<EntryKey, (u32, Option<Box<str>>)>;

impl Replacement {
    /// Reads the file. Whoever makes it so has held [`crate::kernel::pins::Pins::lock_sets`]
    /// since before.
    ///
    /// # Errors
    /// The first line that cannot be done, or what the maps said.
    pub fn read(tables: &SetTables, file: &File) -> Result<Self> {
        let mut new =
            Self { plan: Plan::of(tables)?, before: tables.names()?, created: HashSet::new() };
        each_line(&file.name, &file.text, |action, exist| new.execute(action, exist))?;
        let moved = new.keep_same()?;
        new.follow_members(&moved)?;
        new.keep_same_lists()?;
        Ok(new)
    }

    /// The slot of the set with this name.
    pub fn slot(&self, name: &str) -> Option<u32> {
        self.plan.slot(name).ok()
    }

    /// Whether the sets in force are these already.
    pub fn is_empty(&self) -> bool {
        let slots = || self.before.iter().map(|set| set.slot);
        self.plan.hidden.is_disjoint(&slots().collect()) && self.fresh().next().is_none()
    }

    /// Puts the sets beside those in force, for the next ruleset. What goes wrong later
    /// [`SetTables::settle`] takes back.
    ///
    /// # Errors
    /// What the kernel said, or that there is no room.
    pub fn put(&mut self) -> Result<()> {
        let fresh: Vec<u32> = self.fresh().collect();
        self.plan.make_new()?;
        let tables = &self.plan.tables;
        for slot in fresh {
            let Some(named) = &self.plan.slots[slot as usize] else { continue };
            if let Some(store) = self.plan.contents[named.contents].store {
                tables.set_slot_in(World::Next, slot, &named.name, store)?;
            }
        }
        for set in self.before.iter().filter(|set| self.plan.hidden.contains(&set.slot)) {
            tables.keep_in(World::Present, set.slot)?;
        }
        Ok(())
    }

    /// Slots whose contents nobody has seen yet.
    fn fresh(&self) -> impl Iterator<Item = u32> {
        let before: HashSet<u32> = self.before.iter().map(|set| set.slot).collect();
        let named = (0..).zip(&self.plan.slots);
        named.filter(move |(slot, named)| named.is_some() && !before.contains(slot)).map(|it| it.0)
    }

    fn execute(&mut self, action: &Action<'_>, exist: bool) -> Result<(), Refusal> {
        match *action {
            Action::Create { name, .. } if !self.created.contains(name) => {
                self.hide(name);
                self.created.insert(name.to_owned());
            }
            Action::Destroy(Some(name)) if !self.created.contains(name) => {
                // One that is gone is as it is to be: a file can be applied again.
                self.hide(name);
                return Ok(());
            }
            Action::Add { set, .. } | Action::Delete { set, .. } | Action::Flush(Some(set))
                if !self.created.contains(set) =>
            {
                let message = format!("the file adds to set '{set}' without creating it");
                return Err(Refusal::new(message).advise(
                    "a set that comes with rules is replaced as a whole: write its `create` line, \
                     as `ipset save` prints it",
                ));
            }
            Action::Rename(..) | Action::Swap(..) | Action::Flush(None) | Action::Destroy(None) => {
                return Err(Refusal::new(
                    "a file of sets that comes with rules can create, fill and destroy single sets",
                )
                .advise("create each set under the name that the rules use"));
            }
            _ => {}
        }
        self.plan.execute(action, exist)
    }

    /// Takes a set out of those that are to be; the rules in force keep it.
    fn hide(&mut self, name: &str) {
        if let Some(slot) = self.plan.by_name.remove(name) {
            self.plan.slots[slot as usize] = None;
            self.plan.hidden.insert(slot);
        }
    }

    pub(super) fn contents_at(&self, slot: u32) -> Option<usize> {
        self.plan.slots[slot as usize].as_ref().map(|named| named.contents)
    }

    /// A set in force: what it is, and what it holds.
    pub(super) fn old(&self, slot: u32) -> Result<(SetHeader, Held)> {
        let Some(set) = self.before.iter().find(|set| set.slot == slot) else {
            anyhow::bail!("slot {slot} has no set");
        };
        let tables = &self.plan.tables;
        let header = tables.header(set.store)?;
        let entries = tables.entries(set.store)?;
        let mut contents = Contents::of_store(header, set.store);
        let (mut held, mut keys) = (Held::new(), Vec::new());
        let now = self.plan.now;
        entries.for_each(|key: &EntryKey, entry: &Entry| {
            if !entry.is_expired(now) {
                keys.push((*key, entry.flags));
            }
            ControlFlow::Continue(())
        })?;
        for (key, flags) in keys {
            let comment = contents.comment(tables, &key)?;
            held.insert(key, (flags, comment.filter(|comment| !comment.is_empty())));
        }
        Ok((header, held))
    }

    /// Puts sets back that are what the file wants; gives where they are by the slots that
    /// they were to have.
    fn keep_same(&mut self) -> Result<HashMap<u32, u32>> {
        let mut moved = HashMap::new();
        for set in self.before.clone() {
            let Some(fresh) = self.fresh_one(&set.name) else { continue };
            if self.is_same(fresh, &set)? {
                self.put_back(&set, fresh);
                moved.insert(fresh, set.slot);
            }
        }
        Ok(moved)
    }

    /// The slot of a set that the file creates.
    fn fresh_one(&self, name: &str) -> Option<u32> {
        self.plan.slot(name).ok().filter(|_| self.created.contains(name))
    }

    fn is_same(&self, fresh: u32, old: &worlds::Named) -> Result<bool> {
        let Some(at) = self.contents_at(fresh) else { return Ok(false) };
        let new = &self.plan.contents[at];
        let is_list = kind(&new.header) == Kind::ListSet;
        let header = self.plan.tables.header(old.store)?;
        // What is timed or counted begins as the file says.
        let has_counted = |new: &New| new.entry.packets != 0 || new.entry.bytes != 0;
        if is_list
            || !header::is_same(&header, &new.header)
            || new.header.has(set_flag::TIMEOUT)
            || new.changes.values().flatten().any(has_counted)
        {
            return Ok(false);
        }
        Ok(held(new) == self.old(old.slot)?.1)
    }

    fn put_back(&mut self, set: &worlds::Named, fresh: u32) {
        let Some(mut named) = self.plan.slots[fresh as usize].take() else { return };
        let header = self.plan.contents[named.contents].header;
        named.contents = self.plan.contents.len();
        self.plan.contents.push(Contents::of_store(header, set.store));
        self.plan.slots[set.slot as usize] = Some(named);
        self.plan.by_name.insert(set.name.clone(), set.slot);
        self.plan.hidden.remove(&set.slot);
    }

    /// Lists name slots: those with a member that is elsewhere now are made anew.
    fn follow_members(&mut self, moved: &HashMap<u32, u32>) -> Result<(), Refusal> {
        let lists: Vec<(u32, Named)> = (0..)
            .zip(&self.plan.slots)
            .filter_map(|(slot, named)| Some((slot, named.clone()?)))
            .filter(|(_, named)| kind(&self.plan.contents[named.contents].header) == Kind::ListSet)
            .collect();
        for (slot, named) in lists {
            let is_old = self.plan.contents[named.contents].store.is_some();
            let mut places = HashMap::new();
            for member in members(&self.plan.contents[named.contents].header) {
                let from = u32::from(member) - 1;
                let to = if is_old { self.now_at(from)? } else { moved.get(&from).copied() };
                if let Some(to) = to {
                    places.insert(from, to);
                }
            }
            if !places.is_empty() {
                self.relist(slot, &named, &places)?;
            }
        }
        Ok(())
    }

    /// Where a member of an old list is, if it is elsewhere.
    fn now_at(&self, member: u32) -> Result<Option<u32>, Refusal> {
        if !self.plan.hidden.contains(&member) {
            return Ok(None);
        }
        let before = self.before.iter().find(|set| set.slot == member).ok_or_else(in_use)?;
        let name = &before.name;
        self.plan.slot(name).map(Some).map_err(|_| {
            let message = format!("set '{name}' cannot be destroyed: a list has it");
            Refusal::new(message).advise("create the list anew, too")
        })
    }

    /// Gives a list members in other places.
    fn relist(
        &mut self,
        slot: u32,
        named: &Named,
        places: &HashMap<u32, u32>,
    ) -> Result<(), Refusal> {
        let (now, tables) = (self.plan.now, self.plan.tables.clone());
        let old = &mut self.plan.contents[named.contents];
        let mut new = Contents::new(old.header);
        let mut found = Vec::new();
        for member in members(&old.header) {
            let from = u32::from(member) - 1;
            let to = places.get(&from).copied().unwrap_or(from);
            let key = EntryKey::member(from);
            let Some(entry) = old.get(&tables, &key, now)? else { continue };
            let comment = match old.changes.get(&key) {
                Some(Some(new)) => new.comment.clone(),
                _ => old.comment(&tables, &key)?,
            };
            new.changes.insert(EntryKey::member(to), Some(New { entry, comment }));
            found.push(to as u16 + 1);
        }
        set_members(&mut new.header, &found);
        new.grown = new.changes.len() as i64;
        if old.store.is_some() {
            self.hide(&named.name);
            return self.plan.place(&named.name, new).map(drop);
        }
        self.plan.contents.push(new);
        let contents = self.plan.contents.len() - 1;
        self.plan.slots[slot as usize] = Some(Named { contents, ..named.clone() });
        Ok(())
    }

    /// As [`Replacement::keep_same`], of lists: without options their members say all.
    fn keep_same_lists(&mut self) -> Result<()> {
        const OPTIONS: u8 = set_flag::TIMEOUT | set_flag::COUNTERS | set_flag::COMMENT;
        for set in self.before.clone() {
            let Some(fresh) = self.fresh_one(&set.name) else { continue };
            let Some(at) = self.contents_at(fresh) else { continue };
            let new = self.plan.contents[at].header;
            let old = self.plan.tables.header(set.store)?;
            if kind(&new) == Kind::ListSet
                && new.flags & OPTIONS == 0
                && header::is_same(&old, &new)
                && old.members == new.members
            {
                self.put_back(&set, fresh);
            }
        }
        Ok(())
    }
}

/// What new contents hold.
pub(super) fn held(contents: &Contents) -> Held {
    let new = contents.changes.iter().filter_map(|(key, new)| Some((key, new.as_ref()?)));
    new.map(|(key, new)| {
        let comment = new.comment.clone().filter(|comment| !comment.is_empty());
        (*key, (new.entry.flags, comment))
    })
    .collect()
}
