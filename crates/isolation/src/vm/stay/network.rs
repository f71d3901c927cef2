//! The network of a machine whose image has nothing that sets one up.

use std::fs;
use std::io;
use std::time::{Duration, Instant};

use hyperion_sys::net::{self, Packets};

use super::dhcp::{self, Answer, Lease, Say};
use super::{files, say};

/// How long an answer is waited for.
const ANSWER: Duration = Duration::from_secs(2);
/// How long it is tried before a pause.
const TRY: Duration = Duration::from_secs(10);
/// How long such a pause is.
const PAUSE: Duration = Duration::from_secs(15);

/// Lists the cards that are no network of the kernel's own.
pub(super) fn cards() -> Vec<String> {
    let all = fs::read_dir("/sys/class/net")
        .into_iter()
        .flatten()
        .flatten();
    let real = all.filter(|entry| entry.path().join("device").exists());
    let mut names: Vec<String> = real
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    names
}

/// Keeps a card's address as long as the machine runs; `up` is called once it has one,
/// or once none could be had at first.
pub(super) fn keep(card: &str, mut first: bool, up: impl FnOnce()) {
    let mut up = Some(up);
    if let Err(e) = net::start(card) {
        say(format_args!("{card} does not come up: {e}"));
        return;
    }
    loop {
        let pause = match lease(card).and_then(|lease| settle(card, &lease, first).map(|()| lease))
        {
            Ok(lease) => {
                first = false;
                lease.renew
            }
            Err(e) => {
                if up.is_some() {
                    say(format_args!("{card} has no address yet: {e}"));
                }
                PAUSE
            }
        };
        if let Some(up) = up.take() {
            up();
        }
        std::thread::sleep(pause);
    }
}

/// Asks for an address.
fn lease(card: &str) -> io::Result<Lease> {
    let hardware = hardware(card).ok_or(io::ErrorKind::InvalidData)?;
    let packets = Packets::on(card)?;
    let mut number = [0; 4];
    rustix::rand::getrandom(&mut number, rustix::rand::GetRandomFlags::empty())?;
    let number = u32::from_le_bytes(number);
    let since = Instant::now();
    let mut question = Say::Discover;
    let mut buffer = [0; 2048];
    while since.elapsed() < TRY {
        packets.broadcast(&dhcp::packet(question, number, hardware))?;
        let asked = Instant::now();
        while let Some(left) = ANSWER.checked_sub(asked.elapsed()) {
            let Some(got) = packets.receive(&mut buffer, left)? else {
                break;
            };
            match (question, dhcp::read(&buffer[..got], number, hardware)) {
                (Say::Discover, Some(Answer::Offer(lease))) => {
                    question = Say::Request(lease.address, lease.server);
                    break;
                }
                (Say::Request(..), Some(Answer::Yes(lease))) => return Ok(lease),
                (Say::Request(..), Some(Answer::No)) => {
                    question = Say::Discover;
                    break;
                }
                _ => {}
            }
        }
    }
    Err(io::Error::new(
        io::ErrorKind::TimedOut,
        "no DHCP server answers",
    ))
}

fn hardware(card: &str) -> Option<[u8; 6]> {
    let text = fs::read_to_string(format!("/sys/class/net/{card}/address")).ok()?;
    let mut bytes = [0; 6];
    let mut parts = text.trim().split(':');
    for byte in &mut bytes {
        *byte = u8::from_str_radix(parts.next()?, 16).ok()?;
    }
    Some(bytes)
}

/// Lets the card have its address, and the guest know the ways out and the names.
fn settle(card: &str, lease: &Lease, first: bool) -> io::Result<()> {
    net::join(card, lease.address, lease.prefix)?;
    if let Some(router) = lease.router {
        net::default_route(router)?;
    }
    if !lease.names.is_empty() {
        let mut text = String::new();
        if let Some(domain) = &lease.domain {
            text += &format!("search {domain}\n");
        }
        for name in &lease.names {
            text += &format!("nameserver {name}\n");
        }
        files::own("/etc/resolv.conf", &text, first);
    }
    Ok(())
}
