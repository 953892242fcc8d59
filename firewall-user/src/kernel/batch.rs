//! Reading or emptying a whole hash map in batches (`BPF_MAP_LOOKUP_BATCH` and
//! `BPF_MAP_LOOKUP_AND_DELETE_BATCH`), and taking a single entry out with its value
//! (`BPF_MAP_LOOKUP_AND_DELETE_ELEM`), and maps within maps, made and found at run time:
//! what aya does not have.
//!
//! Unlike a walk from key to key it is not led astray by entries that vanish
//! meanwhile: every entry that is there all the time is seen once.

use std::{
    ffi::CString,
    io,
    ops::ControlFlow,
    os::{
        fd::{AsFd, AsRawFd, FromRawFd, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
};

use bytemuck::Pod;
use nix::libc;

const CREATE: libc::c_long = 0;
const LOOKUP: libc::c_long = 1;
const UPDATE: libc::c_long = 2;
const DELETE: libc::c_long = 3;
const OPEN_PINNED: libc::c_long = 7;
const OPEN_BY_ID: libc::c_long = 14;
const INFO: libc::c_long = 15;
const LOOKUP_AND_DELETE: libc::c_long = 21;
const LOOKUP_BATCH: libc::c_long = 24;
const LOOKUP_AND_DELETE_BATCH: libc::c_long = 25;
const UPDATE_BATCH: libc::c_long = 26;
const DELETE_BATCH: libc::c_long = 27;
const LINK_DETACH: libc::c_long = 34;
/// An update where nothing stands, and one of what stands there.
const NOEXIST: u64 = 1;
const EXIST: u64 = 2;
/// Entries asked for at once: more than any bucket holds.
const ENTRIES: usize = 4096;
/// Where there are seldom more.
const FEW: usize = 32;

/// `union bpf_attr`, the part for batch commands.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Attributes {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}

/// `union bpf_attr`, the part for commands about one entry.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct EntryAttributes {
    map_fd: u32,
    _pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// Calls `visit` for every entry.
///
/// # Errors
/// What the kernel said; entries may have been visited before.
pub(super) fn for_each<K: Pod, V: Pod>(
    map: impl AsFd,
    mut visit: impl FnMut(&K, &V),
) -> io::Result<()> {
    for_each_until(map, |key, value| {
        visit(key, value);
        ControlFlow::Continue(())
    })
}

/// As [`for_each`], for maps that seldom have many entries: with less room for them, and
/// for the others again.
///
/// # Errors
/// As [`for_each`].
pub(super) fn for_each_of_few<K: Pod, V: Pod>(
    map: impl AsFd,
    mut visit: impl FnMut(&K, &V),
) -> io::Result<()> {
    let (mut keys, mut values) = ([K::zeroed(); FEW], [V::zeroed(); FEW]);
    let mut next = 0u64;
    let mut attributes = Attributes {
        out_batch: &raw mut next as u64,
        keys: keys.as_mut_ptr() as u64,
        values: values.as_mut_ptr() as u64,
        count: FEW as u32,
        map_fd: map.as_fd().as_raw_fd() as u32,
        ..Attributes::default()
    };
    // SAFETY: the attributes name buffers of FEW keys and values, which the map's types
    // fit, and live through the call.
    match unsafe { bpf(LOOKUP_BATCH, &mut attributes) } {
        // The end of the map.
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
            let count = (attributes.count as usize).min(FEW);
            keys.iter().zip(&values).take(count).for_each(|(key, value)| visit(key, value));
            Ok(())
        }
        // There are more, or more in one bucket.
        Ok(()) => for_each(map, visit),
        Err(error) if error.raw_os_error() == Some(libc::ENOSPC) => for_each(map, visit),
        Err(error) => Err(error),
    }
}

/// Calls `visit` for every entry until it says to stop. It may remove the entries
/// that it is shown.
///
/// # Errors
/// As [`for_each`].
pub(super) fn for_each_until<K: Pod, V: Pod>(
    map: impl AsFd,
    mut visit: impl FnMut(&K, &V) -> ControlFlow<()>,
) -> io::Result<()> {
    for_each_batch(map, |keys: &[K], values: &[V]| {
        keys.iter().zip(values).try_for_each(|(key, value)| visit(key, value))
    })
}

/// Calls `visit` for batches with all entries among them, until it says `Break`.
///
/// # Errors
/// As [`for_each`].
pub(super) fn for_each_batch<K: Pod, V: Pod>(
    map: impl AsFd,
    visit: impl FnMut(&[K], &[V]) -> ControlFlow<()>,
) -> io::Result<()> {
    walk_entries(map, LOOKUP_BATCH, visit)
}

/// Removes every entry, and calls `visit` for each as it was in the end.
///
/// # Errors
/// As [`for_each`].
pub(super) fn take_all<K: Pod, V: Pod>(
    map: impl AsFd,
    mut visit: impl FnMut(&K, &V),
) -> io::Result<()> {
    walk_entries(map, LOOKUP_AND_DELETE_BATCH, |keys: &[K], values: &[V]| {
        for (key, value) in keys.iter().zip(values) {
            visit(key, value);
        }
        ControlFlow::Continue(())
    })
}

fn walk_entries<K: Pod, V: Pod>(
    map: impl AsFd,
    command: libc::c_long,
    mut visit: impl FnMut(&[K], &[V]) -> ControlFlow<()>,
) -> io::Result<()> {
    let mut keys = vec![K::zeroed(); ENTRIES];
    let mut values = vec![V::zeroed(); ENTRIES];
    walk(map, command, keys.as_mut_ptr() as u64, values.as_mut_ptr() as u64, |count| {
        visit(&keys[..count], &values[..count])
    })
}

/// How many entries a map has whose keys and values have these sizes.
///
/// # Errors
/// As [`for_each`].
pub(super) fn count(map: impl AsFd, key_size: usize, value_size: usize) -> io::Result<u32> {
    let mut keys = vec![0u8; ENTRIES * key_size];
    // The kernel rounds values up to words.
    let mut values = vec![0u8; ENTRIES * value_size.next_multiple_of(8)];
    let mut entries = 0;
    walk(map, LOOKUP_BATCH, keys.as_mut_ptr() as u64, values.as_mut_ptr() as u64, |count| {
        entries += count as u32;
        ControlFlow::Continue(())
    })?;
    Ok(entries)
}

/// Reads batch after batch into buffers for [`ENTRIES`] keys and values, and tells
/// how many have come.
fn walk(
    map: impl AsFd,
    command: libc::c_long,
    keys: u64,
    values: u64,
    mut visit: impl FnMut(usize) -> ControlFlow<()>,
) -> io::Result<()> {
    let mut position = 0u64;
    let mut next = 0u64;
    let mut is_first = true;
    loop {
        let mut attributes = Attributes {
            in_batch: if is_first { 0 } else { &raw const position as u64 },
            out_batch: &raw mut next as u64,
            keys,
            values,
            count: ENTRIES as u32,
            map_fd: map.as_fd().as_raw_fd() as u32,
            ..Attributes::default()
        };
        // SAFETY: the attributes name buffers of ENTRIES keys and values, which the
        // map's types fit, and live through the call.
        let is_last = match unsafe { bpf(command, &mut attributes) } {
            Ok(()) => false,
            // What was found still counts.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => true,
            Err(error) => return Err(error),
        };
        let count = (attributes.count as usize).min(ENTRIES);
        if visit(count).is_break() || is_last {
            return Ok(());
        }
        position = next;
        is_first = false;
    }
}

/// Takes an entry out of a hash map; `None` when it is not there. Of several who try
/// one has it, as it was in the end.
///
/// # Errors
/// What the kernel said.
pub(super) fn take<K: Pod, V: Pod>(map: impl AsFd, key: &K) -> io::Result<Option<V>> {
    let mut value = V::zeroed();
    let mut attributes = EntryAttributes {
        map_fd: map.as_fd().as_raw_fd() as u32,
        key: std::ptr::from_ref(key) as u64,
        value: &raw mut value as u64,
        ..EntryAttributes::default()
    };
    // SAFETY: the attributes name a key and room for a value of the map's types,
    // which live through the call.
    match unsafe { bpf(LOOKUP_AND_DELETE, &mut attributes) } {
        Ok(()) => Ok(Some(value)),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Reads `places` places of an array from `start` on. A place holds `values` values:
/// one, or in a per-CPU array one for each CPU.
///
/// # Errors
/// What the kernel said; `NotFound` when the array is shorter.
pub(super) fn read_array<V: Pod>(
    map: impl AsFd,
    start: u32,
    places: usize,
    values: usize,
) -> io::Result<Vec<V>> {
    let mut keys = vec![0u32; places];
    let mut all = vec![V::zeroed(); places * values];
    if places == 0 {
        return Ok(all);
    }
    // The kernel begins behind the place that it is given.
    let before = start.wrapping_sub(1);
    let mut next = 0u32;
    let mut attributes = Attributes {
        in_batch: if start == 0 { 0 } else { &raw const before as u64 },
        out_batch: &raw mut next as u64,
        keys: keys.as_mut_ptr() as u64,
        values: all.as_mut_ptr() as u64,
        count: places as u32,
        map_fd: map.as_fd().as_raw_fd() as u32,
        ..Attributes::default()
    };
    // SAFETY: the attributes name buffers for this many places, whose size the map's
    // type tells, and live through the call.
    match unsafe { bpf(LOOKUP_BATCH, &mut attributes) } {
        // The end of the array with all that was asked for.
        Err(error)
            if error.raw_os_error() == Some(libc::ENOENT)
                && attributes.count as usize == places => {}
        other => other?,
    }
    Ok(all)
}

/// Writes places of an array from `start` on, each with `values` of the values, as
/// [`read_array`] gives them.
///
/// # Errors
/// What the kernel said; places may have been written before.
pub(super) fn write_array<V: Pod>(
    map: impl AsFd,
    start: u32,
    all: &[V],
    values: usize,
) -> io::Result<()> {
    let keys: Vec<u32> = (start..).take(all.len() / values.max(1)).collect();
    if keys.is_empty() {
        return Ok(());
    }
    let mut attributes = Attributes {
        keys: keys.as_ptr() as u64,
        values: all.as_ptr() as u64,
        count: keys.len() as u32,
        map_fd: map.as_fd().as_raw_fd() as u32,
        ..Attributes::default()
    };
    // SAFETY: the attributes name as many keys as places, whose size the map's type
    // tells, and live through the call.
    unsafe { bpf(UPDATE_BATCH, &mut attributes) }
}

/// An entry of a hash map.
///
/// # Errors
/// What the kernel said.
pub(super) fn get<K: Pod, V: Pod>(map: impl AsFd, key: &K) -> io::Result<Option<V>> {
    let mut value = V::zeroed();
    let mut attributes = EntryAttributes {
        map_fd: map.as_fd().as_raw_fd() as u32,
        key: std::ptr::from_ref(key) as u64,
        value: &raw mut value as u64,
        ..EntryAttributes::default()
    };
    // SAFETY: as for `take`.
    match unsafe { bpf(LOOKUP, &mut attributes) } {
        Ok(()) => Ok(Some(value)),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// As [`get`], into a value that is there; gives whether there is an entry.
///
/// # Errors
/// What the kernel said.
pub(super) fn get_into<K: Pod, V: Pod>(map: impl AsFd, key: &K, value: &mut V) -> io::Result<bool> {
    let mut attributes = EntryAttributes {
        map_fd: map.as_fd().as_raw_fd() as u32,
        key: std::ptr::from_ref(key) as u64,
        value: std::ptr::from_mut(value) as u64,
        ..EntryAttributes::default()
    };
    // SAFETY: as for `take`.
    match unsafe { bpf(LOOKUP, &mut attributes) } {
        Ok(()) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Puts an entry into a map, over one that is there.
///
/// # Errors
/// What the kernel said; `E2BIG` when the map is full.
pub(super) fn put<K: Pod, V: Pod>(map: impl AsFd, key: &K, value: &V) -> io::Result<()> {
    update(map, key, value, 0)
}

/// Puts an entry into a map where none stands.
///
/// # Errors
/// As [`put`]; `EEXIST` when one stands there.
pub(super) fn add<K: Pod, V: Pod>(map: impl AsFd, key: &K, value: &V) -> io::Result<()> {
    update(map, key, value, NOEXIST)
}

/// Puts an entry into a map over the one that stands there; `false` when none does.
///
/// # Errors
/// What the kernel said.
pub(super) fn replace<K: Pod, V: Pod>(map: impl AsFd, key: &K, value: &V) -> io::Result<bool> {
    match update(map, key, value, EXIST) {
        Ok(()) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        Err(error) => Err(error),
    }
}

fn update<K: Pod, V: Pod>(map: impl AsFd, key: &K, value: &V, flags: u64) -> io::Result<()> {
    let mut attributes = EntryAttributes {
        flags,
        map_fd: map.as_fd().as_raw_fd() as u32,
        key: std::ptr::from_ref(key) as u64,
        value: std::ptr::from_ref(value) as u64,
        ..EntryAttributes::default()
    };
    // SAFETY: the attributes name a key and a value of the map's types, which live
    // through the call.
    unsafe { bpf(UPDATE, &mut attributes) }
}

/// Puts entries into a hash map, over those that are there.
///
/// # Errors
/// What the kernel said; some may have been put in before.
pub(super) fn put_all<K: Pod, V: Pod>(map: impl AsFd, keys: &[K], values: &[V]) -> io::Result<()> {
    let count = keys.len().min(values.len());
    if count == 0 {
        return Ok(());
    }
    let mut attributes = Attributes {
        keys: keys.as_ptr() as u64,
        values: values.as_ptr() as u64,
        count: count as u32,
        map_fd: map.as_fd().as_raw_fd() as u32,
        ..Attributes::default()
    };
    // SAFETY: the attributes name as many keys as values, of the map's types, which live
    // through the call.
    unsafe { bpf(UPDATE_BATCH, &mut attributes) }
}

/// Removes entries from a hash map up to the first that is not there; gives how many.
///
/// # Errors
/// What the kernel said.
pub(super) fn remove_all<K: Pod>(map: impl AsFd, keys: &[K]) -> io::Result<usize> {
    let mut attributes = Attributes {
        keys: keys.as_ptr() as u64,
        count: keys.len() as u32,
        map_fd: map.as_fd().as_raw_fd() as u32,
        ..Attributes::default()
    };
    if keys.is_empty() {
        return Ok(0);
    }
    // SAFETY: the attributes name so many keys of the map's type, which live through the
    // call.
    match unsafe { bpf(DELETE_BATCH, &mut attributes) } {
        Err(error) if error.raw_os_error() != Some(libc::ENOENT) => Err(error),
        _ => Ok(attributes.count as usize),
    }
}

/// `union bpf_attr`, the part for making maps.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct MapAttributes {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    map_flags: u32,
    inner_map_fd: u32,
    numa_node: u32,
    name: [u8; 16],
    _pad: u32,
}

/// Makes a hash map that takes memory as it fills.
///
/// # Errors
/// What the kernel said.
pub(super) fn make_hash(key_size: u32, value_size: u32, entries: u32) -> io::Result<OwnedFd> {
    const HASH: u32 = 1;
    const NO_PREALLOC: u32 = 1;
    let mut name = [0; 16];
    name[..3].copy_from_slice(b"set");
    let mut attributes = MapAttributes {
        map_type: HASH,
        key_size,
        value_size,
        max_entries: entries.max(1),
        map_flags: NO_PREALLOC,
        name,
        ..MapAttributes::default()
    };
    // SAFETY: the attributes are those of the command.
    let fd = unsafe { call(CREATE, &mut attributes) }?;
    // SAFETY: the kernel has given this descriptor to nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Opens a pinned map.
///
/// # Errors
/// What the kernel said.
pub(super) fn open(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut attributes = [path.as_ptr() as u64, 0];
    // SAFETY: the attributes are those of the command: a path that lives through the call,
    // and no flags.
    let fd = unsafe { call(OPEN_PINNED, &mut attributes) }?;
    // SAFETY: the kernel has given this descriptor to nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// `struct bpf_map_info`, as far as it is asked for.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct MapInfo {
    map_type: u32,
    id: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    map_flags: u32,
}

/// Takes the program of a link off its interface (`BPF_LINK_DETACH`), whoever holds the
/// link: when this returns it is off.
///
/// # Errors
/// What the kernel said.
pub(super) fn detach_link(link: impl AsFd) -> io::Result<()> {
    let mut link = link.as_fd().as_raw_fd();
    // SAFETY: the kernel reads the number, and no more.
    unsafe { bpf(LINK_DETACH, &mut link) }
}

/// How many places a map has.
///
/// # Errors
/// What the kernel said.
pub(super) fn max_entries(map: impl AsFd) -> io::Result<u32> {
    let mut info = MapInfo::default();
    let fd = map.as_fd().as_raw_fd() as u32;
    let mut attributes =
        [u64::from(fd) | (size_of::<MapInfo>() as u64) << 32, &raw mut info as u64];
    // SAFETY: the attributes are those of the command: the map, and room for so much of
    // what is known about it, which lives through the call.
    unsafe { bpf(INFO, &mut attributes) }?;
    Ok(info.max_entries)
}

/// Opens the map that stands in a place of an array of maps.
///
/// # Errors
/// What the kernel said; `NotFound` where there is none.
pub(super) fn inner_map(outer: impl AsFd, place: u32) -> io::Result<OwnedFd> {
    let Some(id) = get::<u32, u32>(outer, &place)? else {
        return Err(io::Error::from_raw_os_error(libc::ENOENT));
    };
    let mut attributes = [id, 0, 0];
    // SAFETY: the attributes are those of the command: the map's number, no flags.
    let fd = unsafe { call(OPEN_BY_ID, &mut attributes) }?;
    // SAFETY: the kernel has given this descriptor to nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Puts a map into a place of an array of maps.
///
/// # Errors
/// What the kernel said.
pub(super) fn set_inner(outer: impl AsFd, place: u32, inner: &OwnedFd) -> io::Result<()> {
    put(outer, &place, &(inner.as_raw_fd() as u32))
}

/// Takes the map out of a place of an array of maps, if there is one.
///
/// # Errors
/// What the kernel said.
pub(super) fn remove_inner(outer: impl AsFd, place: u32) -> io::Result<()> {
    let mut attributes = EntryAttributes {
        map_fd: outer.as_fd().as_raw_fd() as u32,
        key: &raw const place as u64,
        ..EntryAttributes::default()
    };
    // SAFETY: the attributes name a place, which lives through the call.
    match unsafe { bpf(DELETE, &mut attributes) } {
        Err(error) if error.raw_os_error() != Some(libc::ENOENT) => Err(error),
        _ => Ok(()),
    }
}

/// # Safety
/// The attributes are those of the command, and what they point to is as long as it
/// says.
unsafe fn bpf<A>(command: libc::c_long, attributes: &mut A) -> io::Result<()> {
    // SAFETY: the caller promises it.
    unsafe { call(command, attributes) }.map(drop)
}

/// As [`bpf`], with the kernel's answer.
///
/// # Safety
/// As for [`bpf`].
unsafe fn call<A>(command: libc::c_long, attributes: &mut A) -> io::Result<i32> {
    // SAFETY: the caller promises what the kernel asks for.
    let answer = unsafe {
        libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attributes), size_of::<A>())
    };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(answer as i32) }
}
