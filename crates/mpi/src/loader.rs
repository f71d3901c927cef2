//! Which file the dynamic loader will take for each library.
//!
//! The order is that of ld.so(8): `RPATH`, `LD_LIBRARY_PATH`, `RUNPATH`, the
//! system's folders from `/etc/ld.so.conf`, then the built-in ones. The cache
//! file is not read: it is made of the same folders.

use std::collections::{BTreeMap, VecDeque};

use crate::elf::Elf;
use crate::root::{EntryKind, RootView, folder, join, text};

/// How many libraries of one program are followed.
const LIBRARIES_MAX: usize = 400;
/// How much of a configuration file is read.
const CONFIG_MAX: usize = 64 * 1024;

/// One library that a program needs, itself or through another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Library {
    /// The name by which it is needed.
    pub name: String,
    /// Where it is, links followed; `None` when it is nowhere.
    pub path: Option<String>,
    /// The file that needs it.
    pub needed_by: String,
    /// What it says about itself.
    pub elf: Option<Elf>,
}

/// The folders in which libraries are looked for.
#[derive(Debug, Clone, Default)]
pub struct SearchPath {
    environment: Vec<String>,
    system: Vec<String>,
}

impl SearchPath {
    /// Reads the system's folders; `library_path` is `LD_LIBRARY_PATH`.
    pub fn read(view: &mut dyn RootView, library_path: &str) -> Self {
        let mut system = Vec::new();
        read_config(view, "/etc/ld.so.conf", 0, &mut system);
        let built_in = ["/lib64", "/usr/lib64", "/lib", "/usr/lib", "/usr/local/lib"];
        system.extend(built_in.map(str::to_owned));
        let listed = library_path.split(':').filter(|f| !f.is_empty());
        Self {
            environment: listed.map(str::to_owned).collect(),
            system,
        }
    }

    fn find(&self, view: &mut dyn RootView, name: &str, by: &Elf, by_path: &str) -> Option<String> {
        let regular = |view: &mut dyn RootView, path: &str| {
            let entry = view.entry(path);
            entry.filter(|e| e.kind == EntryKind::File).map(|e| e.path)
        };
        if name.contains('/') {
            return regular(view, name);
        }
        let own = || {
            let origin = folder(by_path);
            by.runpath
                .iter()
                .map(move |f| f.replace("$ORIGIN", origin).replace("${ORIGIN}", origin))
        };
        let first = own().filter(|_| by.runpath_is_first);
        let second = own().filter(|_| !by.runpath_is_first);
        let folders = first
            .chain(self.environment.iter().cloned())
            .chain(second)
            .chain(self.system.iter().cloned());
        for folder in folders {
            let path = join(&folder, name);
            if let Some(found) = regular(view, &path) {
                return Some(found);
            }
        }
        None
    }

    /// Finds all libraries that a file needs, nearest first.
    pub fn closure(&self, view: &mut dyn RootView, path: &str, elf: &Elf) -> Vec<Library> {
        let mut found: Vec<Library> = Vec::new();
        let mut seen = BTreeMap::new();
        let mut queue = VecDeque::from([(path.to_owned(), elf.clone())]);
        while let Some((by_path, by)) = queue.pop_front() {
            for name in &by.needed {
                if found.len() >= LIBRARIES_MAX || seen.insert(name.clone(), ()).is_some() {
                    continue;
                }
                let path = self.find(view, name, &by, &by_path);
                let elf = path.as_ref().and_then(|path| Elf::read(view, path).ok());
                if let (Some(path), Some(elf)) = (&path, &elf) {
                    queue.push_back((path.clone(), elf.clone()));
                }
                found.push(Library {
                    name: name.clone(),
                    path,
                    needed_by: by_path.clone(),
                    elf,
                });
            }
        }
        found
    }
}

fn read_config(view: &mut dyn RootView, path: &str, depth: u32, folders: &mut Vec<String>) {
    let Some(config) = text(view, path, CONFIG_MAX) else {
        return;
    };
    for line in config.lines() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if let Some(pattern) = line.strip_prefix("include ") {
            let pattern = join(folder(path), pattern.trim());
            // The pattern is a folder and one star in the file's name, as in `ld.so.conf.d/*.conf`.
            let (before, after) = pattern.split_once('*').unwrap_or((&pattern, ""));
            let within = folder(before).to_owned();
            for name in view.list(&within) {
                let file = join(&within, &name);
                let matches = file.starts_with(before) && file.ends_with(after);
                if matches && depth < 2 && folders.len() < LIBRARIES_MAX {
                    read_config(view, &file, depth + 1, folders);
                }
            }
        } else if line.starts_with('/') {
            folders.push(line.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::elf::build::Sketch;
    use crate::root::fake::FakeRoot;

    #[test]
    fn libraries_are_found_in_the_loaders_order() {
        let program = Sketch {
            needed: vec!["liba.so", "libb.so", "libnone.so"],
            runpath: Some("$ORIGIN/lib"),
            ..Sketch::default()
        };
        let mut root = FakeRoot::default()
            .program("/opt/app/run", program.bytes())
            .file("/opt/app/lib/liba.so", Sketch::library(vec!["libc.so"]))
            .file("/usr/lib/multi/liba.so", Sketch::library(vec![]))
            .file("/usr/lib/multi/libb.so", Sketch::library(vec![]))
            .file("/env/libb.so", Sketch::library(vec!["liba.so"]))
            .file("/usr/lib/multi/libc.so.6.1", Sketch::library(vec![]))
            .link("/usr/lib/multi/libc.so", "libc.so.6.1")
            .file("/etc/ld.so.conf", "include /etc/ld.so.conf.d/*.conf\n")
            .file(
                "/etc/ld.so.conf.d/multi.conf",
                "# multiarch\n/usr/lib/multi\n",
            );
        let search = SearchPath::read(&mut root, "/env");
        let elf = Elf::read(&mut root, "/opt/app/run").expect("ELF");
        let found: Vec<String> = search
            .closure(&mut root, "/opt/app/run", &elf)
            .iter()
            .map(|l| format!("{} {}", l.name, l.path.as_deref().unwrap_or("-")))
            .collect();
        assert_eq!(
            found,
            [
                "liba.so /opt/app/lib/liba.so",
                "libb.so /env/libb.so",
                "libnone.so -",
                "libc.so /usr/lib/multi/libc.so.6.1",
            ]
        );
    }

    #[test]
    fn a_configuration_that_includes_itself_ends() {
        let mut root = FakeRoot::default().file("/etc/ld.so.conf", "include /etc/*.conf\n/a\n");
        assert!(SearchPath::read(&mut root, "").system.len() < 20);
    }
}
