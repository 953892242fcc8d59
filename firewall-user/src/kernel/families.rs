//! Tables of which each family has a map: flows of IPv4, and what leads to them, stand under a
//! key of 16 bytes. Who asks here says [`FlowKey`], whichever map it is.

use std::{io, marker::PhantomData, ops::ControlFlow, os::fd::OwnedFd};

use anyhow::{Context, Result};
use bytemuck::Pod;
use firewall_common::{addr::Family, flow::FlowKey, ipv4_key::Ipv4Key, tables::FlowTable};

use super::{batch, maps::Maps};

/// The names of a table's maps: of IPv4, and of IPv6.
pub(super) type Names = [&'static str; 2];

/// The ways in from wire faces, of confirmed flows and of the others.
pub(super) const TRANSLATIONS: [Names; 2] =
    [["translations", "translations6"], ["embryonic_nat", "embryonic_nat6"]];

pub(super) const fn flow_names(table: FlowTable) -> Names {
    match table {
        FlowTable::Assured => ["assured", "assured6"],
        FlowTable::Embryonic => ["embryonic", "embryonic6"],
    }
}

/// A table's maps, kept open.
#[derive(Debug)]
pub(super) struct ByFamily<V> {
    ipv4: OwnedFd,
    ipv6: OwnedFd,
    names: Names,
    values: PhantomData<V>,
}

impl<V: Pod> ByFamily<V> {
    /// # Errors
    /// When a map cannot be opened.
    pub fn open(maps: &Maps, names: Names) -> Result<Self> {
        let [ipv4, ipv6] = names;
        let (ipv4, ipv6) = (maps.open_map(ipv4)?, maps.open_map(ipv6)?);
        Ok(Self { ipv4, ipv6, names, values: PhantomData })
    }

    /// # Errors
    /// When the map cannot be read.
    pub fn get(&self, key: &FlowKey) -> Result<Option<V>> {
        match key.ipv4() {
            Some(key) => self.done("read", Family::Ipv4, batch::get(&self.ipv4, key)),
            None => self.done("read", Family::Ipv6, batch::get(&self.ipv6, key)),
        }
    }

    /// Takes an entry out, as it is in the end; `None` when it was gone.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn take(&self, key: &FlowKey) -> Result<Option<V>> {
        match key.ipv4() {
            Some(key) => self.done("delete from", Family::Ipv4, batch::take(&self.ipv4, key)),
            None => self.done("delete from", Family::Ipv6, batch::take(&self.ipv6, key)),
        }
    }

    /// Puts an entry in where none stands.
    ///
    /// # Errors
    /// When one stands there, or the map is full.
    pub fn add(&self, key: &FlowKey, value: &V) -> Result<()> {
        match key.ipv4() {
            Some(key) => self.done("insert into", Family::Ipv4, batch::add(&self.ipv4, key, value)),
            None => self.done("insert into", Family::Ipv6, batch::add(&self.ipv6, key, value)),
        }
    }

    /// Writes an entry anew; nothing when there is none.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn replace(&self, key: &FlowKey, value: &V) -> Result<()> {
        let replaced = match key.ipv4() {
            Some(key) => batch::replace(&self.ipv4, key, value),
            None => batch::replace(&self.ipv6, key, value),
        };
        self.done("write", key.family(), replaced.map(drop))
    }

    /// Shows every entry until `visit` says to stop; it may take out what it is shown.
    ///
    /// # Errors
    /// When a map cannot be read.
    pub fn for_each_until(
        &self,
        mut visit: impl FnMut(&FlowKey, &V) -> ControlFlow<()>,
    ) -> Result<()> {
        let mut is_stopped = false;
        for family in [Family::Ipv4, Family::Ipv6] {
            if !is_stopped {
                self.walk(family, |key, value| {
                    let answer = visit(key, value);
                    is_stopped = answer.is_break();
                    answer
                })?;
            }
        }
        Ok(())
    }

    /// Shows every entry of a family.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn for_each_of(&self, family: Family, mut visit: impl FnMut(&FlowKey, &V)) -> Result<()> {
        self.walk(family, |key, value| {
            visit(key, value);
            ControlFlow::Continue(())
        })
    }

    fn walk(
        &self,
        family: Family,
        mut visit: impl FnMut(&FlowKey, &V) -> ControlFlow<()>,
    ) -> Result<()> {
        let walked = match family {
            Family::Ipv4 => batch::for_each_until(&self.ipv4, |key: &Ipv4Key, value: &V| {
                visit(&key.wide(), value)
            }),
            Family::Ipv6 => batch::for_each_until(&self.ipv6, visit),
        };
        self.done("read", family, walked)
    }

    /// Takes every entry out, and shows each as it was in the end.
    ///
    /// # Errors
    /// When a map cannot be emptied.
    pub fn take_all(&self, mut visit: impl FnMut(&FlowKey, &V)) -> Result<()> {
        self.take_all_of(Family::Ipv4, &mut visit)?;
        self.take_all_of(Family::Ipv6, visit)
    }

    /// As [`Self::take_all`], of a family.
    ///
    /// # Errors
    /// When the map cannot be emptied.
    pub fn take_all_of(&self, family: Family, mut visit: impl FnMut(&FlowKey, &V)) -> Result<()> {
        let taken = match family {
            Family::Ipv4 => {
                batch::take_all(&self.ipv4, |key: &Ipv4Key, value: &V| visit(&key.wide(), value))
            }
            Family::Ipv6 => batch::take_all(&self.ipv6, visit),
        };
        self.done("empty", family, taken)
    }

    fn done<T>(&self, what: &str, family: Family, done: io::Result<T>) -> Result<T> {
        let [ipv4, ipv6] = self.names;
        let name = if matches!(family, Family::Ipv4) { ipv4 } else { ipv6 };
        done.with_context(|| format!("cannot {what} map {name}"))
    }
}
