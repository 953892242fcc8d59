//! The committed corpus: one directory for each target, one input in each file.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// An input and where it stands.
#[derive(Clone, Debug)]
pub struct Input {
    pub path: PathBuf,
    pub bytes: Vec<u8>,
}

/// The inputs of a target, by name.
///
/// # Errors
/// When its directory or a file cannot be read.
pub fn of(target: &str) -> io::Result<Vec<Input>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    let mut inputs = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        inputs.push(Input { bytes: fs::read(&path)?, path });
    }
    inputs.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(inputs)
}
