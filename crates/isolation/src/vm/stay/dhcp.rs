//! DHCP (RFC 2131) as a client needs it once: packets of IPv4 as they go over the
//! line, without any I/O. Whoever answers may be hostile.

use std::net::Ipv4Addr;
use std::time::Duration;

/// The ports of a client and of a server.
const CLIENT: u16 = 68;
const SERVER: u16 = 67;
/// Bytes before the options of a message: up to the cookie that begins them.
const FIXED: usize = 236;
const COOKIE: [u8; 4] = [99, 130, 83, 99];
/// The least time until a lease is asked for again.
const LEAST: Duration = Duration::from_secs(60);
/// The most name servers that are taken.
const MOST_SERVERS: usize = 3;

/// What is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Say {
    /// Who is there?
    Discover,
    /// That one, please: of this server.
    Request(Ipv4Addr, Ipv4Addr),
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// An address could be had.
    Offer(Lease),
    /// It is this machine's.
    Yes(Lease),
    /// It is not to be had any more.
    No,
}

/// An address, and what belongs to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lease {
    pub(crate) address: Ipv4Addr,
    /// Bits of its network.
    pub(crate) prefix: u8,
    pub(crate) router: Option<Ipv4Addr>,
    pub(crate) names: Vec<Ipv4Addr>,
    /// Where names without a dot are looked for.
    pub(crate) domain: Option<String>,
    pub(crate) server: Ipv4Addr,
    /// When it is asked for anew.
    pub(crate) renew: Duration,
}

/// Gives the packet that says something, for all on the line.
pub(crate) fn packet(say: Say, number: u32, hardware: [u8; 6]) -> Vec<u8> {
    let mut message = vec![0; FIXED];
    message[..4].copy_from_slice(&[1, 1, 6, 0]); // a request, Ethernet
    message[4..8].copy_from_slice(&number.to_be_bytes());
    message[10] = 0x80; // to all: this machine hears nothing else yet
    message[28..34].copy_from_slice(&hardware);
    message.extend(COOKIE);
    let mut option = |code: u8, value: &[u8]| {
        message.extend([code, value.len() as u8]);
        message.extend_from_slice(value);
    };
    match say {
        Say::Discover => option(53, &[1]),
        Say::Request(address, server) => {
            option(53, &[3]);
            option(50, &address.octets());
            option(54, &server.octets());
        }
    }
    // Mask, router, name servers, domain, broadcast address, times.
    option(55, &[1, 3, 6, 15, 28, 51, 58]);
    message.push(255);
    // What is shorter than BOOTP was, some servers do not hear.
    message.resize(message.len().max(300), 0);
    over_ip(&message)
}

fn over_ip(message: &[u8]) -> Vec<u8> {
    let length = (message.len() + 28) as u16;
    let mut out = vec![0x45, 0x10];
    out.extend(length.to_be_bytes());
    out.extend([0, 0, 0, 0, 64, 17, 0, 0]); // of UDP, in one piece
    out.extend([0; 4]);
    out.extend([255; 4]);
    let sum = checksum(&out);
    out[10..12].copy_from_slice(&sum.to_be_bytes());
    for number in [CLIENT, SERVER, length - 20, 0] {
        out.extend(number.to_be_bytes());
    }
    out.extend_from_slice(message);
    out
}

fn checksum(header: &[u8]) -> u16 {
    let words = header
        .chunks(2)
        .map(|two| u32::from(two[0]) << 8 | u32::from(two[1]));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// Reads a packet; `None` when it is no answer to this question of this machine's.
pub(crate) fn read(packet: &[u8], number: u32, hardware: [u8; 6]) -> Option<Answer> {
    let head = usize::from(packet.first()? & 15) * 4;
    let short = |at: usize| Some(u16::from_be_bytes(*packet.get(at..)?.first_chunk()?));
    if packet[0] >> 4 != 4 || head < 20 || *packet.get(9)? != 17 || short(head + 2)? != CLIENT {
        return None;
    }
    let length = usize::from(short(head + 4)?).checked_sub(8)?;
    let message = packet.get(head + 8..)?;
    let message = &message[..length.min(message.len())];
    let is_its = message.get(..4)? == [2, 1, 6, message[3]]
        && message.get(4..8)? == number.to_be_bytes()
        && message.get(28..34)? == hardware
        && message.get(FIXED..FIXED + 4)? == COOKIE;
    if !is_its {
        return None;
    }
    let address = |bytes: &[u8]| {
        bytes
            .first_chunk()
            .map(|four: &[u8; 4]| Ipv4Addr::from(*four))
    };
    let yours = address(&message[16..])?;
    let mut kind = 0;
    let mut lease = Lease {
        address: yours,
        prefix: match yours.octets()[0] {
            ..128 => 8,
            128..192 => 16,
            _ => 24,
        },
        router: None,
        names: Vec::new(),
        domain: None,
        server: address(&message[20..])?,
        renew: Duration::from_secs(3600),
    };
    let (mut whole, mut half) = (None, None);
    let mut rest = message.get(FIXED + 4..)?;
    while let Some((&code, after)) = rest.split_first() {
        if code == 0 {
            rest = after;
            continue;
        }
        let Some((&size, after)) = after.split_first().filter(|_| code != 255) else {
            break;
        };
        let value = after.get(..usize::from(size))?;
        rest = &after[usize::from(size)..];
        let seconds = || {
            let four = value.first_chunk()?;
            Some(Duration::from_secs(u32::from_be_bytes(*four).into()))
        };
        match code {
            1 => lease.prefix = u32::from(address(value)?).leading_ones() as u8,
            3 => lease.router = address(value).filter(|router| !router.is_unspecified()),
            6 => {
                lease.names = value
                    .chunks_exact(4)
                    .filter_map(address)
                    .take(MOST_SERVERS)
                    .collect()
            }
            15 => lease.domain = domain(value),
            51 => whole = seconds(),
            53 => kind = *value.first()?,
            54 => lease.server = address(value)?,
            58 => half = seconds(),
            _ => {}
        }
    }
    if let Some(renew) = half.or(whole.map(|whole| whole / 2)) {
        lease.renew = renew.max(LEAST);
    }
    let usable = !yours.is_unspecified() && !yours.is_loopback() && !yours.is_multicast();
    match kind {
        2 if usable => Some(Answer::Offer(lease)),
        5 if usable => Some(Answer::Yes(lease)),
        6 => Some(Answer::No),
        _ => None,
    }
}

/// Takes a domain that can stand in a file of words.
fn domain(value: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(value).ok()?.trim_end_matches('\0');
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
    (!text.is_empty() && text.bytes().all(plain)).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HARDWARE: [u8; 6] = [0x52, 0x54, 0, 1, 2, 3];

    fn answer(kind: u8, options: &[u8]) -> Vec<u8> {
        let mut message = vec![0; FIXED];
        message[..4].copy_from_slice(&[2, 1, 6, 0]);
        message[4..8].copy_from_slice(&7u32.to_be_bytes());
        message[16..20].copy_from_slice(&[10, 0, 2, 15]);
        message[28..34].copy_from_slice(&HARDWARE);
        message.extend(COOKIE);
        message.extend([53, 1, kind]);
        message.extend_from_slice(options);
        message.push(255);
        let mut packet = over_ip(&message);
        packet[20..24].copy_from_slice(&[0, 67, 0, 68]);
        packet
    }

    #[test]
    fn an_answer_is_a_lease_with_all_that_belongs_to_it() {
        let options = [
            &[1, 4, 255, 255, 255, 0, 3, 4, 10, 0, 2, 2][..],
            &[6, 8, 10, 0, 2, 3, 8, 8, 8, 8, 0, 51, 4, 0, 1, 0x51, 0x80],
            &[54, 4, 10, 0, 2, 2, 15, 4, b'a', b'.', b'b', 0],
        ];
        let packet = answer(5, &options.concat());
        let Some(Answer::Yes(lease)) = read(&packet, 7, HARDWARE) else {
            panic!("no lease");
        };
        assert_eq!(lease.address, Ipv4Addr::new(10, 0, 2, 15));
        assert_eq!((lease.prefix, lease.names.len()), (24, 2));
        assert_eq!(lease.router, Some(Ipv4Addr::new(10, 0, 2, 2)));
        assert_eq!(lease.domain.as_deref(), Some("a.b"));
        assert_eq!(lease.renew, Duration::from_secs(43200));
        assert_eq!(read(&packet, 8, HARDWARE), None);
        assert_eq!(read(&packet, 7, [0; 6]), None);
        assert_eq!(read(&answer(6, &[]), 7, HARDWARE), Some(Answer::No));
        let evil = answer(5, &[15, 9, b'a', b'\n', b'n', b's', b' ', b'x', 0, 0, 0]);
        let Some(Answer::Yes(lease)) = read(&evil, 7, HARDWARE) else {
            panic!("no lease");
        };
        assert_eq!(lease.domain, None);
    }

    #[test]
    fn no_packet_that_is_cut_off_or_changed_brings_the_reader_down() {
        let whole = answer(2, &[1, 4, 255, 255, 0, 0, 6, 4, 1, 2, 3, 4]);
        for end in 0..whole.len() {
            let _ = read(&whole[..end], 7, HARDWARE);
        }
        for at in 0..whole.len() {
            for value in [0, 1, 0x40, 0x4f, 0xff] {
                let mut changed = whole.clone();
                changed[at] = value;
                let _ = read(&changed, 7, HARDWARE);
            }
        }
    }

    #[test]
    fn a_question_is_a_whole_packet() {
        let packet = packet(Say::Discover, 7, HARDWARE);
        assert_eq!(checksum(&packet[..20]), 0);
        assert_eq!(
            usize::from(u16::from_be_bytes([packet[2], packet[3]])),
            packet.len()
        );
        assert!(packet.len() >= 328);
    }
}
