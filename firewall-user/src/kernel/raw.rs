//! Map keys and values of firewall-common, as aya takes them.

/// A value whose bytes are all there is to it.
#[repr(transparent)]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Raw<T>(pub(crate) T);

// SAFETY: `bytemuck::Pod` promises what aya asks for: any bytes are a value, and
// none of them is padding.
unsafe impl<T: bytemuck::Pod> aya::Pod for Raw<T> {}
