//! Debian's `docker-registry` on a loopback port, for one test.

use std::fmt::Write as _;
use std::io::{self, BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::TestDir;

/// What the registry asks of its users.
#[derive(Debug, Clone, Copy, Default)]
pub struct RegistryOptions {
    /// Only `user` with the password `secret` may enter; needs `htpasswd`.
    pub login: bool,
    /// HTTPS with a certificate of its own, which [`DockerRegistry::ca`] names; needs `openssl`.
    pub tls: bool,
}

impl RegistryOptions {
    /// A login and nothing else.
    pub const LOGIN: Self = Self {
        login: true,
        tls: false,
    };
}

/// A running registry; it ends and its folder vanishes when this is dropped.
#[derive(Debug)]
pub struct DockerRegistry {
    dir: TestDir,
    host: String,
    child: Child,
}

impl DockerRegistry {
    /// Starts a registry and waits until it listens.
    ///
    /// Gate the test by `requires!("command:docker-registry")`.
    ///
    /// # Panics
    /// If it does not start.
    #[must_use]
    pub fn start(options: RegistryOptions) -> Self {
        Self::start_in(TestDir::new(), options).expect("docker-registry starts")
    }

    /// As [`DockerRegistry::start`], with its data in this folder.
    ///
    /// # Errors
    /// Why it does not start.
    ///
    /// # Panics
    /// If what `options` ask for cannot be made.
    pub fn start_in(dir: TestDir, options: RegistryOptions) -> io::Result<Self> {
        let root = dir.path().display();
        // Port 0 lets the kernel choose; the log tells which.
        let mut config = format!(
            "version: 0.1\nlog: {{level: info}}\n\
             storage: {{filesystem: {{rootdirectory: {root}/data}}, delete: {{enabled: true}}}}\n\
             http:\n  addr: 127.0.0.1:0\n"
        );
        if options.tls {
            run(Command::new("openssl")
                .args(["req", "-x509", "-newkey", "ec", "-nodes", "-days", "1"])
                .args([
                    "-pkeyopt",
                    "ec_paramgen_curve:prime256v1",
                    "-subj",
                    "/CN=test",
                ])
                .args(["-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"])
                .args(["-addext", "basicConstraints=critical,CA:FALSE"])
                .args(["-keyout", "key.pem", "-out", "ca.pem"])
                .current_dir(dir.path()));
            let _ = writeln!(
                config,
                "  tls: {{certificate: {root}/ca.pem, key: {root}/key.pem}}"
            );
        }
        if options.login {
            run(Command::new("htpasswd")
                .args(["-Bbc", "-C", "4", "users", "user", "secret"])
                .current_dir(dir.path()));
            let _ = writeln!(
                config,
                "auth: {{htpasswd: {{realm: test, path: {root}/users}}}}"
            );
        }
        let file = dir.path().join("config.yml");
        std::fs::write(&file, config)?;
        let mut child = Command::new("docker-registry")
            .arg("serve")
            .arg(&file)
            .env("OTEL_TRACES_EXPORTER", "none")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let log = child.stderr.take().expect("its log is a pipe");
        let mut lines = BufReader::new(log).lines();
        let host = lines.by_ref().map_while(Result::ok).find_map(|line| {
            let (_, rest) = line.split_once("listening on ")?;
            let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.' && c != ':');
            Some(rest[..end.unwrap_or(rest.len())].to_owned())
        });
        // A full pipe would stop it.
        std::thread::spawn(move || lines.for_each(drop));
        let silent = || io::Error::other("docker-registry does not say where it listens");
        let mut registry = Self {
            dir,
            host: String::new(),
            child,
        };
        registry.host = host.ok_or_else(silent)?;
        Ok(registry)
    }

    /// `127.0.0.1:port`.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The certificate to trust, when it speaks TLS.
    #[must_use]
    pub fn ca(&self) -> std::path::PathBuf {
        self.dir.path().join("ca.pem")
    }

    /// The folder with all that it stores.
    #[must_use]
    pub fn data(&self) -> std::path::PathBuf {
        Path::new(self.dir.path()).join("data")
    }
}

impl Drop for DockerRegistry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn run(command: &mut Command) {
    let output = command
        .output()
        .unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}
