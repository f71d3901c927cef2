//! Classes and hints for errors of virtual machines.

use std::error::Error;

use hyperion_image::disk::DiskError;
use hyperion_isolation::vm::kernel::KernelError;
use hyperion_model::Class;
use hyperion_node::machines::MachineError;

use super::Told;

/// Finds the class and the hint of an error about a virtual machine.
pub(super) fn classify(error: &(dyn Error + 'static)) -> Option<Told> {
    let known = error.downcast_ref().and_then(of_kernel);
    let known = known.or_else(|| error.downcast_ref().and_then(of_machine));
    known.or_else(|| error.downcast_ref().and_then(of_disk))
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
        E::Start { source, .. } if source.0.contains("lock") => (
            Class::Conflict,
            "another machine has the disk open, and one may write to it at a time: stop that one"
                .into(),
        ),
        E::Start { .. } | E::Monitor { .. } => (
            Class::Unavailable,
            "`hyperion vm show NAME` prints the definition".into(),
        ),
        E::Damaged { .. } => (
            Class::Internal,
            "mend the file, or remove the folder that it is in".into(),
        ),
        E::Io { .. } => return None,
    };
    let hint = Some(hint);
    Some(Told { class, hint })
}

/// What to do about a disk image.
fn of_disk(error: &DiskError) -> Option<Told> {
    let (class, hint) = match error {
        DiskError::NoProgram(_) => (Class::Unsupported, "apt install qemu-utils"),
        DiskError::Missing(_) => (Class::NotFound, "check the path"),
        DiskError::Refused { .. } | DiskError::Answer { .. } => {
            (Class::User, "`qemu-img info FILE` says what it is")
        }
    };
    let hint = Some(hint.to_owned());
    Some(Told { class, hint })
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
