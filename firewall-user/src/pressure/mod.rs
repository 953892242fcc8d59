//! How the tables bear what comes: when one is full and when it has room again,
//! which flows lost their place, and who fills it. Numbers in, judgement out;
//! nothing here does I/O or asks a clock.

mod recycled;
mod sources;
mod watch;

pub use self::{
    recycled::{Departures, Recycled},
    sources::{Candidates, Sources},
    watch::{Change, Reading, note},
};
