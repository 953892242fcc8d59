//! An entry of a list of `-m recent` as /proc/net/xt_recent prints it, and as a JSON line.

use std::{
    net::IpAddr,
    time::{Duration, SystemTime},
};

use firewall_common::{
    addr::Family,
    extra::recent::{RecentEntry, RecentKey, STAMPS, TICKS, tick},
    time::Nanos,
};
use serde::Serialize;

use super::{json, time};

/// An entry, and what is needed to print it.
#[derive(Clone, Copy, Debug)]
pub struct RecentView<'a> {
    pub list: &'a str,
    pub key: RecentKey,
    pub entry: RecentEntry,
    pub now: Nanos,
    /// The wall clock of the same moment.
    pub wall: SystemTime,
}

impl RecentView<'_> {
    /// The sightings that are remembered, the oldest first.
    fn stamps(&self) -> impl Iterator<Item = u32> {
        let kept = self.entry.count.min(STAMPS as u64);
        (1..=kept).rev().map(|back| self.entry.look(back as u32).stamp)
    }

    fn seen(&self) -> Vec<String> {
        let now = tick(self.now);
        let at = |stamp: u32| {
            let age = Duration::from_millis(u64::from(now.wrapping_sub(stamp)) * 1_000) / TICKS;
            time::rfc3339(self.wall - age)
        };
        self.stamps().map(at).collect()
    }
}

/// `src=192.0.2.1 ttl: 64 last_seen: 123456 oldest_pkt: 2 123400, 123456`, the times in
/// hundredths of a second since the machine started.
pub fn text(view: &RecentView<'_>) -> String {
    let address = match view.key.address.to_ip() {
        IpAddr::V4(address) => address.to_string(),
        // As the kernel prints it here: every digit.
        IpAddr::V6(address) => address.segments().map(|segment| format!("{segment:04x}")).join(":"),
    };
    let stamps: Vec<_> = view.stamps().map(|stamp| stamp.to_string()).collect();
    format!(
        "src={address} ttl: {} last_seen: {} oldest_pkt: {} {}",
        view.entry.ttl,
        view.entry.look(1).stamp,
        stamps.len(),
        stamps.join(", ")
    )
}

#[derive(Serialize)]
struct RecentJson<'a> {
    list: &'a str,
    family: &'static str,
    address: IpAddr,
    ttl: u32,
    /// How often it was seen in all.
    count: u64,
    seen: Vec<String>,
}

pub fn json(view: &RecentView<'_>) -> String {
    let family = match view.key.address.family() {
        Family::Ipv4 => "ipv4",
        Family::Ipv6 => "ipv6",
    };
    json::line(&RecentJson {
        list: view.list,
        family,
        address: view.key.address.to_ip(),
        ttl: view.entry.ttl,
        count: view.entry.count,
        seen: view.seen(),
    })
}

/// A list and how many entries it has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ListView {
    pub list: String,
    pub entries: usize,
}

pub fn list_text(view: &ListView) -> String {
    format!("{} {}", view.list, view.entries)
}

pub fn list_json(view: &ListView) -> String {
    json::line(view)
}

#[cfg(test)]
mod tests {
    use std::{net::IpAddr, time::UNIX_EPOCH};

    use bytemuck::Zeroable;

    use super::*;

    fn view(address: &str, sightings: u32) -> RecentView<'static> {
        let address: IpAddr = address.parse().unwrap();
        let mut entry = RecentEntry::zeroed();
        (0..sightings).for_each(|number| entry.note(1_000 + number, 64));
        RecentView {
            list: "SSH",
            key: RecentKey { list: 1, address: address.into() },
            entry,
            now: Nanos::from_secs(11),
            wall: UNIX_EPOCH + Duration::from_secs(1_000),
        }
    }

    #[test]
    fn an_entry_reads_as_in_proc() {
        assert_eq!(
            text(&view("192.0.2.1", 2)),
            "src=192.0.2.1 ttl: 64 last_seen: 1001 oldest_pkt: 2 1000, 1001"
        );
        assert!(
            text(&view("2001:db8::1", 1))
                .starts_with("src=2001:0db8:0000:0000:0000:0000:0000:0001 ttl: 64")
        );
    }

    #[test]
    fn an_entry_forgets_its_oldest_sightings() {
        let text = text(&view("192.0.2.1", 300));
        assert!(text.contains("last_seen: 1299 oldest_pkt: 256 1044, 1045"), "{text}");
    }

    #[test]
    fn json_tells_the_time_of_the_wall_clock() {
        let line = json(&view("192.0.2.1", 1));
        assert_eq!(
            line,
            r#"{"list":"SSH","family":"ipv4","address":"192.0.2.1","ttl":64,"count":1,"seen":["1970-01-01T00:16:39.000Z"]}"#
        );
    }
}
