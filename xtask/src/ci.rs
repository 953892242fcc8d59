//! `cargo xtask ci`: exactly what continuous integration runs.

use anyhow::Result;

use crate::test;

pub(crate) fn ci() -> Result<()> {
    test::test(&test::Arguments { full: false })
}
