//! A viewer of VNC that needs no screen of its own.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Stdio};

use des::cipher::{BlockCipherEncrypt, KeyInit};
use hyperion_testkit::{requires, wait_for};

use crate::machines::vm;
use crate::site::{LONG, Site};

/// Says its ticket; whether it was let in.
fn enter(viewer: &mut TcpStream, ticket: &str) -> bool {
    viewer.set_read_timeout(Some(LONG)).expect("set");
    let mut version = [0; 12];
    viewer.read_exact(&mut version).expect("greeted");
    assert_eq!(&version, b"RFB 003.008\n");
    viewer.write_all(&version).expect("answered");
    let mut ways = [0; 2];
    viewer.read_exact(&mut ways).expect("asked");
    assert_eq!(ways, [1, 2], "by password, and in no other way");
    viewer.write_all(&[2]).expect("chosen");
    let mut challenge = [0; 16];
    viewer.read_exact(&mut challenge).expect("challenged");
    let key: [u8; 8] = ticket.as_bytes().try_into().expect("eight letters");
    let cipher = des::Des::new(&key.map(u8::reverse_bits).into());
    for half in challenge.chunks_exact_mut(8) {
        cipher.encrypt_block(half.try_into().expect("eight bytes"));
    }
    viewer.write_all(&challenge).expect("answered");
    let mut result = [0; 4];
    viewer.read_exact(&mut result).expect("told");
    result == [0; 4]
}

/// Asks for the whole picture, as it is: its pixels.
fn draw(viewer: &mut TcpStream) -> Vec<u8> {
    let number = |bytes: usize, viewer: &mut TcpStream| {
        let mut field = vec![0; bytes];
        viewer.read_exact(&mut field).expect("told");
        field.iter().fold(0usize, |n, b| n << 8 | usize::from(*b))
    };
    let [w, h] = [0, 0].map(|_: u8| number(2, viewer));
    let bits = number(1, viewer);
    number(15, viewer);
    let name = number(4, viewer);
    number(name, viewer);
    viewer
        .write_all(&[2, 0, 0, 1, 0, 0, 0, 0])
        .expect("raw alone");
    let [wide, high] = [w, h].map(|n| (n as u16).to_be_bytes());
    let request = [&[3, 0, 0, 0, 0, 0], &wide[..], &high].concat();
    viewer.write_all(&request).expect("asked");
    assert_eq!(number(2, viewer), 0, "an update");
    let mut pixels = Vec::new();
    for _ in 0..number(2, viewer) {
        number(4, viewer);
        let [w, h] = [0, 0].map(|_: u8| number(2, viewer));
        assert_eq!(number(4, viewer), 0, "raw");
        let from = pixels.len();
        pixels.resize(from + w * h * bits / 8, 0);
        viewer.read_exact(&mut pixels[from..]).expect("pixels");
    }
    assert!(w >= 320 && h >= 200, "{w}x{h}");
    pixels
}

struct Asked {
    child: Child,
    address: String,
    ticket: String,
}

fn ask(site: &Site, words: &[&str]) -> Asked {
    let words = [&["vm", "vnc", "seen", "--loopback"], words].concat();
    let mut command = site.command(&words);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("it starts");
    let out = child.stdout.take().expect("a pipe");
    let mut line = String::new();
    BufReader::new(out).read_line(&mut line).expect("a line");
    let (address, ticket) = line.trim().split_once(' ').expect("address and ticket");
    Asked {
        child,
        address: address.to_owned(),
        ticket: ticket.to_owned(),
    }
}

fn ended(mut child: Child) -> (i32, String) {
    let status = wait_for(LONG, || child.try_wait().expect("waited for"));
    let status = status.expect("it ends");
    let mut err = String::new();
    let mut from = child.stderr.take().expect("a pipe");
    from.read_to_string(&mut err).expect("text");
    (status.code().expect("by itself"), err)
}

#[test]
fn a_machine_without_a_screen_gets_one() {
    requires!("command:qemu-system-x86_64");
    let site = Site::new();
    let picture = site.path().join("seen.png").display().to_string();
    vm(&site, &["create", "seen", "--memory", "16MiB"]).ok();
    vm(&site, &["start", "seen"]).ok();
    let hint = "hyperion vm edit seen --vnc";
    vm(&site, &["vnc", "seen"]).refused("has no screen", hint);
    vm(&site, &["screenshot", "seen", &picture]).refused("has no screen", hint);
    let done = vm(&site, &["edit", "seen", "--vnc"]);
    assert!(done.err.contains("next start"), "{done:?}");
    vm(&site, &["stop", "--time", "0s", "seen"]).ok();
    vm(&site, &["start", "seen"]).ok();
    vm(&site, &["screenshot", "seen", &picture]).ok();
    assert!(
        std::fs::read(&picture)
            .expect("written")
            .starts_with(b"\x89PNG")
    );
    vm(&site, &["delete", "--force", "seen"]).ok();
}

#[test]
fn a_screen_on_loopback_is_drawn_for_one_viewer_with_the_ticket() {
    requires!("command:qemu-system-x86_64");
    let site = Site::new();
    vm(&site, &["create", "seen", "--memory", "16MiB", "--vnc"]).ok();
    vm(&site, &["vnc", "seen", "--loopback"]).refused("is not running", "hyperion vm start seen");
    vm(&site, &["start", "seen"]).ok();

    let asked = ask(&site, &[]);
    assert!(asked.address.starts_with("127.0.0.1:"), "{}", asked.address);
    let connect = || TcpStream::connect(&asked.address);
    let wrong: String = asked.ticket.chars().rev().collect();
    assert!(!enter(&mut connect().expect("open"), &wrong));
    // Until it is used, it can be.
    let mut viewer = connect().expect("open");
    assert!(enter(&mut viewer, &asked.ticket));
    viewer.write_all(&[1]).expect("shared");
    assert!(!draw(&mut viewer).is_empty());
    assert!(connect().is_err(), "the second viewer finds nobody");
    drop(viewer);
    assert_eq!(ended(asked.child).0, 0);

    let asked = ask(&site, &["--port", "0"]);
    for _ in 0..3 {
        let mut viewer = TcpStream::connect(&asked.address).expect("open");
        assert!(!enter(&mut viewer, "aaaaaaaa"));
    }
    let (code, told) = ended(asked.child);
    assert_eq!(code, 125);
    assert!(told.contains("3 wrong tickets"), "{told}");
    assert!(TcpStream::connect(&asked.address).is_err());
    vm(&site, &["vnc", "seen", "--loopback", "--time", "200ms"])
        .refused("no viewer came", "--time");
    vm(&site, &["delete", "--force", "seen"]).ok();
}
