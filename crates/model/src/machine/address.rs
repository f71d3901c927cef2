//! Identities and addresses of a machine, which check themselves when they are read.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::devices::Protocol;
use crate::ids::Name;

/// What is wrong with an identity or an address.
#[derive(Debug, Clone, Error, PartialEq, Eq)]
pub enum AddressError {
    /// Not a UUID.
    #[error("{0:?} is not a UUID: 32 hexadecimal digits, in groups of 8-4-4-4-12")]
    Uuid(String),
    /// Not a MAC address.
    #[error(
        "{0:?} is not a MAC address: six pairs of hexadecimal digits, such as 52:54:00:12:34:56"
    )]
    Mac(String),
    /// Not a forwarded port.
    #[error(
        "{0:?} is not a forwarded port: write [ADDRESS:]PORT:PORT[/udp], such as 127.0.0.1:2222:22"
    )]
    Forward(String),
    /// Not an address of the web.
    #[error("{0:?} is not an address: write http://HOST[:PORT]/PATH, or https, without a password")]
    Web(String),
}

/// Serde by way of the text form.
macro_rules! as_text {
    ($name:ident) => {
        impl TryFrom<String> for $name {
            type Error = AddressError;
            fn try_from(s: String) -> Result<Self, AddressError> {
                s.parse()
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.to_string()
            }
        }
    };
}

/// The identity of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Uuid([u8; 16]);

as_text!(Uuid);

impl Uuid {
    /// Makes a random UUID (version 4) from 128 bits that the caller provides.
    pub fn from_random(bits: u128) -> Self {
        let mut bytes = bits.to_be_bytes();
        bytes[6] = bytes[6] & 0x0f | 0x40;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        Self(bytes)
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, byte) in self.0.iter().enumerate() {
            let dash = if matches!(at, 4 | 6 | 8 | 10) {
                "-"
            } else {
                ""
            };
            write!(f, "{dash}{byte:02x}")?;
        }
        Ok(())
    }
}

impl FromStr for Uuid {
    type Err = AddressError;
    fn from_str(s: &str) -> Result<Self, AddressError> {
        let bad = || AddressError::Uuid(s.to_owned());
        let groups: Vec<usize> = s.split('-').map(str::len).collect();
        let digits: String = s.chars().filter(|c| *c != '-').collect();
        let shaped = groups == [8, 4, 4, 4, 12] || groups == [32];
        if !shaped || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(bad());
        }
        let number = u128::from_str_radix(&digits, 16).map_err(|_| bad())?;
        Ok(Self(number.to_be_bytes()))
    }
}

/// The address of a network card.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mac([u8; 6]);

as_text!(Mac);

impl Mac {
    /// Makes an address from its bytes.
    pub const fn new(bytes: [u8; 6]) -> Self {
        Self(bytes)
    }

    /// Gives the bytes.
    pub const fn bytes(self) -> [u8; 6] {
        self.0
    }

    /// Makes the address of a machine's card number `index`: always the same,
    /// for one card, and locally administered. Hosts whose machines meet on one
    /// bridge take different salts, such as their machine ids.
    pub fn derive(name: &Name, index: u32, salt: &[u8]) -> Self {
        // FNV-1a, then the finalizer of MurmurHash3: nothing secret, but every
        // bit of the name reaches every bit of the address.
        let index = index.to_be_bytes();
        let parts = [salt, &[0], name.as_str().as_bytes(), &[0], &index];
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        for byte in parts.into_iter().flatten() {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
        hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        hash ^= hash >> 33;
        let [_, _, first, rest @ ..] = hash.to_be_bytes();
        let mut bytes = [0; 6];
        bytes[0] = first & 0xfc | 0x02;
        bytes[1..].copy_from_slice(&rest);
        Self(bytes)
    }

    /// Tells whether the address names a group, which no card can have.
    pub const fn is_multicast(self) -> bool {
        self.0[0] & 1 == 1
    }

    /// Tells whether the address was made locally and not by a maker of cards.
    pub const fn is_local(self) -> bool {
        self.0[0] & 2 == 2
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl FromStr for Mac {
    type Err = AddressError;
    fn from_str(s: &str) -> Result<Self, AddressError> {
        let bad = || AddressError::Mac(s.to_owned());
        let mut bytes = [0; 6];
        let mut parts = s.split([':', '-']);
        for byte in &mut bytes {
            let part = parts.next().ok_or_else(bad)?;
            if part.len() != 2 || !part.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(bad());
            }
            *byte = u8::from_str_radix(part, 16).map_err(|_| bad())?;
        }
        if parts.next().is_some() {
            return Err(bad());
        }
        Ok(Self(bytes))
    }
}

/// A port of the host that leads to one of the guest: `127.0.0.1:2222:22`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PortForward {
    /// The host's address; 127.0.0.1 where none is written.
    pub address: IpAddr,
    /// The host's port; 0: a free one.
    pub host: u16,
    /// The guest's port.
    pub guest: u16,
    /// The protocol.
    pub protocol: Protocol,
}

as_text!(PortForward);

impl fmt::Display for PortForward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            IpAddr::V4(v4) => write!(f, "{v4}")?,
            IpAddr::V6(v6) => write!(f, "[{v6}]")?,
        }
        write!(f, ":{}:{}", self.host, self.guest)?;
        match self.protocol {
            Protocol::Tcp => Ok(()),
            Protocol::Udp => f.write_str("/udp"),
        }
    }
}

impl FromStr for PortForward {
    type Err = AddressError;
    fn from_str(s: &str) -> Result<Self, AddressError> {
        let bad = || AddressError::Forward(s.to_owned());
        let (rest, protocol) = s.split_once('/').unwrap_or((s, "tcp"));
        let protocol = protocol.parse().map_err(|_| bad())?;
        let (rest, guest) = rest.rsplit_once(':').ok_or_else(bad)?;
        let (address, host) = match rest.rsplit_once(':') {
            None => (IpAddr::V4(Ipv4Addr::LOCALHOST), rest),
            Some((address, host)) => {
                let v6 = address.strip_prefix('[').and_then(|a| a.strip_suffix(']'));
                let parsed = match v6 {
                    Some(v6) => v6.parse::<Ipv6Addr>().map(IpAddr::V6).ok(),
                    None => address.parse::<Ipv4Addr>().map(IpAddr::V4).ok(),
                };
                (parsed.ok_or_else(bad)?, host)
            }
        };
        let port = |text: &str| {
            let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
            let number = text.parse::<u16>().ok();
            number.filter(|_| digits).ok_or_else(bad)
        };
        let (host, guest) = (port(host)?, port(guest)?);
        if guest == 0 {
            return Err(bad());
        }
        Ok(Self {
            address,
            host,
            guest,
            protocol,
        })
    }
}

/// The address of a file behind HTTP or HTTPS.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct WebAddress {
    secure: bool,
    host: String,
    port: Option<u16>,
    /// Begins with `/`.
    path: String,
}

as_text!(WebAddress);

impl WebAddress {
    /// Tells whether it is HTTPS.
    pub const fn is_secure(&self) -> bool {
        self.secure
    }

    /// Gives the host: a name, or an address, of IPv6 without its brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Gives the port.
    pub fn port(&self) -> u16 {
        self.port.unwrap_or(if self.secure { 443 } else { 80 })
    }

    /// Gives the path and the query, from the first slash.
    pub fn path(&self) -> &str {
        &self.path
    }
}

impl fmt::Display for WebAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.secure { "https" } else { "http" };
        let (open, close) = if self.host.contains(':') {
            ("[", "]")
        } else {
            ("", "")
        };
        write!(f, "{scheme}://{open}{}{close}", self.host)?;
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        f.write_str(&self.path)
    }
}

impl FromStr for WebAddress {
    type Err = AddressError;
    fn from_str(s: &str) -> Result<Self, AddressError> {
        let bad = || AddressError::Web(s.to_owned());
        let (scheme, rest) = s.split_once("://").ok_or_else(bad)?;
        let secure = match scheme {
            "http" => false,
            "https" => true,
            _ => return Err(bad()),
        };
        let (place, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        // What a program that fetches it might take for the end of the address,
        // or for an option of its own, is not let through.
        let plain = |b: u8| b.is_ascii_graphic() && !b"\"<>\\^`{|}#".contains(&b);
        if !path.bytes().all(plain) || s.len() > 2048 {
            return Err(bad());
        }
        let (host, port) = match place.strip_prefix('[') {
            Some(v6) => {
                let (v6, port) = v6.split_once(']').ok_or_else(bad)?;
                let v6: Ipv6Addr = v6.parse().map_err(|_| bad())?;
                let port = match port {
                    "" => None,
                    port => Some(port.strip_prefix(':').ok_or_else(bad)?),
                };
                (v6.to_string(), port)
            }
            None => {
                let (host, port) = match place.split_once(':') {
                    Some((host, port)) => (host, Some(port)),
                    None => (place, None),
                };
                let fine = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
                if host.is_empty() || host.starts_with('-') || !host.bytes().all(fine) {
                    return Err(bad());
                }
                (host.to_ascii_lowercase(), port)
            }
        };
        let port = match port {
            None => None,
            Some(text) if text.bytes().all(|b| b.is_ascii_digit()) => {
                Some(text.parse().ok().filter(|n| *n != 0).ok_or_else(bad)?)
            }
            Some(_) => return Err(bad()),
        };
        // One address, one form: what is said by default is not said.
        let default = if secure { 443 } else { 80 };
        Ok(Self {
            secure,
            host,
            port: port.filter(|port| *port != default),
            path: format!("/{}", path.trim_start_matches('/')),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name(text: &str) -> Name {
        text.parse().expect("a name")
    }

    #[test]
    fn an_address_of_a_card_stays_and_is_local() {
        let mac = Mac::derive(&name("web"), 0, b"host");
        assert_eq!(mac, Mac::derive(&name("web"), 0, b"host"));
        assert!(mac.is_local() && !mac.is_multicast());
        // Written down: machines that exist keep their addresses for ever.
        assert_eq!(
            Mac::derive(&name("web"), 0, b"").to_string(),
            "b2:bb:e7:4d:58:84"
        );
        let others = [
            Mac::derive(&name("web"), 1, b"host"),
            Mac::derive(&name("wec"), 0, b"host"),
            Mac::derive(&name("web"), 0, b"other"),
        ];
        assert!(!others.contains(&mac));
    }

    #[test]
    fn ten_thousand_machines_have_ten_thousand_addresses() {
        let macs: std::collections::BTreeSet<Mac> = (0..10_000)
            .map(|n| Mac::derive(&name(&format!("node-{n}")), 0, b""))
            .collect();
        assert_eq!(macs.len(), 10_000);
        assert!(macs.iter().all(|mac| mac.is_local() && !mac.is_multicast()));
    }

    #[test]
    fn identities_are_read_with_and_without_dashes() {
        let uuid = Uuid::from_random(u128::MAX);
        assert_eq!(uuid.to_string(), "ffffffff-ffff-4fff-bfff-ffffffffffff");
        assert_eq!("ffffffffffff4fffbfffffffffffffff".parse(), Ok(uuid));
        for bad in ["", "ffff", "+fffffff-ffff-4fff-bfff-ffffffffffff"] {
            assert!(bad.parse::<Uuid>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_forward_without_an_address_opens_loopback_only() {
        let ssh: PortForward = "2222:22".parse().expect("valid");
        assert_eq!(ssh.to_string(), "127.0.0.1:2222:22");
        let dns: PortForward = "[::1]:53:53/udp".parse().expect("valid");
        assert_eq!(dns.to_string(), "[::1]:53:53/udp");
        assert!("0.0.0.0:0:80".parse::<PortForward>().is_ok());
        for bad in [
            "",
            "22",
            "a:22",
            "1:2:3",
            "2222:0",
            "2222:70000",
            "1:2/sctp",
            "+1:2",
            "::1:1:2",
        ] {
            assert!(bad.parse::<PortForward>().is_err(), "{bad}");
        }
    }

    #[test]
    fn an_address_of_the_web_has_one_form_and_no_password() {
        let iso: WebAddress = "http://x".parse().expect("valid");
        assert_eq!((iso.host(), iso.port(), iso.path()), ("x", 80, "/"));
        let iso: WebAddress = "https://Mirror.example:443/a/b.iso?c=d"
            .parse()
            .expect("valid");
        assert_eq!(iso.to_string(), "https://mirror.example/a/b.iso?c=d");
        let v6: WebAddress = "http://[::1]:8080/x".parse().expect("valid");
        assert_eq!((v6.host(), v6.port()), ("::1", 8080));
        assert_eq!(v6.to_string(), "http://[::1]:8080/x");
        for bad in [
            "ftp://x/y",
            "file:///etc/passwd",
            "http://",
            "http:///x",
            "http://user:secret@x/y",
            "http://x/a b",
            "http://x/a\"b",
            "http://-x/",
            "http://x:0/",
            "http://x:99999/",
            "http://[::1/",
            "http://x/\u{e4}",
        ] {
            assert!(bad.parse::<WebAddress>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_is_read_is_written_so_that_it_is_read_again(s in "(https?://)?[\\[\\]:/0-9a-fx.-]{0,40}(/udp)?") {
            if let Ok(value) = s.parse::<WebAddress>() {
                prop_assert_eq!(value.to_string().parse(), Ok(value));
            }
            if let Ok(value) = s.parse::<PortForward>() {
                prop_assert_eq!(value.to_string().parse(), Ok(value));
            }
            if let Ok(value) = s.parse::<Mac>() {
                prop_assert_eq!(value.to_string().parse(), Ok(value));
            }
            if let Ok(value) = s.parse::<Uuid>() {
                prop_assert_eq!(value.to_string().parse(), Ok(value));
            }
        }
    }
}
