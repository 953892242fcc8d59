//! TFTP (RFC 1350): the server answers a request from a port of its own choice.
//!
//! The first datagram to port 69 asks to read or to write a file; all that follows
//! goes between the client's port and one that the server picks. So a request
//! announces one flow: from the server, any port, to the client's port. Nothing else
//! on port 69 means anything.

mod exchange;
mod note;
pub mod request;

pub use exchange::Exchange;
pub use note::Note;
