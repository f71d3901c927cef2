//! Classes and hints for errors of virtual machines.

use std::error::Error;

use hyperion_isolation::vm::kernel::KernelError;
use hyperion_model::Class;

use super::Told;

/// Finds the class and the hint of an error about a virtual machine.
pub(super) fn classify(error: &(dyn Error + 'static)) -> Option<Told> {
    error.downcast_ref().and_then(of_kernel)
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
