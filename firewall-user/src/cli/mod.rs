//! The command line: what can be asked for, as types.

pub mod args;
pub mod explain;
pub mod filter;
mod value;
pub mod watched;

pub use args::{Arguments, Command};
pub use filter::FlowFilter;
pub use value::{FtpPorts, InterfaceName, Mark, Protocol};
