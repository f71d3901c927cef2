//! `hyperion pull`, `push`, `login` and `logout` from the outside.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hyperion_image::{Digest, Store};
use hyperion_testkit::{
    DockerRegistry, Done, HttpServer, RegistryOptions, TestDir, hyperion, requires, wait_until,
};

/// A small image: manifest, config, and one layer that does not compress.
struct Image {
    manifest: Vec<u8>,
    config: Vec<u8>,
    layer: Vec<u8>,
}

impl Image {
    fn new(size: usize) -> Self {
        let mut layer = Vec::with_capacity(size + 64);
        let mut state = Digest::of(b"seed").hex();
        while layer.len() < size {
            layer.extend_from_slice(state.as_bytes());
            state = Digest::of(state.as_bytes()).hex();
        }
        let digest = Digest::of(&layer);
        let config = format!(
            r#"{{"architecture":"amd64","os":"linux","rootfs":{{"type":"layers","diff_ids":["{digest}"]}}}}"#
        );
        let manifest = format!(
            r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{}","size":{}}},"layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"{digest}","size":{}}}]}}"#,
            Digest::of(config.as_bytes()),
            config.len(),
            layer.len()
        );
        Self {
            manifest: manifest.into(),
            config: config.into(),
            layer,
        }
    }

    /// Gives the image a name in the store of `home`.
    fn put(&self, home: &Path, name: &str) -> Digest {
        let store = store(home);
        for blob in [&self.config, &self.layer] {
            store.put_blob(blob).expect("stored");
        }
        let digest = store.put_blob(&self.manifest).expect("stored");
        store.tag(name, &digest).expect("named");
        digest
    }
}

fn images(home: &Path) -> PathBuf {
    home.join("root/images")
}

fn store(home: &Path) -> Store {
    Store::open(&images(home)).expect("the store opens")
}

/// `hyperion` with a store in `home`.
fn command(home: &Path, args: &[&str]) -> Command {
    let mut command = hyperion(home);
    command.env("HYPERION_ROOT", home.join("root")).args(args);
    command
}

fn succeed(home: &Path, args: &[&str]) -> String {
    Done::of(&mut command(home, args)).expect_code(0).out
}

fn fail(home: &Path, args: &[&str]) -> String {
    Done::of(&mut command(home, args)).expect_code(125).err
}

fn with_input(mut command: Command, input: &str) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin.write_all(input.as_bytes()).expect("it reads");
    drop(stdin);
    child.wait_with_output().expect("it ends")
}

#[test]
fn an_image_goes_to_a_registry_and_comes_back() {
    requires!("command:docker-registry");
    let registry = DockerRegistry::start(RegistryOptions::default());
    let (here, there) = (TestDir::new(), TestDir::new());
    let name = format!("{}/team/solver:2", registry.host());
    let digest = Image::new(100_000).put(here.path(), &name);
    let pushed = succeed(here.path(), &["push", "--insecure", &name]);
    assert_eq!(pushed, format!("{name} {digest}\n"));
    let pulled = succeed(
        there.path(),
        &["--output", "quiet", "pull", "--insecure", &name],
    );
    assert_eq!(pulled, format!("{digest}\n"));
    let again = succeed(
        there.path(),
        &["--output", "json", "pull", "--insecure", &name],
    );
    let again: serde_json::Value = serde_json::from_str(&again).expect("json");
    assert_eq!(again["moved_bytes"], 0);
    assert_eq!(again["digest"], digest.to_string());
}

#[test]
fn the_configuration_names_mirrors_and_insecure_registries() {
    requires!("command:docker-registry");
    let registry = DockerRegistry::start(RegistryOptions::default());
    let home = TestDir::new();
    let name = format!("{}/library/debian:12", registry.host());
    Image::new(1000).put(home.path(), &name);
    let settings = home.path().join("config/hyperion");
    std::fs::create_dir_all(&settings).expect("folder");
    let host = registry.host();
    let text = format!(
        "[registries.\"{host}\"]\ninsecure = true\n[registries.\"docker.io\"]\nmirrors = [\"{host}\"]\n"
    );
    std::fs::write(settings.join("config.toml"), text).expect("written");
    succeed(home.path(), &["push", &name]);
    succeed(home.path(), &["pull", "debian:12"]);
    store(home.path()).resolve("debian:12").expect("named");

    std::fs::write(
        settings.join("config.toml"),
        "[registries.\"a.b\"]\nmirrrors = []\n",
    )
    .expect("written");
    let told = fail(home.path(), &["pull", "debian:12"]);
    assert!(told.contains("did you mean \"mirrors\"?"), "{told}");
}

#[test]
fn a_login_is_checked_kept_and_forgotten() {
    requires!("command:docker-registry", "command:htpasswd");
    let registry = DockerRegistry::start(RegistryOptions::LOGIN);
    let home = TestDir::new();
    let host = registry.host();
    let name = format!("{host}/x:1");
    Image::new(1000).put(home.path(), &name);
    let told = fail(home.path(), &["push", "--insecure", &name]);
    assert!(
        told.ends_with(&format!("hint: hyperion login {host}\n")),
        "{told}"
    );

    let login = [
        "login",
        "--insecure",
        "-u",
        "user",
        "--password-stdin",
        host,
    ];
    let output = with_input(command(home.path(), &login), "wrong\n");
    assert_eq!(output.status.code(), Some(125));
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains("does not accept the credentials: "), "{told}");
    let file = home.path().join(".docker/config.json");
    assert!(!file.exists());
    let output = with_input(command(home.path(), &login), "secret\n");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = std::fs::read_to_string(&file).expect("kept");
    assert!(text.contains("dXNlcjpzZWNyZXQ="), "{text}");

    succeed(home.path(), &["push", "--insecure", &name]);
    succeed(home.path(), &["logout", host]);
    fail(home.path(), &["pull", "--insecure", &name]);
}

#[test]
fn a_login_goes_to_the_helper_that_the_file_names() {
    requires!("command:docker-registry", "command:htpasswd");
    let registry = DockerRegistry::start(RegistryOptions::LOGIN);
    let home = TestDir::new();
    let host = registry.host();
    // A helper that keeps one secret in a file, as the protocol has it.
    let helper = home.path().join("docker-credential-test");
    let script = format!(
        "#!/bin/sh\ncd {}\ncase $1 in\nstore) cat > kept;;\nget) cat kept 2>/dev/null || {{ echo credentials not found in native keychain; exit 1; }};;\nerase) rm kept;;\nesac\n",
        home.path().display()
    );
    std::fs::write(&helper, script).expect("written");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&helper, mode).expect("mode");
    let docker = home.path().join(".docker");
    std::fs::create_dir(&docker).expect("folder");
    std::fs::write(docker.join("config.json"), r#"{"credsStore":"test"}"#).expect("written");

    let path = std::env::var("PATH").unwrap_or_default();
    let path = format!("{}:{path}", home.path().display());
    let command = |args: &[&str]| {
        let mut command = command(home.path(), args);
        command.env("PATH", &path);
        command
    };
    let login = command(&[
        "login",
        "--insecure",
        "-u",
        "user",
        "--password-stdin",
        host,
    ]);
    let output = with_input(login, "secret");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let kept = std::fs::read_to_string(home.path().join("kept")).expect("kept");
    assert!(kept.contains("secret"), "{kept}");
    let text = std::fs::read_to_string(docker.join("config.json")).expect("read");
    assert!(
        !text.contains("c2VjcmV0") && !text.contains("secret"),
        "{text}"
    );

    let name = format!("{host}/x:1");
    Image::new(1000).put(home.path(), &name);
    assert!(
        command(&["push", "--insecure", &name])
            .status()
            .expect("runs")
            .success()
    );
    assert!(command(&["logout", host]).status().expect("runs").success());
    assert!(!home.path().join("kept").exists());
}

#[test]
fn errors_name_the_cause_and_the_fix() {
    let home = TestDir::new();
    let told = fail(home.path(), &["pull", "Debian"]);
    assert_eq!(
        told,
        "error: \"Debian\" has capital letters in its path\nhint: write debian\n"
    );
    let told = fail(home.path(), &["pull", "127.0.0.1:1/x"]);
    assert!(
        told.starts_with("error: the registry 127.0.0.1:1 refuses connections\n"),
        "{told}"
    );
    assert!(
        told.contains(
            "\ncause: Connection refused (os error 111)\nhint: check that the registry runs"
        ),
        "{told}"
    );
    assert_eq!(told.matches("cause: ").count(), 1, "{told}");
    Image::new(1000).put(home.path(), "127.0.0.1:1/tool");
    let told = fail(home.path(), &["run", "127.0.0.1:1/toll", "true"]);
    assert!(told.contains("refuses connections"), "{told}");
    assert!(
        told.contains("hint: did you mean 127.0.0.1:1/tool?"),
        "{told}"
    );
    let told = fail(home.path(), &["push", "r.invalid/x"]);
    assert!(told.contains("there is no image"), "{told}");
    let told = fail(home.path(), &["pull", "--platform", "arm", "x"]);
    assert!(told.contains("linux/arm64"), "{told}");
    let told = fail(home.path(), &["login", "-u", "me", "r.invalid"]);
    assert!(
        told.contains("hint: pipe it in: hyperion login -u NAME --password-stdin"),
        "{told}"
    );
    let told = fail(
        home.path(),
        &["pull", "--authfile", "nowhere", "127.0.0.1:1/x"],
    );
    assert!(
        told.contains("no file of credentials nowhere\nhint: "),
        "{told}"
    );
    let mut pull = command(home.path(), &["pull", "127.0.0.1:1/x"]);
    Done::of(pull.env("HTTPS_PROXY", "a:://b"))
        .refused("not the address of a proxy", "HTTPS_PROXY");
    let settings = home.path().join("config/hyperion");
    std::fs::create_dir_all(&settings).expect("folder");
    let text = "[registries.\"127.0.0.1:1\"]\nca = \"/dev/null\"\n";
    std::fs::write(settings.join("config.toml"), text).expect("written");
    let told = fail(home.path(), &["pull", "127.0.0.1:1/x"]);
    assert!(
        told.contains("no certificate in /dev/null\nhint: `ca` names"),
        "{told}"
    );
    std::fs::remove_file(settings.join("config.toml")).expect("removed");
    let docker = home.path().join(".docker");
    std::fs::create_dir(&docker).expect("folder");
    for (text, hint) in [
        ("{", "hint: correct the file"),
        (
            r#"{"credsStore":"none-such"}"#,
            "hint: install docker-credential-none-such",
        ),
    ] {
        std::fs::write(docker.join("config.json"), text).expect("written");
        let told = fail(home.path(), &["pull", "127.0.0.1:1/x"]);
        assert!(told.contains(hint), "{told}");
    }
}

#[test]
fn an_image_that_does_not_fit_is_refused_with_the_fix() {
    requires!("root");
    let image = Arc::new(Image::new(4_000_000));
    let server = stalling(&image, usize::MAX, &Arc::new(AtomicBool::new(true)));
    let home = TestDir::new();
    std::fs::create_dir(home.path().join("root")).expect("folder");
    let name = format!("{}/x:1", server.host());
    let pull = command(home.path(), &["pull", "--insecure", &name]);
    // The mount is seen by the shell and by what it starts, and goes with them.
    let script = "mount -t tmpfs -o size=2m none \"$HYPERION_ROOT\" && exec \"$@\"";
    let output = Command::new("unshare")
        .args([
            "--mount",
            "--propagation",
            "private",
            "sh",
            "-c",
            script,
            "sh",
        ])
        .arg(pull.get_program())
        .args(pull.get_args())
        .env_clear()
        .envs(
            pull.get_envs()
                .filter_map(|(key, value)| Some((key, value?))),
        )
        .output()
        .expect("it runs");
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(125), "{told}");
    assert!(
        told.contains("the image needs 4000000 more bytes"),
        "{told}"
    );
    assert!(told.contains("hint: `hyperion image prune`"), "{told}");
    let layer = Digest::of(&image.layer).to_string();
    assert!(
        !server
            .requests()
            .iter()
            .any(|request| request.target.ends_with(&layer))
    );
}

/// A registry that holds `image`, and lets nobody have more than the first
/// `until` bytes of its layer before `open` is set.
fn stalling(image: &Arc<Image>, until: usize, open: &Arc<AtomicBool>) -> HttpServer {
    let (image, open) = (image.clone(), open.clone());
    HttpServer::start(move |request, out| {
        let path = &request.target;
        let body = if path.contains("/manifests/") {
            &image.manifest
        } else if path.ends_with(&Digest::of(&image.layer).to_string()) {
            &image.layer
        } else if path.ends_with(&Digest::of(&image.config).to_string()) {
            &image.config
        } else {
            return out.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
        };
        let from = request
            .header("range")
            .and_then(|r| r.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
        let status = match from {
            None => "200 OK".to_owned(),
            Some(from) => {
                let last = body.len() - 1;
                format!(
                    "206 Partial Content\r\nContent-Range: bytes {from}-{last}/{}",
                    body.len()
                )
            }
        };
        let from: usize = from.unwrap_or(0);
        write!(
            out,
            "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n",
            body.len() - from
        )?;
        if body.len() > until {
            out.write_all(&body[from..from.max(until)])?;
            out.flush()?;
            wait_until(Duration::from_secs(60), || open.load(Ordering::SeqCst));
            return out.write_all(&body[from.max(until)..]);
        }
        out.write_all(&body[from..])
    })
}

fn partial(home: &Path, image: &Image) -> u64 {
    let file = images(home)
        .join("partial")
        .join(Digest::of(&image.layer).hex());
    std::fs::metadata(file).map_or(0, |m| m.len())
}

#[test]
fn a_pull_that_was_killed_is_resumed() {
    let image = Arc::new(Image::new(2_000_000));
    let open = Arc::new(AtomicBool::new(false));
    let server = stalling(&image, 500_000, &open);
    let home = TestDir::new();
    let name = format!("{}/x:1", server.host());
    let mut pull = command(home.path(), &["pull", "--insecure", &name])
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts");
    let came = wait_until(Duration::from_secs(60), || {
        partial(home.path(), &image) == 500_000
    });
    pull.kill().expect("SIGKILL");
    pull.wait().expect("it ends");
    assert!(came, "the first part is on the disk before it is killed");
    assert_eq!(store(home.path()).list().expect("the store opens"), []);

    open.store(true, Ordering::SeqCst);
    succeed(home.path(), &["pull", "--insecure", &name]);
    let resumed: Vec<_> = server
        .requests()
        .iter()
        .filter_map(|request| request.header("range").map(str::to_owned))
        .collect();
    assert_eq!(resumed, ["bytes=500000-"]);
    store(home.path()).resolve(&name).expect("named");
}

#[test]
fn eight_pulls_at_once_fetch_each_blob_once() {
    let image = Arc::new(Image::new(2_000_000));
    let open = Arc::new(AtomicBool::new(false));
    let server = stalling(&image, 500_000, &open);
    let home = TestDir::new();
    let name = format!("{}/x:1", server.host());
    let pulls: Vec<_> = (0..8)
        .map(|_| {
            command(home.path(), &["pull", "--insecure", &name])
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .expect("it starts")
        })
        .collect();
    // All have asked for the manifest, so all are at the blobs or before them.
    let asked = wait_until(Duration::from_secs(60), || {
        let requests = server.requests();
        let manifests = requests.iter().filter(|r| r.target.contains("/manifests/"));
        manifests.count() == 8
    });
    open.store(true, Ordering::SeqCst);
    for pull in pulls {
        let output = pull.wait_with_output().expect("it ends");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    assert!(asked);
    for blob in [&image.layer, &image.config] {
        let digest = Digest::of(blob).to_string();
        let times = server
            .requests()
            .iter()
            .filter(|r| r.target.ends_with(&digest))
            .count();
        assert_eq!(times, 1, "{digest}");
    }
}
