//! What makes a machine whole: every problem is told at once, with its place and its fix.

mod devices;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use super::{
    Architecture, Board, BootDevice, CpuModel, Enlightenment, Firmware, HugePages, InterfaceKind,
    MachineImage, MachineSpec, Seed, Starts,
};
use crate::mount::is_plain_absolute;

/// More than any hypervisor gives today.
const MOST_VCPUS: u32 = 4096;

/// One thing that is wrong with a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where: `disks[1].target`.
    pub path: String,
    /// What is wrong.
    pub what: String,
    /// What to do.
    pub fix: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.path, self.what, self.fix)
    }
}

/// All that is wrong with a machine, in the order of its fields; at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all: Vec<String> = self.0.iter().map(Problem::to_string).collect();
        f.write_str(&all.join("; "))
    }
}

impl std::error::Error for Problems {}

impl MachineSpec {
    /// Looks whether the machine is whole and says nothing twice.
    ///
    /// # Errors
    /// Every problem that it has.
    pub fn validate(&self) -> Result<(), Problems> {
        let mut look = Look::default();
        look.texts(self);
        look.memory(self);
        look.vcpus(self);
        look.cpu(self);
        look.boot(self);
        look.hyperv(self);
        for (at, disk) in self.disks.iter().enumerate() {
            look.disk(&format!("disks[{at}]"), disk, self.board);
        }
        look.shared_content(&self.disks);
        for (at, interface) in self.interfaces.iter().enumerate() {
            look.interface(&format!("interfaces[{at}]"), interface);
        }
        for (at, share) in self.shares.iter().enumerate() {
            look.share(&format!("shares[{at}]"), share);
        }
        look.twice(self);
        look.graphics(&self.graphics);
        if let Some(seed) = &self.seed {
            look.seed(seed);
        }
        if let Some(image) = &self.image {
            look.image(image);
        }
        if look.0.is_empty() {
            Ok(())
        } else {
            Err(Problems(look.0))
        }
    }
}

#[derive(Default)]
struct Look(Vec<Problem>);

impl Look {
    fn must(&mut self, fine: bool, path: &str, what: impl Into<String>, fix: &str) {
        if !fine {
            self.0.push(Problem {
                path: path.to_owned(),
                what: what.into(),
                fix: fix.to_owned(),
            });
        }
    }

    fn texts(&mut self, spec: &MachineSpec) {
        let one = |text: &Option<String>| text.as_deref().is_none_or(|t| is_line(t, 256));
        let fix = "write one line of at most 256 characters";
        self.must(one(&spec.title), "title", "is not one line", fix);
        self.must(one(&spec.os_variant), "os_variant", "is not one line", fix);
        let text = spec.description.as_deref();
        self.must(
            text.is_none_or(|text| is_text(text, 64 << 10)),
            "description",
            "has control characters, is empty or longer than 64 KiB",
            "write plain text, or leave it out",
        );
    }

    fn image(&mut self, image: &MachineImage) {
        let line = "write one line of at most 256 characters";
        let reference = &image.reference;
        self.must(
            is_line(reference, 256),
            "image.reference",
            "is not one line",
            line,
        );
        let digest = image.digest.strip_prefix("sha256:").unwrap_or_default();
        self.must(
            digest.len() == 64 && digest.bytes().all(|b| b.is_ascii_hexdigit()),
            "image.digest",
            "is no digest",
            "write sha256: and 64 digits",
        );
        let Starts::Service(service) = &image.starts else {
            return;
        };
        let all = || service.command.iter().chain(&service.env);
        let control = |c: char| c.is_control() && c != '\n' && c != '\t';
        self.must(
            all().map(String::len).sum::<usize>() <= 128 << 10
                && !all().any(|t| t.contains(control)),
            "image.starts",
            "has control characters, or words of more than 128 KiB",
            "write less and plain text, or put it into a file of the image",
        );
        let first = service.command.first().map_or("", String::as_str);
        self.must(
            !first.is_empty(),
            "image.starts.command",
            "names no program",
            "write the program and its arguments",
        );
        let named = |env: &String| env.find('=').is_some_and(|at| at > 0);
        self.must(
            service.env.iter().all(named),
            "image.starts.env",
            "has a variable without a name or a value",
            "write NAME=VALUE",
        );
        let lines = [&service.user, &service.folder, &service.stop_signal];
        self.must(
            lines
                .iter()
                .all(|text| text.as_deref().is_none_or(|t| is_line(t, 4096))),
            "image.starts",
            "has a user, a folder or a signal that is not one line",
            line,
        );
        let folder = service.folder.as_deref();
        self.must(
            folder.is_none_or(|folder| folder.starts_with('/')),
            "image.starts.folder",
            "is not a whole path",
            "begin it with /",
        );
    }

    fn memory(&mut self, spec: &MachineSpec) {
        let memory = &spec.memory;
        let size = memory.size;
        self.must(
            size.0 >= 1 << 20,
            "memory.size",
            format!("{size} holds no system"),
            "write an amount with its unit, such as 512MiB",
        );
        if let Some(max) = memory.max {
            self.must(
                max >= size,
                "memory.max",
                format!("{max} is less than the {size} at the start"),
                "write more, or leave it out",
            );
        }
        if let Some(HugePages::Of(page)) = memory.hugepages {
            self.must(
                page.0.is_power_of_two() && page.0 >= 1 << 16,
                "memory.hugepages",
                format!("there are no huge pages of {page}"),
                "write a size that the host has, such as 2MiB or 1GiB",
            );
            self.must(
                page.0 == 0 || size.0.is_multiple_of(page.0),
                "memory.size",
                format!("{size} is not made of whole pages of {page}"),
                "write a multiple of the page, or leave the pages' size out",
            );
        }
    }

    fn vcpus(&mut self, spec: &MachineSpec) {
        let vcpus = &spec.vcpus;
        self.must(
            (1..=MOST_VCPUS).contains(&vcpus.count),
            "vcpus.count",
            format!("a machine cannot have {} processors", vcpus.count),
            "write a number from 1 to 4096",
        );
        if let Some(max) = vcpus.max {
            self.must(
                max >= vcpus.count && max <= MOST_VCPUS,
                "vcpus.max",
                format!("{max} is less than the {} at the start", vcpus.count),
                "write more, at most 4096, or leave it out",
            );
        }
        let total = vcpus.max.unwrap_or(vcpus.count);
        if let Some(shape) = vcpus.topology {
            let parts = [shape.sockets, shape.cores, shape.threads];
            let product: u128 = parts.iter().map(|n| u128::from(*n)).product();
            self.must(
                product == u128::from(total),
                "vcpus.topology",
                format!(
                    "{} sockets × {} cores × {} threads are {product} processors, not {total}",
                    shape.sockets, shape.cores, shape.threads
                ),
                "make the product the number of processors",
            );
        }
        let empty = vcpus.affinity.as_ref().is_some_and(|set| set.is_empty());
        self.must(
            !empty,
            "vcpus.affinity",
            "names no processor",
            "write a list such as 0-3, or leave it out",
        );
        for (vcpu, set) in &vcpus.pinning {
            self.must(
                *vcpu < total && !set.is_empty(),
                "vcpus.pinning",
                format!("processor {vcpu} of {total} is pinned to [{set}]"),
                "pin processors that there are, counted from 0, to at least one of the host's",
            );
        }
        self.numa(spec, total);
    }

    fn numa(&mut self, spec: &MachineSpec, total: u32) {
        let cells = &spec.vcpus.numa;
        if cells.is_empty() {
            return;
        }
        let mut seen = BTreeSet::new();
        let mut twice = BTreeSet::new();
        for cpu in cells.iter().flat_map(|cell| &cell.cpus.0) {
            if !seen.insert(*cpu) {
                twice.insert(*cpu);
            }
        }
        let all = seen.len() == total as usize && seen.last().is_none_or(|last| *last < total);
        self.must(
            twice.is_empty() && all,
            "vcpus.numa",
            format!("the nodes do not hold each of the {total} processors once"),
            "put every processor, from 0, into one node",
        );
        let sum: u128 = cells.iter().map(|cell| u128::from(cell.memory.0)).sum();
        let whole = spec.memory.max.unwrap_or(spec.memory.size);
        self.must(
            sum == u128::from(whole.0),
            "vcpus.numa",
            format!("the nodes' memory is not the machine's {whole}"),
            "make the sum of the nodes the machine's memory",
        );
    }

    fn cpu(&mut self, spec: &MachineSpec) {
        let plain = |text: &str| {
            !text.is_empty()
                && text.len() <= 64
                && text
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
        };
        if let CpuModel::Named(name) = &spec.cpu.model {
            self.must(
                plain(name),
                "cpu.model",
                format!("{name:?} is not the name of a processor model"),
                "write a name such as Skylake-Server or EPYC, or host",
            );
        }
        for feature in spec.cpu.features.keys() {
            self.must(
                plain(feature),
                "cpu.features",
                format!("{feature:?} is not the name of a processor feature"),
                "write a name such as avx2",
            );
        }
        self.must(
            spec.cpu.model != CpuModel::Default || spec.cpu.features.is_empty(),
            "cpu.features",
            "there is no model to add them to",
            "name a model, or host",
        );
        let x86 = matches!(spec.architecture, Architecture::X86_64 | Architecture::I686);
        if let Some(board) = spec.board {
            self.must(
                x86 == (board != Board::Virt),
                "board",
                format!("there is no board {board} for {}", spec.architecture),
                "write q35, pc or microvm for x86, virt for the others, or leave it out",
            );
        }
    }

    fn path(&mut self, path: &str, file: &Path) {
        let text = file.to_str();
        let fine = is_plain_absolute(file) && text.is_some_and(|text| is_line(text, 4096));
        self.must(
            fine,
            path,
            format!("{} is not an absolute path", file.display()),
            "write the path from /, in UTF-8, without . or ..",
        );
    }

    fn boot(&mut self, spec: &MachineSpec) {
        if let Firmware::Uefi {
            loader, variables, ..
        } = &spec.firmware
        {
            let files = [
                ("firmware.loader", loader),
                ("firmware.variables", variables),
            ];
            for (path, file) in files {
                if let Some(file) = file {
                    self.path(path, file);
                }
            }
        }
        let mut seen = BTreeSet::new();
        for (at, device) in spec.boot.order.iter().enumerate() {
            let path = format!("boot.order[{at}]");
            let (there, name) = match device {
                BootDevice::Disk(target) => (spec.disk(target).is_some(), target.clone()),
                BootDevice::Interface(n) => (
                    spec.interfaces.get(*n as usize).is_some(),
                    format!("interface {n}"),
                ),
            };
            self.must(
                there,
                &path,
                format!("there is no {name}"),
                "name a disk's target, or a network card by its number from 0",
            );
            self.must(
                seen.insert(device),
                &path,
                format!("{name} is there twice"),
                "name each device once",
            );
        }
        let Some(direct) = &spec.boot.kernel else {
            return;
        };
        self.path("boot.kernel.kernel", &direct.kernel);
        if let Some(initrd) = &direct.initrd {
            self.path("boot.kernel.initrd", initrd);
        }
        let cmdline = direct.cmdline.as_deref();
        self.must(
            cmdline.is_none_or(|text| is_line(text, 2048)),
            "boot.kernel.cmdline",
            "is not one line",
            "write one line of at most 2048 characters, or leave it out",
        );
    }

    fn hyperv(&mut self, spec: &MachineSpec) {
        use Enlightenment::{Clock, Evmcs, Ipi, Stimer, Synic, Tlbflush, Vapic, Vpindex};
        let has = |feature| spec.hyperv.features.contains(&feature);
        for (feature, needed) in [
            (Synic, Vpindex),
            (Stimer, Synic),
            (Stimer, Clock),
            (Tlbflush, Vpindex),
            (Ipi, Vpindex),
            (Evmcs, Vapic),
        ] {
            self.must(
                !has(feature) || has(needed),
                "hyperv.features",
                format!("{feature} does not work without {needed}"),
                "add what it needs",
            );
        }
        self.must(
            spec.hyperv.spinlock_retries.is_none_or(|n| n >= 4095),
            "hyperv.spinlock_retries",
            "is less than 4095",
            "write 8191, as Windows expects",
        );
        let vendor = spec.hyperv.vendor.as_deref();
        let fine = |text: &str| {
            text.len() <= 12
                && !text.is_empty()
                && text
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b" _.-".contains(&b))
                && text.trim() == text
        };
        self.must(
            vendor.is_none_or(fine),
            "hyperv.vendor",
            "is not one to twelve letters and digits",
            "write a short name, or leave it out",
        );
    }

    /// Names that two things cannot share.
    fn twice(&mut self, spec: &MachineSpec) {
        let mut named: Vec<(String, String)> = Vec::new();
        for (at, disk) in spec.disks.iter().enumerate() {
            named.push((
                format!("disks[{at}].target"),
                format!("the target {}", disk.target),
            ));
        }
        for (at, interface) in spec.interfaces.iter().enumerate() {
            if let Some(mac) = interface.mac {
                named.push((
                    format!("interfaces[{at}].mac"),
                    format!("the address {mac}"),
                ));
            }
            if let InterfaceKind::Tap(name) = &interface.kind {
                named.push((format!("interfaces[{at}].kind"), format!("the tap {name}")));
            }
            for forward in interface
                .forwards
                .iter()
                .filter(|forward| forward.host != 0)
            {
                let place = format!("{}:{}/{}", forward.address, forward.host, forward.protocol);
                named.push((
                    format!("interfaces[{at}].forwards"),
                    format!("the port {place}"),
                ));
            }
        }
        for (at, share) in spec.shares.iter().enumerate() {
            named.push((
                format!("shares[{at}].tag"),
                format!("the tag {}", share.tag),
            ));
        }
        let users = spec.seed.iter().flat_map(|seed| &seed.users);
        for (at, user) in users.enumerate() {
            named.push((
                format!("seed.users[{at}].name"),
                format!("the user {}", user.name),
            ));
        }
        let mut first: BTreeMap<String, String> = BTreeMap::new();
        for (path, thing) in named {
            if let Some(owner) = first.get(&thing) {
                let what = format!("{thing} is {owner} already");
                self.must(false, &path, what, "give each a name of its own");
            } else {
                first.insert(thing, path);
            }
        }
    }

    fn seed(&mut self, seed: &Seed) {
        let label = |part: &str| {
            (1..=63).contains(&part.len())
                && !part.starts_with('-')
                && !part.ends_with('-')
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        };
        let host = seed.hostname.as_deref();
        self.must(
            host.is_none_or(|host| host.len() <= 253 && host.split('.').all(label)),
            "seed.hostname",
            "is not the name of a host",
            "write letters, digits and '-', in parts divided by dots",
        );
        for (at, user) in seed.users.iter().enumerate() {
            let first = user.name.bytes().next().unwrap_or(b'-');
            let rest = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-".contains(&b);
            self.must(
                user.name.len() <= 32
                    && (first.is_ascii_lowercase() || first == b'_')
                    && user.name.bytes().all(rest),
                &format!("seed.users[{at}].name"),
                format!("{:?} is not the name of a user", user.name),
                "write small letters, digits, '_' and '-', beginning with a letter",
            );
            for (n, key) in user.keys.iter().enumerate() {
                let kind = key.split(' ').next().unwrap_or_default();
                let known = ["ssh-", "ecdsa-", "sk-"]
                    .iter()
                    .any(|p| kind.starts_with(p));
                self.must(
                    known && is_line(key, 16 << 10) && key.contains(' '),
                    &format!("seed.users[{at}].keys[{n}]"),
                    "is not a public key of SSH",
                    "write the one line of a .pub file",
                );
            }
        }
        let data = seed.user_data.as_deref();
        self.must(
            data.is_none_or(|text| is_text(text, 512 << 10)),
            "seed.user_data",
            "has control characters, is empty or longer than 512 KiB",
            "write plain text, or leave it out",
        );
    }
}

/// Tells whether a text is one line: not empty, without control characters.
fn is_line(text: &str, most: usize) -> bool {
    is_text(text, most) && text.trim() == text && !text.contains(['\n', '\r', '\t'])
}

/// Tells whether a text has only characters that every format can carry.
fn is_text(text: &str, most: usize) -> bool {
    let fine = |c: char| {
        matches!(c, '\t' | '\n' | '\r') || !(c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}'))
    };
    !text.trim().is_empty() && text.len() <= most && text.chars().all(fine)
}
