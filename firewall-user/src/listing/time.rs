//! Points in time for people and scripts: RFC 3339, UTC, milliseconds.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use humantime::format_rfc3339_millis;

/// 9999-12-31T23:59:59Z, the last second that RFC 3339 can write.
const LAST: Duration = Duration::from_secs(253_402_300_799);

/// `2026-11-21T10:16:57.042Z`; a time before 1970 counts as 1970, one after 9999
/// as its end.
pub fn rfc3339(time: SystemTime) -> String {
    format_rfc3339_millis(time.clamp(UNIX_EPOCH, UNIX_EPOCH + LAST)).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_times_read_as_date_prints_them() {
        for (millis, expected) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_795_256_217_042, "2026-11-21T10:16:57.042Z"),
            (4_107_542_399_999, "2100-02-28T23:59:59.999Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(rfc3339(UNIX_EPOCH + Duration::from_millis(millis)), expected);
        }
    }

    #[test]
    fn a_time_that_cannot_be_written_is_the_nearest_that_can() {
        let before = UNIX_EPOCH - Duration::from_secs(1);
        assert_eq!(rfc3339(before), "1970-01-01T00:00:00.000Z");
        let after = UNIX_EPOCH + Duration::from_secs(1 << 40);
        assert_eq!(rfc3339(after), "9999-12-31T23:59:59.000Z");
    }
}
