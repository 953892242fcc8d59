//! Why a packet has its ctstate, in one sentence.

use firewall_common::{
    conntrack::{
        connection::{self, Judgement},
        icmp::{self, Class},
        tcp::Segment,
        window::{Connection, Seen},
    },
    control::{Options, option},
    flow::{CtState, Direction, Flow, State, Tuple, protocol, status},
    headers::Headers,
    wire::tcp_flag,
};

use super::walk::flags;
use crate::listing::state;

/// What is known where the ctstate was found.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'f> {
    pub ctstate: CtState,
    pub headers: &'f Headers,
    pub options: Options,
    /// As it was before the packet.
    pub flow: Option<&'f Flow>,
    pub direction: Direction,
    /// A segment's numbers, as they were read.
    pub seen: &'f Seen,
    /// The control connection whose announcement the packet fits.
    pub announced_by: Option<&'f Tuple>,
}

/// `no flow has these endpoints`; without an end.
pub fn reason(facts: &Facts<'_>) -> String {
    match (facts.ctstate, facts.flow) {
        (CtState::Untracked, _) if facts.headers.tuple.protocol == protocol::ICMPV6 => {
            "neighbour discovery and its like are not tracked, or a rule says so".into()
        }
        (CtState::Untracked, _) => "a rule of table raw says not to track it".into(),
        (CtState::Invalid, Some(flow)) => misfit(facts, flow),
        (CtState::Invalid, None) => groundless(facts),
        (CtState::Related, Some(_)) => {
            format!("its flow was announced{}, and is not answered yet", by(facts.announced_by))
        }
        (CtState::Related, None) if is_error(facts.headers) => {
            "an ICMP error about a known flow".into()
        }
        (CtState::Related, None) => {
            format!("no flow has these endpoints, but it was announced{}", by(facts.announced_by))
        }
        (CtState::New, Some(flow)) if over(flow) => {
            format!(
                "a flow with these endpoints is over ({}); this begins another",
                named(facts, flow)
            )
        }
        (CtState::New, Some(flow)) => {
            format!("a flow is known{}, but nobody has answered it yet", in_state(facts, flow))
        }
        (CtState::New, None) => begins(facts),
        (CtState::Established, Some(flow)) => known(facts, flow),
        (CtState::Established, None) => "a flow was known a moment ago".into(),
    }
}

fn by(master: Option<&Tuple>) -> String {
    match master {
        Some(master) => format!(" by the FTP control connection {}", endpoints(master)),
        None => " by a control connection".into(),
    }
}

/// `192.0.2.7:39000 -> 198.51.100.9:21`
pub fn endpoints(tuple: &Tuple) -> String {
    use std::net::SocketAddr;
    let (src, dst) = (tuple.src.to_ip(), tuple.dst.to_ip());
    format!("{} -> {}", SocketAddr::new(src, tuple.sport), SocketAddr::new(dst, tuple.dport))
}

fn is_error(headers: &Headers) -> bool {
    let number = headers.tuple.protocol;
    matches!(number, protocol::ICMP | protocol::ICMPV6)
        && matches!(icmp::classify(number, headers.icmp_type), Class::Error)
}

fn over(flow: &Flow) -> bool {
    matches!(State::from_byte(flow.state), Some(State::TimeWait | State::Close))
}

fn named(facts: &Facts<'_>, flow: &Flow) -> &'static str {
    state::name(facts.headers.tuple.protocol, flow.state)
}

/// ` (ESTABLISHED)`, or nothing where there are no states.
fn in_state(facts: &Facts<'_>, flow: &Flow) -> String {
    match named(facts, flow) {
        "" => String::new(),
        name => format!(" ({name})"),
    }
}

fn known(facts: &Facts<'_>, flow: &Flow) -> String {
    let state = in_state(facts, flow);
    match facts.direction {
        Direction::Reply if flow.has(status::SEEN_REPLY) => {
            format!("the reply direction of a known flow{state}")
        }
        Direction::Reply => format!("the first answer in a known flow{state}"),
        Direction::Original => {
            format!("the original direction of a known flow{state}, which has been answered")
        }
    }
}

fn begins(facts: &Facts<'_>) -> String {
    let is_tcp = facts.headers.tuple.protocol == protocol::TCP;
    if is_tcp && !facts.headers.has_tcp_flag(tcp_flag::SYN) {
        return "no flow has these endpoints; a running connection is picked up in its middle \
                (tcp_loose)"
            .into();
    }
    "no flow has these endpoints".into()
}

/// INVALID, and a flow is known.
fn misfit(facts: &Facts<'_>, flow: &Flow) -> String {
    let state = in_state(facts, flow);
    if facts.headers.tuple.protocol != protocol::TCP {
        return format!("a flow is known{state}, but the packet does not fit it");
    }
    if let Some(reason) = nonsense(facts) {
        return reason;
    }
    let bits = facts.options.bits;
    let mut desk = Connection::default();
    let side = match facts.direction {
        Direction::Original => "originator",
        Direction::Reply => "responder",
    };
    match connection::judge(flow, facts.direction, facts.seen, bits, &mut desk) {
        Judgement::Compare(_) => {
            let (seq, ack) = (facts.headers.seq, facts.headers.ack);
            let (own, other) =
                (flow.side(facts.direction).window, flow.side(facts.direction.reversed()).window);
            format!(
                "a flow is known{state}, but the segment is out of its window: seq {seq} where the \
                 {side} may send up to {}, ack {ack} where {} was sent",
                own.max_end.0, other.end.0
            )
        }
        _ => format!(
            "a flow is known{state}, but its {side} does not send {} in that state",
            flags(facts.headers.tcp_flags)
        ),
    }
}

/// INVALID, and no flow is known.
fn groundless(facts: &Facts<'_>) -> String {
    let headers = facts.headers;
    match headers.tuple.protocol {
        protocol::TCP => {
            if let Some(reason) = nonsense(facts) {
                return reason;
            }
            let is_ack = Segment::from_flags(headers.tcp_flags) == Some(Segment::Ack);
            let is_strict = !facts.options.has(option::TCP_LOOSE);
            if is_ack && is_strict {
                return "no flow has these endpoints, and running connections are not picked up \
                        (tcp_loose is off)"
                    .into();
            }
            format!("no flow has these endpoints, and {} begins none", flags(headers.tcp_flags))
        }
        protocol::ICMP | protocol::ICMPV6 if is_error(headers) => {
            "an ICMP error about no known flow".into()
        }
        protocol::ICMP | protocol::ICMPV6 => "an ICMP message that answers no known request".into(),
        _ => "no flow has these endpoints, and the packet begins none".into(),
    }
}

/// What makes a segment INVALID whatever is known.
fn nonsense(facts: &Facts<'_>) -> Option<String> {
    if Segment::from_flags(facts.headers.tcp_flags).is_some() {
        return None;
    }
    Some(format!("no TCP sends a segment with the flags {}", flags(facts.headers.tcp_flags)))
}

#[cfg(test)]
mod tests {
    use bytemuck::Zeroable;
    use firewall_common::{conntrack, conntrack::options::TcpOptions, flow::Side, seq::Seq};

    use super::*;

    fn segment(bits: u8, seq: u32, ack: u32) -> (Headers, Seen) {
        let mut headers = Headers::default();
        headers.tuple.protocol = protocol::TCP;
        (headers.tcp_flags, headers.seq, headers.ack, headers.window) = (bits, seq, ack, 1_000);
        let mut seen = Seen::zeroed();
        let kind = Segment::from_flags(bits).unwrap_or(Segment::Ack);
        conntrack::note(kind, &headers, &TcpOptions::zeroed(), &mut seen);
        (headers, seen)
    }

    fn established() -> Flow {
        let mut side = Side::default();
        (side.window.end, side.window.max_end, side.window.max_size) =
            (Seq(5_000), Seq(6_000), 1_000);
        Flow {
            state: State::Established as u8,
            status: status::SEEN_REPLY | status::ASSURED,
            sides: [side; 2],
            ..Flow::default()
        }
    }

    fn told(ctstate: CtState, bits: u8, seq: u32, flow: Option<&Flow>) -> String {
        let (headers, seen) = segment(bits, seq, 5_000);
        let options = Options { bits: option::TCP_LOOSE, ..Options::default() };
        let direction = Direction::Reply;
        let announced_by = None;
        reason(&Facts {
            ctstate,
            headers: &headers,
            options,
            flow,
            direction,
            seen: &seen,
            announced_by,
        })
    }

    mod without_a_flow {
        use super::*;

        #[test]
        fn a_syn_is_new() {
            assert_eq!(told(CtState::New, tcp_flag::SYN, 1, None), "no flow has these endpoints");
        }

        #[test]
        fn an_ack_is_picked_up() {
            assert!(told(CtState::New, tcp_flag::ACK, 1, None).contains("(tcp_loose)"));
        }

        #[test]
        fn a_syn_ack_begins_nothing() {
            let text = told(CtState::Invalid, tcp_flag::SYN | tcp_flag::ACK, 1, None);
            assert_eq!(text, "no flow has these endpoints, and SYN,ACK begins none");
        }

        #[test]
        fn flags_that_contradict_each_other_are_named() {
            let text = told(CtState::Invalid, tcp_flag::SYN | tcp_flag::FIN, 1, None);
            assert!(text.ends_with("with the flags FIN,SYN"), "{text}");
        }
    }

    mod with_a_flow {
        use super::*;

        #[test]
        fn its_reply_direction_is_named_with_the_state() {
            let flow = established();
            let text = told(CtState::Established, tcp_flag::ACK, 5_000, Some(&flow));
            assert_eq!(text, "the reply direction of a known flow (ESTABLISHED)");
        }

        #[test]
        fn a_segment_out_of_the_window_is_told_with_its_numbers() {
            let flow = established();
            let text = told(CtState::Invalid, tcp_flag::ACK, 900_000, Some(&flow));
            assert!(text.contains("out of its window: seq 900000"), "{text}");
            assert!(text.contains("may send up to 6000, ack 5000 where 5000 was sent"), "{text}");
        }

        #[test]
        fn a_syn_of_the_responder_does_not_fit_the_state() {
            let flow = established();
            let text = told(CtState::Invalid, tcp_flag::SYN, 5_000, Some(&flow));
            assert!(text.ends_with("its responder does not send SYN in that state"), "{text}");
        }

        #[test]
        fn one_that_nobody_has_answered_is_still_new() {
            let flow = Flow { state: State::SynSent as u8, ..Flow::default() };
            let text = told(CtState::New, tcp_flag::SYN, 1, Some(&flow));
            assert_eq!(text, "a flow is known (SYN_SENT), but nobody has answered it yet");
        }
    }

    #[test]
    fn what_was_announced_names_its_control_connection() {
        let (headers, seen) = segment(tcp_flag::SYN, 1, 0);
        let address = |text: &str| text.parse::<std::net::IpAddr>().unwrap().into();
        let master = Tuple {
            src: address("192.0.2.7"),
            dst: address("2001:db8::9"),
            sport: 39_000,
            dport: 21,
            ..Tuple::default()
        };
        let text = reason(&Facts {
            ctstate: CtState::Related,
            headers: &headers,
            options: Options::default(),
            flow: None,
            direction: Direction::Original,
            seen: &seen,
            announced_by: Some(&master),
        });
        assert!(text.ends_with("connection 192.0.2.7:39000 -> [2001:db8::9]:21"), "{text}");
    }
}
