//! Seeds as programs of others read them.

use std::path::Path;
use std::process::{Command, Output};

use hyperion_formats::{iso, seed};
use hyperion_model::machine::{Interface, Seed, SeedUser};
use hyperion_model::{Bytes, MachineSpec};
use hyperion_testkit::TestDir;

fn spec() -> MachineSpec {
    let mut spec = MachineSpec::new("web-1".parse().expect("name"), Bytes::mib(512), 1);
    spec.interfaces = vec![Interface::default()];
    spec.seed = Some(Seed {
        hostname: Some("web-1.example".into()),
        users: vec![SeedUser {
            name: "ann".into(),
            keys: vec!["ssh-ed25519 AAAAC3 \"ann\": #1 {x} \u{e4}\u{1f600}\\".into()],
            admin: true,
        }],
        user_data: Some("#!/bin/sh\n".to_owned() + &"echo more than one sector\n".repeat(200)),
    });
    assert_eq!(spec.validate(), Ok(()));
    spec
}

fn run(command: &str, arguments: &[&str], file: &Path) -> Output {
    let output = Command::new(command)
        .args(arguments)
        .arg(file)
        .output()
        .expect("started");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command}: {said}");
    output
}

#[test]
fn the_files_of_a_seed_come_out_of_its_image_as_they_went_in() {
    hyperion_testkit::requires!("command:isoinfo");
    let folder = TestDir::new();
    let file = folder.path().join("seed.iso");
    std::fs::write(&file, seed::image(&spec()).expect("an image")).expect("written");
    let names = run("isoinfo", &["-J", "-f", "-i"], &file).stdout;
    let names = String::from_utf8(names).expect("text");
    let mut names: Vec<_> = names
        .lines()
        .map(|line| line.trim_start_matches('/'))
        .collect();
    names.sort_unstable();
    assert_eq!(
        names,
        ["meta-data", "network-config", "user-data", "vendor-data"]
    );
    for (name, text) in seed::files(&spec()) {
        let path = format!("/{name}");
        let content = run("isoinfo", &["-J", "-x", &path, "-i"], &file).stdout;
        assert_eq!(String::from_utf8_lossy(&content), text);
    }
    // The short names lead to the same.
    let content = run("isoinfo", &["-x", "/META_DAT.;1", "-i"], &file).stdout;
    assert_eq!(String::from_utf8_lossy(&content), seed::files(&spec())[0].1);
}

#[test]
fn a_guest_finds_the_seed_by_its_label() {
    hyperion_testkit::requires!("command:blkid");
    let folder = TestDir::new();
    let file = folder.path().join("seed.iso");
    std::fs::write(&file, seed::image(&spec()).expect("an image")).expect("written");
    let told = run("blkid", &["-p", "-o", "export"], &file).stdout;
    let told = String::from_utf8(told).expect("text");
    assert!(told.contains("LABEL=cidata\n"), "{told}");
    assert!(told.contains("TYPE=iso9660\n"), "{told}");
}

#[test]
fn a_hundred_files_fill_a_folder_of_several_sectors() {
    hyperion_testkit::requires!("command:isoinfo");
    let names: Vec<String> = (0..100)
        .map(|n| format!("a-file-with-a-rather-long-name-{n}.txt"))
        .collect();
    let files: Vec<(&str, &[u8])> = names
        .iter()
        .map(|name| (name.as_str(), name.as_bytes()))
        .collect();
    let folder = TestDir::new();
    let file = folder.path().join("many.iso");
    std::fs::write(&file, iso::image("many", &files).expect("an image")).expect("written");
    for list in [&["-J", "-f", "-i"][..], &["-f", "-i"][..]] {
        let listed = String::from_utf8(run("isoinfo", list, &file).stdout).expect("text");
        assert_eq!(listed.lines().count(), 100, "{listed}");
    }
    let path = format!("/{}", names[42]);
    let content = run("isoinfo", &["-J", "-x", &path, "-i"], &file).stdout;
    assert_eq!(String::from_utf8_lossy(&content), names[42]);
}

#[test]
fn what_is_made_is_yaml_that_says_what_was_meant() {
    hyperion_testkit::requires!("python:yaml");
    let spec = spec();
    let folder = TestDir::new();
    for (name, text) in seed::files(&spec) {
        if name == "user-data" {
            continue;
        }
        let file = folder.path().join(name);
        std::fs::write(&file, text).expect("written");
        let script = "import json, sys, yaml; print(json.dumps(yaml.safe_load(open(sys.argv[1]))))";
        let said = run("python3", &["-c", script], &file).stdout;
        let said = String::from_utf8(said).expect("text");
        match name {
            "meta-data" => assert!(
                said.contains("\"local-hostname\": \"web-1.example\""),
                "{said}"
            ),
            "vendor-data" => {
                let key = r#"ssh-ed25519 AAAAC3 \"ann\": #1 {x} \u00e4\ud83d\ude00\\"#;
                assert!(said.contains(key), "{said}");
            }
            _ => assert!(
                said.contains(&spec.mac(0).expect("a card").to_string()),
                "{said}"
            ),
        }
    }
}
