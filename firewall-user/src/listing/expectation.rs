//! An expectation as `conntrack -L expect` prints it, and as a JSON line.

use std::net::IpAddr;

use firewall_common::{
    addr::{Addr, Family},
    expectation::{Expectation, ExpectationKey},
    flow::helper,
    time::Nanos,
};
use serde::Serialize;

use super::{
    json::{self, Master},
    protocol,
};

/// An expectation, and what is needed to print it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExpectationView {
    pub key: ExpectationKey,
    pub expectation: Expectation,
    pub now: Nanos,
}

impl ExpectationView {
    /// Seconds; `None` for a range of ports, which ends with its control connection.
    fn timeout(&self) -> Option<u64> {
        let lasts = self.expectation.expires.since(self.now).as_secs();
        (!self.is_range()).then_some(lasts)
    }

    const fn is_range(&self) -> bool {
        self.key.dport == 0
    }

    /// `40123`, or the ports of a range: `50000-50100`.
    fn ports(&self) -> String {
        let Expectation { first_port, last_port, .. } = self.expectation;
        match self.is_range() {
            true => format!("{first_port}-{last_port}"),
            false => self.key.dport.to_string(),
        }
    }

    fn helper(&self) -> Option<&'static str> {
        helper::name(self.expectation.helper)
    }
}

/// `299 proto=6 src=… dst=… sport=0 dport=40123 mask-src=… … class=0 helper=ftp`
///
/// The masks say what counts: both addresses and the destination port, whole. A range of
/// ports has no timeout: `- proto=6 … dport=50000-50100 …`.
pub fn text(view: &ExpectationView) -> String {
    let ExpectationKey { src, dst, protocol, .. } = view.key;
    let master = &view.expectation.master;
    let mask = host_mask(src);
    let helper = view.helper().map(|name| format!(" helper={name}")).unwrap_or_default();
    format!(
        "{} proto={protocol} src={} dst={} sport=0 dport={} \
         mask-src={mask} mask-dst={mask} sport=0 dport=65535 \
         master-src={} master-dst={} sport={} dport={} class=0{helper}",
        view.timeout().map_or("-".to_owned(), |seconds| seconds.to_string()),
        src.to_ip(),
        dst.to_ip(),
        view.ports(),
        master.src.to_ip(),
        master.dst.to_ip(),
        master.sport,
        master.dport,
    )
}

fn host_mask(address: Addr) -> &'static str {
    match address.family() {
        Family::Ipv4 => "255.255.255.255",
        Family::Ipv6 => "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
    }
}

#[derive(Serialize)]
struct ExpectationJson {
    family: &'static str,
    protocol: String,
    timeout: Option<u64>,
    src: IpAddr,
    dst: IpAddr,
    dport: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    dports: Option<[u16; 2]>,
    helper: Option<&'static str>,
    master: Master,
}

/// One JSON object; a range of ports has `"timeout":null`, `"dport":0` and
/// `"dports":[50000,50100]`.
pub fn json(view: &ExpectationView) -> String {
    let ExpectationKey { src, dst, dport, protocol, .. } = view.key;
    json::line(&ExpectationJson {
        family: json::family(src),
        protocol: protocol::json_name(protocol),
        timeout: view.timeout(),
        src: src.to_ip(),
        dst: dst.to_ip(),
        dport,
        dports: view
            .is_range()
            .then_some([view.expectation.first_port, view.expectation.last_port]),
        helper: view.helper(),
        master: Master::of(&view.expectation.master),
    })
}

#[cfg(test)]
mod tests {
    use firewall_common::flow::protocol::TCP;

    use super::{super::fixtures::*, *};

    fn expected(client: &str, server: &str, seconds: u64) -> ExpectationView {
        let data = tuple(TCP, client, 0, server, 40059);
        let key = ExpectationKey {
            src: data.src,
            dst: data.dst,
            dport: data.dport,
            protocol: TCP,
            ..ExpectationKey::default()
        };
        let expectation = Expectation {
            expires: NOW.after(Nanos::from_secs(seconds)),
            master: tuple(TCP, client, 53592, server, 21),
            helper: helper::FTP,
            ..Expectation::default()
        };
        ExpectationView { key, expectation, now: NOW }
    }

    #[test]
    fn it_reads_as_conntrack_prints_it() {
        assert_eq!(
            text(&expected("192.0.2.2", "192.0.2.1", 299)),
            "299 proto=6 src=192.0.2.2 dst=192.0.2.1 sport=0 dport=40059 \
             mask-src=255.255.255.255 mask-dst=255.255.255.255 sport=0 dport=65535 \
             master-src=192.0.2.2 master-dst=192.0.2.1 sport=53592 dport=21 class=0 helper=ftp"
        );
    }

    #[test]
    fn a_range_of_ports_has_no_timeout() {
        let mut view = expected("192.0.2.2", "192.0.2.1", 299);
        view.key.dport = 0;
        (view.expectation.first_port, view.expectation.last_port) = (50_000, 50_100);
        let line = text(&view);
        assert!(line.starts_with("- proto=6 ") && line.contains(" dport=50000-50100 "), "{line}");
        let line = json(&view);
        assert!(line.contains(r#""timeout":null,"#), "{line}");
        assert!(line.contains(r#""dport":0,"dports":[50000,50100],"#), "{line}");
    }

    #[test]
    fn over_ipv6_the_masks_are_as_long_as_the_addresses() {
        let line = text(&expected("2001:db8::2", "2001:db8::1", 299));
        assert!(line.contains(" mask-src=ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff "), "{line}");
    }

    #[test]
    fn json_has_the_fields_and_the_order_of_the_contract() {
        assert_eq!(
            json(&expected("192.0.2.2", "192.0.2.1", 299)),
            concat!(
                r#"{"family":"ipv4","protocol":"tcp","timeout":299,"src":"192.0.2.2","#,
                r#""dst":"192.0.2.1","dport":40059,"helper":"ftp","#,
                r#""master":{"src":"192.0.2.2","dst":"192.0.2.1","sport":53592,"dport":21}}"#
            )
        );
    }
}
