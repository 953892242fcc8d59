//! Parts of array maps in this process's memory (`BPF_F_MMAPABLE`): values are read and
//! written without a system call.
//!
//! The kernel hands out whole pages and has them at hand at once, so that a view costs as
//! much as a few system calls, however many values it shows.

use std::{
    io,
    marker::PhantomData,
    num::NonZeroUsize,
    ops::{Deref, DerefMut},
    os::fd::AsFd,
    ptr::NonNull,
    slice,
    sync::atomic::AtomicU64,
};

use bytemuck::Pod;
use nix::{
    libc,
    sys::mman::{MapFlags, ProtFlags, mmap, munmap},
    unistd::{SysconfVar, sysconf},
};

/// Values of an array, one behind the other. Nobody changes them while this is there but
/// who holds it, if that [`View::to_write`] made it: whoever takes one holds the lock of
/// what stands there.
#[derive(Debug)]
pub(super) struct View<V> {
    pages: NonNull<libc::c_void>,
    /// Bytes of the pages.
    size: usize,
    first: NonNull<V>,
    count: usize,
    values: PhantomData<V>,
}

impl<V: Pod> View<V> {
    /// The array keeps values in words of eight bytes: only such as fill them lie one
    /// behind the other.
    const STRIDE: usize = {
        assert!(size_of::<V>().is_multiple_of(8) && align_of::<V>() <= 8);
        size_of::<V>()
    };

    /// Shows `count` values from the place `start` on.
    ///
    /// # Errors
    /// What the kernel said; the array is too short, or not made to be shown.
    pub(super) fn to_read(map: impl AsFd, start: u32, count: usize) -> io::Result<Self> {
        Self::open(map, start, count, ProtFlags::PROT_READ)
    }

    /// As [`View::to_read`], to be written to.
    ///
    /// # Errors
    /// As there.
    pub(super) fn to_write(
        map: impl AsFd,
        start: u32,
        count: usize,
    ) -> io::Result<WritableView<V>> {
        let view = Self::open(map, start, count, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE);
        Ok(WritableView(view?))
    }

    fn open(map: impl AsFd, start: u32, count: usize, protection: ProtFlags) -> io::Result<Self> {
        let from = start as usize * Self::STRIDE;
        let skipped = from % page_size();
        let size = skipped + count * Self::STRIDE;
        let size = NonZeroUsize::new(size).unwrap_or(NonZeroUsize::MIN);
        let offset = (from - skipped) as i64;
        // SAFETY: the kernel chooses the place, where nothing else is.
        let pages = unsafe { mmap(None, size, protection, MapFlags::MAP_SHARED, map, offset) }?;
        // SAFETY: the pages hold what was skipped and the values behind it.
        let first = unsafe { pages.byte_add(skipped) }.cast();
        Ok(Self { pages, size: size.get(), first, count, values: PhantomData })
    }

    /// A value that programs may change meanwhile.
    pub(super) fn now(&self, place: usize) -> Option<V> {
        // SAFETY: the place is one of those shown; any bytes are a value.
        (place < self.count).then(|| unsafe { self.first.add(place).read_volatile() })
    }
}

/// A mapping begins at a multiple of it.
fn page_size() -> usize {
    let size = sysconf(SysconfVar::PAGE_SIZE).ok().flatten();
    size.and_then(|size| usize::try_from(size).ok()).unwrap_or(4096)
}

impl<V: Pod> Deref for View<V> {
    type Target = [V];

    fn deref(&self) -> &[V] {
        // SAFETY: so many values stand there as long as the pages do; any bytes are a
        // value. Whoever writes holds the lock that the holder of this has.
        unsafe { slice::from_raw_parts(self.first.as_ptr(), self.count) }
    }
}

impl<V> Drop for View<V> {
    fn drop(&mut self) {
        // SAFETY: nothing that was borrowed from the pages outlives this.
        if let Err(error) = unsafe { munmap(self.pages, self.size) } {
            tracing::debug!("cannot give back pages of a map: {error}");
        }
    }
}

/// As [`View`], to be written to.
#[derive(Debug)]
pub(super) struct WritableView<V>(View<V>);

impl WritableView<u64> {
    /// A number that programs change, too, each in one step.
    pub(super) fn shared(&self, place: usize) -> &AtomicU64 {
        assert!(place < self.0.count, "the view shows {} numbers", self.0.count);
        // SAFETY: a word of the pages, aligned as the array has it, for as long as they are there.
        unsafe { AtomicU64::from_ptr(self.0.first.add(place).as_ptr()) }
    }
}

impl<V: Pod> Deref for WritableView<V> {
    type Target = [V];

    fn deref(&self) -> &[V] {
        &self.0
    }
}

impl<V: Pod> DerefMut for WritableView<V> {
    fn deref_mut(&mut self) -> &mut [V] {
        // SAFETY: as for `View::deref`; programs read them only when they are in force,
        // which they are not while somebody writes.
        unsafe { slice::from_raw_parts_mut(self.0.first.as_ptr(), self.0.count) }
    }
}
