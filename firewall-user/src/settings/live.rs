//! Settings as they stand in the maps, and as somebody wants them.

use firewall_common::{
    control::{Options, Timeouts, option},
    time::Nanos,
};

use super::{
    catalogue::{ALL, Place, Setting},
    value::Value,
};

/// What the datapath goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Live {
    pub options: Options,
    pub timeouts: Timeouts,
    /// Bit n: the nth setting was given its value by `firewall conntrack set`.
    pub by_hand: u64,
}

/// Values that somebody has named, in the order of naming.
#[derive(Clone, Debug, Default)]
pub struct Chosen(Vec<(&'static Setting, Value)>);

impl Default for Live {
    /// nf_conntrack's defaults.
    fn default() -> Self {
        let bits = option::TCP_LOOSE | option::CHECKSUM;
        let options = Options { bits, tcp_max_retrans: 3, ..Options::default() };
        Self { options, timeouts: Timeouts::DEFAULT, by_hand: 0 }
    }
}

impl Live {
    pub fn get(&self, setting: &Setting) -> Value {
        match setting.place {
            Place::Timeout(place) => Value::Seconds(place(&mut { self.timeouts }).as_secs()),
            Place::Bit(bit) => Value::Switch(self.options.has(bit)),
            Place::MaxRetrans => Value::Count(self.options.tcp_max_retrans),
        }
    }

    /// A value of another kind than the setting's changes nothing.
    pub fn set(&mut self, setting: &Setting, value: Value) {
        match (setting.place, value) {
            (Place::Timeout(place), Value::Seconds(seconds)) => {
                *place(&mut self.timeouts) = Nanos::from_secs(seconds);
            }
            (Place::Bit(bit), Value::Switch(true)) => self.options.bits |= bit,
            (Place::Bit(bit), Value::Switch(false)) => self.options.bits &= !bit,
            (Place::MaxRetrans, Value::Count(count)) => self.options.tcp_max_retrans = count,
            _ => {}
        }
    }

    /// Sets, and notes that it was set while the instance ran.
    pub fn set_by_hand(&mut self, setting: &Setting, value: Value) {
        self.set(setting, value);
        self.by_hand |= mask(setting);
    }

    /// What a daemon begins with over an instance that stands so: what it was
    /// told; else what was set by hand; else the default.
    pub fn taken_over(&mut self, chosen: &Chosen) {
        let defaults = Self::default();
        for setting in ALL {
            match chosen.get(setting) {
                Some(value) => {
                    self.set(setting, value);
                    self.by_hand &= !mask(setting);
                }
                None if self.by_hand & mask(setting) != 0 => {}
                None => self.set(setting, defaults.get(setting)),
            }
        }
    }
}

fn mask(setting: &Setting) -> u64 {
    1 << setting.number()
}

impl Chosen {
    /// Every setting as it is.
    pub fn all_of(live: &Live) -> Self {
        Self(ALL.iter().map(|setting| (setting, live.get(setting))).collect())
    }

    /// A later value of a setting counts.
    pub fn add(&mut self, setting: &'static Setting, value: Value) {
        self.0.push((setting, value));
    }

    pub fn get(&self, setting: &Setting) -> Option<Value> {
        let mut latest = self.0.iter().rev();
        latest.find(|(chosen, _)| chosen.name == setting.name).map(|(_, value)| *value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{Kind, find};

    /// Another value of the same kind.
    fn other(value: Value) -> Value {
        match value {
            Value::Seconds(seconds) => Value::Seconds(seconds + 1),
            Value::Switch(is_on) => Value::Switch(!is_on),
            Value::Count(count) => Value::Count(count + 1),
        }
    }

    #[test]
    fn each_setting_has_a_place_of_its_own() {
        let before = Live::default();
        for setting in ALL {
            let mut live = before;
            live.set(setting, other(before.get(setting)));
            let changed = ALL.iter().filter(|any| live.get(any) != before.get(any));
            let changed: Vec<_> = changed.map(|any| any.name).collect();
            assert_eq!(changed, [setting.name]);
        }
    }

    #[test]
    fn the_defaults_are_those_of_nf_conntrack() {
        for (name, value) in [
            ("tcp_timeout_established", "5d"),
            ("tcp_timeout_close", "10s"),
            ("tcp_timeout_unacknowledged", "5m"),
            ("udp_timeout_stream", "2m"),
            ("generic_timeout", "10m"),
            ("sctp_timeout_established", "3m 30s"),
            ("tcp_loose", "true"),
            ("tcp_be_liberal", "false"),
            ("tcp_max_retrans", "3"),
            ("checksum", "true"),
        ] {
            assert_eq!(Live::default().get(find(name).unwrap()).to_string(), value, "{name}");
        }
    }

    #[test]
    fn every_default_is_in_range() {
        for setting in ALL {
            let value = Live::default().get(setting);
            assert_eq!(setting.kind().read(&value.to_string()), Ok(value), "{}", setting.name);
        }
    }

    #[test]
    fn who_takes_over_keeps_what_was_set_by_hand_unless_told_otherwise() {
        let [udp, icmp, loose] =
            ["udp_timeout", "icmp_timeout", "tcp_loose"].map(|name| find(name).unwrap());
        let mut live = Live::default();
        live.set_by_hand(udp, Value::Seconds(5));
        live.set_by_hand(icmp, Value::Seconds(6));
        // As a former daemon was told, which is over.
        live.set(loose, Value::Switch(false));
        let mut chosen = Chosen::default();
        chosen.add(icmp, Kind::Seconds.read("7").unwrap());
        live.taken_over(&chosen);
        assert_eq!(live.get(udp), Value::Seconds(5));
        assert_eq!(live.get(icmp), Value::Seconds(7));
        assert_eq!(live.get(loose), Value::Switch(true));
        // What the daemon was told is no longer set by hand.
        live.taken_over(&Chosen::default());
        assert_eq!(live.get(udp), Value::Seconds(5));
        assert_eq!(live.get(icmp), Value::Seconds(30));
    }
}
