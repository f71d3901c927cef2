//! What nobody took: a note where libvirt knows it, else a mistake.

use super::{Reading, shown};
use crate::xml::Element;

/// Elements that are read, for those who misspell them.
const ELEMENTS: &[&str] = &[
    "name",
    "uuid",
    "title",
    "description",
    "metadata",
    "memory",
    "currentMemory",
    "memoryBacking",
    "hugepages",
    "page",
    "vcpu",
    "cputune",
    "vcpupin",
    "numatune",
    "memnode",
    "os",
    "type",
    "loader",
    "nvram",
    "kernel",
    "initrd",
    "cmdline",
    "boot",
    "features",
    "acpi",
    "apic",
    "hyperv",
    "cpu",
    "model",
    "topology",
    "feature",
    "numa",
    "cell",
    "clock",
    "timer",
    "devices",
    "disk",
    "driver",
    "source",
    "host",
    "target",
    "readonly",
    "serial",
    "backingStore",
    "format",
    "interface",
    "mac",
    "portForward",
    "range",
    "filesystem",
    "graphics",
    "listen",
    "video",
    "console",
    "channel",
    "rng",
    "backend",
    "watchdog",
    "controller",
    "seed",
    "user",
    "key",
    "user-data",
];

/// Attributes that are read.
const ATTRIBUTES: &[&str] = &[
    "type",
    "unit",
    "placement",
    "cpuset",
    "current",
    "arch",
    "machine",
    "mode",
    "match",
    "fallback",
    "policy",
    "name",
    "sockets",
    "cores",
    "threads",
    "cpus",
    "memory",
    "offset",
    "device",
    "cache",
    "discard",
    "file",
    "dev",
    "pool",
    "volume",
    "protocol",
    "query",
    "port",
    "bus",
    "address",
    "bridge",
    "network",
    "order",
    "proto",
    "start",
    "end",
    "dir",
    "socket",
    "listen",
    "autoport",
    "model",
    "action",
    "state",
    "retries",
    "value",
    "autostart",
    "size",
    "hostname",
    "admin",
];

impl Reading {
    /// Tells of what is left of an element. `foreign` are the names that are
    /// right and not carried over, attributes with an `@` before them.
    pub(in crate::domain) fn leftovers(&mut self, element: Element, foreign: &[&str]) {
        let name = shown(&element.name);
        for attribute in element.attributes {
            let key = attribute.name.as_str();
            // Whatever is of another namespace is somebody else's.
            if key == "xmlns" || key.starts_with("xmlns:") {
                continue;
            }
            let known = |word: &&str| word.strip_prefix('@') == Some(key);
            if key.contains(':') || foreign.iter().any(known) {
                let what = format!(
                    "the attribute {} of <{name}> is not carried over",
                    shown(key)
                );
                self.note(attribute.place, what);
            } else {
                let known = foreign.iter().filter_map(|word| word.strip_prefix('@'));
                let hint = self.guess(key, known.chain(ATTRIBUTES.iter().copied()));
                let what = format!("<{name}> has no attribute {}{hint}", shown(key));
                self.left_out(attribute.place, what);
            }
        }
        for child in element.children {
            let key = child.name.as_str();
            let usual = ["address", "alias", "acpi"].contains(&key);
            if usual || key.contains(':') || foreign.contains(&key) {
                self.note(
                    child.place,
                    format!("<{}> of <{name}> is not carried over", shown(key)),
                );
            } else {
                let known = foreign.iter().filter(|word| !word.starts_with('@'));
                let hint = self.guess(key, known.chain(ELEMENTS).copied());
                let what = if ELEMENTS.contains(&key) {
                    format!("<{key}> stands in <{name}> where none belongs, or once too often")
                } else {
                    format!("<{name}> has no element <{}>{hint}", shown(key))
                };
                self.left_out(child.place, what);
            }
        }
        if !element.text.trim().is_empty() {
            self.left_out(element.place, format!("there is text in <{name}>"));
        }
    }

    /// The nearest of the names that are known, as a question.
    fn guess<'a>(&self, word: &str, known: impl Iterator<Item = &'a str>) -> String {
        // Nothing that is known is longer, and who is wrong a hundred times has
        // written something else.
        if word.len() > 24 || self.repairs.len() > 100 {
            return String::new();
        }
        let near = known
            .map(|known| (strsim::damerau_levenshtein(word, known), known))
            .filter(|(distance, known)| *distance > 0 && *distance <= known.len() / 3)
            .min();
        near.map_or(String::new(), |(_, known)| {
            format!(" (did you mean {known}?)")
        })
    }
}
