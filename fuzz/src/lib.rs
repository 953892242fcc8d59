//! What must hold for any input.
//!
//! Each target is a function of bytes that panics when something does not hold.
//! libFuzzer calls it through a thin binary (`cargo xtask fuzz TARGET`), and an
//! ordinary test with every file of the committed corpus (`corpus/TARGET`).
//!
//! A crash that was found is fixed with a named test beside the code that it was
//! in; the corpus only keeps the ways there open.

mod cli;
mod conntrack;
pub mod corpus;
mod ftp;
mod headers;
mod ledger;
mod rewriter;
mod rules;
mod ruleset;
mod sets;
mod stream;

pub use cli::cli;
pub use conntrack::conntrack;
pub use ftp::ftp;
pub use headers::headers;
pub use rewriter::rewriter;
pub use rules::rules;
pub use sets::sets;
pub use stream::stream;

/// A target: what its binary and its corpus are called, and what it does.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    pub name: &'static str,
    pub run: fn(&[u8]),
}

/// All targets.
pub const TARGETS: [Target; 8] = [
    Target { name: "headers", run: headers },
    Target { name: "conntrack", run: conntrack },
    Target { name: "rules", run: rules },
    Target { name: "ftp", run: ftp },
    Target { name: "cli", run: cli },
    Target { name: "sets", run: sets },
    Target { name: "stream", run: stream },
    Target { name: "rewriter", run: rewriter },
];
