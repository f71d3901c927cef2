//! The targets, by what they read.

mod folders;
mod guests;
mod images;
mod kernels;
mod layers;
mod machines;
mod programs;
mod scenarios;
mod scripts;
mod words;

use crate::Target;

/// All of them.
pub const TARGETS: &[Target] = &[
    layers::TAR,
    layers::EROFS,
    layers::LAYERS,
    folders::CHANGES,
    images::ARCHIVE,
    images::LAYOUT,
    images::MANIFEST,
    images::CHALLENGE,
    images::CREDENTIALS,
    words::REFERENCE,
    words::REGISTRIES,
    programs::PMI,
    programs::WIRE,
    programs::QMP,
    guests::RELAY,
    guests::GUEST,
    programs::AGENT,
    programs::PASSWD,
    programs::ELF,
    programs::COMMAND,
    kernels::KERNEL,
    kernels::MODULE,
    kernels::PACKAGE,
    words::WORDS,
    machines::DOMAIN_XML,
    machines::OVF,
    machines::OVA,
    scripts::JOB_SCRIPT,
    scenarios::SCENARIO,
    scenarios::SNAPSHOT,
    scenarios::SWF,
];

/// Texts as seeds.
fn texts(all: &[&str]) -> Vec<Vec<u8>> {
    all.iter().map(|text| text.as_bytes().to_vec()).collect()
}
