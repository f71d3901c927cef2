//! What is booted, on which board, and what the guest is told of its host.

use std::path::PathBuf;

use hyperion_model::MachineSpec;
use hyperion_model::machine::{
    Architecture, Board, BootDevice, DirectKernel, DiskDevice, Enlightenment, Firmware,
};

use super::super::Remedy;
use super::{Reading, shown};
use crate::xml::{Attribute, Element, Place};

impl Reading {
    pub(super) fn os(&mut self, root: &mut Element, spec: &mut MachineSpec) {
        let whole = "<os><type arch='x86_64'>hvm</type></os>";
        let Some(mut os) = root.take("os") else {
            self.wrong(root.place, "there is no <os>", Remedy::Add(whole.into()));
            return;
        };
        self.stands("boot", os.place);
        self.stands("firmware", os.place);
        self.stands("board", os.place);
        match os.take("type") {
            Some(kind) => self.os_type(kind, spec),
            None => {
                let add = "<type arch='x86_64'>hvm</type>";
                self.wrong(os.place, "<os> has no <type>", Remedy::Add(add.into()));
            }
        }
        self.firmware(&mut os, spec);
        let kernel = self.text(&mut os, "kernel", &[]);
        let initrd = self.text(&mut os, "initrd", &[]);
        let cmdline = self.text(&mut os, "cmdline", &[]);
        let some =
            |text: Option<(String, Place)>| text.map(|(text, _)| text).filter(|t| !t.is_empty());
        match some(kernel) {
            Some(kernel) => {
                spec.boot.kernel = Some(DirectKernel {
                    kernel: kernel.into(),
                    initrd: some(initrd).map(PathBuf::from),
                    cmdline: some(cmdline),
                });
            }
            None => {
                for (name, part) in [("initrd", initrd), ("cmdline", cmdline)] {
                    if let Some((_, place)) = part {
                        self.left_out(place, format!("<{name}> without <kernel>"));
                    }
                }
            }
        }
        // Which device this is, is known when the devices are.
        for mut boot in os.take_all(|child| child.name == "boot") {
            self.boot_classes.extend(boot.take_attribute("dev"));
            self.leftovers(boot, &[]);
        }
        let foreign = [
            "bootmenu", "bios", "smbios", "init", "initarg", "initenv", "initdir", "dtb", "shim",
        ];
        self.leftovers(os, &foreign);
    }

    fn os_type(&mut self, mut kind: Element, spec: &mut MachineSpec) {
        let place = kind.place;
        let text = std::mem::take(&mut kind.text);
        match text.trim() {
            "hvm" => {}
            word @ ("linux" | "xen" | "xenpvh") => {
                let what =
                    format!("<type>{word}: how a machine is virtualized is chosen when it is made");
                self.note(place, what);
            }
            other => {
                let what = format!("<type>{}: no such type of system", shown(other));
                self.wrong(place, what, Remedy::Write("hvm".into()));
            }
        }
        if let Some(arch) = kind.take_attribute("arch") {
            let known = match arch.value.as_str() {
                "amd64" | "x86-64" | "x64" => Some(Architecture::X86_64),
                "i386" | "i586" | "x86" => Some(Architecture::I686),
                "arm64" => Some(Architecture::Aarch64),
                _ => None,
            };
            if let Some(known) = known {
                let what = format!("<type arch='{}'>: not libvirt's word", arch.value);
                self.wrong(arch.place, what, Remedy::Write(format!("arch='{known}'")));
                spec.architecture = known;
            } else if let Ok(known) = arch.value.parse() {
                spec.architecture = known;
            } else {
                let what = format!(
                    "<type arch='{}'>: machines of this kind cannot be run",
                    shown(&arch.value)
                );
                let known: Vec<_> = Architecture::ALL.iter().map(|known| known.word()).collect();
                let ask = format!("write one of {}", known.join(", "));
                self.wrong(arch.place, what, Remedy::Ask(ask));
            }
        }
        if let Some(machine) = kind.take_attribute("machine") {
            spec.board = self.board(&machine.value, machine.place);
        }
        self.leftovers(kind, &[]);
    }

    fn board(&mut self, text: &str, place: Place) -> Option<Board> {
        if let Ok(board) = text.parse() {
            return Some(board);
        }
        let board = match text {
            _ if text.starts_with("pc-q35") => Some(Board::Q35),
            _ if text.starts_with("pc-i440fx") || text.starts_with("pc-") => Some(Board::Pc),
            _ if text.starts_with("virt-") => Some(Board::Virt),
            _ => None,
        };
        let what = match board {
            Some(board) => format!(
                "machine='{}': carried over as {board}, without its version",
                shown(text)
            ),
            None => format!("machine='{}': the board is not carried over", shown(text)),
        };
        self.note(place, what);
        board
    }

    fn firmware(&mut self, os: &mut Element, spec: &mut MachineSpec) {
        let automatic = os.take_attribute("firmware");
        let mut uefi = automatic.as_ref().is_some_and(|word| word.value == "efi");
        if let Some(word) = automatic.filter(|word| !matches!(word.value.as_str(), "efi" | "bios"))
        {
            let what = format!(
                "<os firmware='{}'>: neither efi nor bios",
                shown(&word.value)
            );
            self.left_out(word.place, what);
        }
        let (mut secure_boot, mut path) = (false, None);
        if let Some(mut firmware) = os.take("firmware") {
            for mut feature in firmware.take_all(|child| child.name == "feature") {
                let enabled = self.either(&mut feature, "enabled", "yes", "no");
                let name = feature.take_attribute("name");
                match name.as_ref().map(|name| name.value.as_str()) {
                    Some("secure-boot") => secure_boot |= enabled == Some(true),
                    Some("enrolled-keys") => {
                        self.note(
                            feature.place,
                            "enrolled-keys is not carried over: the firmware's variables tell",
                        );
                    }
                    _ => self.left_out(
                        feature.place,
                        "<feature> of <firmware> is neither secure-boot nor enrolled-keys",
                    ),
                }
                self.leftovers(feature, &[]);
            }
            self.leftovers(firmware, &[]);
        }
        if let Some(mut loader) = os.take("loader") {
            let flash = loader
                .take_attribute("type")
                .is_some_and(|kind| kind.value == "pflash");
            let secure = self.either(&mut loader, "secure", "yes", "no");
            secure_boot |= secure == Some(true);
            if self.either(&mut loader, "readonly", "yes", "no") == Some(false) {
                self.note(loader.place, "the firmware's <loader> is never written to");
            }
            let text = std::mem::take(&mut loader.text);
            if flash && !text.trim().is_empty() {
                uefi = true;
                path = Some(PathBuf::from(text.trim()));
            } else if !flash && !uefi {
                self.note(
                    loader.place,
                    "<loader> that is not type='pflash' is not carried over",
                );
            }
            self.leftovers(loader, &["@stateless", "@format"]);
        }
        let foreign = ["@template", "@templateFormat", "@type", "@format", "source"];
        let variables = self
            .text(os, "nvram", &foreign)
            .filter(|(text, _)| !text.is_empty());
        match (uefi, &variables) {
            (true, _) => {
                spec.firmware = Firmware::Uefi {
                    secure_boot,
                    loader: path,
                    variables: variables.map(|(text, _)| text.into()),
                };
            }
            (false, Some((_, place))) => {
                self.left_out(*place, "<nvram> is of UEFI, and the machine has none")
            }
            (false, None) => {}
        }
    }

    pub(super) fn features(&mut self, root: &mut Element, spec: &mut MachineSpec) {
        let Some(mut features) = root.take("features") else {
            return;
        };
        self.stands("hyperv", features.place);
        // Every machine has these; SMM is there for secure boot.
        for name in ["acpi", "apic", "pae"] {
            features.take(name);
        }
        if matches!(
            &spec.firmware,
            Firmware::Uefi {
                secure_boot: true,
                ..
            }
        ) {
            features.take_all(|e| e.name == "smm" && e.attribute("state") != Some("off"));
        }
        if let Some(hyperv) = features.take("hyperv") {
            self.hyperv(hyperv, spec);
        }
        let foreign = [
            "hap",
            "viridian",
            "privnet",
            "kvm",
            "xen",
            "pvspinlock",
            "pmu",
            "vmport",
            "gic",
            "smm",
            "ioapic",
            "hpt",
            "vmcoreinfo",
            "htm",
            "nested-hv",
            "msrs",
            "capabilities",
            "ccf-assist",
            "cfpc",
            "sbbc",
            "ibs",
            "tcg",
            "async-teardown",
            "ras",
            "ps2",
            "aia",
        ];
        self.leftovers(features, &foreign);
    }

    fn hyperv(&mut self, mut hyperv: Element, spec: &mut MachineSpec) {
        if hyperv.attribute("mode") == Some("custom") {
            hyperv.take_attribute("mode");
        }
        for mut child in std::mem::take(&mut hyperv.children) {
            let on = self
                .either(&mut child, "state", "on", "off")
                .unwrap_or(true);
            match child.name.as_str() {
                "spinlocks" => {
                    let retries = self.number(&mut child, "retries");
                    if on {
                        spec.hyperv.spinlock_retries = Some(retries.unwrap_or(8191));
                    }
                }
                "vendor_id" => {
                    let value = child.take_attribute("value").map(|value| value.value);
                    if on {
                        spec.hyperv.vendor = value;
                    }
                }
                // It stands under <clock>.
                "clock" => self.left_out(
                    child.place,
                    "<clock> of <hyperv> is written <timer name='hypervclock'/> of <clock>",
                ),
                name => match name.parse::<Enlightenment>() {
                    Ok(feature) if on => {
                        spec.hyperv.features.insert(feature);
                    }
                    Ok(_) => {}
                    Err(_) => {
                        let foreign = ["avic", "emsr_bitmap", "xmm_input"];
                        if foreign.contains(&name) {
                            self.note(
                                child.place,
                                format!("<{name}> of <hyperv> is not carried over"),
                            );
                        } else {
                            let what = format!("<hyperv> has no element <{}>", shown(name));
                            self.left_out(child.place, what);
                        }
                        continue;
                    }
                },
            }
            self.leftovers(child, &["direct", "extended"]);
        }
        self.leftovers(hyperv, &["@mode"]);
    }

    pub(super) fn clock(&mut self, root: &mut Element, spec: &mut MachineSpec) {
        let Some(mut clock) = root.take("clock") else {
            return;
        };
        if let Some(offset) = self.word(&mut clock, "offset", &["timezone", "variable", "absolute"])
        {
            spec.clock = offset;
        }
        for mut timer in clock.take_all(|child| child.name == "timer") {
            let name = timer
                .take_attribute("name")
                .map(|name| name.value)
                .unwrap_or_default();
            let present = self.either(&mut timer, "present", "yes", "no");
            if name == "hypervclock" {
                if present != Some(false) {
                    spec.hyperv.features.insert(Enlightenment::Clock);
                }
                self.leftovers(
                    timer,
                    &["@tickpolicy", "@track", "@frequency", "@mode", "catchup"],
                );
            } else {
                self.note(
                    timer.place,
                    "<timer> other than hypervclock is not carried over",
                );
            }
        }
        let foreign = ["@timezone", "@adjustment", "@basis", "@start"];
        self.leftovers(clock, &foreign);
    }

    /// Settles the order of what is tried, when the devices are known.
    pub(super) fn boot_order(&mut self, spec: &mut MachineSpec) {
        let classes = std::mem::take(&mut self.boot_classes);
        let mut own = std::mem::take(&mut self.boot);
        if !own.is_empty() {
            for class in classes {
                self.left_out(class.place, "<boot> stands both in <os> and with a device");
            }
            own.sort_by_key(|(order, ..)| *order);
            for (at, (order, place, device)) in own.iter().enumerate() {
                if at > 0 && own[at - 1].0 == *order {
                    self.left_out(*place, format!("order='{order}' of <boot> is there twice"));
                } else {
                    spec.boot.order.push(device.clone());
                }
            }
            return;
        }
        for Attribute {
            value: word, place, ..
        } in classes
        {
            let first = |kind: DiskDevice| {
                let disk = spec.disks.iter().find(|disk| disk.device == kind)?;
                Some(BootDevice::Disk(disk.target.clone()))
            };
            let found = match word.as_str() {
                "hd" => first(DiskDevice::Disk),
                "cdrom" => first(DiskDevice::Cdrom),
                "network" => (!spec.interfaces.is_empty()).then_some(BootDevice::Interface(0)),
                "fd" => None,
                other => {
                    let what = format!("<boot dev='{}'>: not hd, cdrom or network", shown(other));
                    self.left_out(place, what);
                    continue;
                }
            };
            match found {
                Some(device) if !spec.boot.order.contains(&device) => spec.boot.order.push(device),
                Some(_) => self.left_out(place, format!("<boot dev='{word}'> is there twice")),
                None => self.note(place, format!("<boot dev='{word}'>: the machine has none")),
            }
        }
    }
}
