//! A line of ipset as words: blanks between them, and double quotes around what has some.

/// A word, and the column where it begins, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Word<'a> {
    pub text: &'a str,
    pub column: u32,
}

/// The words of a line; `Err` with the column of a quote that does not end.
pub(super) fn split(line: &str) -> Result<Vec<Word<'_>>, u32> {
    let mut words = Vec::with_capacity(4);
    let mut at = 0;
    let bytes = line.as_bytes();
    while let Some(skip) = bytes[at..].iter().position(|byte| !byte.is_ascii_whitespace()) {
        let start = at + skip;
        let column = line[..start].chars().count() as u32 + 1;
        if bytes[start] == b'"' {
            let length = line[start + 1..].find('"').ok_or(column)?;
            words.push(Word { text: &line[start + 1..start + 1 + length], column });
            at = start + length + 2;
            continue;
        }
        let rest = &bytes[start..];
        let length = rest.iter().position(u8::is_ascii_whitespace).unwrap_or(rest.len());
        words.push(Word { text: &line[start..start + length], column });
        at = start + length;
    }
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(line: &str) -> Vec<(&str, u32)> {
        split(line).unwrap().iter().map(|word| (word.text, word.column)).collect()
    }

    #[test]
    fn words_have_their_columns_and_quotes_hold_blanks() {
        assert_eq!(
            texts("add a\t192.0.2.1 comment \"two words\"  x"),
            [("add", 1), ("a", 5), ("192.0.2.1", 7), ("comment", 17), ("two words", 25), ("x", 38)]
        );
        assert_eq!(texts("  "), []);
        assert_eq!(texts("comment \"\""), [("comment", 1), ("", 9)]);
    }

    #[test]
    fn a_quote_that_does_not_end_is_told() {
        assert_eq!(split("add a \"x"), Err(7));
    }
}
