//! Classes and hints for errors of virtual machines.

use std::error::Error;

use hyperion_formats::ova::{ManifestError, OvfError};
use hyperion_image::disk::{DiskError, Foreign};
use hyperion_image::ova::OvaError;
use hyperion_isolation::vm::agent::AgentError;
use hyperion_isolation::vm::kernel::KernelError;
use hyperion_model::Class;
use hyperion_node::machines::{MachineError, TicketError};

use hyperion_sys::tap::TapError;

use super::Told;

/// Finds the class and the hint of an error about a virtual machine.
pub(super) fn classify(error: &(dyn Error + 'static)) -> Option<Told> {
    let known = error.downcast_ref().and_then(of_kernel);
    let known = known.or_else(|| error.downcast_ref().and_then(of_machine));
    let known = known.or_else(|| error.downcast_ref().map(of_disk));
    let known = known.or_else(|| error.downcast_ref().and_then(of_agent));
    let known = known.or_else(|| error.downcast_ref().and_then(of_ticket));
    known.or_else(|| of_appliance(error))
}

/// What to do about the agent of a guest; nothing where the cause says more.
fn of_agent(error: &AgentError) -> Option<Told> {
    use AgentError as E;
    let (class, hint) = match error {
        E::Silent(_) => (
            Class::Unavailable,
            "in the guest: apt install qemu-guest-agent; while it boots, --wait 2m; without an agent, `hyperion vm ssh`",
        ),
        E::Refused { refusal, .. } if refusal.description.contains("disabled") => (
            Class::Unsupported,
            "the guest's settings forbid it (/etc/qemu/qemu-ga.conf, /etc/sysconfig/qemu-ga); or `hyperion vm ssh`",
        ),
        E::Refused { .. } => (Class::User, "check the path in the guest"),
        E::Closed => (
            Class::Unavailable,
            "the machine has ended: `hyperion vm show NAME` says why",
        ),
        E::Long { .. } | E::Nonsense { .. } => (
            Class::Unavailable,
            "what answers in the guest is no agent of QEMU's, or is not to be trusted",
        ),
        E::Io(_) => return None,
    };
    let hint = Some(hint.to_owned());
    Some(Told { class, hint })
}

/// What to do about a screen that nobody saw; nothing where the cause says more.
fn of_ticket(error: &TicketError) -> Option<Told> {
    use TicketError as E;
    let (class, hint) = match error {
        E::Listen { .. } => (Class::Conflict, "leave --port out: a free one is taken"),
        E::Late(_) => (
            Class::Unavailable,
            "ask for another ticket, and for more time with --time",
        ),
        E::Wrong => (
            Class::Denied,
            "ask for another ticket; if it was not you who tried, somebody on this host does: use the socket",
        ),
        E::Screen(_) => (
            Class::Unavailable,
            "`hyperion vm show NAME` says how the machine stands",
        ),
        E::Io(_) => return None,
    };
    let hint = Some(hint.to_owned());
    Some(Told { class, hint })
}

/// What to do about an appliance.
fn of_appliance(error: &(dyn Error + 'static)) -> Option<Told> {
    const AGAIN: &str = "bring it again, or export it again where it was made; it is a tar of one .ovf, its .mf and the disks";
    let (class, hint) = if let Some(ovf) = error.downcast_ref::<OvfError>() {
        let class = match ovf {
            OvfError::Several { .. } | OvfError::Unsupported { .. } => Class::Unsupported,
            _ => Class::User,
        };
        (class, ovf.hint())
    } else if error.is::<ManifestError>() {
        (Class::User, AGAIN)
    } else {
        match error.downcast_ref::<OvaError>()? {
            OvaError::Read { .. } => return None,
            _ => (Class::User, AGAIN),
        }
    };
    let hint = Some(hint.to_owned());
    Some(Told { class, hint })
}

/// What to do about a machine; nothing where the cause says more.
fn of_machine(error: &MachineError) -> Option<Told> {
    use MachineError as E;
    let (class, hint) = match error {
        E::NotFound(_) => (
            Class::NotFound,
            "`hyperion vm ls --all` lists all machines".into(),
        ),
        E::Exists(name) => (
            Class::Conflict,
            format!("choose another name, or remove it: hyperion vm delete {name}"),
        ),
        E::Running(name) => (
            Class::Conflict,
            format!("end it first: hyperion vm stop {name}; `delete --force` does both"),
        ),
        E::NotRunning(name) => (Class::Conflict, format!("hyperion vm start {name}")),
        E::Start { source, .. } if source.0.contains("\" lock") => (
            Class::Conflict,
            "another machine has the disk open, and one may write to it at a time: stop that one"
                .into(),
        ),
        E::Start { source, .. } if source.0.contains("Image is corrupt") => (
            Class::Unavailable,
            "copy the file, then let `qemu-img check -r all FILE` mend what it can".into(),
        ),
        E::Start { source, .. } if source.0.contains("Unknown driver 'http") => (
            Class::Unsupported,
            "QEMU reads what is behind HTTP with a module of its own: apt install qemu-block-extra; or bring the file, and name that".into(),
        ),
        E::Start { source, .. } if source.0.contains("CURL: ") => (
            Class::Unavailable,
            "check the address; its server must know byte ranges: `curl -I` shows accept-ranges; or bring the file, and name that".into(),
        ),
        E::Start { name, source } if source.0.contains("guest memory") => (
            Class::Unavailable,
            format!("this host has less: hyperion vm resize {name} --memory SIZE"),
        ),
        E::Start { source, .. } if source.0.contains("host forwarding") => (
            Class::Conflict,
            "something else has the port: `ss -ltnp` says what; choose another one with -p".into(),
        ),
        E::Start { .. } | E::Monitor { .. } => (
            Class::Unavailable,
            "`hyperion vm show NAME` prints the definition".into(),
        ),
        E::Damaged { .. } => (
            Class::Internal,
            "mend the file, or remove the folder that it is in".into(),
        ),
        E::Tap(tap) => of_tap(tap),
        E::Io { .. } => return None,
    };
    let hint = Some(hint);
    Some(Told { class, hint })
}

/// What to do about a network interface.
fn of_tap(error: &TapError) -> (Class, String) {
    use TapError as E;
    const ELSE: &str = "or `--network user`, which needs neither root nor a bridge";
    match error {
        E::NoBridge(name) => (
            Class::NotFound,
            format!(
                "`ip link show type bridge` lists them; ip link add {name} type bridge && ip link set {name} up makes one; {ELSE}"
            ),
        ),
        E::NotABridge(_) => (
            Class::User,
            format!("`ip link show type bridge` lists the bridges; {ELSE}"),
        ),
        E::Denied(_) => (Class::Denied, format!("start the machine as root; {ELSE}")),
        E::NoDevice(_) => (Class::Unsupported, format!("modprobe tun; {ELSE}")),
        E::Io { .. } => (
            Class::Unavailable,
            ELSE.trim_start_matches("or ").to_owned(),
        ),
    }
}

/// What to do about a disk image.
fn of_disk(error: &DiskError) -> Told {
    use DiskError as E;
    let (class, hint) = match error {
        E::NoProgram(_) => (Class::Unsupported, "apt install qemu-utils"),
        E::Missing(_) | E::Read { .. } => (Class::NotFound, "check the path, and who may read it"),
        E::Refused { .. } | E::Answer { .. } => {
            (Class::User, "`qemu-img info FILE` says what it is")
        }
        E::NoRoom { .. } => (
            Class::Unavailable,
            "make room, or choose another disk with --root",
        ),
        E::Foreign { found, .. } => (Class::User, of_foreign(found)),
    };
    let hint = Some(hint.to_owned());
    Told { class, hint }
}

/// What to do about a stranger's file.
const fn of_foreign(found: &Foreign) -> &'static str {
    use Foreign as F;
    match found {
        F::Backing(_) => {
            "make one file of both where both are yours: qemu-img convert -O qcow2 OLD NEW. A stranger's may name any file of this host"
        }
        F::Elsewhere => {
            "make one file of it where all are yours: qemu-img convert -O qcow2 OLD NEW. A stranger's may name any file of this host"
        }
        F::Encrypted => {
            "decrypt it where its key is: qemu-img convert --object secret,… -O qcow2 OLD NEW"
        }
        F::Packed(_) => "unpack it first: gunzip, unxz, bunzip2, unzstd, unzip",
        F::Format(_) => "make a qcow2 of it where you trust it: qemu-img convert -O qcow2 OLD NEW",
        F::Optical => "boot from it: hyperion vm create NAME --disk 20GiB --cdrom FILE",
        F::Damaged | F::Nothing => "bring it again: it may have been cut on its way",
    }
}

/// What to do about a kernel; nothing where the cause says more.
fn of_kernel(error: &KernelError) -> Option<Told> {
    use KernelError as E;
    const ADD: &str = "hyperion vm kernel add /boot/vmlinuz-RELEASE --modules /lib/modules/RELEASE";
    let (class, hint) = match error {
        E::NoneInstalled => (Class::NotFound, "hyperion vm kernel install".into()),
        E::NotFound(_) => (
            Class::NotFound,
            "`hyperion vm kernel ls` lists what there is, `hyperion vm kernel install` brings one"
                .into(),
        ),
        E::BadRelease(file) if file.ends_with(".deb") => {
            (Class::User, format!("a package's file: --deb {file}"))
        }
        E::BadRelease(_) => (
            Class::User,
            "write it as `uname -r` prints it, 6.1.0-56-cloud-amd64 for one".into(),
        ),
        E::NoRelease(_) => (Class::User, "say it with --release".into()),
        E::NotAKernel { .. } => (Class::User, format!("for example {ADD}")),
        E::WrongModules { found, .. } => (
            Class::User,
            format!("name the folder of this kernel with --modules, or the kernel of {found}"),
        ),
        E::Module { .. } => (
            Class::Unavailable,
            "the kernel is damaged: bring it again with `hyperion vm kernel install` or `add`"
                .into(),
        ),
        E::NotAKernelPackage { .. } => (
            Class::User,
            "the package with the kernel is linux-image-RELEASE; where its modules lie beside it, \
             add that of linux-modules-RELEASE with another --deb"
                .into(),
        ),
        E::Package { .. } => (
            Class::User,
            "download the package again; it is a .deb of Debian or Ubuntu".into(),
        ),
        E::NoApt => (
            Class::Unsupported,
            format!("give a package with --deb FILE, or a kernel of this host: {ADD}"),
        ),
        E::Apt { .. } => (
            Class::Unavailable,
            "as root run `apt-get update`; `apt-cache search linux-image` lists kernels, \
             --flavour names another kind"
                .into(),
        ),
        E::Io { .. } => return None,
    };
    Some(Told {
        class,
        hint: Some(hint),
    })
}
