//! What is read of a root file system before a program is started.

/// What a path is, links followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A folder.
    Folder,
    /// A device, a socket or a pipe.
    Other,
}

/// What is at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What it is.
    pub kind: EntryKind,
    /// The program's user may execute it.
    pub executable: bool,
    /// The path with all links followed inside the root.
    pub path: String,
}

/// The files that the program will see, at the paths where it will see them.
///
/// Paths are absolute. All links are followed inside the root. Nothing that
/// is read is trusted: whoever made the image may have made it hostile.
pub trait RootView {
    /// Tells what is at a path; `None` when nothing is.
    fn entry(&mut self, path: &str) -> Option<Entry>;
    /// Reads up to `len` bytes of a regular file; `None` when it cannot be read.
    fn read(&mut self, path: &str, offset: u64, len: usize) -> Option<Vec<u8>>;
    /// Lists the names in a folder, sorted; empty when it cannot be read.
    fn list(&mut self, folder: &str) -> Vec<String>;
}

/// Joins a folder and a path and takes `.` and `..` out, as far as text can.
pub fn join(folder: &str, path: &str) -> String {
    let whole = if path.starts_with('/') {
        path.to_owned()
    } else {
        format!("{folder}/{path}")
    };
    let mut parts: Vec<&str> = Vec::new();
    for part in whole.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// Gives the last part of a path.
pub fn base_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// Gives the folder of a path.
pub fn folder(path: &str) -> &str {
    match path.rfind('/') {
        Some(0) | None => "/",
        Some(end) => &path[..end],
    }
}

/// Tells whether a regular file that may be executed is at the path.
pub(crate) fn is_program(view: &mut dyn RootView, path: &str) -> bool {
    let entry = view.entry(path);
    entry.is_some_and(|e| e.kind == EntryKind::File && e.executable)
}

/// Reads a whole text file of at most `max` bytes, what is not text replaced.
pub(crate) fn text(view: &mut dyn RootView, path: &str, max: usize) -> Option<String> {
    let bytes = view.read(path, 0, max)?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
pub(crate) mod fake {
    use std::collections::BTreeMap;

    use super::*;

    /// A root in memory: paths to contents and execute permission, and links.
    #[derive(Debug, Default)]
    pub(crate) struct FakeRoot {
        pub(crate) files: BTreeMap<String, (Vec<u8>, bool)>,
        pub(crate) links: BTreeMap<String, String>,
    }

    impl FakeRoot {
        pub(crate) fn file(mut self, path: &str, content: impl Into<Vec<u8>>) -> Self {
            self.files.insert(path.to_owned(), (content.into(), false));
            self
        }

        pub(crate) fn program(mut self, path: &str, content: impl Into<Vec<u8>>) -> Self {
            self.files.insert(path.to_owned(), (content.into(), true));
            self
        }

        pub(crate) fn link(mut self, path: &str, to: &str) -> Self {
            self.links.insert(path.to_owned(), to.to_owned());
            self
        }

        fn follow(&self, path: &str) -> String {
            let mut path = join("/", path);
            for _ in 0..8 {
                match self.links.get(&path) {
                    Some(to) => path = join(folder(&path), to),
                    None => break,
                }
            }
            path
        }
    }

    impl RootView for FakeRoot {
        fn entry(&mut self, path: &str) -> Option<Entry> {
            let path = self.follow(path);
            if let Some((_, executable)) = self.files.get(&path) {
                return Some(Entry {
                    kind: EntryKind::File,
                    executable: *executable,
                    path,
                });
            }
            let inside = format!("{}/", path.trim_end_matches('/'));
            let is_folder = self.files.keys().any(|file| file.starts_with(&inside));
            is_folder.then_some(Entry {
                kind: EntryKind::Folder,
                executable: true,
                path,
            })
        }

        fn read(&mut self, path: &str, offset: u64, len: usize) -> Option<Vec<u8>> {
            let (content, _) = self.files.get(&self.follow(path))?;
            let start = usize::try_from(offset).ok()?.min(content.len());
            let end = start.saturating_add(len).min(content.len());
            Some(content[start..end].to_vec())
        }

        fn list(&mut self, folder: &str) -> Vec<String> {
            let inside = format!("{}/", join("/", folder).trim_end_matches('/'));
            let paths = self.files.keys().chain(self.links.keys());
            let mut names: Vec<String> = paths
                .filter_map(|path| path.strip_prefix(&inside))
                .map(|rest| rest.split('/').next().unwrap_or(rest).to_owned())
                .collect();
            names.sort();
            names.dedup();
            names
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_joined_without_leaving_the_root() {
        assert_eq!(join("/work", "./a/../b"), "/work/b");
        assert_eq!(join("/work", "/bin//sh"), "/bin/sh");
        assert_eq!(join("/", "../../etc"), "/etc");
        assert_eq!(folder("/bin/sh"), "/bin");
        assert_eq!(folder("/sh"), "/");
        assert_eq!(base_name("/bin/sh"), "sh");
    }
}
