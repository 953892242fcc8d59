//! A frame to write to.

use std::cell::RefCell;

use crate::{
    addr::{Addr, Family},
    checksum::{Difference, is_left_to_hardware, replaced},
    event::EVENT_FRAME,
    extra::text::Window,
    headers::Headers,
    mangle::rewrite::Frame,
    packet::Packet,
};

/// The bytes, and whether their checksum may have been left to hardware.
#[derive(Clone, Debug, Default)]
pub struct Written {
    pub bytes: RefCell<Vec<u8>>,
    pub may_be_unfinished: bool,
}

impl Written {
    pub const fn of(bytes: Vec<u8>) -> Self {
        Self { bytes: RefCell::new(bytes), may_be_unfinished: false }
    }

    fn store(&self, at: u32, from: &[u8]) -> bool {
        match self.bytes.borrow_mut().get_mut(at as usize..at as usize + from.len()) {
            Some(place) => {
                place.copy_from_slice(from);
                true
            }
            None => false,
        }
    }
}

impl Packet for Written {
    fn len(&self) -> u32 {
        self.bytes.borrow().len() as u32
    }

    fn read<T: bytemuck::Pod>(&self, offset: u32) -> Option<T> {
        self.bytes.borrow()[..].read(offset)
    }

    fn copy(&self, offset: u32, len: u32, into: &mut [u8; 64]) -> bool {
        self.bytes.borrow()[..].copy(offset, len, into)
    }

    fn keep(&self, offset: u32, into: &mut Window) {
        self.bytes.borrow()[..].keep(offset, into);
    }

    fn capture(&self, into: &mut [u8; EVENT_FRAME]) -> u8 {
        self.bytes.borrow()[..].capture(into)
    }
}

impl Frame for Written {
    fn write(&self, at: u32, word: u16) -> bool {
        self.store(at, &word.to_ne_bytes())
    }

    fn write_uncovered(&self, at: u32, word: u16) -> bool {
        self.write(at, word)
    }

    fn paste(&self, at: u32, len: u32, from: &[u8; 64]) -> bool {
        self.store(at, &from[..len as usize])
    }

    fn grow(&self, len: u32) -> bool {
        let len = self.bytes.borrow().len().max(len as usize);
        self.bytes.borrow_mut().resize(len, 0);
        true
    }

    fn follow(&self, _: &Headers, at: u32, was: u16, now: u16) -> bool {
        let Some(sum) = self.read::<u16>(at) else { return false };
        self.write(at, replaced(sum, was, now))
    }

    fn follow_pseudo(&self, headers: &Headers, at: u32, was: u16, now: u16) -> bool {
        self.follow(headers, at, was, now)
    }

    fn write_address(&self, at: u32, address: &Addr, _is_covered: bool) -> bool {
        let bytes = bytemuck::bytes_of(address);
        match address.family() {
            Family::Ipv4 => self.store(at, &bytes[12..]),
            Family::Ipv6 => self.store(at, bytes),
        }
    }

    fn is_unfinished(&self, headers: &Headers) -> bool {
        self.may_be_unfinished && is_left_to_hardware(self, headers)
    }

    fn mend(
        &self,
        at: u32,
        _family: Family,
        pseudo: Difference,
        covered: Difference,
        may_be_none: bool,
        is_unfinished: bool,
    ) -> bool {
        let Some(sum) = self.read::<u16>(at) else { return false };
        match Difference::mended(sum, pseudo, covered, may_be_none, is_unfinished) {
            Some(now) => self.write(at, now),
            None => true,
        }
    }
}
