//! The rules language of iptables, from text to what the datapath walks.
//!
//! The pipeline: [`parse`] reads text to a [`Ruleset`] and finds every mistake
//! at once; [`compile`] lowers the rules of both families to one [`Compiled`]
//! generation; [`to_save`], [`list`] and [`json`] print a ruleset. Nothing here
//! reads a file, asks a resolver or knows the kernel.

mod ast;
mod check;
pub mod classifier;
pub(crate) mod error;
mod extra;
mod interface;
pub mod lint;
mod lower;
pub mod mangle;
pub(crate) mod names;
pub mod nat;
pub mod outline;
mod parse;
mod print;
pub(crate) mod problem;
mod remembering;
mod services;
mod set;
pub(crate) mod source;
pub mod splice;
#[cfg(test)]
mod tests;

pub use self::{
    ast::*,
    error::{Error, Errors},
    extra::{
        Action, Algorithm, Comparison, ConnLimit, Extra, ExtraKind, Fact, HashLimit, KeyedTable,
        Limit, Masked, PacketType, Rate, Recent, Text, Time, Way, recent_lists,
    },
    interface::InterfacePattern,
    lower::{Compiled, Origin as CompiledOrigin, Part, SetUse, compile},
    parse::{edit, edit_keeping, option_arity, options_of_match, options_of_target, parse},
    print::{ListOptions, json, list, spec_text, to_save},
    problem::{Fault, Problem},
    remembering::{Preventing, Remembering, remembering},
    services::{BuiltinServices, EtcServices, Services},
    set::{Compared, SetMatch, SetPart, SetTarget},
};
