//! The indexes of a kernel's modules: by them modprobe, udev and the init of an image's
//! machine find what the kernel asks for.
//!
//! | file | says |
//! |---|---|
//! | `modules.dep` | what must be loaded before each module (modules.dep(5)) |
//! | `modules.alias` | which module serves a device, a file system, a protocol |
//! | `modules.devname` | which files of /dev load a module when they are opened |
//! | `*.bin` | the same as a trie, which is all that kmod reads (its `libkmod-index.c`) |

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::error::KernelError;
use super::modules::{Modules, Order, builtin, name_of, normal};
use super::{BUILTIN, compressed};

const ALIASES: &str = "modules.alias";
const DEVICES: &str = "modules.devname";
/// Its lines begin with it. They are in the order of what follows, which is spelt as the
/// kernel's names are.
const ALIAS: &str = "alias ";
/// The most of that file that is read, in bytes.
const MOST: u64 = 64 << 20;

/// Makes the indexes of all modules in a folder; gives names and contents.
pub(super) fn all(
    modules: &Modules,
    part_of_kernel: &str,
) -> Result<Vec<(String, Vec<u8>)>, KernelError> {
    let cannot = || KernelError::io("list", &modules.folder);
    let mut names = Vec::new();
    for entry in fs::read_dir(&modules.folder).map_err(cannot())? {
        let file = entry.map_err(cannot())?.file_name();
        names.extend(file.to_str().and_then(name_of));
    }
    names.sort();
    let (mut dep, mut devname) = (String::new(), String::new());
    let mut of_dep = BTreeMap::new();
    let mut of_alias: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for name in &names {
        let mut order = Order::new(modules);
        order.add(name)?;
        // The last one is loaded first.
        let files: Vec<String> = order.list.iter().rev().map(|m| m.name.clone()).collect();
        let (own, before) = files
            .split_first()
            .map_or((name, &[][..]), |(own, rest)| (own, rest));
        let before: String = before.iter().map(|name| format!(" {name}.ko")).collect();
        let line = format!("{own}.ko:{before}");
        dep += &format!("{line}\n");
        of_dep.insert(name.clone(), vec![line]);
        let Some((_, info)) = modules.read(name)? else {
            continue;
        };
        devname += &device(&info.aliases)
            .map(|device| format!("{name} {device}\n"))
            .unwrap_or_default();
        for pattern in info.aliases {
            let names = of_alias.entry(spelt(&pattern)).or_default();
            names.push(name.clone());
        }
    }
    let alias: String = of_alias
        .iter()
        .flat_map(|(pattern, names)| names.iter().map(move |name| (pattern, name)))
        .map(|(pattern, name)| format!("{ALIAS}{pattern} {name}\n"))
        .collect();
    let of_builtin = builtin(part_of_kernel).into_iter();
    let of_builtin = of_builtin.map(|name| (name, vec![String::new()])).collect();
    let none = BTreeMap::new();
    Ok([
        ("modules.dep", dep.into_bytes()),
        (ALIASES, alias.into_bytes()),
        (DEVICES, devname.into_bytes()),
        (BUILTIN, part_of_kernel.as_bytes().to_vec()),
        ("modules.dep.bin", trie(&of_dep)),
        ("modules.alias.bin", trie(&of_alias)),
        ("modules.builtin.bin", trie(&of_builtin)),
        ("modules.builtin.alias.bin", trie(&none)),
        ("modules.symbols.bin", trie(&none)),
    ]
    .map(|(name, bytes)| (name.to_owned(), bytes))
    .into())
}

/// Gives the file of /dev that a module is loaded for, as `net/tun c10:200`.
fn device(aliases: &[String]) -> Option<String> {
    let find = |prefix: &str| aliases.iter().find_map(|alias| alias.strip_prefix(prefix));
    let name = find("devname:")?;
    let (kind, number) = match (find("char-major-"), find("block-major-")) {
        (Some(number), _) => ('c', number),
        (None, Some(number)) => ('b', number),
        (None, None) => return None,
    };
    let (major, minor) = number.split_once('-')?;
    Some(format!("{name} {kind}{major}:{minor}"))
}

/// A file of /dev whose module is loaded when it is opened.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::vm) struct DeviceFile {
    /// Below /dev.
    pub(in crate::vm) name: String,
    /// It has blocks.
    pub(in crate::vm) block: bool,
    /// Major and minor.
    pub(in crate::vm) number: (u32, u32),
}

/// Reads a line of the list of these.
fn device_file(line: &str) -> Option<DeviceFile> {
    let mut words = line.split(' ').skip(1);
    let (name, number) = (words.next()?, words.next()?);
    let (major, minor) = number.get(1..)?.split_once(':')?;
    Some(DeviceFile {
        name: name.to_owned(),
        block: number.starts_with('b'),
        number: (major.parse().ok()?, minor.parse().ok()?),
    })
}

/// Spells an alias as the kernel does a name, but for what stands in brackets.
fn spelt(alias: &str) -> String {
    let mut inside = false;
    let each = alias.chars().map(|c| {
        inside = (inside || c == '[') && c != ']';
        if c == '-' && !inside { '_' } else { c }
    });
    each.collect()
}

/// Writes a trie from words to values. Every node stands behind its children.
fn trie(words: &BTreeMap<String, Vec<String>>) -> Vec<u8> {
    const MAGIC: u32 = 0xb007_f457;
    const VERSION: u32 = 0x0002_0001;
    let mut bytes = Vec::new();
    for number in [MAGIC, VERSION, 0] {
        bytes.extend(number.to_be_bytes());
    }
    let words: Vec<(&[u8], &[String])> = words
        .iter()
        .map(|(word, values)| (word.as_bytes(), values.as_slice()))
        .collect();
    let root = branch(&words, 0, &mut bytes);
    bytes[8..12].copy_from_slice(&root.to_be_bytes());
    bytes
}

/// Writes the node of words that are alike up to here; gives its place, with what it has.
fn branch(words: &[(&[u8], &[String])], here: usize, bytes: &mut Vec<u8>) -> u32 {
    const PREFIX: u32 = 1 << 31;
    const VALUES: u32 = 1 << 30;
    const CHILDREN: u32 = 1 << 29;
    let (first, last) = match (words.first(), words.last()) {
        (Some((first, _)), Some((last, _))) => (&first[here..], &last[here..]),
        _ => (&[][..], &[][..]),
    };
    let alike = first.iter().zip(last).take_while(|(a, b)| a == b).count();
    let end = here + alike;
    let is_whole = |(word, _): &&(&[u8], &[String])| word.len() == end;
    let own = words.first().filter(is_whole).map(|(_, values)| *values);
    let longer = &words[usize::from(own.is_some())..];
    let mut children = BTreeMap::new();
    for group in longer.chunk_by(|(a, _), (b, _)| a[end] == b[end]) {
        children.insert(group[0].0[end], branch(group, end + 1, bytes));
    }
    let mut place = u32::try_from(bytes.len()).unwrap_or_default();
    if alike > 0 {
        place |= PREFIX;
        bytes.extend([&first[..alike], &[0]].concat());
    }
    if let (Some((&low, _)), Some((&high, _))) =
        (children.first_key_value(), children.last_key_value())
    {
        place |= CHILDREN;
        bytes.extend([low, high]);
        for letter in low..=high {
            let child = children.get(&letter).copied().unwrap_or_default();
            bytes.extend(child.to_be_bytes());
        }
    }
    if let Some(values) = own {
        place |= VALUES;
        let count = u32::try_from(values.len()).unwrap_or_default();
        bytes.extend(count.to_be_bytes());
        for (priority, value) in (0u32..).zip(values) {
            bytes.extend(priority.to_be_bytes());
            bytes.extend([value.as_bytes(), &[0]].concat());
        }
    }
    place
}

/// The modules of the kernel that runs, with their indexes.
pub(in crate::vm) struct Library {
    modules: Modules,
    aliases: String,
}

impl Library {
    /// Opens a folder such as `/lib/modules/6.1.0`; none where it is not one of these.
    pub(in crate::vm) fn open(folder: PathBuf) -> Option<Self> {
        let file = File::open(folder.join(ALIASES)).ok()?;
        let aliases = String::from_utf8(compressed::read(file, MOST).ok()?).ok()?;
        let modules = Modules { folder };
        Some(Self { modules, aliases })
    }

    /// Lists the files of /dev whose modules are loaded when they are opened.
    pub(in crate::vm) fn device_files(&self) -> Vec<DeviceFile> {
        let list = fs::read_to_string(self.modules.folder.join(DEVICES)).unwrap_or_default();
        list.lines().filter_map(device_file).collect()
    }

    /// Gives the modules that serve what is asked for, by their name or an alias, and what
    /// they need, in the order in which they are loaded; none of those that are there.
    pub(in crate::vm) fn serving(&self, asked: &str) -> io::Result<Vec<Vec<u8>>> {
        let own = name_of(&format!("{}.ko", normal(asked)));
        let names = match own.filter(|name| self.modules.has(name)) {
            Some(name) => vec![name],
            None => self.aliased(&spelt(asked)),
        };
        let mut order = Order::new(&self.modules);
        for name in names.iter().filter(|name| !is_there(name)) {
            order.add(name).map_err(io::Error::other)?;
        }
        let missing = order
            .list
            .into_iter()
            .filter(|module| !is_there(&module.name));
        Ok(missing.map(|module| module.bytes).collect())
    }
}

impl Library {
    /// Names the modules of which an alias fits what is asked for.
    fn aliased(&self, asked: &str) -> Vec<String> {
        // There are tens of thousands, and those of a kind stand together.
        let end = asked.find(|c: char| !c.is_ascii_alphanumeric());
        let kind = format!("{ALIAS}{}", &asked[..end.unwrap_or(asked.len())]);
        let start = match self.aliases.starts_with(&kind) {
            true => Some(0),
            false => self.aliases.find(&format!("\n{kind}")).map(|at| at + 1),
        };
        let lines = self.aliases[start.unwrap_or(self.aliases.len())..].lines();
        lines
            .map_while(|line| line.starts_with(&kind).then_some(line))
            .filter_map(|line| line.strip_prefix(ALIAS)?.rsplit_once(' '))
            .filter(|(pattern, _)| fits(pattern.as_bytes(), asked.as_bytes()))
            .map(|(_, name)| name.to_owned())
            .collect()
    }
}

fn is_there(module: &str) -> bool {
    Path::new("/sys/module").join(module).exists()
}

/// Tells whether a word fits a pattern of letters, `*`, `?` and `[a-z]`.
fn fits(pattern: &[u8], word: &[u8]) -> bool {
    let (mut at, mut here) = (0, 0);
    // Where the last `*` stood, and how far it reached.
    let mut star = None;
    while here < word.len() {
        let one = match pattern.get(at) {
            Some(b'*') => {
                star = Some((at + 1, here));
                at += 1;
                continue;
            }
            Some(b'?') => Some(at + 1),
            Some(b'[') => within(&pattern[at + 1..], word[here]).map(|length| at + 1 + length),
            Some(letter) => (*letter == word[here]).then_some(at + 1),
            None => None,
        };
        match (one, star) {
            (Some(next), _) => (at, here) = (next, here + 1),
            (None, Some((after, reached))) => {
                star = Some((after, reached + 1));
                (at, here) = (after, reached + 1);
            }
            (None, None) => return false,
        }
    }
    pattern[at..].iter().all(|letter| *letter == b'*')
}

/// Gives the length of a list of letters behind its bracket, where a letter is in it.
fn within(list: &[u8], letter: u8) -> Option<usize> {
    let end = list.iter().position(|b| *b == b']')?;
    let (mut list_at, mut found) = (0, false);
    while list_at < end {
        let low = list[list_at];
        let range = list_at + 2 < end && list[list_at + 1] == b'-';
        let high = if range { list[list_at + 2] } else { low };
        found |= (low..=high).contains(&letter);
        list_at += if range { 3 } else { 1 };
    }
    found.then_some(end + 1)
}

#[cfg(test)]
mod tests {
    use super::super::modules::tests::module;
    use super::*;

    /// Finds a word in a trie as libkmod does, without wildcards.
    fn look(trie: &[u8], word: &str) -> Option<Vec<String>> {
        let number = |at: usize| u32::from_be_bytes(*trie[at..].first_chunk().expect("there"));
        let (mut place, mut rest) = (number(8), word.as_bytes());
        loop {
            let mut at = (place & 0x0fff_ffff) as usize;
            if place >> 31 == 1 {
                let end = trie[at..].iter().position(|b| *b == 0).expect("an end");
                rest = rest.strip_prefix(&trie[at..at + end])?;
                at += end + 1;
            }
            if (place >> 29) & 1 == 1 {
                let (low, high) = (trie[at], trie[at + 1]);
                if let Some((letter, more)) = rest.split_first() {
                    let child = letter.checked_sub(low).filter(|_| *letter <= high)?;
                    place = number(at + 2 + 4 * usize::from(child));
                    rest = more;
                    if place == 0 {
                        return None;
                    }
                    continue;
                }
                at += 2 + 4 * (usize::from(high - low) + 1);
            }
            if !rest.is_empty() || (place >> 30) & 1 == 0 {
                return None;
            }
            let mut values = Vec::new();
            let count = number(at);
            at += 4;
            for _ in 0..count {
                let end = trie[at + 4..].iter().position(|b| *b == 0).expect("an end");
                values.push(String::from_utf8_lossy(&trie[at + 4..at + 4 + end]).into_owned());
                at += 4 + end + 1;
            }
            return Some(values);
        }
    }

    #[test]
    fn what_serves_a_device_is_found_with_what_it_needs() {
        let dir = tempfile::tempdir().expect("a folder");
        let modules = Modules {
            folder: dir.path().to_owned(),
        };
        for (name, fields) in [
            ("net-core", &["depends="][..]),
            (
                "hy_e1",
                &["alias=pci:v00008086d0000100[A-F]sv*", "depends=net-core"],
            ),
            (
                "hy_fs",
                &["alias=fs-hy", "alias=hy-alias", "alias=char-major-10-229"][..],
            ),
            (
                "hy_tun",
                &["alias=devname:net/hy", "alias=char-major-10-200"],
            ),
        ] {
            fs::write(modules.path(&normal(name)), module(fields)).expect("written");
        }
        let builtin = "kernel/fs/ext4/ext4.ko\n";
        let made = all(&modules, builtin).expect("indexes");
        for (name, bytes) in &made {
            fs::write(dir.path().join(name), bytes).expect("written");
        }
        let file = |name: &str| &made.iter().find(|(n, _)| n == name).expect("made").1;
        let one = |text: &str| Some(vec![text.to_owned()]);
        assert_eq!(
            String::from_utf8_lossy(file("modules.dep")),
            "hy_e1.ko: net_core.ko\nhy_fs.ko:\nhy_tun.ko:\nnet_core.ko:\n"
        );
        let dep = file("modules.dep.bin");
        assert_eq!(look(dep, "hy_e1"), one("hy_e1.ko: net_core.ko"));
        assert_eq!(look(dep, "net_core"), one("net_core.ko:"));
        for none in ["", "h", "hy_", "hy_e11", "zz"] {
            assert_eq!(look(dep, none), None, "{none}");
        }
        assert_eq!(look(file("modules.alias.bin"), "fs_hy"), one("hy_fs"));
        assert_eq!(look(file("modules.builtin.bin"), "ext4"), one(""));
        assert_eq!(look(file("modules.symbols.bin"), "any"), None);

        let library = Library::open(dir.path().to_owned()).expect("a folder of modules");
        let count = |asked: &str| library.serving(asked).expect("read").len();
        assert_eq!(count("pci:v00008086d0000100Esv00001AF4"), 2);
        assert_eq!(count("pci:v00008086d00001000sv00001AF4"), 0);
        assert_eq!(count("fs-hy"), 1);
        assert_eq!(count("hy_alias"), 1);
        assert_eq!(count("net-core"), 1);
        assert_eq!(count("../net_core"), 0);
        let tun = DeviceFile {
            name: "net/hy".into(),
            block: false,
            number: (10, 200),
        };
        assert_eq!(library.device_files(), [tun]);
    }

    #[test]
    fn patterns_are_those_of_aliases() {
        for (pattern, word, does) in [
            ("a*c", "abbc", true),
            ("a*c", "abbd", false),
            ("*", "", true),
            ("virtio:d00000001v*", "virtio:d00000001v00001AF4", true),
            ("acpi*:QEMU0001:*", "acpi:QEMU0001:", true),
            ("x?[0-9a]", "xya", true),
            ("x?[0-9a]", "xyb", false),
            ("x[", "x[", false),
            ("", "a", false),
        ] {
            assert_eq!(
                fits(pattern.as_bytes(), word.as_bytes()),
                does,
                "{pattern} {word}"
            );
        }
    }
}
