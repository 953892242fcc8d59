//! The time of day as `ctime` writes it.

use std::{ffi::CStr, mem, ptr};

use nix::libc;

/// `Sat Nov 21 17:02:06 2026`, in the machine's time zone.
pub(super) fn now() -> String {
    let mut text = [0u8; 64];
    // SAFETY: all pointers are to values that live through the calls; all bytes are a
    // `tm`; strftime writes no more than it is told, with a zero at the end.
    let written = unsafe {
        let now = libc::time(ptr::null_mut());
        let mut parts: libc::tm = mem::zeroed();
        if libc::localtime_r(&raw const now, &raw mut parts).is_null() {
            return String::new();
        }
        let format: &CStr = c"%a %b %e %H:%M:%S %Y";
        libc::strftime(text.as_mut_ptr().cast(), text.len(), format.as_ptr(), &raw const parts)
    };
    String::from_utf8_lossy(&text[..written]).into_owned()
}

#[cfg(test)]
mod tests {
    #[test]
    fn it_has_the_parts_of_ctime() {
        let text = super::now();
        let parts: Vec<_> = text.split_whitespace().collect();
        assert_eq!((parts.len(), parts[3].matches(':').count()), (5, 2), "{text}");
    }
}
