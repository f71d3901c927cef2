//! Processors: how many, which, and where they run.

use std::collections::BTreeMap;

use hyperion_model::MachineSpec;
use hyperion_model::machine::{Cpu, CpuModel, NumaCell, Topology, Vcpus};

use super::super::Remedy;
use super::{Reading, number, shown};
use crate::xml::{Attribute, Element};

/// Families of graphics processors that stand where a processor's model should.
const GRAPHICS: &[&str] = &[
    "Southern Islands",
    "Sea Islands",
    "Volcanic Islands",
    "Arctic Islands",
    "Polaris",
    "Vega",
    "Navi",
];

impl Reading {
    pub(super) fn vcpus(&mut self, root: &mut Element, vcpus: &mut Vcpus) {
        let Some(mut element) = root.take("vcpu") else {
            vcpus.count = 1;
            return;
        };
        self.stands("vcpus", element.place);
        let text = std::mem::take(&mut element.text);
        let (text, place) = (text.trim(), element.place);
        let count = number(text).filter(|n| *n > 0);
        let whole = count.unwrap_or_else(|| {
            let what = format!("<vcpu>{}: not a number of processors", shown(text));
            self.wrong(place, what, Remedy::Write("<vcpu>1</vcpu>".into()));
            1
        });
        let current = self.number(&mut element, "current");
        vcpus.count = current.filter(|n| (1..whole).contains(n)).unwrap_or(whole);
        vcpus.max = Some(whole).filter(|whole| *whole > vcpus.count);
        if let Some(set) = element.take_attribute("cpuset") {
            vcpus.affinity = self.cpuset(&set.value, set.place, "<vcpu cpuset>");
        }
        if element.attribute("placement") == Some("static") {
            element.take_attribute("placement");
        }
        self.leftovers(element, &["@placement"]);
    }

    pub(super) fn cputune(&mut self, root: &mut Element, vcpus: &mut Vcpus) {
        let Some(mut tune) = root.take("cputune") else {
            return;
        };
        for mut pin in tune.take_all(|child| child.name == "vcpupin") {
            let vcpu = self.number(&mut pin, "vcpu");
            let set = pin.take_attribute("cpuset");
            let set = set.and_then(|set| self.cpuset(&set.value, set.place, "<vcpupin>"));
            match (vcpu, set) {
                (Some(vcpu), Some(set)) => {
                    self.stands("vcpus.pinning", pin.place);
                    vcpus.pinning.insert(vcpu, set);
                }
                _ => self.left_out(
                    pin.place,
                    "<vcpupin> names no processor, or none of the host's",
                ),
            }
            self.leftovers(pin, &[]);
        }
        let foreign = [
            "shares",
            "period",
            "quota",
            "global_period",
            "global_quota",
            "emulator_period",
            "emulator_quota",
            "iothread_period",
            "iothread_quota",
            "emulatorpin",
            "iothreadpin",
            "emulatorsched",
            "vcpusched",
            "iothreadsched",
            "cachetune",
            "memorytune",
        ];
        self.leftovers(tune, &foreign);
    }

    /// Where memory comes from; read when the guest's nodes are known.
    pub(super) fn numatune(&mut self, root: &mut Element, spec: &mut MachineSpec) {
        let Some(mut tune) = root.take("numatune") else {
            return;
        };
        if let Some(all) = tune.take("memory") {
            self.stands("memory.from", all.place);
            spec.memory.from = self.node(all);
        }
        for mut part in tune.take_all(|child| child.name == "memnode") {
            let cell = self.number(&mut part, "cellid");
            match cell.and_then(|at| spec.vcpus.numa.get_mut(at as usize)) {
                Some(cell) => cell.from = self.node(part),
                None => self.left_out(part.place, "<memnode> names no <cell> of <numa>"),
            }
        }
        self.leftovers(tune, &[]);
    }

    /// Reads the one node of the host that memory comes from.
    fn node(&mut self, mut element: Element) -> Option<u32> {
        let (name, place) = (element.name.clone(), element.place);
        let mode = element.take_attribute("mode");
        let nodes = element.take_attribute("nodeset");
        self.leftovers(element, &["@placement"]);
        let strict = mode.is_none_or(|mode| mode.value == "strict");
        let node = nodes.and_then(|nodes| number(&nodes.value));
        if node.is_none() || !strict {
            let what = "is carried over with mode='strict' and one node of the host alone";
            self.note(place, format!("<{name}> of <numatune> {what}"));
        }
        node.filter(|_| strict)
    }

    pub(super) fn cpu(&mut self, root: &mut Element, vcpus: &mut Vcpus) -> Cpu {
        let Some(mut element) = root.take("cpu") else {
            return Cpu::default();
        };
        self.stands("cpu", element.place);
        let mut features = BTreeMap::new();
        let model = self.model(&mut element);
        if let Some(flags) = element.take_attribute("flags") {
            self.flags(&flags, &mut features);
        }
        for mut feature in element.take_all(|child| child.name == "feature") {
            let policy = feature.take_attribute("policy");
            let on = match policy.as_ref().map_or("require", |policy| &policy.value) {
                "require" => true,
                "disable" => false,
                word @ ("force" | "optional" | "forbid") => {
                    let on = word != "forbid";
                    let plain = if on { "require" } else { "disable" };
                    let what = format!("policy='{word}' of <feature> is carried over as {plain}");
                    self.note(feature.place, what);
                    on
                }
                other => {
                    let what = format!("<feature policy='{}'>: no such policy", shown(other));
                    self.wrong(
                        feature.place,
                        what,
                        Remedy::Write("policy='require'".into()),
                    );
                    true
                }
            };
            match feature.take_attribute("name") {
                Some(name) if is_name(&name.value) => {
                    features.insert(name.value, on);
                }
                _ => self.left_out(feature.place, "<feature> has no name of a feature"),
            }
            self.leftovers(feature, &[]);
        }
        if let Some(topology) = element.take("topology") {
            self.topology(topology, vcpus);
        }
        if let Some(mut numa) = element.take("numa") {
            self.stands("vcpus.numa", numa.place);
            for cell in numa.take_all(|child| child.name == "cell") {
                self.cell(cell, vcpus);
            }
            self.leftovers(numa, &["interconnects"]);
        }
        if model == CpuModel::Default && !features.is_empty() {
            let what = "<cpu> has features and neither a mode nor a model to add them to";
            self.wrong(element.place, what, Remedy::LeaveOut);
            features.clear();
        }
        let foreign = ["@migratable", "cache", "maxphysaddr", "vendor"];
        self.leftovers(element, &foreign);
        Cpu { model, features }
    }

    fn model(&mut self, element: &mut Element) -> CpuModel {
        let mode = element.take_attribute("mode");
        // How exact the model must be is the hypervisor's to keep.
        for (name, usual) in [
            ("match", "exact"),
            ("check", "partial"),
            ("check", "none"),
            ("check", "full"),
            ("migratable", "on"),
        ] {
            if element.attribute(name) == Some(usual) {
                element.take_attribute(name);
            }
        }
        for name in ["match", "check"] {
            if let Some(other) = element.take_attribute(name) {
                let what = format!(
                    "{name}='{}' of <cpu> is not carried over",
                    shown(&other.value)
                );
                self.note(other.place, what);
            }
        }
        let name = self.model_name(element, mode.as_ref().map(|mode| mode.value.as_str()));
        let Some(mode) = mode else {
            return name.map_or(CpuModel::Default, CpuModel::Named);
        };
        match mode.value.as_str() {
            "host-passthrough" => CpuModel::Host,
            "host-model" => CpuModel::HostModel,
            "maximum" => CpuModel::Maximum,
            "custom" => name.map_or(CpuModel::Default, CpuModel::Named),
            other => {
                let what = format!(
                    "<cpu mode='{}'>: not custom, host-model, host-passthrough or maximum",
                    shown(other)
                );
                self.left_out(mode.place, what);
                name.map_or(CpuModel::Default, CpuModel::Named)
            }
        }
    }

    /// Reads `<model>`; gives a name where the mode wants one.
    fn model_name(&mut self, element: &mut Element, mode: Option<&str>) -> Option<String> {
        let mut model = element.take("model")?;
        if let Some(fallback) = model.take_attribute("fallback")
            && !matches!(fallback.value.as_str(), "allow" | "forbid")
        {
            let what = format!(
                "<model fallback='{}'>: neither allow nor forbid",
                shown(&fallback.value)
            );
            self.left_out(fallback.place, what);
        }
        let text = std::mem::take(&mut model.text).trim().to_owned();
        let place = model.place;
        self.leftovers(model, &["@vendor_id"]);
        let wanted = matches!(mode, None | Some("custom"));
        if text.is_empty() {
            return None;
        }
        if is_name(&text) && !GRAPHICS.contains(&text.as_str()) {
            if wanted {
                return Some(text);
            }
            let mode = mode.unwrap_or_default();
            self.note(
                place,
                format!("<model>{text}: mode='{mode}' has no model of its own"),
            );
            return None;
        }
        let kind = if GRAPHICS.contains(&text.as_str()) {
            "a family of graphics processors, not a processor"
        } else {
            "not the name of a processor model"
        };
        let instead = if mode == Some("host-model") {
            ", and the mode takes the host's"
        } else {
            ""
        };
        self.left_out(place, format!("<model>{}: {kind}{instead}", shown(&text)));
        None
    }

    /// `flags='+avx2,-vmx'` is not libvirt's, and says what it means.
    fn flags(&mut self, flags: &Attribute, features: &mut BTreeMap<String, bool>) {
        let mut elements = Vec::new();
        for flag in flags
            .value
            .split([',', ' '])
            .filter(|flag| !flag.is_empty())
        {
            let (on, name) = match flag.strip_prefix('-') {
                Some(name) => (false, name),
                None => (true, flag.strip_prefix('+').unwrap_or(flag)),
            };
            // Every machine has these two, whatever its processor.
            if is_name(name) && !matches!(name, "acpi" | "apic") {
                let policy = if on { "require" } else { "disable" };
                elements.push(format!("<feature policy='{policy}' name='{name}'/>"));
                features.insert(name.to_owned(), on);
            } else if name == "acpi" || name == "apic" {
                elements.push(format!("<features><{name}/></features>"));
            }
        }
        let what = format!("<cpu> has no attribute flags ('{}')", shown(&flags.value));
        let remedy = if elements.is_empty() {
            Remedy::LeaveOut
        } else {
            Remedy::Write(shown(&elements.join(" ")))
        };
        self.wrong(flags.place, what, remedy);
    }

    fn topology(&mut self, mut element: Element, vcpus: &mut Vcpus) {
        self.stands("vcpus.topology", element.place);
        let mut part = |name: &str| self.number(&mut element, name);
        let (sockets, dies, clusters) = (part("sockets"), part("dies"), part("clusters"));
        let (cores, threads) = (part("cores"), part("threads"));
        let inner = dies.unwrap_or(1).saturating_mul(clusters.unwrap_or(1));
        if inner > 1 {
            let what = "dies and clusters of <topology> are carried over as sockets";
            self.note(element.place, what);
        }
        match (sockets, cores, threads) {
            (Some(sockets), Some(cores), Some(threads)) => {
                vcpus.topology = Some(Topology {
                    sockets: sockets.saturating_mul(inner),
                    cores,
                    threads,
                });
            }
            _ => self.left_out(
                element.place,
                "<topology> does not tell sockets, cores and threads",
            ),
        }
        self.leftovers(element, &[]);
    }

    fn cell(&mut self, mut cell: Element, vcpus: &mut Vcpus) {
        let cpus = cell.take_attribute("cpus");
        let cpus = cpus.and_then(|set| self.cpuset(&set.value, set.place, "<cell cpus>"));
        let memory = cell.take_attribute("memory");
        let unit = cell.take_attribute("unit");
        let memory = memory.and_then(|m| self.scaled(&m.value, unit.as_ref(), &cell, m.place));
        // Cells are numbered as they stand.
        let id = self.number(&mut cell, "id");
        if id.is_some_and(|id| id as usize != vcpus.numa.len()) {
            self.note(cell.place, "cells of <numa> are numbered as they stand");
        }
        match (cpus, memory) {
            (Some(cpus), Some(memory)) => vcpus.numa.push(NumaCell {
                cpus,
                memory,
                from: None,
            }),
            _ => {
                let ask = "write cpus='0-1' memory='512' unit='MiB'";
                self.wrong(
                    cell.place,
                    "<cell> has no processors or no memory",
                    Remedy::Ask(ask.into()),
                );
            }
        }
        self.leftovers(cell, &["@memAccess", "@discard", "distances", "cache"]);
    }
}

/// Whether a text could be the name of a processor model or of a feature.
fn is_name(text: &str) -> bool {
    let fine = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
    (1..=64).contains(&text.len()) && text.bytes().all(fine)
}
