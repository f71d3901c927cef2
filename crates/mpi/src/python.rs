//! What a Python command is, and where its mpi4py is.

use crate::root::{EntryKind, RootView, base_name, folder, join};

/// How much of a script is looked at.
pub(crate) const SCRIPT_MAX: usize = 256 * 1024;

/// What the interpreter is asked to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A script file.
    File(String),
    /// The code after `-c`.
    Code(String),
    /// The module after `-m`.
    Module(String),
    /// Nothing: it reads standard input.
    Input,
}

/// Tells whether a program's name is that of a Python interpreter.
pub fn is_python(name: &str) -> bool {
    let rest = ["python", "pypy"].iter().find_map(|p| name.strip_prefix(p));
    rest.is_some_and(|v| v.chars().all(|c| c.is_ascii_digit() || c == '.'))
}

/// Reads the interpreter's command line, `argv[0]` included.
pub fn source(argv: &[String]) -> Source {
    let mut rest = argv.iter().skip(1);
    while let Some(word) = rest.next() {
        let mut after = || rest.next().cloned().unwrap_or_default();
        match word.as_str() {
            "-c" => return Source::Code(after()),
            // `python -m mpi4py script.py` runs the script.
            "-m" => return Source::Module(after()),
            "-" => return Source::Input,
            "-W" | "-X" | "--check-hash-based-pycs" => {
                after();
            }
            option if option.starts_with('-') => {}
            file => return Source::File(file.to_owned()),
        }
    }
    Source::Input
}

/// Tells whether code imports mpi4py, as far as its text shows.
pub fn imports_mpi4py(code: &str) -> bool {
    // Statements are also cut at `;`, since `-c` code is often one line.
    code.split(['\n', ';']).map(str::trim_start).any(|line| {
        let names = line.strip_prefix("import ");
        let names = names.or_else(|| line.strip_prefix("from "));
        names.is_some_and(|names| {
            let mut names = names.split([' ', ',', '.']);
            names.any(|name| name == "mpi4py")
        })
    })
}

/// Finds mpi4py's compiled module for an interpreter, links followed.
///
/// `interpreter` is the path found in `PATH`, before links are followed: a
/// virtual environment is known by it.
pub fn mpi4py_module(view: &mut dyn RootView, interpreter: &str) -> Option<String> {
    let prefix = |path: &str| folder(folder(path)).to_owned();
    let mut prefixes = vec![prefix(interpreter)];
    if let Some(entry) = view.entry(interpreter) {
        prefixes.push(prefix(&entry.path));
    }
    prefixes.push("/usr/local".to_owned());
    prefixes.push("/usr".to_owned());
    prefixes.dedup();
    for prefix in prefixes {
        for lib in ["lib", "lib64"].map(|lib| join(&prefix, lib)) {
            for version in view.list(&lib) {
                if !version.starts_with("python3") {
                    continue;
                }
                for packages in ["site-packages", "dist-packages"] {
                    let folder = format!("{lib}/{version}/{packages}/mpi4py");
                    if let Some(module) = compiled_module(view, &folder) {
                        return Some(module);
                    }
                }
            }
        }
    }
    None
}

fn compiled_module(view: &mut dyn RootView, folder: &str) -> Option<String> {
    for name in view.list(folder) {
        // `MPI.cpython-311-x86_64-linux-gnu.so`, or `MPI.mpich.…` of newer wheels.
        if name.starts_with("MPI.") && name.ends_with(".so") {
            let entry = view.entry(&join(folder, &name))?;
            return (entry.kind == EntryKind::File).then_some(entry.path);
        }
    }
    None
}

/// Gives the version in an interpreter's real name: `3.11` of `/usr/bin/python3.11`.
pub fn version_in_name(path: &str) -> Option<&str> {
    let version = base_name(path).strip_prefix("python")?;
    version.contains('.').then_some(version)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::root::fake::FakeRoot;

    fn words(line: &str) -> Vec<String> {
        line.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn what_python_runs_is_found_behind_its_options() {
        assert_eq!(
            source(&words("python3 -u -X dev x.py -c y")),
            Source::File("x.py".into())
        );
        assert_eq!(
            source(&words("python3 -m mpi4py x.py")),
            Source::Module("mpi4py".into())
        );
        assert_eq!(
            source(&words("python3 -c pass")),
            Source::Code("pass".into())
        );
        assert_eq!(source(&words("python3")), Source::Input);
        for yes in ["python", "python3", "python3.11", "pypy3"] {
            assert!(is_python(yes), "{yes}");
        }
        assert!(!is_python("python-config") && !is_python("sh"));
    }

    #[test]
    fn an_import_is_told_from_a_mention() {
        for yes in [
            "from mpi4py import MPI",
            "import numpy, mpi4py.MPI as M",
            "if x:\n    from mpi4py.futures import MPIPoolExecutor",
            "import sys; from mpi4py import MPI",
        ] {
            assert!(imports_mpi4py(yes), "{yes}");
        }
        for no in [
            "# from mpi4py import MPI",
            "print('mpi4py')",
            "import mpi4pyx",
        ] {
            assert!(!imports_mpi4py(no), "{no}");
        }
    }

    #[test]
    fn a_virtual_environment_comes_before_the_system() {
        let mut root = FakeRoot::default()
            .link("/venv/bin/python3", "/usr/bin/python3.11")
            .program("/usr/bin/python3.11", "")
            .file("/venv/lib/python3.11/site-packages/mpi4py/MPI.a.so", "")
            .file("/usr/lib/python3/dist-packages/mpi4py/MPI.b.so", "");
        assert_eq!(
            mpi4py_module(&mut root, "/venv/bin/python3").as_deref(),
            Some("/venv/lib/python3.11/site-packages/mpi4py/MPI.a.so")
        );
        assert_eq!(
            mpi4py_module(&mut root, "/usr/bin/python3.11").as_deref(),
            Some("/usr/lib/python3/dist-packages/mpi4py/MPI.b.so")
        );
    }
}
