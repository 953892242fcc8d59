//! The settings: `firewall conntrack settings`.

use std::fmt::Write as _;

use serde::Serialize;

use super::json;
use crate::settings::{ALL, Live, Setting, Value};

/// A setting as programs read it.
#[derive(Serialize)]
struct Line {
    name: &'static str,
    /// Seconds, a number, true or false: see `kind`.
    value: Value,
    default: Value,
    kind: &'static str,
    changed: bool,
}

fn lines(live: &Live) -> impl Iterator<Item = Line> {
    let defaults = Live::default();
    let line = move |live: &Live, setting: &Setting| {
        let (value, default) = (live.get(setting), defaults.get(setting));
        let kind = setting.kind().name();
        Line { name: setting.name, value, default, kind, changed: value != default }
    };
    let live = *live;
    ALL.iter().map(move |setting| line(&live, setting))
}

/// Name, value and default in columns; a star before what was changed.
pub fn text(live: &Live) -> String {
    const NAME: &str = "name";
    let rows: Vec<_> = lines(live).map(|line| (line.value.to_string(), line)).collect();
    let name_width = rows.iter().map(|(_, line)| line.name.len()).max().unwrap_or(0);
    let value_width = rows.iter().map(|(value, _)| value.len()).max().unwrap_or(0).max(5);
    let mut text = format!("  {NAME:<name_width$}  {:<value_width$}  default", "value");
    for (value, line) in rows {
        let star = if line.changed { '*' } else { ' ' };
        let Line { name, default, .. } = line;
        let _ = write!(text, "\n{star} {name:<name_width$}  {value:<value_width$}  {default}");
    }
    text
}

/// One JSON object to a line:
/// `{"name":"udp_timeout","value":30,"default":30,"kind":"seconds","changed":false}`.
pub fn json(live: &Live) -> String {
    let lines: Vec<_> = lines(live).map(|line| json::line(&line)).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::find;

    fn changed() -> Live {
        let mut live = Live::default();
        live.set_by_hand(find("udp_timeout").unwrap(), Value::Seconds(90));
        live
    }

    #[test]
    fn the_columns_are_aligned_and_changes_are_marked() {
        let text = text(&changed());
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), ALL.len() + 1);
        assert_eq!(lines[0], "  name                            value   default");
        assert_eq!(lines[3], "  tcp_timeout_established         5d      5d");
        assert_eq!(lines[11], "* udp_timeout                     1m 30s  30s");
        assert_eq!(lines.iter().filter(|line| line.starts_with('*')).count(), 1);
    }

    #[test]
    fn every_setting_is_a_json_line() {
        let json = json(&changed());
        assert_eq!(json.lines().count(), ALL.len());
        for line in [
            r#"{"name":"udp_timeout","value":90,"default":30,"kind":"seconds","changed":true}"#,
            r#"{"name":"tcp_loose","value":true,"default":true,"kind":"switch","changed":false}"#,
            r#"{"name":"tcp_max_retrans","value":3,"default":3,"kind":"count","changed":false}"#,
        ] {
            assert!(json.lines().any(|any| any == line), "{line}");
        }
    }
}
