//! The allocator of a program that is linked with musl, whose own one is made to be small and to find
//! mistakes: dlmalloc behind a lock that costs little when nobody else holds it.

use std::{
    alloc::{GlobalAlloc, Layout},
    mem::forget,
    process::abort,
    sync::{Mutex, PoisonError},
};

use dlmalloc::Dlmalloc;

/// Locked by futex(2), so that locking allocates nothing.
pub struct Allocator(Mutex<Dlmalloc>);

impl Allocator {
    pub const fn new() -> Self {
        Self(Mutex::new(Dlmalloc::new()))
    }

    #[inline]
    fn with<R>(&self, work: impl FnOnce(&mut Dlmalloc) -> R) -> R {
        let mut allocator = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let guard = NoPanic;
        let result = work(&mut allocator);
        forget(guard);
        result
    }
}

/// Ends the process where dlmalloc finds its memory destroyed: to tell of a panic takes memory.
struct NoPanic;

impl Drop for NoPanic {
    fn drop(&mut self) {
        abort();
    }
}

// SAFETY: dlmalloc keeps to the contract, one thread at a time calls it, and it does not unwind.
unsafe impl GlobalAlloc for Allocator {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are the same.
        self.with(|memory| unsafe { memory.malloc(layout.size(), layout.align()) })
    }

    #[inline]
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        self.with(|memory| unsafe { memory.free(pointer, layout.size(), layout.align()) });
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        self.with(|memory| unsafe { memory.calloc(layout.size(), layout.align()) })
    }

    #[inline]
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as above.
        self.with(|memory| unsafe { memory.realloc(pointer, layout.size(), layout.align(), size) })
    }
}
