//! Sets as ipset prints them: plain, as `save` lines, as XML; and as JSON, an object a
//! line. Elements are printed as they are read, in bounded memory.

use std::{fmt::Write as _, ops::ControlFlow};

use anyhow::{Result, bail};
use firewall_common::{
    set::{Entry, EntryKey, Kind, SetHeader, entry_flag, set_flag},
    time::Nanos,
};
use serde_json::json;

use super::{
    element,
    header::{self, kind},
    names::{kind_name, revision},
    plan::{comment_text, members},
    refusal::Refusal,
};
use crate::kernel::{
    maps::now,
    sets::{CommentBytes, Inner, SetTables},
    worlds::Named,
};

/// How to print.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    #[default]
    Plain,
    Save,
    Xml,
    Json,
}

/// What to print.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    pub form: Form,
    /// One set, or all.
    pub set: Option<String>,
    pub names_only: bool,
    /// Without elements.
    pub terse: bool,
    /// Elements in the order of their keys.
    pub sorted: bool,
}

/// Where the text goes.
pub type Printer<'p> = &'p mut dyn FnMut(&str) -> Result<()>;

/// A set as it is read.
struct Read {
    named: Named,
    header: SetHeader,
    entries: Inner<Entry>,
    comments: Option<Inner<CommentBytes>>,
    references: u32,
}

impl Listing {
    /// # Errors
    /// When there is no such set, the maps cannot be read, or the output fails.
    pub fn print(&self, tables: &SetTables, out: Printer<'_>) -> Result<()> {
        let all = tables.names()?;
        let wanted: Vec<&Named> = match &self.set {
            Some(name) => match all.iter().find(|set| set.name == *name) {
                Some(set) => vec![set],
                None => bail!(Refusal::no_set()),
            },
            None => self.order(tables, &all)?,
        };
        let references = references(tables, &all)?;
        if self.form == Form::Xml {
            out("<ipsets>\n")?;
        }
        for (number, named) in wanted.into_iter().enumerate() {
            if self.form == Form::Plain && number > 0 && !self.names_only {
                out("\n")?;
            }
            // One that has gone meanwhile is not there.
            let Some(read) = Read::open(tables, named, &references)? else { continue };
            self.one(&read, &all, out)?;
        }
        if self.form == Form::Xml {
            out("</ipsets>\n")?;
        }
        Ok(())
    }

    /// Lists come behind the sets that they name, so that what is saved can be restored.
    fn order<'n>(&self, tables: &SetTables, all: &'n [Named]) -> Result<Vec<&'n Named>> {
        let mut order = Vec::with_capacity(all.len());
        let mut lists = Vec::new();
        for named in all {
            let is_list = kind(&tables.header(named.store)?) == Kind::ListSet;
            if is_list { lists.push(named) } else { order.push(named) }
        }
        order.append(&mut lists);
        Ok(order)
    }

    fn one(&self, set: &Read, all: &[Named], out: Printer<'_>) -> Result<()> {
        let name = &set.named.name;
        if self.names_only {
            return match self.form {
                Form::Json => out(&format!("{}\n", json!({ "name": name }))),
                Form::Xml => out(&format!("<ipset name=\"{}\"/>\n", escaped(name))),
                Form::Plain | Form::Save => out(&format!("{name}\n")),
            };
        }
        let members = |slot: u32| {
            let member = all.iter().find(|named| named.slot == slot);
            member.map_or_else(String::new, |named| named.name.clone())
        };
        let count = match self.form {
            Form::Save => 0,
            _ => set.count()?,
        };
        match self.form {
            Form::Plain => out(&set.plain_head(count))?,
            Form::Save => out(&format!("{}\n", header::create_line(name, &set.header)))?,
            Form::Xml => out(&set.xml_head(count))?,
            Form::Json => out(&format!("{}\n", set.json_head(count)))?,
        }
        if !self.terse {
            if self.form == Form::Plain {
                out("Members:\n")?;
            }
            if self.form == Form::Xml {
                out("<members>\n")?;
            }
            self.elements(set, &members, out)?;
            if self.form == Form::Xml {
                out("</members>\n")?;
            }
        }
        if self.form == Form::Xml {
            out("</ipset>\n")?;
        }
        Ok(())
    }

    fn elements(&self, set: &Read, member: &dyn Fn(u32) -> String, out: Printer<'_>) -> Result<()> {
        let now = now();
        let mut text = String::new();
        let mut print = |key: &EntryKey, entry: &Entry| -> Result<()> {
            if entry.is_expired(now) {
                return Ok(());
            }
            let comment = match &set.comments {
                Some(comments) => comments.get(key)?.map(|bytes| comment_text(&bytes)),
                None => None,
            };
            let of = Printed { header: &set.header, key, entry, comment, now };
            text.clear();
            match self.form {
                Form::Plain => of.plain(&mut text, member),
                Form::Save => {
                    text += "add ";
                    text += &set.named.name;
                    text.push(' ');
                    of.plain(&mut text, member);
                }
                Form::Xml => of.xml(&mut text, member),
                Form::Json => text += &of.json(&set.named.name, member).to_string(),
            }
            text.push('\n');
            out(&text)
        };
        if kind(&set.header) == Kind::ListSet {
            for slot in members(&set.header) {
                let key = EntryKey::member(u32::from(slot) - 1);
                if let Some(entry) = set.entries.get(&key)? {
                    print(&key, &entry)?;
                }
            }
            return Ok(());
        }
        if self.sorted || kind(&set.header) == Kind::BitmapPort {
            let mut all = Vec::new();
            set.entries.for_each(|key, entry| {
                all.push((*key, *entry));
                ControlFlow::Continue(())
            })?;
            let order = |key: &EntryKey| {
                (key.address.words.map(u32::from_be), key.prefix, key.protocol, key.port)
            };
            all.sort_unstable_by_key(|(key, _)| order(key));
            return all.iter().try_for_each(|(key, entry)| print(key, entry));
        }
        let mut result = Ok(());
        set.entries.for_each(|key, entry| {
            result = print(key, entry);
            if result.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        result
    }
}

/// Of each slot, the rules and lists that name it.
fn references(tables: &SetTables, all: &[Named]) -> Result<Vec<u32>> {
    let mut counts = tables.references()?;
    for named in all {
        for member in members(&tables.header(named.store)?) {
            counts[usize::from(member) - 1] += 1;
        }
    }
    Ok(counts)
}

impl Read {
    /// Opens a set that is still as it was. The lock is given back before anything is
    /// printed: whoever reads that may take their time.
    fn open(tables: &SetTables, named: &Named, references: &[u32]) -> Result<Option<Self>> {
        let _lock = tables.lock()?;
        if !tables.names()?.contains(named) {
            return Ok(None);
        }
        let header = tables.header(named.store)?;
        Ok(Some(Self {
            named: named.clone(),
            header,
            entries: tables.entries(named.store)?,
            comments: match header.has(set_flag::COMMENT) {
                true => Some(tables.comments(named.store)?),
                false => None,
            },
            references: references[named.slot as usize],
        }))
    }

    /// Live elements.
    fn count(&self) -> Result<u64> {
        let (now, mut count) = (now(), 0);
        self.entries.for_each(|_, entry| {
            count += u64::from(!entry.is_expired(now));
            ControlFlow::Continue(())
        })?;
        Ok(count)
    }

    /// Bytes: what the kernel's map takes for each element, as near as it tells.
    fn memory(&self, count: u64) -> u64 {
        const ELEMENT: u64 = 96;
        const COMMENT: u64 = 512;
        let buckets = u64::from(self.header.maxelem).next_power_of_two() * 16;
        let of_each = if self.comments.is_some() { ELEMENT + COMMENT } else { ELEMENT };
        buckets + count * of_each
    }

    fn plain_head(&self, count: u64) -> String {
        let kind = kind(&self.header);
        format!(
            "Name: {}\nType: {}\nRevision: {}\nHeader: {}\nSize in memory: {}\nReferences: {}\n\
             Number of entries: {count}\n",
            self.named.name,
            kind_name(kind),
            revision(kind),
            header::text(&self.header),
            self.memory(count),
            self.references,
        )
    }

    fn xml_head(&self, count: u64) -> String {
        let kind = kind(&self.header);
        let mut options = String::new();
        let text = header::text(&self.header);
        let mut words = text.split(' ');
        while let Some(word) = words.next() {
            // Writing to a string cannot fail.
            let _ = match word {
                "counters" | "comment" | "forceadd" => write!(options, "<{word}/>"),
                _ => {
                    let value = words.next().unwrap_or_default();
                    write!(options, "<{word}>{value}</{word}>")
                }
            };
        }
        format!(
            "<ipset name=\"{}\">\n<type>{}</type>\n<revision>{}</revision>\n<header>{options}\n\
             <memsize>{}</memsize>\n<references>{}</references>\n\
             <numentries>{count}</numentries>\n</header>\n",
            escaped(&self.named.name),
            kind_name(kind),
            revision(kind),
            self.memory(count),
            self.references,
        )
    }

    fn json_head(&self, count: u64) -> serde_json::Value {
        let SetHeader { timeout, maxelem, .. } = self.header;
        json!({
            "set": self.named.name,
            "type": kind_name(kind(&self.header)),
            "family": match self.header.family { 4 => "ipv4", 6 => "ipv6", _ => "any" },
            "timeout": self.header.has(set_flag::TIMEOUT).then_some(timeout),
            "maxelem": maxelem,
            "counters": self.header.has(set_flag::COUNTERS),
            "comment": self.header.has(set_flag::COMMENT),
            "references": self.references,
            "entries": count,
        })
    }
}

/// An element with all that is printed of it.
struct Printed<'r> {
    header: &'r SetHeader,
    key: &'r EntryKey,
    entry: &'r Entry,
    comment: Option<String>,
    now: Nanos,
}

impl Printed<'_> {
    fn element(&self, member: &dyn Fn(u32) -> String) -> String {
        let mut text = String::new();
        element::write(&mut text, self.key, self.header, member);
        text
    }

    fn timeout(&self) -> Option<u32> {
        self.header.has(set_flag::TIMEOUT).then(|| match self.entry.expires {
            firewall_common::set::Tick::NEVER => 0,
            // The last moment counts as a second: 0 would be for ever.
            expires => expires.seconds_left(self.now).max(1),
        })
    }

    fn is_exception(&self) -> bool {
        self.entry.flags & entry_flag::NOMATCH != 0
    }

    fn plain(&self, out: &mut String, member: &dyn Fn(u32) -> String) {
        element::write(out, self.key, self.header, member);
        if let Some(timeout) = self.timeout() {
            // Writing to a string cannot fail.
            let _ = write!(out, " timeout {timeout}");
        }
        if self.is_exception() {
            *out += " nomatch";
        }
        if self.header.has(set_flag::COUNTERS) {
            let _ = write!(out, " packets {} bytes {}", self.entry.packets, self.entry.bytes);
        }
        if let Some(comment) = &self.comment {
            let _ = write!(out, " comment \"{comment}\"");
        }
    }

    fn xml(&self, out: &mut String, member: &dyn Fn(u32) -> String) {
        let _ = write!(out, "<member><elem>{}</elem>", escaped(&self.element(member)));
        if let Some(timeout) = self.timeout() {
            let _ = write!(out, "<timeout>{timeout}</timeout>");
        }
        if self.header.has(set_flag::COUNTERS) {
            let Entry { packets, bytes, .. } = self.entry;
            let _ = write!(out, "<packets>{packets}</packets><bytes>{bytes}</bytes>");
        }
        if let Some(comment) = &self.comment {
            let _ = write!(out, "<comment>\"{}\"</comment>", escaped(comment));
        }
        if self.is_exception() {
            *out += "<nomatch/>";
        }
        *out += "</member>";
    }

    fn json(&self, set: &str, member: &dyn Fn(u32) -> String) -> serde_json::Value {
        let counts = self.header.has(set_flag::COUNTERS);
        json!({
            "set": set,
            "element": self.element(member),
            "timeout": self.timeout().filter(|timeout| *timeout != 0),
            "packets": counts.then_some(self.entry.packets),
            "bytes": counts.then_some(self.entry.bytes),
            "comment": self.comment,
            "nomatch": self.is_exception(),
        })
    }
}

fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '"' => escaped += "&quot;",
            c => escaped.push(c),
        }
    }
    escaped
}
