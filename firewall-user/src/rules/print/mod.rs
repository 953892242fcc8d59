//! A ruleset as text: as iptables-save prints it, as `iptables -L` lists it,
//! and as JSON.
//!
//! The output is that of iptables 1.8.9 (nf_tables), letter by letter, less
//! the two comment lines around a saved table.

mod columns;
mod extension;
mod extra;
mod json;
mod keeping;
mod list;
mod save;
mod spec;
mod text;
mod time;

pub use self::{
    json::json,
    list::{ListOptions, list},
    save::to_save,
    spec::spec_text,
};
