//! Against Debian's `docker-registry`, skopeo and podman.

use std::path::Path;
use std::process::Command;

use hyperion_image::registry::auth::{self, AuthFiles, Credentials};
use hyperion_image::registry::{
    Access, Platform, RegistryError, RegistrySettings, pull, push, verify,
};
use hyperion_image::{Digest, ImageReference};
use hyperion_testkit::{DockerRegistry, RegistryOptions, TestDir, requires};

use crate::sample::{Kind, Sample};
use crate::{insecure, store};

const ALL: [Kind; 3] = [Kind::Plain, Kind::Gzip, Kind::Zstd];

fn name(registry: &DockerRegistry, rest: &str) -> ImageReference {
    let text = format!("{}/{rest}", registry.host());
    text.parse().expect("a valid name")
}

fn output(command: &mut Command) -> Vec<u8> {
    let output = command.output().expect("the command starts");
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    output.stdout
}

/// The digest of what a name means there, as skopeo sees it.
fn seen_by_skopeo(name: &ImageReference) -> Digest {
    let raw = output(
        Command::new("skopeo")
            .args(["inspect", "--raw", "--tls-verify=false"])
            .arg(format!("docker://{name}")),
    );
    Digest::of(&raw)
}

fn skopeo_copies(from: &Path, name: &ImageReference, more: &[&str]) {
    output(
        Command::new("skopeo")
            .args(["copy", "--quiet", "--insecure-policy"])
            .args(["--dest-tls-verify=false"])
            .args(more)
            .arg(format!("oci:{}:x", from.display()))
            .arg(format!("docker://{name}")),
    );
}

#[test]
fn what_skopeo_pushes_is_pulled_with_the_same_digests() {
    requires!("command:docker-registry", "command:skopeo");
    let registry = DockerRegistry::start(RegistryOptions::default());
    let (dir, store) = store();
    let sample = Sample::new("amd64", &ALL, 100_000);
    sample.layout(dir.path());
    let name = name(&registry, "team/x:1");
    skopeo_copies(dir.path(), &name, &["--preserve-digests"]);
    let pulled = pull(&insecure(), &store, &name, None, &()).expect("pulled");
    assert_eq!(pulled.digest, sample.digest);
    let blobs: usize = sample.blobs.iter().map(Vec::len).sum();
    assert_eq!(pulled.moved, blobs as u64);
    let record = store.resolve(&name.to_string()).expect("named");
    assert_eq!(record.layers.len(), 3);
    for blob in &sample.blobs {
        assert!(store.has_blob(&Digest::of(blob)));
    }
    let again = pull(&insecure(), &store, &name, None, &()).expect("pulled");
    assert_eq!(again.moved, 0);
    let pinned = format!("{}/team/x@{}", registry.host(), sample.digest);
    let pinned = pinned.parse().expect("a valid name");
    assert_eq!(
        pull(&insecure(), &store, &pinned, None, &())
            .expect("pulled")
            .digest,
        sample.digest
    );
}

#[test]
fn dockers_own_manifests_are_pulled_and_pushed_again_unchanged() {
    requires!("command:docker-registry", "command:skopeo");
    let registry = DockerRegistry::start(RegistryOptions::default());
    let (dir, store) = store();
    Sample::new("amd64", &[Kind::Gzip], 10_000).layout(dir.path());
    let from = name(&registry, "docker:1");
    skopeo_copies(dir.path(), &from, &["--format", "v2s2"]);
    let pulled = pull(&insecure(), &store, &from, None, &()).expect("pulled");
    assert_eq!(seen_by_skopeo(&from), pulled.digest);
    let to = name(&registry, "copy/of/docker:2");
    let pushed = push(&insecure(), &store, &[pulled.digest], &to, &()).expect("pushed");
    assert_eq!(pushed.digest, pulled.digest);
    assert_eq!(seen_by_skopeo(&to), pulled.digest);
    // The other repository had all of it.
    assert_eq!(pushed.moved, 0);
}

#[test]
fn what_is_pushed_is_read_by_skopeo_and_podman() {
    requires!(
        "command:docker-registry",
        "command:skopeo",
        "command:podman",
        "root"
    );
    let registry = DockerRegistry::start(RegistryOptions::default());
    let (dir, store) = store();
    let sample = Sample::new("amd64", &ALL, 3_000_000);
    sample.put(&store);
    let name = name(&registry, "x:1");
    let pushed = push(&insecure(), &store, &[sample.digest], &name, &()).expect("pushed");
    let blobs: usize = sample.blobs.iter().map(Vec::len).sum();
    assert_eq!(pushed.moved, blobs as u64);
    assert_eq!(seen_by_skopeo(&name), sample.digest);

    let layout = dir.path().join("layout");
    output(
        Command::new("skopeo")
            .args([
                "copy",
                "--quiet",
                "--insecure-policy",
                "--src-tls-verify=false",
                "--preserve-digests",
            ])
            .arg(format!("docker://{name}"))
            .arg(format!("oci:{}:x", layout.display())),
    );
    for blob in &sample.blobs {
        let copy = std::fs::read(layout.join("blobs/sha256").join(Digest::of(blob).hex()));
        assert_eq!(&copy.expect("copied"), blob);
    }

    let podman = |args: &[&str]| {
        let root = dir.path().join("podman");
        let mut command = Command::new("podman");
        command
            .arg("--root")
            .arg(root.join("root"))
            .arg("--runroot")
            .arg(root.join("run"))
            .args(["--storage-driver", "vfs"])
            .args(args);
        String::from_utf8(output(&mut command)).expect("text")
    };
    let text = name.to_string();
    podman(&[
        "pull",
        "--quiet",
        "--tls-verify=false",
        "--arch",
        "amd64",
        &text,
    ]);
    let digest = podman(&["image", "inspect", "--format", "{{.Digest}}", &text]);
    assert_eq!(digest.trim(), sample.digest.to_string());

    let again = push(&insecure(), &store, &[sample.digest], &name, &()).expect("pushed");
    assert_eq!(again.moved, 0);
}

#[test]
fn images_of_two_platforms_become_an_index() {
    requires!("command:docker-registry", "command:skopeo");
    let registry = DockerRegistry::start(RegistryOptions::default());
    let (_dir, local) = store();
    let samples = ["amd64", "arm64"].map(|arch| Sample::new(arch, &[Kind::Gzip], 1000));
    samples.iter().for_each(|sample| sample.put(&local));
    let name = name(&registry, "both:1");
    let digests = [samples[0].digest, samples[1].digest];
    let pushed = push(&insecure(), &local, &digests, &name, &()).expect("pushed");
    assert_eq!(seen_by_skopeo(&name), pushed.digest);

    for (sample, arch) in samples.iter().zip(["amd64", "arm64"]) {
        let (_dir, store) = store();
        let platform: Platform = format!("linux/{arch}").parse().expect("platform");
        let pulled = pull(&insecure(), &store, &name, Some(&platform), &()).expect("pulled");
        assert_eq!(
            (pulled.digest, pulled.target),
            (sample.digest, pushed.digest)
        );
        assert_eq!(store.resolve(&name.to_string()).expect("named").arch, arch);
        // The other direction: what skopeo chooses for the platform.
        let layout = TestDir::new();
        output(
            Command::new("skopeo")
                .args([
                    "copy",
                    "--quiet",
                    "--insecure-policy",
                    "--src-tls-verify=false",
                ])
                .args(["--override-arch", arch, "--override-os", "linux"])
                .arg(format!("docker://{name}"))
                .arg(format!("oci:{}:x", layout.path().display())),
        );
        let config = layout
            .path()
            .join("blobs/sha256")
            .join(Digest::of(&sample.blobs[0]).hex());
        assert!(config.exists());
    }

    let riscv: Platform = "linux/riscv64".parse().expect("platform");
    let error = pull(&insecure(), &local, &name, Some(&riscv), &()).expect_err("not there");
    let text = error.to_string();
    assert!(
        text.ends_with("is not there for linux/riscv64, only for linux/amd64, linux/arm64"),
        "{text}"
    );
    let twice = [samples[0].digest, samples[0].digest];
    let error = push(&insecure(), &local, &twice, &name, &()).expect_err("twice");
    assert!(matches!(error, RegistryError::SamePlatform(_)), "{error}");
    let single = name.registry();
    let single: ImageReference = format!("{single}/one:1").parse().expect("a valid name");
    push(&insecure(), &local, &digests[..1], &single, &()).expect("pushed");
    let error = pull(&insecure(), &local, &single, Some(&riscv), &()).expect_err("wrong");
    assert!(
        matches!(error, RegistryError::WrongPlatform { .. }),
        "{error}"
    );
}

#[test]
fn a_login_is_needed_checked_and_kept() {
    requires!("command:docker-registry", "command:htpasswd");
    let registry = DockerRegistry::start(RegistryOptions::LOGIN);
    let (dir, store) = store();
    let sample = Sample::new("amd64", &[Kind::Gzip], 1000);
    sample.put(&store);
    let name = name(&registry, "x:1");
    let push = |access: &Access| push(access, &store, &[sample.digest], &name, &());
    let error = push(&insecure()).expect_err("nobody has logged in");
    assert!(
        matches!(error, RegistryError::LoginNeeded { .. }),
        "{error}"
    );

    let with = |password: &str| Access {
        credentials: Some(Credentials::Password {
            user: "user".into(),
            password: password.into(),
        }),
        ..insecure()
    };
    let error = push(&with("wrong")).expect_err("wrong password");
    assert!(
        matches!(error, RegistryError::LoginRefused { .. }),
        "{error}"
    );
    let error = verify(&with("wrong"), registry.host()).expect_err("wrong password");
    assert!(
        matches!(error, RegistryError::LoginRefused { .. }),
        "{error}"
    );
    assert!(!error.to_string().contains("wrong"), "{error}");

    verify(&with("secret"), registry.host()).expect("accepted");
    let file = dir.path().join("config.json");
    let credentials = with("secret").credentials.expect("given");
    auth::keep(&file, registry.host(), &credentials).expect("kept");
    let access = Access {
        auth_files: AuthFiles(vec![file]),
        ..insecure()
    };
    push(&access).expect("pushed");
    pull(&access, &store, &name, None, &()).expect("pulled");
}

#[test]
fn encryption_is_insisted_on_unless_told_otherwise() {
    requires!("command:docker-registry", "command:openssl");
    let (_dir, store) = store();
    let sample = Sample::new("amd64", &[Kind::Gzip], 1000);
    sample.put(&store);
    let strict = || Access {
        insecure: false,
        ..insecure()
    };
    let push = |access: &Access, registry: &DockerRegistry| {
        push(
            access,
            &store,
            &[sample.digest],
            &name(registry, "x:1"),
            &(),
        )
    };

    let plain = DockerRegistry::start(RegistryOptions::default());
    let error = push(&strict(), &plain).expect_err("HTTP, even on loopback");
    assert!(
        matches!(error, RegistryError::PlainHttp { .. }),
        "{error:?}"
    );
    let mut configured = strict();
    configured.registries.set(
        plain.host(),
        RegistrySettings {
            insecure: true,
            ..RegistrySettings::default()
        },
    );
    push(&configured, &plain).expect("permitted by configuration");

    let tls = DockerRegistry::start(RegistryOptions {
        tls: true,
        ..RegistryOptions::default()
    });
    let error = push(&strict(), &tls).expect_err("an unknown certificate");
    assert!(
        matches!(error, RegistryError::Certificate { .. }),
        "{error:?}"
    );
    push(&insecure(), &tls).expect("permitted by flag");
    let mut configured = strict();
    configured.registries.set(
        tls.host(),
        RegistrySettings {
            ca: Some(tls.ca()),
            ..RegistrySettings::default()
        },
    );
    push(&configured, &tls).expect("its certificate is trusted");
    pull(&configured, &store, &name(&tls, "x:1"), None, &()).expect("pulled");
}

#[test]
fn mirrors_are_asked_in_order_and_then_the_registry() {
    requires!("command:docker-registry");
    let (_dir, local) = store();
    let sample = Sample::new("amd64", &[Kind::Gzip], 1000);
    sample.put(&local);
    let [empty, full] = [(); 2].map(|()| DockerRegistry::start(RegistryOptions::default()));
    let behind = name(&full, "hub/library/x:latest");
    push(&insecure(), &local, &[sample.digest], &behind, &()).expect("pushed");

    let mut access = Access {
        insecure: false,
        ..insecure()
    };
    let settings = |mirrors: Vec<String>| RegistrySettings {
        mirrors,
        insecure: true,
        ..RegistrySettings::default()
    };
    for registry in [&empty, &full] {
        access.registries.set(registry.host(), settings(Vec::new()));
    }
    let mirrors = vec![
        "127.0.0.1:1".to_owned(),
        empty.host().to_owned(),
        format!("{}/hub", full.host()),
    ];
    access.registries.set("registry.invalid", settings(mirrors));
    let wanted: ImageReference = "registry.invalid/library/x".parse().expect("a valid name");
    let (_dir, store) = store();
    let pulled = pull(&access, &store, &wanted, None, &()).expect("pulled");
    assert_eq!(
        (pulled.digest, pulled.source.as_str()),
        (sample.digest, full.host())
    );
    // It has the name that was asked for, wherever it came from.
    store
        .resolve("registry.invalid/library/x:latest")
        .expect("named");
}
