//! The value of a setting: read as people type it, printed as they read it.

use std::fmt;

use serde::Serialize;

/// What kind of value a setting takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Whole seconds, from 1 to [`LONGEST`].
    Seconds,
    /// On or off.
    Switch,
    /// From 0 to 255.
    Count,
}

/// A value that its setting can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Value {
    Seconds(u64),
    Switch(bool),
    Count(u8),
}

/// Of a timeout, in seconds: a year.
const LONGEST: u64 = 365 * DAY;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

impl Kind {
    /// Reads `432000`, `5d`, `1h 30m`, `true`, `0`.
    ///
    /// # Errors
    /// What was wanted instead, with the range.
    pub fn read(self, text: &str) -> Result<Value, String> {
        let value = match self {
            Self::Seconds => seconds(text).map(Value::Seconds),
            Self::Switch => switch(text).map(Value::Switch),
            Self::Count => text.parse().ok().map(Value::Count),
        };
        value.ok_or_else(|| format!("wanted is {}", self.wanted()))
    }

    /// The range, in words.
    pub const fn wanted(self) -> &'static str {
        match self {
            Self::Seconds => {
                "a time from 1 to 31536000 seconds (1 second to 365 days), e.g. 120, 2m or \
                 \"1h 30m\""
            }
            Self::Switch => "true or false (1 or 0)",
            Self::Count => "a number from 0 to 255",
        }
    }

    /// The unit in listings for programs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Seconds => "seconds",
            Self::Switch => "switch",
            Self::Count => "count",
        }
    }
}

fn seconds(text: &str) -> Option<u64> {
    let seconds = match text.parse() {
        Ok(seconds) => seconds,
        Err(_) => {
            let time = humantime::parse_duration(text).ok()?;
            (time.subsec_nanos() == 0).then_some(time.as_secs())?
        }
    };
    (1..=LONGEST).contains(&seconds).then_some(seconds)
}

fn switch(text: &str) -> Option<bool> {
    match text {
        "1" | "true" => Some(true),
        "0" | "false" => Some(false),
        _ => None,
    }
}

impl fmt::Display for Value {
    /// As the configuration file takes it: `5d`, `1h 30m`, `true`, `3`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Seconds(0) => f.write_str("0s"),
            Self::Seconds(seconds) => span(f, seconds),
            Self::Switch(is_on) => is_on.fmt(f),
            Self::Count(count) => count.fmt(f),
        }
    }
}

fn span(f: &mut fmt::Formatter<'_>, seconds: u64) -> fmt::Result {
    let mut left = seconds;
    for (length, unit) in [(DAY, 'd'), (HOUR, 'h'), (MINUTE, 'm'), (1, 's')] {
        let count = left / length;
        left %= length;
        if count > 0 {
            write!(f, "{count}{unit}{}", if left > 0 { " " } else { "" })?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_time_is_read_in_seconds_and_in_units() {
        for (text, seconds) in [
            ("432000", 432_000),
            ("5d", 432_000),
            ("1h 30m", 5_400),
            ("1h30m", 5_400),
            ("2min", 120),
            ("1", 1),
            ("365d", LONGEST),
        ] {
            assert_eq!(Kind::Seconds.read(text), Ok(Value::Seconds(seconds)), "{text}");
        }
    }

    #[test]
    fn what_is_out_of_range_is_answered_with_the_range() {
        for text in ["0", "-1", "31536001", "366d", "500ms", "1.0001s", "5 donkeys", "", "true"] {
            let message = Kind::Seconds.read(text).unwrap_err();
            assert!(message.contains("from 1 to 31536000 seconds"), "{text}: {message}");
        }
        assert_eq!(LONGEST, 31_536_000);
        assert_eq!(Kind::Count.read("256"), Err("wanted is a number from 0 to 255".into()));
        assert!(Kind::Switch.read("2").unwrap_err().contains("true or false"));
    }

    #[test]
    fn a_switch_is_read_as_people_of_sysctl_type_it() {
        for (text, is_on) in [("1", true), ("0", false), ("true", true), ("false", false)] {
            assert_eq!(Kind::Switch.read(text), Ok(Value::Switch(is_on)));
        }
    }

    proptest! {
        #[test]
        fn a_printed_time_reads_back(seconds in 1..=LONGEST) {
            let value = Value::Seconds(seconds);
            prop_assert_eq!(Kind::Seconds.read(&value.to_string()), Ok(value));
        }
    }
}
