//! Files to transfer, and whether they arrived whole.

use std::{
    fs::{self, File},
    io::{BufWriter, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::Path,
};

use anyhow::{Context as _, Result, bail};

/// What to transfer: `count` files of `size` bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    pub count: usize,
    pub size: usize,
}

impl Load {
    pub const ONE_SMALL: Self = Self { count: 1, size: 3000 };
    pub const TWO_SMALL: Self = Self { count: 2, size: 3000 };
    pub const FEW_SMALL: Self = Self { count: 10, size: 3000 };
    pub const MANY_SMALL: Self = Self { count: 200, size: 3000 };
    pub const BIG: Self = Self { count: 1, size: 50_000_000 };

    pub fn names(self) -> impl Iterator<Item = String> {
        (0..self.count).map(move |index| format!("f{}-{index}.bin", self.size))
    }

    /// Writes the files, each with contents of its own.
    pub fn create(self, directory: &Path) -> Result<()> {
        for (index, name) in self.names().enumerate() {
            let path = directory.join(name);
            let mut file = BufWriter::new(File::create(&path).context("a file to transfer")?);
            let mut left = self.size;
            for word in noise(index as u64 + 1) {
                let bytes = word.to_le_bytes();
                let part = &bytes[..left.min(bytes.len())];
                file.write_all(part)?;
                left -= part.len();
                if left == 0 {
                    break;
                }
            }
            file.flush()?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o644))?;
        }
        Ok(())
    }

    /// Compares what arrived with what was sent, byte by byte.
    pub fn compare(self, sent: &Path, arrived: &Path) -> Result<()> {
        for name in self.names() {
            if let Some(at) = difference(&sent.join(&name), &arrived.join(&name))? {
                bail!("{name} differs from what was sent at byte {at} of {}", self.size);
            }
        }
        Ok(())
    }
}

/// Numbers without a pattern (xorshift), the same for the same seed.
fn noise(seed: u64) -> impl Iterator<Item = u64> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    })
}

/// The first byte at which two files differ, their ends included.
fn difference(one: &Path, other: &Path) -> Result<Option<usize>> {
    let read =
        |path: &Path| fs::read(path).with_context(|| format!("{} did not arrive", path.display()));
    let (one, other) = (read(one)?, read(other)?);
    if one == other {
        return Ok(None);
    }
    let shared = one.len().min(other.len());
    Ok(Some(one.iter().zip(&other).position(|(a, b)| a != b).unwrap_or(shared)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_byte_is_found() {
        let directory = tempfile::tempdir().unwrap();
        let (sent, arrived) = (directory.path().join("sent"), directory.path().join("arrived"));
        for directory in [&sent, &arrived] {
            fs::create_dir(directory).unwrap();
            Load::ONE_SMALL.create(directory).unwrap();
        }
        Load::ONE_SMALL.compare(&sent, &arrived).unwrap();

        let name = Load::ONE_SMALL.names().next().unwrap();
        fs::write(arrived.join(name), "short").unwrap();
        assert!(Load::ONE_SMALL.compare(&sent, &arrived).is_err());
    }
}
