//! What a guest sets up when it first boots: a seed for cloud-init's NoCloud,
//! as files and as one image.

use std::fmt::Write as _;

use hyperion_model::MachineSpec;
use hyperion_model::machine::{InterfaceKind, Seed};
use thiserror::Error;

use crate::iso::{self, IsoError};

/// The label by which cloud-init finds a seed.
const LABEL: &str = "cidata";

/// Why there is no seed.
#[derive(Debug, Error)]
pub enum SeedError {
    /// The machine has none.
    #[error("the machine {0} has no seed")]
    None(String),
    /// The files do not go into an image.
    #[error("the seed cannot be written as an image")]
    Image(#[from] IsoError),
}

/// Gives the files of a machine's seed, by name; nothing when it has none.
///
/// The user's own `user-data` goes in as it is, and what would have stood there
/// becomes `vendor-data`, over which cloud-init lets the user's go.
pub fn files(spec: &MachineSpec) -> Vec<(&'static str, String)> {
    let Some(seed) = &spec.seed else {
        return Vec::new();
    };
    let mut files = vec![("meta-data", meta_data(spec, seed))];
    let made = cloud_config(spec, seed);
    match &seed.user_data {
        Some(own) => files.extend([("user-data", own.clone()), ("vendor-data", made)]),
        None => files.push(("user-data", made)),
    }
    files.extend(network_config(spec).map(|text| ("network-config", text)));
    files
}

/// Gives the seed as an image that is attached as a read-only disk.
///
/// # Errors
/// [`SeedError`] when there is none, or it is too large.
pub fn image(spec: &MachineSpec) -> Result<Vec<u8>, SeedError> {
    let files = files(spec);
    if files.is_empty() {
        return Err(SeedError::None(spec.name.to_string()));
    }
    let files: Vec<(&str, &[u8])> = files
        .iter()
        .map(|(name, text)| (*name, text.as_bytes()))
        .collect();
    Ok(iso::image(LABEL, &files)?)
}

/// The guest's name for itself. Not every name of a machine is one of a host.
fn hostname(spec: &MachineSpec, seed: &Seed) -> String {
    let of_name = || {
        let name: String = spec
            .name
            .as_str()
            .replace('_', "-")
            .chars()
            .take(63)
            .collect();
        name.trim_end_matches(['-', '.']).to_owned()
    };
    seed.hostname.clone().unwrap_or_else(of_name)
}

fn meta_data(spec: &MachineSpec, seed: &Seed) -> String {
    // A guest takes itself for new when this changes: it stays with the machine.
    let identity = spec
        .uuid
        .map_or_else(|| spec.name.to_string(), |uuid| uuid.to_string());
    let host = quoted(&hostname(spec, seed));
    format!(
        "instance-id: {}\nlocal-hostname: {host}\n",
        quoted(&identity)
    )
}

fn cloud_config(spec: &MachineSpec, seed: &Seed) -> String {
    let mut out = String::from("#cloud-config\n");
    // Writing into a String cannot fail.
    let _ = writeln!(out, "hostname: {}", quoted(&hostname(spec, seed)));
    let _ = writeln!(out, "ssh_pwauth: false");
    if !seed.users.is_empty() {
        let _ = writeln!(out, "users:");
    }
    for user in &seed.users {
        let _ = writeln!(out, "  - name: {}", quoted(&user.name));
        let _ = writeln!(out, "    lock_passwd: true");
        if user.admin {
            let _ = writeln!(out, "    sudo: \"ALL=(ALL) NOPASSWD:ALL\"");
        }
        if !user.keys.is_empty() {
            let _ = writeln!(out, "    ssh_authorized_keys:");
        }
        for key in &user.keys {
            let _ = writeln!(out, "      - {}", quoted(key));
        }
    }
    out
}

/// Every card that leads somewhere asks for an address; none is waited for.
fn network_config(spec: &MachineSpec) -> Option<String> {
    let mut out = String::from("version: 2\nethernets:\n");
    let mut some = false;
    for (at, interface) in spec.interfaces.iter().enumerate() {
        if interface.kind == InterfaceKind::None {
            continue;
        }
        let mac = spec.mac(at)?;
        some = true;
        let _ = write!(
            out,
            "  net{at}:\n    match:\n      macaddress: \"{mac}\"\n    dhcp4: true\n    optional: true\n"
        );
    }
    some.then_some(out)
}

/// A text as a scalar of YAML in double quotes, whatever is in it.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            ' '..='~' => out.push(c),
            c if (c as u32) < 0x1_0000 => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => {
                let _ = write!(out, "\\U{:08x}", c as u32);
            }
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use hyperion_model::Bytes;
    use hyperion_model::machine::{Interface, SeedUser, Uuid};

    use super::*;

    fn spec() -> MachineSpec {
        let mut spec = MachineSpec::new("web_1".parse().expect("name"), Bytes::mib(512), 1);
        spec.uuid = Some(Uuid::from_random(7));
        spec.interfaces = vec![Interface::default(), Interface::default()];
        spec.interfaces[1].kind = InterfaceKind::None;
        spec.seed = Some(Seed {
            hostname: None,
            users: vec![SeedUser {
                name: "ann".into(),
                keys: vec!["ssh-ed25519 AAAA \"ann\": [x]".into()],
                admin: true,
            }],
            user_data: None,
        });
        spec
    }

    fn all(spec: &MachineSpec) -> String {
        files(spec)
            .iter()
            .map(|(name, text)| format!("--- {name}\n{text}"))
            .collect()
    }

    #[test]
    fn a_seed_makes_users_who_come_in_by_key() {
        insta::assert_snapshot!(all(&spec()), @r#"
        --- meta-data
        instance-id: "00000000-0000-4000-8000-000000000007"
        local-hostname: "web-1"
        --- user-data
        #cloud-config
        hostname: "web-1"
        ssh_pwauth: false
        users:
          - name: "ann"
            lock_passwd: true
            sudo: "ALL=(ALL) NOPASSWD:ALL"
            ssh_authorized_keys:
              - "ssh-ed25519 AAAA \"ann\": [x]"
        --- network-config
        version: 2
        ethernets:
          net0:
            match:
              macaddress: "f6:6d:61:8b:e0:e9"
            dhcp4: true
            optional: true
        "#);
    }

    #[test]
    fn own_user_data_goes_in_as_it_is_and_before_what_is_made() {
        let mut spec = spec();
        let own = "#!/bin/sh\necho own\n";
        spec.seed.as_mut().expect("a seed").user_data = Some(own.into());
        let files = files(&spec);
        let names: Vec<_> = files.iter().map(|(name, _)| *name).collect();
        assert_eq!(
            names,
            ["meta-data", "user-data", "vendor-data", "network-config"]
        );
        assert_eq!(files[1].1, own);
        assert!(files[2].1.starts_with("#cloud-config\n"));
    }

    #[test]
    fn no_word_breaks_out_of_its_quotes() {
        assert_eq!(
            quoted("a\"\n\\b: #\u{e4}\u{1f600}\t"),
            r#""a\"\n\\b: #\u00e4\U0001f600\u0009""#
        );
    }

    #[test]
    fn a_machine_without_a_seed_has_no_image_of_one() {
        let mut spec = spec();
        spec.seed = None;
        let error = image(&spec).expect_err("no seed");
        assert_eq!(error.to_string(), "the machine web_1 has no seed");
    }
}
