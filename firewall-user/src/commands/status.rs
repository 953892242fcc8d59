//! `firewall status`: who enforces, where, under which rules.

use anyhow::Result;

use super::{maps, output::print};
use crate::cli::args::{Global, Output};
