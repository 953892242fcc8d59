//! Whole conversations: as written in the fixtures, as the kernel's helper gets
//! them wrong, and in any segments.

mod cuts;
mod fixtures;
mod kernel;
mod numbers;
mod properties;
mod script;
mod translated;
