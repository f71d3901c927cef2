//! Programs of others that Hyperion works with: MPI, PMI, schedulers,
//! container engines, tools for virtual machines.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use hyperion_model::{Check, Verdict};

use super::packages::{LIBVIRT, MPI, PMIX, QEMU_ARM, QEMU_X86};
use super::{Distribution, Host, cpu, seen};

/// Folders that distributions and makers keep out of `PATH`.
const MPI_FOLDERS: [&str; 6] = [
    "/usr/lib64/openmpi/bin",
    "/usr/lib64/mpich/bin",
    "/opt/intel/oneapi/mpi/latest/bin",
    "/opt/openmpi/bin",
    "/opt/mpich/bin",
    "/opt/cray/pe/mpich/default/bin",
];

const LAUNCHERS: [&str; 6] = [
    "mpirun",
    "mpiexec",
    "mpirun.openmpi",
    "mpirun.mpich",
    "mpiexec.hydra",
    "prterun",
];

/// Tells the family of a launcher by where its links end.
fn mpi_family(target: &Path) -> &'static str {
    let path = target.to_string_lossy().to_lowercase();
    let name = path.rsplit('/').next().unwrap_or_default();
    if path.contains("/intel/") {
        "Intel MPI"
    } else if path.contains("mvapich") {
        "MVAPICH"
    } else if path.contains("cray") {
        "Cray MPICH"
    } else if ["orterun", "prterun", "prun"].contains(&name) || path.contains("openmpi") {
        "Open MPI"
    } else if name.contains("hydra") || path.contains("mpich") {
        "MPICH"
    } else if name.contains("slurm") {
        "Slurm"
    } else {
        "unknown family"
    }
}

pub(super) fn check_mpi(host: &Host, dist: &Distribution) -> Check {
    let folders = host
        .search_path
        .iter()
        .cloned()
        .chain(MPI_FOLDERS.map(PathBuf::from));
    let mut found: BTreeMap<&str, PathBuf> = BTreeMap::new();
    for path in folders.flat_map(|f| LAUNCHERS.map(|name| f.join(name))) {
        if host.is_program(&path)
            && let Some(target) = host.resolve(&path)
        {
            found.entry(mpi_family(&target)).or_insert(path);
        }
    }
    if found.is_empty() {
        return Check {
            consequence: "programs of this host need one; images bring their own".into(),
            fix: dist.install(MPI),
            ..seen("mpi", Verdict::Missing, "no mpirun or mpiexec in PATH")
        };
    }
    let words: Vec<String> = found
        .iter()
        .map(|(family, path)| format!("{family} ({})", path.display()))
        .collect();
    seen("mpi", Verdict::Ok, words.join(", "))
}

fn library_folders(host: &Host) -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = ["/usr/lib64", "/usr/lib", "/usr/local/lib", "/lib64"]
        .map(PathBuf::from)
        .into();
    let triples = host.list("/usr/lib").into_iter();
    folders.extend(
        triples
            .filter(|name| name.ends_with("-linux-gnu"))
            .map(|name| Path::new("/usr/lib").join(name)),
    );
    folders
}

pub(super) fn check_pmi(host: &Host, dist: &Distribution) -> Check {
    let mut words = Vec::new();
    for (kind, prefix) in [
        ("PMIx", "libpmix.so."),
        ("PMI-2", "libpmi2.so."),
        ("PMI-1", "libpmi.so."),
    ] {
        let found = library_folders(host).into_iter().find_map(|folder| {
            let names = host.list(&folder);
            let name = names.iter().find(|name| name.starts_with(prefix))?;
            Some(folder.join(name))
        });
        if let Some(path) = found {
            words.push(format!("{kind} ({})", path.display()));
        }
    }
    if words.is_empty() {
        return Check {
            consequence: "Hyperion serves PMI-1 itself (MPICH and kin); `srun --mpi=pmix` for \
                          Open MPI needs PMIx"
                .into(),
            fix: dist.install(PMIX),
            ..seen("pmi", Verdict::Missing, "no libpmix, libpmi2 or libpmi")
        };
    }
    seen("pmi", Verdict::Ok, words.join(", "))
}

pub(super) fn check_schedulers(host: &Host) -> Check {
    let at = |name: &str| host.program(name).map(|p| p.display().to_string());
    let mut words = Vec::new();
    if let Some(path) = at("sbatch") {
        words.push(match at("squeue") {
            Some(_) => format!("Slurm ({path})"),
            None => format!("Slurm ({path}, but no squeue)"),
        });
    }
    if let Some(path) = at("qsub") {
        // Both families have a qsub; their other commands differ.
        let family = if at("qconf").is_some() {
            "Grid Engine"
        } else if at("pbsnodes").is_some() || host.exists("/etc/pbs.conf") {
            "PBS"
        } else {
            "PBS or Grid Engine"
        };
        words.push(format!("{family} ({path})"));
    }
    if let Some(path) = at("bsub") {
        words.push(format!("LSF ({path})"));
    }
    if let Some(path) = at("kubectl") {
        words.push(format!("Kubernetes ({path})"));
    }
    if words.is_empty() {
        return Check {
            consequence: "jobs run on this host, in Hyperion's own queue".into(),
            ..seen(
                "schedulers",
                Verdict::Missing,
                "no sbatch, qsub, bsub or kubectl in PATH",
            )
        };
    }
    seen("schedulers", Verdict::Ok, words.join(", "))
}

pub(super) fn check_container_engines(host: &Host) -> Check {
    const ENGINES: [&str; 13] = [
        "docker",
        "podman",
        "nerdctl",
        "apptainer",
        "singularity",
        "ch-run",
        "enroot",
        "sarus",
        "shifter",
        "crun",
        "runc",
        "youki",
        "bwrap",
    ];
    let words: Vec<String> = ENGINES
        .iter()
        .filter_map(|name| Some(host.program(name)?.display().to_string()))
        .collect();
    if words.is_empty() {
        return seen(
            "container-engines",
            Verdict::Missing,
            "none in PATH; Hyperion needs none",
        );
    }
    seen("container-engines", Verdict::Ok, words.join(", "))
}

pub(super) fn check_vm_software(host: &Host, dist: &Distribution) -> Check {
    let arm = cpu(host).architecture == "aarch64";
    let (emulator, package) = match arm {
        true => ("qemu-system-aarch64", QEMU_ARM),
        false => ("qemu-system-x86_64", QEMU_X86),
    };
    // Red Hat keeps its emulator out of PATH and under another name.
    let qemu = host.program(emulator).or_else(|| {
        let path = PathBuf::from("/usr/libexec/qemu-kvm");
        host.is_program(&path).then_some(path)
    });
    let virsh = host.program("virsh");
    let install = host.program("virt-install");
    let mut words = Vec::new();
    for (name, path) in [
        (emulator, &qemu),
        ("virsh", &virsh),
        ("virt-install", &install),
    ] {
        words.push(match path {
            Some(path) => path.display().to_string(),
            None => format!("no {name}"),
        });
    }
    let evidence = words.join(", ");
    let mut fixes = Vec::new();
    if qemu.is_none() {
        fixes.push(dist.install(package));
    }
    if virsh.is_none() || install.is_none() {
        fixes.push(dist.install(LIBVIRT));
    }
    let (verdict, consequence) = match (&qemu, &virsh) {
        (Some(_), Some(_)) if install.is_some() => (Verdict::Ok, ""),
        (Some(_), _) => (
            Verdict::Limited,
            "virtual machines run; those of libvirt cannot be managed",
        ),
        (None, _) => (Verdict::Missing, "no virtual machines"),
    };
    Check {
        consequence: consequence.into(),
        fix: fixes.join("; "),
        ..seen("vm-software", verdict, evidence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_the_links_tells_the_family() {
        let table = [
            ("/usr/bin/orterun", "Open MPI"),
            ("/usr/bin/prterun", "Open MPI"),
            ("/usr/lib64/openmpi/bin/mpirun", "Open MPI"),
            ("/usr/bin/mpiexec.hydra", "MPICH"),
            ("/usr/lib64/mpich/bin/mpirun", "MPICH"),
            (
                "/opt/intel/oneapi/mpi/2021.13/bin/mpiexec.hydra",
                "Intel MPI",
            ),
            ("/opt/mvapich2/bin/mpiexec", "MVAPICH"),
            ("/usr/local/bin/mpirun", "unknown family"),
        ];
        for (path, family) in table {
            assert_eq!(mpi_family(Path::new(path)), family, "{path}");
        }
    }
}
