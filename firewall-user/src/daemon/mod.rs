//! What runs as long as the firewall is watched over: it reads control
//! connections, returns memory, and tells people what happens. Enforcement does
//! not need it.

pub mod events;
mod helper;
mod inject;
mod interfaces;

pub use helper::Helper;
pub use inject::Injector;
pub use interfaces::Interfaces;
