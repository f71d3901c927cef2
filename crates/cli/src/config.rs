//! Settings and where each comes from:
//! built in < /etc < user < project < environment < flag.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use hyperion_image::registry::Registries;
use hyperion_model::Class;
use serde::Deserialize;

use crate::errors;

/// The settings of all users of this host.
const SYSTEM_FILE: &str = "/etc/hyperion/config.toml";
/// The settings of a project: in the working folder, or the nearest one above it.
const PROJECT_FILE: &str = "hyperion.toml";
/// The variable that chooses the folder of images and jobs.
const ROOT_VARIABLE: &str = "HYPERION_ROOT";

/// The variable that chooses the queue.
const SERVER_VARIABLE: &str = "HYPERION_SERVER";
/// Where the server of the host listens.
pub(crate) const HOST_SOCKET: &str = "/run/hyperion/socket";

/// Which queue is meant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Queue {
    /// The own one, or the host's where its server is there and no own one runs.
    #[default]
    Either,
    /// The one in the own root folder.
    Own,
    /// The one whose server listens there.
    At(PathBuf),
}

impl Queue {
    fn read(text: &str, origin: &Origin) -> anyhow::Result<Self> {
        match text {
            "auto" => Ok(Self::Either),
            "own" => Ok(Self::Own),
            "host" => Ok(Self::At(HOST_SOCKET.into())),
            path if path.contains('/') => Ok(Self::At(absolute(path.as_ref(), origin)?)),
            _ => Err(errors::advised(
                Class::User,
                format!("{text:?} ({origin}) names no queue"),
                "write own, host, auto, or the path of a server's socket",
            )),
        }
    }
}

/// Where a setting comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    BuiltIn,
    File(PathBuf),
    Variable(&'static str),
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BuiltIn => f.write_str("built in"),
            Self::File(path) => path.display().fmt(f),
            Self::Variable(name) => write!(f, "${name}"),
            Self::Flag(name) => write!(f, "--{name}"),
        }
    }
}

/// What a file can say. Unknown keys are refused by name.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Words {
    root: Option<PathBuf>,
    server: Option<String>,
    warm_machines: Option<bool>,
    registries: Registries,
}

/// The settings of one invocation.
#[derive(Debug)]
pub(crate) struct Config {
    /// Folder of images and jobs.
    pub(crate) root: PathBuf,
    root_origin: Origin,
    queue: Queue,
    queue_origin: Origin,
    /// Whether machines of jobs go on from what those before them were once they were up.
    pub(crate) warm_machines: bool,
    warm_origin: Origin,
    /// Mirrors, certificates and insecure registries.
    pub(crate) registries: Registries,
    registry_origins: BTreeMap<String, Origin>,
}

/// One setting, as `config list` shows it.
#[derive(Debug, PartialEq)]
pub(crate) struct Setting {
    /// Its key in TOML, dotted.
    pub(crate) key: String,
    pub(crate) value: toml::Value,
    pub(crate) origin: Origin,
}

impl Config {
    /// Reads the files and `HYPERION_*`; `root` and `server` are what flags say.
    pub(crate) fn load(root: Option<&Path>, server: Option<&str>) -> anyhow::Result<Self> {
        let files = [Some(SYSTEM_FILE.into()), user_file(), project_file()];
        let mut config = Self::of_files(files.into_iter().flatten())?;
        if let Some(root) = std::env::var_os(ROOT_VARIABLE).filter(|r| !r.is_empty()) {
            config.set_root(root.as_ref(), Origin::Variable(ROOT_VARIABLE))?;
        }
        if let Some(root) = root {
            config.set_root(root, Origin::Flag("root"))?;
        }
        let variable = std::env::var(SERVER_VARIABLE).ok();
        if let Some(server) = variable.filter(|server| !server.is_empty()) {
            config.set_queue(&server, Origin::Variable(SERVER_VARIABLE))?;
        }
        if let Some(server) = server {
            config.set_queue(server, Origin::Flag("server"))?;
        }
        if config.root.as_os_str().is_empty() {
            config.set_root(&default_root()?, Origin::BuiltIn)?;
        }
        Ok(config)
    }

    /// Reads files, the weakest first; one that is missing says nothing.
    fn of_files(files: impl Iterator<Item = PathBuf>) -> anyhow::Result<Self> {
        let mut config = Self {
            root: PathBuf::new(),
            root_origin: Origin::BuiltIn,
            queue: Queue::default(),
            queue_origin: Origin::BuiltIn,
            warm_machines: true,
            warm_origin: Origin::BuiltIn,
            registries: Registries::default(),
            registry_origins: BTreeMap::new(),
        };
        for file in files {
            let text = match read(&file) {
                Ok(text) => text,
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                Err(e) => return Err(e).with_context(|| format!("cannot read {}", file.display())),
            };
            let words: Words = toml::from_str(&text)
                .map_err(|e| errors::unusable(&file, &e, "correct the file, or move it away"))?;
            let origin = Origin::File(file);
            if let Some(root) = words.root {
                config.set_root(&root, origin.clone())?;
            }
            if let Some(server) = words.server {
                config.set_queue(&server, origin.clone())?;
            }
            if let Some(warm) = words.warm_machines {
                (config.warm_machines, config.warm_origin) = (warm, origin.clone());
            }
            for (host, _) in words.registries.iter() {
                let host = host.to_owned();
                config.registry_origins.insert(host, origin.clone());
            }
            config.registries.merge(words.registries);
        }
        Ok(config)
    }

    /// Takes a folder of images and jobs; one in a file is meant from the file's folder on.
    fn set_root(&mut self, root: &Path, origin: Origin) -> anyhow::Result<()> {
        self.root = absolute(root, &origin)?;
        self.root_origin = origin;
        Ok(())
    }

    fn set_queue(&mut self, text: &str, origin: Origin) -> anyhow::Result<()> {
        self.queue = Queue::read(text, &origin)?;
        self.queue_origin = origin;
        Ok(())
    }

    /// Gives the queue that is meant. Who names a root folder means the one in it.
    pub(crate) fn queue(&self) -> &Queue {
        let named = matches!(self.root_origin, Origin::Variable(_) | Origin::Flag(_));
        match &self.queue {
            Queue::Either if named => &Queue::Own,
            queue => queue,
        }
    }

    /// Lists what is set, by key.
    pub(crate) fn settings(&self) -> Vec<Setting> {
        let text = |path: &Path| toml::Value::String(path.to_string_lossy().into_owned());
        let mut all = vec![Setting {
            key: "root".into(),
            value: text(&self.root),
            origin: self.root_origin.clone(),
        }];
        if self.queue_origin != Origin::BuiltIn {
            all.push(Setting {
                key: "server".into(),
                value: match &self.queue {
                    Queue::Either => "auto".into(),
                    Queue::Own => "own".into(),
                    Queue::At(path) => text(path),
                },
                origin: self.queue_origin.clone(),
            });
        }
        if self.warm_origin != Origin::BuiltIn {
            all.push(Setting {
                key: "warm_machines".into(),
                value: self.warm_machines.into(),
                origin: self.warm_origin.clone(),
            });
        }
        for (host, settings) in self.registries.iter() {
            let origin = self.registry_origins.get(host).unwrap_or(&Origin::BuiltIn);
            let mut put = |key: &str, value| {
                all.push(Setting {
                    key: format!("registries.{:?}.{key}", host),
                    value,
                    origin: origin.clone(),
                });
            };
            if let Some(ca) = &settings.ca {
                put("ca", text(ca));
            }
            if settings.insecure {
                put("insecure", true.into());
            }
            if !settings.mirrors.is_empty() {
                put("mirrors", settings.mirrors.clone().into());
            }
        }
        all
    }
}

/// Gives a path that a setting names; in a file it is meant from the file's folder on.
fn absolute(path: &Path, origin: &Origin) -> anyhow::Result<PathBuf> {
    let from = match origin {
        Origin::File(file) => file.parent().unwrap_or(Path::new("")),
        _ => Path::new(""),
    };
    std::path::absolute(from.join(path))
        .with_context(|| format!("{path:?} ({origin}) has no absolute path"))
}

/// Reads a file of settings. What a project says counts only if the file is the
/// caller's own or root's: a folder like /tmp is everybody's.
fn read(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    if path.file_name().is_some_and(|name| name == PROJECT_FILE) {
        let meta = file.metadata()?;
        let caller = rustix::process::geteuid().as_raw();
        if !(meta.uid() == caller || meta.uid() == 0) || meta.mode() & 0o002 != 0 {
            eprintln!(
                "note: {} is ignored: it belongs to another user, or everybody may change it",
                path.display()
            );
            return Ok(String::new());
        }
    }
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    Ok(text)
}

fn variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name)
        .filter(|v| !v.is_empty())
        .map(PathBuf::from)
}

fn user_file() -> Option<PathBuf> {
    let base = variable("XDG_CONFIG_HOME").or_else(|| variable("HOME").map(|h| h.join(".config")));
    Some(base?.join("hyperion/config.toml"))
}

/// Finds the project's file; a folder of that name is none.
fn project_file() -> Option<PathBuf> {
    let here = std::env::current_dir().ok()?;
    let mut found = here.ancestors().map(|folder| folder.join(PROJECT_FILE));
    found.find(|file| file.is_file())
}

fn default_root() -> anyhow::Result<PathBuf> {
    if rustix::process::geteuid().is_root() {
        return Ok("/var/lib/hyperion".into());
    }
    let data = variable("XDG_DATA_HOME")
        .or_else(|| variable("HOME").map(|home| home.join(".local/share")));
    match data {
        Some(data) => Ok(data.join("hyperion")),
        None => Err(errors::advised(
            Class::User,
            "no folder for images and jobs is known: HOME is not set",
            "name one with --root or HYPERION_ROOT",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_file_overrides_an_earlier_one_and_each_setting_knows_its_own() {
        let home = hyperion_testkit::TestDir::new();
        let write = |name: &str, text: &str| {
            let path = home.path().join(name);
            std::fs::write(&path, text).expect("written");
            path
        };
        let etc = write(
            "etc.toml",
            "root = \"/srv/hyperion\"\n[registries.\"docker.io\"]\nmirrors = [\"m:5000\"]\n\
             [registries.\"r.io\"]\nca = \"/ca.pem\"\n",
        );
        let user = write(
            "user.toml",
            "warm_machines = false\n[registries.\"r.io\"]\ninsecure = true\n",
        );
        let project = write(PROJECT_FILE, "root = \"store\"\n");
        let missing = home.path().join("missing.toml");
        let files = [etc.clone(), missing, user.clone(), project.clone()];
        let config = Config::of_files(files.into_iter()).expect("valid");
        let told: Vec<(String, String, Origin)> = config
            .settings()
            .into_iter()
            .map(|s| (s.key, s.value.to_string(), s.origin))
            .collect();
        let store = format!("{:?}", home.path().join("store"));
        let wanted = [
            ("root", &*store, project),
            ("warm_machines", "false", user.clone()),
            ("registries.\"docker.io\".mirrors", "[\"m:5000\"]", etc),
            ("registries.\"r.io\".insecure", "true", user),
        ];
        let wanted = wanted.map(|(k, v, o)| (k.to_owned(), v.to_owned(), Origin::File(o)));
        assert_eq!(told, wanted);
    }

    #[test]
    fn what_is_listed_can_be_read_again() {
        let mut config = Config::of_files(std::iter::empty()).expect("valid");
        config.registries =
            toml::from_str("[\"r.io:5000\"]\nmirrors = [\"a\", \"b/c\"]\n").expect("valid");
        config
            .set_root(Path::new("/with \"quotes\""), Origin::Flag("root"))
            .expect("absolute");
        let listed: String = config
            .settings()
            .iter()
            .map(|s| format!("{} = {}\n", s.key, s.value))
            .collect();
        let words: Words = toml::from_str(&listed).expect("valid");
        assert_eq!(words.root.as_deref(), Some(&*config.root));
        assert_eq!(words.registries, config.registries);
    }

    #[test]
    fn a_projects_file_that_everybody_may_change_says_nothing() {
        use std::os::unix::fs::PermissionsExt as _;
        let home = hyperion_testkit::TestDir::new();
        let project = home.path().join(PROJECT_FILE);
        std::fs::write(&project, "root = \"/elsewhere\"\n").expect("written");
        std::fs::set_permissions(&project, std::fs::Permissions::from_mode(0o666)).expect("set");
        let config = Config::of_files([project].into_iter()).expect("valid");
        assert_eq!(config.root, Path::new(""));
    }
}
