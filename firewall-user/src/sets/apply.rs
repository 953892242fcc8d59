//! Making a plan so.
//!
//! New contents are filled first, while nobody can see them. Then stores that stay take
//! their changes, and give them back if one cannot be made. Last, names are led to their
//! contents, one word each.

use std::io;

use anyhow::{Context, Result};
use firewall_common::set::{COMMENT, Entry, EntryKey, SLOTS, set_flag};
use nix::libc;

use super::plan::{Contents, New, Opened, Plan, full};
use crate::kernel::{
    maps::now,
    sets::{CommentBytes, SetTables},
};

/// Elements that go to the kernel at once.
const BATCH: usize = 4_096;

impl Plan {
    /// Makes it so.
    ///
    /// # Errors
    /// What the kernel said, or that a set is full; nothing has changed then.
    pub fn commit(mut self) -> Result<()> {
        let before = self.tables.names()?;
        let made = self.make_new()?;
        let change = self.tables.begin_change()?;
        if let Err(error) = self.change_old() {
            self.tables.give_back(&made)?;
            return Err(error);
        }
        for slot in 0..SLOTS {
            let named = self.slots[slot as usize].as_ref();
            let old = before.iter().find(|set| set.slot == slot);
            let new = named.and_then(|named| {
                Some((named.name.as_str(), self.contents[named.contents].store?))
            });
            if new != old.map(|set| (set.name.as_str(), set.store)) {
                let (name, store) = new.unwrap_or(("", 0));
                self.tables.set_slot(slot, name, store)?;
            }
        }
        drop(change);
        let kept: Vec<u32> = self.reached().filter_map(|at| self.contents[at].store).collect();
        let gone = before.iter().map(|set| set.store).filter(|store| !kept.contains(store));
        self.tables.give_back(&gone.collect::<Vec<_>>())
    }

    /// The contents that a name leads to.
    fn reached(&self) -> impl Iterator<Item = usize> {
        self.slots.iter().flatten().map(|named| named.contents)
    }

    /// Makes the stores that are not there yet; gives them.
    pub(super) fn make_new(&mut self) -> Result<Vec<u32>> {
        let new: Vec<usize> =
            self.reached().filter(|at| self.contents[*at].store.is_none()).collect();
        if new.is_empty() {
            return Ok(Vec::new());
        }
        let mut free = self.tables.free_stores()?.into_iter();
        let mut made = Vec::new();
        for at in new {
            let store = free.next().context("too many sets at once; destroy one")?;
            made.push(store);
            let filled = fill(&self.tables, store, &mut self.contents[at]);
            if let Err(error) = filled {
                self.tables.give_back(&made)?;
                return Err(error);
            }
            self.contents[at].store = Some(store);
        }
        Ok(made)
    }

    /// Changes the stores that stay; takes all back when one cannot be changed.
    fn change_old(&mut self) -> Result<()> {
        let mut done: Vec<(usize, Vec<Undo>)> = Vec::new();
        let changed: Vec<usize> =
            self.reached().filter(|at| !self.contents[*at].changes.is_empty()).collect();
        for at in changed {
            let mut undo = Vec::new();
            let result = change(&self.tables, &mut self.contents[at], &mut undo);
            done.push((at, undo));
            if let Err(error) = result {
                for (at, undo) in done {
                    take_back(&self.tables, &mut self.contents[at], undo)?;
                }
                return Err(error);
            }
        }
        Ok(())
    }
}

/// Makes a store with these contents.
fn fill(tables: &SetTables, store: u32, contents: &mut Contents) -> Result<()> {
    tables.make(store, &contents.header)?;
    let entries = tables.entries(store)?;
    let changes = std::mem::take(&mut contents.changes);
    let (mut keys, mut values) = (Vec::with_capacity(BATCH), Vec::with_capacity(BATCH));
    let comments = match contents.header.has(set_flag::COMMENT) {
        true => Some(tables.comments(store)?),
        false => None,
    };
    for (key, new) in changes {
        let Some(New { entry, comment }) = new else { continue };
        if let (Some(comments), Some(comment)) = (&comments, comment) {
            comments.put(&key, &comment_bytes(&comment)).map_err(no_room)?;
        }
        keys.push(key);
        values.push(entry);
        if keys.len() == BATCH {
            entries.put_all(&keys, &values).map_err(no_room)?;
            keys.clear();
            values.clear();
        }
    }
    entries.put_all(&keys, &values).map_err(no_room)
}

/// What an element was before it was changed.
struct Undo {
    key: EntryKey,
    entry: Option<Entry>,
    comment: Option<CommentBytes>,
}

fn change(tables: &SetTables, contents: &mut Contents, undo: &mut Vec<Undo>) -> Result<()> {
    let changes = std::mem::take(&mut contents.changes);
    if let (Some(store), true) = (contents.store, contents.is_header_new) {
        // Before there is an element of this length.
        tables.set_header(store, &contents.header)?;
    }
    let forces = contents.header.has(set_flag::FORCEADD);
    let Some(opened) = contents.opened(tables)? else { return Ok(()) };
    for (key, new) in changes {
        let comment = match &opened.comments {
            Some(comments) => comments.get(&key)?,
            None => None,
        };
        undo.push(Undo { key, entry: opened.entries.get(&key)?, comment });
        match new {
            Some(new) => put(opened, &key, &new, forces)?,
            None => remove(opened, &key)?,
        }
    }
    Ok(())
}

/// A comment goes with its element.
fn remove(opened: &Opened, key: &EntryKey) -> Result<()> {
    opened.entries.remove(key)?;
    if let Some(comments) = &opened.comments {
        comments.remove(key)?;
    }
    Ok(())
}

/// Puts an element in; where there is no room, what has expired gives its place, or with
/// `forceadd` any.
fn put(opened: &Opened, key: &EntryKey, new: &New, forces: bool) -> Result<()> {
    let put = || opened.entries.put(key, &new.entry);
    let mut done = put();
    if is_full(&done) && sweep(opened)? > 0 {
        done = put();
    }
    if is_full(&done) && forces {
        evict(opened)?;
        done = put();
    }
    done.map_err(no_room)?;
    match (&opened.comments, &new.comment) {
        (Some(comments), Some(comment)) => {
            comments.put(key, &comment_bytes(comment)).map_err(no_room)
        }
        (Some(comments), None) => {
            comments.remove(key)?;
            Ok(())
        }
        (None, _) => Ok(()),
    }
}

fn is_full(done: &io::Result<()>) -> bool {
    done.as_ref().is_err_and(|error| error.raw_os_error() == Some(libc::E2BIG))
}

/// Removes what has expired; gives how many.
fn sweep(opened: &Opened) -> Result<usize> {
    let (now, mut expired) = (now(), Vec::new());
    opened.entries.for_each(|key, entry| {
        if entry.is_expired(now) {
            expired.push(*key);
        }
        std::ops::ControlFlow::Continue(())
    })?;
    for key in &expired {
        remove(opened, key)?;
    }
    Ok(expired.len())
}

fn evict(opened: &Opened) -> Result<()> {
    let mut victim = None;
    opened.entries.for_each(|key, _| {
        victim = Some(*key);
        std::ops::ControlFlow::Break(())
    })?;
    if let Some(key) = victim {
        remove(opened, &key)?;
    }
    Ok(())
}

fn take_back(tables: &SetTables, contents: &mut Contents, undo: Vec<Undo>) -> Result<()> {
    let Some(opened) = contents.opened(tables)? else { return Ok(()) };
    for Undo { key, entry, comment } in undo.into_iter().rev() {
        match entry {
            Some(entry) => opened.entries.put(&key, &entry)?,
            None => remove(opened, &key)?,
        }
        if let (Some(comments), Some(comment)) = (&opened.comments, comment) {
            comments.put(&key, &comment)?;
        }
    }
    Ok(())
}

fn comment_bytes(comment: &str) -> CommentBytes {
    let mut bytes = [0; COMMENT];
    for (place, byte) in bytes.iter_mut().take(COMMENT - 1).zip(comment.bytes()) {
        *place = byte;
    }
    bytes
}

fn no_room(error: io::Error) -> anyhow::Error {
    match error.raw_os_error() {
        Some(libc::E2BIG) => full().into(),
        _ => anyhow::Error::from(error).context("cannot put an element into the set's map"),
    }
}
