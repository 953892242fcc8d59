//! What stands before the IP header.

use pcap_file::DataLink;

const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
const VLAN: [u16; 3] = [0x8100, 0x88a8, 0x9100];

/// The IP packet in a frame, or why there is none.
pub(super) fn packet(link: DataLink, frame: &[u8]) -> Result<&[u8], &'static str> {
    /// Linux cooked capture, version 2; before the packet its protocol comes first.
    const LINUX_SLL2: u32 = 276;
    match link {
        DataLink::ETHERNET => behind(frame, 12),
        DataLink::LINUX_SLL => behind(frame, 14),
        DataLink::RAW | DataLink::IPV4 | DataLink::IPV6 => Ok(frame),
        // As BSD numbered raw IP.
        DataLink::Unknown(12 | 14) => Ok(frame),
        link if u32::from(link) == LINUX_SLL2 => match protocol(frame, 0)? {
            IPV4 | IPV6 => frame.get(20..).ok_or("shorter than its link header"),
            _ => Err("not IP"),
        },
        _ => Err("of a link type that is not read: only Ethernet, raw IP and Linux cooked are"),
    }
}

/// The packet behind the protocol number that stands at a place, and behind tags.
fn behind(frame: &[u8], mut place: usize) -> Result<&[u8], &'static str> {
    loop {
        match protocol(frame, place)? {
            IPV4 | IPV6 => return Ok(&frame[place + 2..]),
            tag if VLAN.contains(&tag) => place += 4,
            _ => return Err("not IP"),
        }
    }
}

fn protocol(frame: &[u8], place: usize) -> Result<u16, &'static str> {
    let bytes = frame.get(place..place + 2).ok_or("shorter than its link header")?;
    Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ip_is_found_behind_every_link_header() {
        let ethernet = [&[2; 12][..], &[8, 0, 0x45, 0]].concat();
        assert_eq!(packet(DataLink::ETHERNET, &ethernet), Ok(&[0x45, 0][..]));
        let tagged = [&[2; 12][..], &[0x81, 0, 0, 7, 0x86, 0xdd, 0x60, 0]].concat();
        assert_eq!(packet(DataLink::ETHERNET, &tagged), Ok(&[0x60, 0][..]));
        let cooked = [&[0; 14][..], &[8, 0, 0x45]].concat();
        assert_eq!(packet(DataLink::LINUX_SLL, &cooked), Ok(&[0x45][..]));
        assert_eq!(packet(DataLink::RAW, &[0x45]), Ok(&[0x45][..]));
    }

    #[test]
    fn what_is_not_ip_is_refused() {
        let arp = [&[2; 12][..], &[8, 6, 0, 1]].concat();
        assert_eq!(packet(DataLink::ETHERNET, &arp), Err("not IP"));
        assert!(packet(DataLink::ETHERNET, &[2; 13]).is_err());
    }
}
