//! `-m string`: bytes that a packet contains.

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    /// 1 to 128 of them.
    pub bytes: Vec<u8>,
    pub algorithm: Algorithm,
    /// Offsets from the IP header on, the second one excluded.
    pub from: u16,
    pub to: u16,
    pub ignores_case: bool,
}

/// How the kernel searches; both find the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    BoyerMoore,
    KnuthPrattMorris,
}

impl Algorithm {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::BoyerMoore => "bm",
            Self::KnuthPrattMorris => "kmp",
        }
    }
}

impl Text {
    /// As it can be typed: in quotes, or in hexadecimal digits where it must be.
    pub(crate) fn quoted(&self) -> String {
        if self.is_hex() {
            let digits: String = self.bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            return format!("\"|{digits}|\"");
        }
        let mut text = "\"".to_owned();
        for byte in &self.bytes {
            if matches!(byte, b'"' | b'\\' | b'\'') {
                text.push('\\');
            }
            text.push(char::from(*byte));
        }
        text + "\""
    }

    pub(crate) fn is_hex(&self) -> bool {
        let is_plain = |byte: &u8| byte.is_ascii_graphic() || *byte == b' ';
        !self.bytes.iter().all(is_plain) || self.bytes.last() == Some(&b'\\')
    }
}
