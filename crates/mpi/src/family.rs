//! Which MPI a program is linked to, and how its ranks find each other.

use std::fmt;

use serde::Serialize;

use crate::loader::Library;
use crate::root::{RootView, base_name, folder, is_program, join};

/// The families of MPI that differ in how they are started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Family {
    /// MPICH and what keeps its name.
    Mpich,
    /// Intel MPI, of MPICH's ABI.
    IntelMpi,
    /// MVAPICH, of MPICH's ABI.
    Mvapich,
    /// Cray MPICH, which knows only Cray's and Slurm's launchers.
    CrayMpich,
    /// Open MPI and what is made of it.
    OpenMpi,
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Mpich => "MPICH",
            Self::IntelMpi => "Intel MPI",
            Self::Mvapich => "MVAPICH",
            Self::CrayMpich => "Cray MPICH",
            Self::OpenMpi => "Open MPI",
        })
    }
}

/// How a library asks who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pmi {
    /// PMI-1 over a descriptor, in the library itself.
    Pmi1,
    /// PMI-2.
    Pmi2,
    /// PMIx.
    Pmix,
    /// A `libpmi` of a batch system, which knows only that system's wire.
    BatchSystem,
}

impl fmt::Display for Pmi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Pmi1 => "PMI-1",
            Self::Pmi2 => "PMI-2",
            Self::Pmix => "PMIx",
            Self::BatchSystem => "a batch system's libpmi",
        })
    }
}

/// The MPI library of a program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Mpi {
    /// Whose it is.
    pub family: Family,
    /// Its version, where it is told.
    pub version: Option<String>,
    /// The name by which the program needs it: its ABI.
    pub soname: String,
    /// Where it is; `None` when it is not in the root.
    pub library: Option<String>,
    /// The file that needs it.
    pub needed_by: String,
    /// How its messages travel, such as `ch4:ucx`, where it is told.
    pub device: Option<String>,
    /// How it asks who it is.
    pub pmi: Pmi,
}

impl Mpi {
    /// Gives the first number of the version.
    pub fn major(&self) -> Option<u32> {
        self.version.as_ref()?.split('.').next()?.parse().ok()
    }

    /// Gives the first two numbers of the version; of `4.2rc1` too.
    pub fn series(&self) -> Option<(u32, u32)> {
        let (_, rest) = self.version.as_ref()?.split_once('.')?;
        let minor = rest.split(|c: char| !c.is_ascii_digit()).next()?;
        Some((self.major()?, minor.parse().ok()?))
    }
}

impl fmt::Display for Mpi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.family)?;
        self.version.as_ref().map_or(Ok(()), |v| write!(f, " {v}"))
    }
}

/// Finds the MPI among the libraries of a program.
pub fn detect(view: &mut dyn RootView, libraries: &[Library]) -> Option<Mpi> {
    let library = libraries.iter().find(|l| is_mpi(&l.name))?;
    let path = library.path.clone().unwrap_or_default();
    let needs = |name: &str| libraries.iter().any(|l| l.name.starts_with(name));
    let open_mpi = ["libopen-pal.so", "libopen-rte.so"].into_iter().any(needs)
        || ["libmpi.so.40", "libmpi.so.20"].contains(&library.name.as_str())
        || library.name.starts_with("libmpi_ibm.so");
    let exported = |view: &mut dyn RootView, library: &Library, name: &str| {
        let (path, elf) = (library.path.as_ref()?, library.elf.as_ref()?);
        elf.exported_text(view, path, name, 4096)
    };
    let mut mpi = Mpi {
        family: Family::OpenMpi,
        version: None,
        soname: library.name.clone(),
        library: library.path.clone(),
        needed_by: library.needed_by.clone(),
        device: None,
        pmi: Pmi::Pmix,
    };
    if open_mpi {
        let pal = libraries
            .iter()
            .find(|l| l.name.starts_with("libopen-pal.so"));
        let told = pal.and_then(|pal| exported(view, pal, "opal_version_string"));
        mpi.version = told.or_else(|| open_mpi_by_file_name(base_name(&path)));
        return Some(mpi);
    }
    mpi.family = match () {
        () if library.name.starts_with("libmpi_") && !library.name.starts_with("libmpi_abi") => {
            Family::CrayMpich
        }
        () if path.contains("/mvapich") => Family::Mvapich,
        () if path.contains("/impi") || path.contains("/intel") => Family::IntelMpi,
        () => Family::Mpich,
    };
    mpi.version = exported(view, library, "MPII_Version_string")
        .or_else(|| exported(view, library, "MPIR_Version_string"));
    mpi.device = exported(view, library, "MPII_Version_device")
        .or_else(|| exported(view, library, "MPIR_Version_device"));
    let configured = exported(view, library, "MPII_Version_configure").unwrap_or_default();
    mpi.pmi = match () {
        () if configured.contains("--with-pmi=pmi2") || needs("libpmi2.so") => Pmi::Pmi2,
        () if needs("libpmix.so") => Pmi::Pmix,
        () if needs("libpmi.so") || mpi.family == Family::CrayMpich => Pmi::BatchSystem,
        () => Pmi::Pmi1,
    };
    Some(mpi)
}

fn is_mpi(name: &str) -> bool {
    let Some((stem, _)) = name.split_once(".so") else {
        return false;
    };
    // Cray names its library after the compiler: libmpi_cray, libmpi_gnu_91.
    const CRAY: [&str; 4] = ["libmpi_cray", "libmpi_gnu", "libmpi_intel", "libmpi_nvidia"];
    ["libmpi", "libmpich", "libmpi_abi", "libmpi_ibm"].contains(&stem)
        || CRAY.iter().any(|cray| stem.starts_with(cray))
}

/// Tells Open MPI's series by its library's real name, `libmpi.so.40.30.4`.
fn open_mpi_by_file_name(name: &str) -> Option<String> {
    let mut numbers = name.strip_prefix("libmpi.so.")?.split('.');
    let series = match (numbers.next()?, numbers.next()?) {
        ("40", "0") => "3.0",
        ("40", "10") => "3.1",
        ("40", "20") => "4.0",
        ("40", "30") => "4.1",
        ("40", "40") => "5.0",
        ("20", _) => "2",
        _ => return None,
    };
    Some(series.to_owned())
}

/// Finds Open MPI's launcher: beside the library first, then in `PATH`.
pub fn open_mpi_launcher(
    view: &mut dyn RootView,
    library: Option<&str>,
    path: &str,
) -> Option<String> {
    let mut folders = Vec::new();
    if let Some(library) = library {
        let lib = folder(library);
        folders.push(join(lib, "../bin"));
        folders.push(join(lib, "../../bin"));
    }
    folders.extend(path.split(':').map(str::to_owned));
    for folder in folders {
        for name in ["mpirun.openmpi", "orterun", "prterun", "mpirun"] {
            let candidate = join(&folder, name);
            if is_program(view, &candidate) && is_open_mpi_launcher(view, &candidate) {
                return Some(candidate);
            }
        }
    }
    None
}

/// Tells which Open MPI a launcher is of by what lies beside it: its own launcher
/// or, from version 5 on, PRRTE's.
pub fn launcher_major(view: &mut dyn RootView, launcher: &str) -> Option<u32> {
    let bin = folder(launcher);
    [("prterun", 5), ("orterun", 4)]
        .into_iter()
        .find_map(|(name, major)| is_program(view, &join(bin, name)).then_some(major))
}

/// Tells what ranks of a launcher may ask it by, where that is known: Open MPI's serves PMIx,
/// and Hydra, which MPICH, Intel MPI and MVAPICH have, PMI-1.
pub fn launcher_serves(view: &mut dyn RootView, path: &str) -> Option<Pmi> {
    if is_open_mpi_launcher(view, path) {
        return Some(Pmi::Pmix);
    }
    let real = view.entry(path)?.path;
    let name = base_name(&real);
    (name.contains("hydra") || name.contains("mpich")).then_some(Pmi::Pmi1)
}

/// Tells Open MPI's `mpirun` from MPICH's, which is a link to `mpiexec.hydra`.
fn is_open_mpi_launcher(view: &mut dyn RootView, path: &str) -> bool {
    let real = view.entry(path).map(|e| e.path).unwrap_or_default();
    match base_name(&real) {
        "orterun" | "prterun" | "prte" | "mpirun.openmpi" => true,
        name if name.contains("hydra") || name.contains("mpich") => false,
        _ => crate::elf::Elf::read(view, &real).is_ok_and(|elf| {
            let own = ["libopen-rte", "libopen-pal", "libprrte"];
            let mut needed = elf.needed.iter();
            needed.any(|name| own.iter().any(|own| name.starts_with(own)))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::elf::build::Sketch;
    use crate::root::fake::FakeRoot;

    fn library(name: &str, path: &str) -> Library {
        Library {
            name: name.to_owned(),
            path: Some(path.to_owned()),
            needed_by: "/app".to_owned(),
            elf: None,
        }
    }

    fn show(libraries: &[Library]) -> String {
        match detect(&mut FakeRoot::default(), libraries) {
            Some(mpi) => format!("{mpi}, {}", mpi.pmi),
            None => "none".into(),
        }
    }

    #[test]
    fn one_abi_number_does_not_hide_two_families() {
        let mpi = library("libmpi.so.12", "/usr/lib/libmpi.so.12.1.0");
        assert_eq!(show(std::slice::from_ref(&mpi)), "MPICH, PMI-1");
        let pal = library("libopen-pal.so.13", "/usr/lib/libopen-pal.so.13");
        assert_eq!(show(&[mpi, pal]), "Open MPI, PMIx");
    }

    #[test]
    fn families_are_told_by_name_and_place() {
        let at = |name, path| show(&[library(name, path)]);
        assert_eq!(
            at("libmpi.so.40", "/l/libmpi.so.40.30.4"),
            "Open MPI 4.1, PMIx"
        );
        assert_eq!(
            at("libmpi.so.12", "/opt/intel/oneapi/mpi/lib/libmpi.so.12"),
            "Intel MPI, PMI-1"
        );
        assert_eq!(
            at("libmpi.so.12", "/opt/mvapich2/lib/libmpi.so.12"),
            "MVAPICH, PMI-1"
        );
        assert_eq!(
            at("libmpi_cray.so.12", "/opt/cray/lib/libmpi_cray.so.12"),
            "Cray MPICH, a batch system's libpmi"
        );
        assert_eq!(at("libmpi_cxx.so.40", "/l/libmpi_cxx.so.40"), "none");
        let mpich = library("libmpich.so.12", "/l/libmpich.so.12");
        let pmi2 = library("libpmi2.so.0", "/l/libpmi2.so.0");
        assert_eq!(show(&[mpich, pmi2]), "MPICH, PMI-2");
    }

    #[test]
    fn mpichs_mpirun_is_not_taken_for_open_mpis() {
        let open = Sketch {
            needed: vec!["libopen-rte.so.40"],
            ..Sketch::default()
        };
        let mut root = FakeRoot::default()
            .link("/usr/bin/mpirun", "mpiexec.hydra")
            .program("/usr/bin/mpiexec.hydra", Sketch::default().bytes())
            .program("/opt/openmpi/bin/mpirun", open.bytes());
        assert_eq!(open_mpi_launcher(&mut root, None, "/usr/bin"), None);
        let found = open_mpi_launcher(
            &mut root,
            Some("/opt/openmpi/lib/libmpi.so.40.40.1"),
            "/usr/bin",
        );
        assert_eq!(found.as_deref(), Some("/opt/openmpi/bin/mpirun"));
    }

    #[test]
    fn a_launcher_is_known_by_its_neighbours() {
        let mut root = FakeRoot::default()
            .program("/four/orterun", Sketch::default().bytes())
            .program("/five/prterun", Sketch::default().bytes());
        let mut major = |folder| launcher_major(&mut root, &format!("/{folder}/mpirun"));
        assert_eq!(
            [major("four"), major("five"), major("other")],
            [Some(4), Some(5), None]
        );
    }
}
