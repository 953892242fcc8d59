//! The configuration file of `firewall run --config`: TOML, in the sections
//! `[run]`, `[tables]`, `[conntrack]` and `[helper.ftp]`.
//!
//! A file is read as a whole: every mistake in it is told at once, with its
//! place, or none of it counts. What it leaves out has its default; what the
//! command line says wins ([`Wanted`]).

mod document;
mod file;
mod print;
mod wanted;

pub use self::{
    file::{File, parse, read},
    print::print,
    wanted::Wanted,
};
