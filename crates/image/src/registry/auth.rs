//! Credentials: read and kept where docker and podman keep theirs.
//!
//! A file of the `config.json` kind holds credentials itself (`auths`) or
//! names a program that does (`credHelpers`, `credsStore`). The formats are
//! docker's `config.json` and podman's `containers-auth.json(5)`.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use thiserror::Error;

use crate::reference::DEFAULT_REGISTRY;

/// The key under which docker keeps its own registry's credentials.
const DOCKER_HUB_KEY: &str = "https://index.docker.io/v1/";
/// The user name by which a helper says that the secret is an identity token.
const TOKEN_USER: &str = "<token>";
/// The largest credentials file or helper's answer that is read, in bytes.
const MAX_FILE: u64 = 4 << 20;

/// What went wrong with a file of credentials or a helper.
#[derive(Debug, Error)]
pub enum AuthError {
    /// The file could not be read or written.
    #[error("cannot {what} {}", path.display())]
    Io {
        /// What was being done.
        what: &'static str,
        /// To which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The file is not of the `config.json` kind.
    #[error("{} is not a valid file of credentials", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: serde_json::Error,
    },
    /// An entry of the file cannot be decoded.
    #[error("the credentials for {registry} in {} cannot be decoded", path.display())]
    Entry {
        /// Whose entry.
        registry: String,
        /// The file.
        path: PathBuf,
    },
    /// The program that keeps the credentials could not be started.
    #[error("cannot start the credential helper {helper}")]
    HelperStart {
        /// Its file name.
        helper: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The program that keeps the credentials refused.
    #[error("the credential helper {helper} failed for {registry}: {said}")]
    Helper {
        /// Its file name.
        helper: String,
        /// For which registry.
        registry: String,
        /// Its own words.
        said: String,
    },
}

impl AuthError {
    fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { what, path, source }
    }
}

/// What proves to a registry who is asking. It is never printed.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// A user's name and password, or an access token in its place.
    Password {
        /// The user's name.
        user: String,
        /// The password.
        password: String,
    },
    /// A token that is exchanged for short-lived ones (OAuth 2 refresh token).
    Identity(String),
    /// A token that is sent to the registry as it is.
    Bearer(String),
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Password { user, .. } => write!(f, "Password({user:?})"),
            Self::Identity(_) => f.write_str("Identity"),
            Self::Bearer(_) => f.write_str("Bearer"),
        }
    }
}

/// The files that credentials are looked for in, in this order.
///
/// They come from the caller, as the places depend on the environment.
#[derive(Debug, Clone, Default)]
pub struct AuthFiles(pub Vec<PathBuf>);

impl AuthFiles {
    /// Finds the credentials for a repository of a registry.
    ///
    /// # Errors
    /// A file that is there but cannot be read, or a helper that fails for
    /// another reason than having no credentials.
    pub fn find(&self, registry: &str, repository: &str) -> Result<Option<Credentials>, AuthError> {
        for path in &self.0 {
            let file = AuthFile::read(path)?;
            if let Some(found) = file.find(registry, repository)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}

/// Keeps credentials for a registry in `path`, or in the helper that it names.
///
/// The file is replaced at once and readable by its owner only; what else is
/// in it stays. Returns the helper's name where one keeps them.
///
/// # Errors
/// [`AuthError`]; the file is then as before.
pub fn keep(
    path: &Path,
    registry: &str,
    credentials: &Credentials,
) -> Result<Option<String>, AuthError> {
    change(path, |file| {
        let (user, secret) = match credentials {
            Credentials::Password { user, password } => (user.as_str(), password),
            Credentials::Identity(token) | Credentials::Bearer(token) => (TOKEN_USER, token),
        };
        if let Some(helper) = file.helper(registry) {
            let message = HelperCredentials {
                server_url: file_key(registry).to_owned(),
                username: user.to_owned(),
                secret: secret.clone(),
            };
            let input = serde_json::to_string(&message).map_err(|source| AuthError::Malformed {
                path: path.to_owned(),
                source,
            })?;
            ask_helper(&helper, "store", &input, registry)?;
            // Docker, too, leaves an empty entry: the trace that there is one.
            file.auths()
                .insert(file_key(registry).to_owned(), Value::Object(Map::new()));
            return Ok(Some(helper));
        }
        let mut entry = Map::new();
        match credentials {
            Credentials::Password { user, password } => {
                entry.insert(
                    "auth".into(),
                    STANDARD.encode(format!("{user}:{password}")).into(),
                );
            }
            Credentials::Identity(token) => {
                entry.insert("identitytoken".into(), token.as_str().into());
            }
            Credentials::Bearer(token) => {
                entry.insert("registrytoken".into(), token.as_str().into());
            }
        }
        file.auths()
            .insert(file_key(registry).to_owned(), Value::Object(entry));
        Ok(None)
    })
}

/// Forgets what `path` and its helper know for a registry; says whether there was anything.
///
/// # Errors
/// [`AuthError`]; the file is then as before.
pub fn forget(path: &Path, registry: &str) -> Result<bool, AuthError> {
    if !path.exists() {
        return Ok(false);
    }
    change(path, |file| {
        let mut found = false;
        if let Some(helper) = file.helper(registry)
            && get_from_helper(&helper, registry)?.is_some()
        {
            ask_helper(&helper, "erase", file_key(registry), registry)?;
            found = true;
        }
        let auths = file.auths();
        let before = auths.len();
        auths.retain(|key, _| !same_registry(key, registry));
        Ok(found || auths.len() != before)
    })
}

/// Reads, changes and replaces a file while no other of our processes does so.
fn change<T>(
    path: &Path,
    edit: impl FnOnce(&mut AuthFile) -> Result<T, AuthError>,
) -> Result<T, AuthError> {
    // People link this file to another place; the link is theirs to keep.
    let path = &std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let folder = path
        .parent()
        .filter(|p| !p.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(AuthError::io("create", folder))?;
    let lock = File::open(folder).map_err(AuthError::io("open", folder))?;
    // A file system without locks loses only the order of simultaneous logins.
    let _ = rustix::fs::flock(&lock, FlockOperation::LockExclusive);

    let mut file = AuthFile::read(path)?;
    let before = file.json.clone();
    let result = edit(&mut file)?;
    if file.json != before {
        file.write(folder)?;
    }
    Ok(result)
}

/// One file of the `config.json` kind; an absent one is empty.
struct AuthFile {
    path: PathBuf,
    json: Map<String, Value>,
}

impl AuthFile {
    fn read(path: &Path) -> Result<Self, AuthError> {
        let mut bytes = Vec::new();
        match File::open(path) {
            Ok(file) => file
                .take(MAX_FILE)
                .read_to_end(&mut bytes)
                .map_err(AuthError::io("read", path))?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => 0,
            Err(e) => return Err(AuthError::io("read", path)(e)),
        };
        Self::parse(path, &bytes)
    }

    fn parse(path: &Path, bytes: &[u8]) -> Result<Self, AuthError> {
        let json = if bytes.trim_ascii().is_empty() {
            Map::new()
        } else {
            serde_json::from_slice(bytes).map_err(|source| AuthError::Malformed {
                path: path.to_owned(),
                source,
            })?
        };
        Ok(Self {
            path: path.to_owned(),
            json,
        })
    }

    fn write(&self, folder: &Path) -> Result<(), AuthError> {
        let mut random = [0u8; 8];
        let _ = rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty());
        let temporary = folder.join(format!(".config.{:016x}", u64::from_ne_bytes(random)));
        let write = || {
            let mut file = std::fs::OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&temporary)?;
            serde_json::to_writer_pretty(&mut file, &self.json)?;
            file.write_all(b"\n")?;
            file.sync_all()?;
            std::fs::rename(&temporary, &self.path)
        };
        write().map_err(|source| {
            let _ = std::fs::remove_file(&temporary);
            AuthError::io("write", &self.path)(source)
        })
    }

    fn auths(&mut self) -> &mut Map<String, Value> {
        let value = self
            .json
            .entry("auths")
            .or_insert_with(|| Value::Object(Map::new()));
        if !value.is_object() {
            *value = Value::Object(Map::new());
        }
        match value {
            Value::Object(map) => map,
            _ => unreachable!("it was made an object above"),
        }
    }

    /// The program that keeps this registry's credentials, by its file name.
    fn helper(&self, registry: &str) -> Option<String> {
        let own = self
            .json
            .get("credHelpers")
            .and_then(Value::as_object)
            .and_then(|helpers| {
                helpers
                    .iter()
                    .find(|(key, _)| same_registry(key, registry))
                    .and_then(|(_, name)| name.as_str())
            });
        own.or_else(|| self.json.get("credsStore").and_then(Value::as_str))
            .filter(|name| !name.is_empty())
            .map(|name| format!("docker-credential-{name}"))
    }

    fn find(&self, registry: &str, repository: &str) -> Result<Option<Credentials>, AuthError> {
        if let Some(helper) = self.helper(registry)
            && let Some(found) = get_from_helper(&helper, registry)?
        {
            return Ok(Some(found));
        }
        let Some(auths) = self.json.get("auths").and_then(Value::as_object) else {
            return Ok(None);
        };
        // Podman also keeps credentials for a part of a registry; the longest path counts.
        let full = format!("{registry}/{repository}");
        let mut path = full.as_str();
        while path.len() > registry.len() {
            if let Some(entry) = auths.get(path) {
                return self.decode(entry, registry);
            }
            path = path.rsplit_once('/').map_or("", |(parent, _)| parent);
        }
        match auths.iter().find(|(key, _)| same_registry(key, registry)) {
            Some((_, entry)) => self.decode(entry, registry),
            None => Ok(None),
        }
    }

    fn decode(&self, entry: &Value, registry: &str) -> Result<Option<Credentials>, AuthError> {
        let text = |key: &str| {
            entry
                .get(key)
                .and_then(Value::as_str)
                .filter(|s| !s.is_empty())
        };
        if let Some(token) = text("identitytoken") {
            return Ok(Some(Credentials::Identity(token.to_owned())));
        }
        if let Some(token) = text("registrytoken") {
            return Ok(Some(Credentials::Bearer(token.to_owned())));
        }
        if let Some(encoded) = text("auth") {
            let fail = || AuthError::Entry {
                registry: registry.to_owned(),
                path: self.path.clone(),
            };
            let bytes = STANDARD.decode(encoded.trim()).map_err(|_| fail())?;
            let decoded = String::from_utf8(bytes).map_err(|_| fail())?;
            let (user, password) = decoded.split_once(':').ok_or_else(fail)?;
            return Ok(Some(Credentials::Password {
                user: user.to_owned(),
                // Old docker versions padded with zero bytes.
                password: password.trim_end_matches('\0').to_owned(),
            }));
        }
        Ok(text("username")
            .zip(text("password"))
            .map(|(user, password)| Credentials::Password {
                user: user.to_owned(),
                password: password.to_owned(),
            }))
    }
}

/// As [`super::fuzz::credentials`].
pub(super) fn fuzz(bytes: &[u8], registry: &str, repository: &str) {
    if let Ok(mut file) = AuthFile::parse(Path::new("config.json"), bytes) {
        let _ = file.helper(registry);
        file.json.remove("credHelpers");
        file.json.remove("credsStore");
        let _ = file.find(registry, repository);
    }
}

/// The key under which docker keeps a registry's credentials.
fn file_key(registry: &str) -> &str {
    if registry == DEFAULT_REGISTRY {
        DOCKER_HUB_KEY
    } else {
        registry
    }
}

/// Says whether a key of `auths`, which may be a URL, names this registry.
fn same_registry(key: &str, registry: &str) -> bool {
    let key = key
        .strip_prefix("https://")
        .or_else(|| key.strip_prefix("http://"))
        .unwrap_or(key);
    // A path belongs to docker's old URLs; podman's paths are looked up before.
    let (host, path) = key.split_once('/').unwrap_or((key, ""));
    if !matches!(path.trim_end_matches('/'), "" | "v1" | "v2") {
        return false;
    }
    host == registry
        || registry == DEFAULT_REGISTRY
            && matches!(host, "index.docker.io" | "registry-1.docker.io")
}

/// What a helper is told and tells.
#[derive(Serialize, Deserialize)]
struct HelperCredentials {
    #[serde(rename = "ServerURL", default)]
    server_url: String,
    #[serde(rename = "Username")]
    username: String,
    #[serde(rename = "Secret")]
    secret: String,
}

fn get_from_helper(helper: &str, registry: &str) -> Result<Option<Credentials>, AuthError> {
    let answer = match ask_helper(helper, "get", file_key(registry), registry) {
        Ok(answer) => answer,
        // The protocol has only these words for "none", no code.
        Err(AuthError::Helper { said, .. }) if said.contains("credentials not found") => {
            return Ok(None);
        }
        Err(e) => return Err(e),
    };
    let found: HelperCredentials =
        serde_json::from_str(&answer).map_err(|source| AuthError::Malformed {
            path: helper.into(),
            source,
        })?;
    Ok(Some(if found.username == TOKEN_USER {
        Credentials::Identity(found.secret)
    } else {
        Credentials::Password {
            user: found.username,
            password: found.secret,
        }
    }))
}

/// Runs a helper: the input on its standard input, the answer on its output.
fn ask_helper(helper: &str, verb: &str, input: &str, registry: &str) -> Result<String, AuthError> {
    let start = |source| AuthError::HelperStart {
        helper: helper.to_owned(),
        source,
    };
    if helper.contains('/') {
        return Err(start(io::ErrorKind::InvalidInput.into()));
    }
    let mut child = Command::new(helper)
        .arg(verb)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .map_err(start)?;
    if let Some(mut stdin) = child.stdin.take() {
        // A helper that does not read its input says so itself.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().map_err(start)?;
    let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if !output.status.success() {
        return Err(AuthError::Helper {
            helper: helper.to_owned(),
            registry: registry.to_owned(),
            said,
        });
    }
    Ok(said)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn file(json: &str) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().expect("temporary folder");
        let path = dir.path().join("config.json");
        std::fs::write(&path, json).expect("written");
        (dir, path)
    }

    fn find(json: &str, registry: &str, repository: &str) -> Option<Credentials> {
        let (_dir, path) = file(json);
        AuthFiles(vec!["/nonexistent/auth.json".into(), path])
            .find(registry, repository)
            .expect("readable")
    }

    fn password(user: &str, password: &str) -> Option<Credentials> {
        Some(Credentials::Password {
            user: user.into(),
            password: password.into(),
        })
    }

    #[test]
    fn credentials_are_found_under_every_key_docker_and_podman_use() {
        // "dTpwOnc=" is u:p:w, "dTpwAAA=" is u:p and two zero bytes.
        for (json, registry, want) in [
            (
                r#"{"auths":{"r.io":{"auth":"dTpwOnc="}}}"#,
                "r.io",
                password("u", "p:w"),
            ),
            (
                r#"{"auths":{"https://r.io/v1/":{"auth":"dTpwAAA="}}}"#,
                "r.io",
                password("u", "p"),
            ),
            (
                r#"{"auths":{"https://index.docker.io/v1/":{"auth":"dTpw"}}}"#,
                "docker.io",
                password("u", "p"),
            ),
            (
                r#"{"auths":{"docker.io":{"auth":"dTpw"}}}"#,
                "docker.io",
                password("u", "p"),
            ),
            (
                r#"{"auths":{"r.io":{"username":"u","password":"p"}}}"#,
                "r.io",
                password("u", "p"),
            ),
            (
                r#"{"auths":{"r.io":{"auth":"dTpw","identitytoken":"t"}}}"#,
                "r.io",
                Some(Credentials::Identity("t".into())),
            ),
            (r#"{"auths":{"r.io":{}}}"#, "r.io", None),
            (r#"{"auths":{"evil.r.io":{"auth":"dTpw"}}}"#, "r.io", None),
            (r#"{"auths":{"r.io:5000":{"auth":"dTpw"}}}"#, "r.io", None),
            ("", "r.io", None),
        ] {
            assert_eq!(find(json, registry, "a/b"), want, "{json}");
        }
    }

    #[test]
    fn the_longest_path_of_a_registry_counts() {
        let json = r#"{"auths":{"r.io":{"auth":"YTph"},"r.io/team":{"auth":"Yjpi"},"r.io/team/x":{"auth":"Yzpj"}}}"#;
        assert_eq!(find(json, "r.io", "team/x"), password("c", "c"));
        assert_eq!(find(json, "r.io", "team/x/y"), password("c", "c"));
        assert_eq!(find(json, "r.io", "team/y"), password("b", "b"));
        assert_eq!(find(json, "r.io", "teams"), password("a", "a"));
    }

    #[test]
    fn a_broken_file_or_entry_is_named() {
        for json in [
            "{",
            "[]",
            r#"{"auths":{"r.io":{"auth":"%%"}}}"#,
            r#"{"auths":{"r.io":{"auth":"dQ=="}}}"#,
        ] {
            let (_dir, path) = file(json);
            let error = AuthFiles(vec![path.clone()])
                .find("r.io", "a")
                .expect_err(json);
            assert!(
                error.to_string().contains(path.to_str().expect("text")),
                "{error}"
            );
        }
    }

    #[test]
    fn login_keeps_what_else_is_in_the_file_and_hides_it_from_others() {
        let (_dir, path) =
            file(r#"{"auths":{"other":{"auth":"dTpw"}},"detachKeys":"ctrl-x","proxies":{"a":1}}"#);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).expect("mode");
        let credentials = password("me", "sëcret:1").expect("some");
        assert_eq!(keep(&path, "r.io:5000", &credentials).expect("kept"), None);
        let mode = std::fs::metadata(&path)
            .expect("there")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        let json: Value =
            serde_json::from_slice(&std::fs::read(&path).expect("read")).expect("json");
        assert_eq!(json["detachKeys"], "ctrl-x");
        assert_eq!(json["proxies"]["a"], 1);
        let files = AuthFiles(vec![path.clone()]);
        assert_eq!(
            files.find("r.io:5000", "a").expect("read"),
            Some(credentials)
        );
        assert_eq!(files.find("other", "a").expect("read"), password("u", "p"));
        assert!(forget(&path, "r.io:5000").expect("forgotten"));
        assert!(!forget(&path, "r.io:5000").expect("nothing left"));
        assert_eq!(files.find("r.io:5000", "a").expect("read"), None);
        assert_eq!(
            std::fs::read_dir(path.parent().expect("folder"))
                .expect("read")
                .count(),
            1
        );
    }

    #[test]
    fn login_makes_the_folder_and_follows_a_link() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let path = dir.path().join("new/.docker/config.json");
        let credentials = password("u", "p").expect("some");
        keep(&path, "docker.io", &credentials).expect("kept");
        let text = std::fs::read_to_string(&path).expect("read");
        assert!(text.contains(DOCKER_HUB_KEY), "{text}");
        let link = dir.path().join("link.json");
        std::os::unix::fs::symlink(&path, &link).expect("linked");
        keep(&link, "r.io", &credentials).expect("kept");
        assert!(link.is_symlink());
        assert_eq!(
            AuthFiles(vec![path]).find("r.io", "a").expect("read"),
            Some(credentials)
        );
    }

    #[test]
    fn eight_logins_at_once_lose_none() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let path = dir.path().join("config.json");
        std::thread::scope(|scope| {
            for n in 0..8 {
                let path = &path;
                scope.spawn(move || {
                    let credentials = password("u", "p").expect("some");
                    keep(path, &format!("r{n}.io"), &credentials).expect("kept");
                });
            }
        });
        let files = AuthFiles(vec![path]);
        for n in 0..8 {
            assert!(
                files
                    .find(&format!("r{n}.io"), "a")
                    .expect("read")
                    .is_some()
            );
        }
    }

    #[test]
    fn a_missing_helper_is_named() {
        let (_dir, path) = file(r#"{"credHelpers":{"r.io":"hyperion-no-such"}}"#);
        let error = AuthFiles(vec![path])
            .find("r.io", "a")
            .expect_err("no helper");
        assert_eq!(
            error.to_string(),
            "cannot start the credential helper docker-credential-hyperion-no-such"
        );
    }

    #[test]
    fn secrets_are_not_printed() {
        let shown = format!(
            "{:?} {:?}",
            password("u", "hush"),
            Credentials::Identity("hush".into())
        );
        assert!(!shown.contains("hush"), "{shown}");
    }
}
