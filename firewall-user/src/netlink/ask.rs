//! One request to the kernel, all of its answer, on a socket of its own.

use std::io;

use netlink_packet_core::{
    DecodeError, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NLMSG_ALIGNTO, NetlinkBuffer,
    NetlinkDeserializable, NetlinkHeader, NetlinkMessage, NetlinkPayload, NetlinkSerializable,
};
use netlink_sys::Socket;

/// How often a dump is begun again because the tables changed under it.
const ATTEMPTS: usize = 16;

/// Asks in the calling thread's network namespace, and waits for the answer:
/// with NLM_F_DUMP in `flags` a list, else one message.
///
/// # Errors
/// What the kernel answered, or what the socket said.
pub fn ask<Q, A>(protocol: isize, request: Q, flags: u16) -> io::Result<Vec<A>>
where
    Q: NetlinkSerializable,
    A: NetlinkDeserializable,
{
    let mut socket = Socket::new(protocol)?;
    socket.bind_auto()?;
    let mut message =
        NetlinkMessage::new(NetlinkHeader::default(), NetlinkPayload::InnerMessage(request));
    message.header.flags = NLM_F_REQUEST | flags;
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    for _ in 0..ATTEMPTS {
        socket.send(&bytes, 0)?;
        if let Some(answers) = receive(&socket, flags & NLM_F_DUMP == NLM_F_DUMP)? {
            return Ok(answers);
        }
    }
    Err(io::Error::other("the kernel's tables changed faster than they could be read"))
}

/// The answer's messages; `None` when it is a dump that must be begun again. A
/// dump ends with NLMSG_DONE; not all families mark it with NLM_F_MULTI.
fn receive<A>(socket: &Socket, is_dump: bool) -> io::Result<Option<Vec<A>>>
where
    A: NetlinkDeserializable,
{
    let mut answers = Vec::new();
    let mut is_whole = true;
    loop {
        let (datagram, _) = socket.recv_from_full()?;
        for message in messages::<A>(&datagram) {
            let (header, payload) = message.map_err(io::Error::other)?.into_parts();
            is_whole &= header.flags & NLM_F_DUMP_INTR == 0;
            let is_last = match payload {
                NetlinkPayload::InnerMessage(answer) => {
                    answers.push(answer);
                    !is_dump
                }
                NetlinkPayload::Error(error) if error.code.is_some() => return Err(error.to_io()),
                NetlinkPayload::Done(done) if done.code < 0 => {
                    return Err(io::Error::from_raw_os_error(done.code.wrapping_neg()));
                }
                NetlinkPayload::Error(_) | NetlinkPayload::Done(_) => true,
                _ => false,
            };
            if is_last {
                return Ok(is_whole.then_some(answers));
            }
        }
    }
}

/// The messages in one datagram. Where one's length is wrong, they end with an
/// error: nothing behind it can be found.
pub fn messages<A: NetlinkDeserializable>(
    mut bytes: &[u8],
) -> impl Iterator<Item = Result<NetlinkMessage<A>, DecodeError>> {
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let length = NetlinkBuffer::new_checked(bytes).map_or(bytes.len(), |b| b.length() as usize);
        let message = NetlinkMessage::deserialize(&bytes[..length]);
        let next = length.next_multiple_of(usize::from(NLMSG_ALIGNTO));
        bytes = bytes.get(next..).unwrap_or_default();
        Some(message)
    })
}
