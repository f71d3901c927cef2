//! Looks at a program before it is started: what it is, what it needs, and
//! which MPI it speaks.

use crate::elf::{Elf, ElfError, Version};
use crate::family::{Mpi, Pmi, detect, launcher_major, launcher_serves, open_mpi_launcher};
use crate::loader::SearchPath;
use crate::python::{self, Source, mpi4py_module};
use crate::root::{EntryKind, RootView, base_name, is_program, join, text};
use crate::shell;

/// How many programs are looked at for one command.
const PROGRAMS_MAX: u32 = 24;
/// How deep scripts that start scripts are followed.
const DEPTH_MAX: u32 = 4;
/// How many near names are offered for one that is not there.
const NEAR_MAX: usize = 3;

/// The command to be looked at.
#[derive(Debug, Clone, Copy)]
pub struct Command<'a> {
    /// Program and arguments.
    pub argv: &'a [String],
    /// The folders of `PATH`, as the program will have it.
    pub path: &'a str,
    /// The folders of `LD_LIBRARY_PATH`, as the program will have it.
    pub library_path: &'a str,
    /// The working folder, absolute.
    pub cwd: &'a str,
}

/// How the search for the program ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup {
    /// At this path, as named or as found in `PATH`.
    Found(String),
    /// A file is there and may not be executed, or a folder is.
    NotExecutable(String),
    /// Nowhere; these names are near.
    Missing(Vec<String>),
}

/// The ELF file that the kernel will start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binary {
    /// Where it is.
    pub path: String,
    /// Its architecture, in the words of `uname -m`.
    pub arch: String,
    /// Its dynamic loader, and whether that is there; `None` when it is static.
    pub loader: Option<(String, bool)>,
    /// The newest glibc whose symbols it needs.
    pub glibc_needed: Option<Version>,
}

/// A file that an interpreter is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    /// Where it is.
    pub path: String,
    /// It is there.
    pub present: bool,
}

/// What is known of Python's way to MPI.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Python {
    /// The code imports mpi4py, as far as its text shows.
    pub imports: bool,
    /// mpi4py's compiled module.
    pub module: Option<String>,
}

/// A launcher that a command calls by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launcher {
    /// Its name, as it is called.
    pub name: String,
    /// What its ranks may ask it by; `None` of a launcher that is not known so well.
    pub serves: Option<Pmi>,
}

/// Tells whether a command is a launcher of ranks, by its name.
pub fn is_launcher(argv: &[String]) -> bool {
    let program = shell::unwrap(argv).first();
    program.is_some_and(|name| shell::is_launcher(base_name(name)))
}

/// What was seen of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The program's name as it was given.
    pub name: String,
    /// Where it is.
    pub lookup: Lookup,
    /// What the kernel starts: the program, or the interpreter of its `#!` line.
    pub binary: Option<Binary>,
    /// The interpreter that a `#!` line names and that is not there.
    pub missing_interpreter: Option<String>,
    /// The script that an interpreter is given.
    pub script: Option<Script>,
    /// Python's part.
    pub python: Option<Python>,
    /// Libraries that are nowhere to be found, with the file that needs each.
    pub missing_libraries: Vec<(String, String)>,
    /// The MPI that the program, or one that it starts, is linked to.
    pub mpi: Option<Mpi>,
    /// The launcher that the command or its script calls by itself.
    pub own_launcher: Option<Launcher>,
    /// Open MPI's launcher, when the program needs it.
    pub open_mpi_launcher: Option<String>,
    /// The first number of its version, where neither program nor library tell.
    pub launcher_major: Option<u32>,
    /// The newest glibc that the root offers.
    pub glibc: Option<Version>,
}

/// Looks at a command and what it will start.
pub fn inspect(view: &mut dyn RootView, command: &Command<'_>) -> Facts {
    let name = command.argv.first().cloned().unwrap_or_default();
    let mut look = Look {
        search: SearchPath::read(view, command.library_path),
        command: *command,
        programs_left: PROGRAMS_MAX,
        facts: Facts {
            lookup: lookup(view, &name, command.path, command.cwd),
            name,
            binary: None,
            missing_interpreter: None,
            script: None,
            python: None,
            missing_libraries: Vec::new(),
            mpi: None,
            own_launcher: None,
            open_mpi_launcher: None,
            launcher_major: None,
            glibc: None,
        },
    };
    if matches!(look.facts.lookup, Lookup::Found(_)) {
        look.walk(view, command.argv, command.cwd, 0);
    }
    let mut facts = look.facts;
    // `--mpi openmpi` may ask for it even where no MPI was seen.
    let library = facts.mpi.as_ref().and_then(|mpi| mpi.library.as_deref());
    facts.open_mpi_launcher = open_mpi_launcher(view, library, command.path);
    if facts.mpi.as_ref().and_then(Mpi::major).is_none() {
        let launcher = facts.open_mpi_launcher.as_deref();
        facts.launcher_major = launcher.and_then(|path| launcher_major(view, path));
    }
    facts
}

/// Gives the folders from which a program's name leads to it.
fn folders<'a>(name: &str, path: &'a str, cwd: &'a str) -> Vec<&'a str> {
    match name.contains('/') {
        true => vec![cwd],
        false => path.split(':').filter(|f| !f.is_empty()).collect(),
    }
}

fn lookup(view: &mut dyn RootView, name: &str, path: &str, cwd: &str) -> Lookup {
    let folders = folders(name, path, cwd);
    let mut refused = None;
    for folder in folders.iter().filter(|_| !name.is_empty()) {
        let candidate = join(folder, name);
        match view.entry(&candidate) {
            Some(entry) if entry.kind == EntryKind::File && entry.executable => {
                return Lookup::Found(candidate);
            }
            Some(_) => refused = refused.or(Some(candidate)),
            None => {}
        }
    }
    if let Some(candidate) = refused {
        return Lookup::NotExecutable(candidate);
    }
    let wanted = base_name(name);
    let mut near: Vec<(usize, String)> = Vec::new();
    for folder in folders {
        let within = match name.contains('/') {
            true => join(folder, crate::root::folder(name)),
            false => folder.to_owned(),
        };
        for other in view.list(&within) {
            let distance = strsim::damerau_levenshtein(wanted, &other);
            if distance <= 2 && distance < wanted.len() {
                near.push((distance, other));
            }
        }
    }
    near.sort();
    near.dedup();
    Lookup::Missing(near.into_iter().map(|(_, n)| n).take(NEAR_MAX).collect())
}

struct Look<'a> {
    search: SearchPath,
    command: Command<'a>,
    programs_left: u32,
    facts: Facts,
}

impl Look<'_> {
    /// Looks at one command of depth 0, or one that a script starts.
    fn walk(&mut self, view: &mut dyn RootView, argv: &[String], cwd: &str, depth: u32) {
        let Some(name) = argv.first() else { return };
        if depth > DEPTH_MAX || self.programs_left == 0 {
            return;
        }
        self.programs_left -= 1;
        let found = lookup(view, name, self.command.path, cwd);
        let launches = shell::is_launcher(base_name(name));
        if launches && self.facts.own_launcher.is_none() {
            self.facts.own_launcher = Some(Launcher {
                name: name.clone(),
                serves: match &found {
                    Lookup::Found(path) => launcher_serves(view, path),
                    _ => None,
                },
            });
        }
        let Lookup::Found(path) = found else {
            if depth > 0 && self.facts.binary.is_none() {
                self.facts.missing_interpreter.get_or_insert(name.clone());
            }
            return;
        };
        match Elf::read(view, &path) {
            Ok(elf) => self.binary(view, &path, &elf),
            Err(ElfError::Damaged) => return,
            Err(ElfError::NotElf) => {
                if let Some(inner) = shebang(view, &path, argv) {
                    self.script(view, &path);
                    self.walk(view, &inner, cwd, depth + 1);
                }
            }
        }
        let name = base_name(&path);
        let inner = shell::unwrap(argv);
        if inner.len() < argv.len() {
            self.walk(view, inner, cwd, depth + 1);
        } else if launches {
            let inner = self.launched(view, argv, cwd);
            self.walk(view, inner, cwd, depth + 1);
        } else if python::is_python(name) {
            self.python(view, &path, argv, cwd);
        } else if shell::is_shell(name) {
            self.shell(view, argv, cwd, depth);
        }
    }

    /// Gives what a launcher starts: from the first word on that is a program's. Its options,
    /// and what these are given, are not.
    fn launched<'a>(&self, view: &mut dyn RootView, argv: &'a [String], cwd: &str) -> &'a [String] {
        let mut is_program = |word: &String| {
            let folders = folders(word, self.command.path, cwd);
            let mut places = folders.iter().map(|folder| join(folder, word));
            !word.starts_with('-') && places.any(|place| is_program(view, &place))
        };
        let first = (1..argv.len()).find(|at| is_program(&argv[*at]));
        &argv[first.unwrap_or(argv.len())..]
    }

    fn binary(&mut self, view: &mut dyn RootView, path: &str, elf: &Elf) {
        let first = self.facts.binary.is_none();
        if first {
            let loader = elf.interpreter.clone().map(|loader| {
                let present = view.entry(&loader).is_some();
                (loader, present)
            });
            self.facts.binary = Some(Binary {
                path: path.to_owned(),
                arch: elf.arch.clone(),
                loader,
                glibc_needed: elf.glibc_needed.clone(),
            });
        }
        self.libraries(view, path, elf, first);
    }

    fn libraries(&mut self, view: &mut dyn RootView, path: &str, elf: &Elf, is_first: bool) {
        let libraries = self.search.closure(view, path, elf);
        if self.facts.mpi.is_none() {
            self.facts.mpi = detect(view, &libraries);
        }
        for library in &libraries {
            if library.name == "libc.so.6" && self.facts.glibc.is_none() {
                let elf = library.elf.as_ref();
                self.facts.glibc = elf.and_then(|elf| elf.glibc_defined.clone());
            }
            if library.path.is_none() && (is_first || self.facts.mpi.is_some()) {
                let missing = (library.name.clone(), library.needed_by.clone());
                self.facts.missing_libraries.push(missing);
            }
        }
    }

    /// Takes note of a script file and tells whether it is there.
    fn script(&mut self, view: &mut dyn RootView, path: &str) -> bool {
        let present = view.entry(path).is_some();
        let path = path.to_owned();
        self.facts.script.get_or_insert(Script { path, present });
        present
    }

    fn python(&mut self, view: &mut dyn RootView, path: &str, argv: &[String], cwd: &str) {
        let imports = match python::source(argv) {
            Source::Code(code) => python::imports_mpi4py(&code),
            Source::Module(module) => module == "mpi4py" || module.starts_with("mpi4py."),
            Source::Input => false,
            Source::File(file) => {
                let file = join(cwd, &file);
                self.script(view, &file)
                    && text(view, &file, python::SCRIPT_MAX)
                        .is_some_and(|code| python::imports_mpi4py(&code))
            }
        };
        let module = mpi4py_module(view, path);
        if let Some(module) = &module
            && let Ok(elf) = Elf::read(view, module)
        {
            self.libraries(view, module, &elf, false);
        }
        let python = self.facts.python.get_or_insert(Python {
            imports: false,
            module,
        });
        python.imports |= imports;
    }

    fn shell(&mut self, view: &mut dyn RootView, argv: &[String], cwd: &str, depth: u32) {
        let mut words = argv.iter().skip(1);
        // `-c`, also as a part of `-ec`, or the first word that is no option.
        let is_code = |w: &String| !w.starts_with("--") && w.contains('c');
        let script = match words.find(|w| !w.starts_with('-') || is_code(w)) {
            Some(option) if option.starts_with('-') => words.next().cloned(),
            Some(file) => {
                let file = join(cwd, file);
                self.script(view, &file);
                text(view, &file, python::SCRIPT_MAX)
            }
            None => None,
        };
        let mut cwd = cwd.to_owned();
        for command in shell::commands(&script.unwrap_or_default()) {
            match command.as_slice() {
                [cd, folder] if cd == "cd" => cwd = join(&cwd, folder),
                command => self.walk(view, command, &cwd, depth + 1),
            }
        }
    }
}

/// Gives the command that the kernel makes of a `#!` line, execve(2).
fn shebang(view: &mut dyn RootView, path: &str, argv: &[String]) -> Option<Vec<String>> {
    let head = text(view, path, 256)?;
    let line = head.strip_prefix("#!")?.lines().next()?.trim();
    let (interpreter, argument) = match line.split_once([' ', '\t']) {
        Some((interpreter, argument)) => (interpreter, Some(argument.trim())),
        None => (line, None),
    };
    let mut inner = vec![interpreter.to_owned()];
    // `env -S` splits its one argument, and so must who wants to see through it.
    match argument {
        Some(argument) if argument.starts_with("-S") => {
            inner.extend(argument.split_whitespace().map(str::to_owned));
        }
        argument => inner.extend(argument.map(str::to_owned)),
    }
    inner.push(path.to_owned());
    inner.extend(argv.iter().skip(1).cloned());
    Some(inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::elf::build::Sketch;
    use crate::family::Family;
    use crate::root::fake::FakeRoot;

    /// An image with a shell, Python with mpi4py, MPICH and Open MPI.
    pub(super) fn image() -> FakeRoot {
        let library = Sketch::library;
        let program = |needed| {
            Sketch {
                needed,
                ..Sketch::default()
            }
            .bytes()
        };
        FakeRoot::default()
            .program("/lib64/ld-linux-x86-64.so.2", "")
            .file("/lib/libc.so.6", library(vec![]))
            .file("/lib/libmpich.so.12.2.2", library(vec!["libc.so.6"]))
            .link("/lib/libmpich.so.12", "libmpich.so.12.2.2")
            .file("/lib/libmpi.so.40.30.4", library(vec!["libc.so.6"]))
            .link("/lib/libmpi.so.40", "libmpi.so.40.30.4")
            .program("/usr/bin/orterun", program(vec!["libc.so.6"]))
            .link("/usr/bin/mpirun", "orterun")
            .program("/usr/bin/mpiexec.hydra", program(vec!["libc.so.6"]))
            .link("/usr/bin/mpiexec", "mpiexec.hydra")
            .program("/usr/bin/nice", program(vec!["libc.so.6"]))
            .program("/usr/bin/srun", program(vec!["libc.so.6"]))
            .program("/bin/sh", program(vec!["libc.so.6"]))
            .program("/usr/bin/env", program(vec!["libc.so.6"]))
            .program("/usr/bin/python3.11", program(vec!["libc.so.6"]))
            .link("/usr/bin/python3", "python3.11")
            .file(
                "/usr/lib/python3/dist-packages/mpi4py/MPI.x.so",
                library(vec!["libmpi.so.40"]),
            )
            .program("/work/solve", program(vec!["libmpich.so.12", "libc.so.6"]))
            .file("/work/hello.py", "from mpi4py import MPI\n")
            .program("/work/run.py", "#!/usr/bin/env python3\nimport mpi4py\n")
            .program("/work/run.sh", "#!/bin/sh\nset -e\ncd /work\n./solve 100\n")
            .program("/work/own.sh", "#!/bin/sh -e\nmpiexec -n 2 ./solve\n")
            .program("/work/bare", "echo hello\n")
            .program("/work/odd", "#!/opt/none\n")
            .file("/work/data", "")
    }

    fn look(line: &str) -> Facts {
        let argv: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let command = Command {
            argv: &argv,
            path: "/usr/bin:/bin",
            library_path: "",
            cwd: "/work",
        };
        inspect(&mut image(), &command)
    }

    fn family(line: &str) -> Option<Family> {
        look(line).mpi.map(|mpi| mpi.family)
    }

    #[test]
    fn the_family_is_found_through_scripts_shells_and_wrappers() {
        for line in [
            "./solve",
            "./run.sh",
            "sh -ec ./solve",
            "env A=1 ./solve",
            "/work/run.sh 1",
        ] {
            assert_eq!(family(line), Some(Family::Mpich), "{line}");
        }
        for line in [
            "python3 -u hello.py",
            "./run.py",
            "sh -c exec\tpython3\thello.py",
        ] {
            let facts = look(line);
            assert_eq!(facts.mpi.map(|m| m.family), Some(Family::OpenMpi), "{line}");
            assert!(facts.python.is_some_and(|p| p.imports), "{line}");
        }
        assert_eq!(family("sh"), None);
    }

    #[test]
    fn a_script_that_starts_its_own_ranks_is_left_to_do_so() {
        let launcher = |line| look(line).own_launcher.map(|its| (its.name, its.serves));
        let is = |name: &str, serves| Some((name.to_owned(), serves));
        assert_eq!(launcher("./own.sh"), is("mpiexec", Some(Pmi::Pmi1)));
        let line = "mpirun -n 4 ./solve";
        assert_eq!(launcher(line), is("mpirun", Some(Pmi::Pmix)));
        assert_eq!(launcher("srun ./solve"), is("srun", None));
        assert_eq!(launcher("./run.sh"), None);
    }

    #[test]
    fn what_a_launcher_starts_is_looked_at() {
        for line in [
            "./own.sh",
            "mpirun -n 4 ./solve",
            "mpiexec -n 4 -bind-to core -wdir /work /work/solve 100",
            "env A=1 mpirun --oversubscribe -x PATH nice ./solve",
        ] {
            assert_eq!(family(line), Some(Family::Mpich), "{line}");
        }
        let line = "mpiexec -n 2 python3 hello.py";
        assert_eq!(family(line), Some(Family::OpenMpi));
        assert_eq!(family("mpiexec -n 2"), None);
        // What is started first is the launcher.
        let binary = look("mpirun -n 4 ./solve").binary.expect("one");
        assert_eq!(binary.path, "/usr/bin/mpirun");
    }

    #[test]
    fn a_command_that_is_not_there_gets_near_names() {
        assert_eq!(
            look("pyhton3").lookup,
            Lookup::Missing(vec!["python3".into()])
        );
        assert_eq!(
            look("./slove").lookup,
            Lookup::Missing(vec!["solve".into()])
        );
        assert_eq!(
            look("./data").lookup,
            Lookup::NotExecutable("/work/data".into())
        );
        assert_eq!(look("xxxxxxxx").lookup, Lookup::Missing(vec![]));
    }

    #[test]
    fn scripts_and_interpreters_that_are_not_there_are_seen() {
        let facts = look("python3 none.py");
        assert_eq!(facts.script.map(|s| s.present), Some(false));
        assert_eq!(
            look("./odd").missing_interpreter.as_deref(),
            Some("/opt/none")
        );
        assert_eq!(look("./bare").binary, None);
    }

    #[test]
    fn scripts_that_call_each_other_end() {
        let mut root = image()
            .program("/work/a.sh", "#!/bin/sh\n./b.sh\n./b.sh\n./b.sh\n")
            .program("/work/b.sh", "#!/bin/sh\n./a.sh\n./a.sh\n./a.sh\n");
        let argv = ["./a.sh".to_owned()];
        let command = Command {
            argv: &argv,
            path: "/bin",
            library_path: "",
            cwd: "/work",
        };
        assert_eq!(inspect(&mut root, &command).mpi, None);
    }
}
