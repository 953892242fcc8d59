//! How the running kernel lays out its structs: BTF, the description of its own types that
//! it offers in /sys/kernel/btf/vmlinux (Documentation/bpf/btf.rst).
//!
//! Read for the few members that no helper of the kernel tells. One pass over the types,
//! some milliseconds.

use std::{collections::HashMap, fs};

use anyhow::{Context, Result, bail};
use firewall_common::control::SocketLayout;

const FILE: &str = "/sys/kernel/btf/vmlinux";
const MAGIC: u16 = 0xeb9f;

/// Kinds of types, by their numbers in BTF.
mod kind {
    pub const INT: u32 = 1;
    pub const ARRAY: u32 = 3;
    pub const STRUCT: u32 = 4;
    pub const UNION: u32 = 5;
    pub const ENUM: u32 = 6;
    pub const FUNC_PROTO: u32 = 13;
    pub const VAR: u32 = 14;
    pub const DATASEC: u32 = 15;
    pub const DECL_TAG: u32 = 17;
    pub const ENUM64: u32 = 19;
}

/// Bytes of a type's head, and of a member.
const HEAD: usize = 12;
const MEMBER: usize = 12;
/// Structs without a name within structs, at most.
const DEPTH: usize = 4;

/// What leads from a socket to the group of whoever opened it.
///
/// # Errors
/// When the kernel does not describe itself, or knows no such member.
pub fn socket_layout() -> Result<SocketLayout> {
    let bytes = fs::read(FILE).with_context(|| {
        format!("cannot read {FILE}: use a kernel that is built with CONFIG_DEBUG_INFO_BTF=y")
    })?;
    let types = Types::parse(&bytes).with_context(|| format!("{FILE} cannot be understood"))?;
    Ok(SocketLayout {
        listener: types.offset("sock_common", "skc_listener")?,
        socket: types.offset("sock", "sk_socket")?,
        file: types.offset("socket", "file")?,
        credentials: types.offset("file", "f_cred")?,
        group: types.offset("cred", "fsgid")?,
        is_known: 1,
    })
}

/// The types of a kernel.
struct Types<'a> {
    bytes: &'a [u8],
    names: &'a [u8],
    /// Where each begins, by its number less one.
    starts: Vec<usize>,
    /// Numbers of those structs that have a name.
    structs: HashMap<&'a [u8], u32>,
}

impl<'a> Types<'a> {
    fn parse(file: &'a [u8]) -> Result<Self> {
        let magic = file.get(..2).context("it is empty")?;
        if magic != MAGIC.to_ne_bytes() {
            bail!("it does not begin as BTF does");
        }
        let header = word(file, 4)? as usize;
        let part = |at: usize| -> Result<&'a [u8]> {
            let start = header + word(file, at)? as usize;
            file.get(start..start + word(file, at + 4)? as usize).context("it is cut off")
        };
        let mut types =
            Self { bytes: part(8)?, names: part(16)?, starts: Vec::new(), structs: HashMap::new() };
        types.number()?;
        Ok(types)
    }

    /// Finds where each type begins: none tells its length but by its kind.
    fn number(&mut self) -> Result<()> {
        let mut at = 0;
        while at < self.bytes.len() {
            let (kind, members) = self.head(at)?;
            self.starts.push(at);
            if kind == kind::STRUCT {
                let name = self.name(at)?;
                self.structs.entry(name).or_insert(self.starts.len() as u32);
            }
            at += HEAD
                + match kind {
                    kind::INT | kind::VAR | kind::DECL_TAG => 4,
                    kind::ARRAY => 12,
                    kind::STRUCT | kind::UNION | kind::DATASEC | kind::ENUM64 => members * 12,
                    kind::ENUM | kind::FUNC_PROTO => members * 8,
                    _ => 0,
                };
        }
        Ok(())
    }

    /// The kind of the type that begins here, and how many members it has.
    fn head(&self, at: usize) -> Result<(u32, usize)> {
        let info = word(self.bytes, at + 4)?;
        Ok((info >> 24 & 0x1f, info as usize & 0xffff))
    }

    /// The name of the type, or member, that begins here.
    fn name(&self, at: usize) -> Result<&'a [u8]> {
        let start = word(self.bytes, at)? as usize;
        let rest = self.names.get(start..).context("a name is missing")?;
        Ok(rest.split(|byte| *byte == 0).next().unwrap_or_default())
    }

    /// Bytes from the beginning of a struct to a member.
    fn offset(&self, of: &str, member: &str) -> Result<u32> {
        let found = match self.structs.get(of.as_bytes()) {
            Some(number) => self.member(*number, member.as_bytes(), DEPTH)?,
            None => None,
        };
        found.with_context(|| format!("struct {of} of this kernel has no member {member}"))
    }

    /// As [`Types::offset`], by the struct's number; what has no name is looked into.
    fn member(&self, number: u32, name: &[u8], depth: usize) -> Result<Option<u32>> {
        let Some(start) = (number as usize).checked_sub(1).and_then(|at| self.starts.get(at))
        else {
            return Ok(None);
        };
        let (kind, members) = self.head(*start)?;
        if !matches!(kind, kind::STRUCT | kind::UNION) {
            return Ok(None);
        }
        // With bit fields the upper byte is the number of their bits.
        let has_bit_fields = word(self.bytes, start + 4)? >> 31 != 0;
        for at in (0..members).map(|member| start + HEAD + member * MEMBER) {
            let bits = word(self.bytes, at + 8)?;
            let offset = (if has_bit_fields { bits & 0xff_ffff } else { bits }) / 8;
            let found = self.name(at)?;
            if found == name {
                return Ok(Some(offset));
            }
            if found.is_empty()
                && depth > 0
                && let Some(inner) = self.member(word(self.bytes, at + 4)?, name, depth - 1)?
            {
                return Ok(Some(offset + inner));
            }
        }
        Ok(None)
    }
}

fn word(bytes: &[u8], at: usize) -> Result<u32> {
    let bytes = bytes.get(at..at + 4).context("it is cut off")?;
    Ok(u32::from_ne_bytes(bytes.try_into()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const STRUCT: u32 = kind::STRUCT << 24;

    /// A file of these types and names.
    fn file(types: &[u32], names: &str) -> Vec<u8> {
        let length = (types.len() * 4) as u32;
        let header = [24, 0, length, length, names.len() as u32];
        let mut file = [MAGIC.to_ne_bytes(), [1, 0]].concat();
        file.extend(header.iter().chain(types).flat_map(|word| word.to_ne_bytes()));
        file.extend(names.bytes());
        file
    }

    #[test]
    fn a_member_is_found_by_its_struct_and_name() {
        // An integer; struct a { int b; struct { int c; }; }; the struct without a name.
        let types = [
            [1, kind::INT << 24, 4, 32].to_vec(),
            [3, STRUCT | 2, 8].to_vec(),
            [5, 1, 0].to_vec(),
            [0, 3, 32].to_vec(),
            [0, STRUCT | 1 | 1 << 31, 4].to_vec(),
            [7, 1, 8 << 24 | 16].to_vec(),
        ];
        let file = file(&types.concat(), "\0i\0a\0b\0c\0");
        let types = Types::parse(&file).unwrap();
        assert_eq!(types.offset("a", "b").unwrap(), 0);
        assert_eq!(types.offset("a", "c").unwrap(), 4 + 2);
        let message = types.offset("a", "d").unwrap_err().to_string();
        assert_eq!(message, "struct a of this kernel has no member d");
        assert!(types.offset("b", "c").is_err());
    }

    #[test]
    fn what_is_no_btf_or_cut_off_is_told() {
        let whole = file(&[1, kind::INT << 24, 4, 32], "\0i\0");
        assert!(Types::parse(&whole).is_ok());
        for len in 0..whole.len() {
            assert!(Types::parse(&whole[..len]).is_err(), "{len} bytes");
        }
        assert!(Types::parse(&[0; 64]).is_err());
    }

    #[test]
    fn this_kernel_tells_where_the_group_of_a_socket_stands() {
        let layout = socket_layout().unwrap();
        assert_eq!(layout.is_known, 1);
        assert!(layout.socket > 0 && layout.file > 0 && layout.group > 0, "{layout:?}");
    }
}
