//! What tests and tools judge packets with outside the kernel: tables in
//! memory, and frames built header by header.

pub mod frame;
pub mod memory;
pub mod proxy;
pub mod sets;
pub mod written;

pub use frame::Frame;
pub use memory::Memory;
pub use sets::Sets;
pub use written::Written;
