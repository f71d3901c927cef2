//! What is measured: a tiny root, a real image, a bundle for crun, MPI programs.
//!
//! Everything lies under `target/bench`. The real image is made once and kept.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use super::command::{Cmd, cmd};

const PACKAGES: &str = "mpich,openmpi-bin,python3-mpi4py,python3-numpy";

/// The profile that Debian's container tools use: Docker's list.
const SECCOMP: &str = "/usr/share/containers/seccomp.json";

pub(super) struct Stage {
    /// The sources of the workspace.
    pub(super) workspace: PathBuf,
    /// The folder of this stage.
    pub(super) dir: PathBuf,
    hyperion: PathBuf,
}

impl Stage {
    /// Builds the small things; the real image is made when it is asked for.
    pub(super) fn new(workspace: &Path, built: &Path) -> Result<Self> {
        let target = std::env::var_os("CARGO_TARGET_DIR")
            .map_or_else(|| workspace.join("target"), PathBuf::from);
        let stage = Self {
            workspace: workspace.to_path_buf(),
            dir: target.join("bench"),
            hyperion: target.join("bench/bin/hyperion"),
        };
        fs::create_dir_all(stage.dir.join("bin"))?;
        let _ = fs::remove_file(&stage.hyperion);
        fs::copy(built, &stage.hyperion).with_context(|| built.display().to_string())?;
        for name in [
            "bin", "dev", "etc", "home", "opt", "proc", "run", "sys", "tmp",
        ] {
            fs::create_dir_all(stage.tiny().join(name))?;
        }
        // ch-run binds the host's files over these.
        for name in ["group", "hosts", "passwd", "resolv.conf"] {
            fs::write(stage.tiny().join("etc").join(name), "")?;
        }
        for (name, flags) in [("true", "-static"), ("wait", "-static")] {
            stage.compile("gcc", name, &stage.tiny().join("opt").join(name), &[flags])?;
        }
        fs::copy(stage.tiny().join("opt/true"), stage.tiny().join("bin/true"))?;
        read_afresh(&[&stage.hyperion, &stage.tiny().join("bin/true")])?;
        Ok(stage)
    }

    fn compile(&self, compiler: &str, source: &str, to: &Path, flags: &[&str]) -> Result<()> {
        let source = self.workspace.join(format!("xtask/bench/{source}.c"));
        cmd![compiler, "-O2", "-o", to, source].args(flags).run()
    }

    /// A program of the bench's own, static.
    pub(super) fn compiled(&self, name: &str) -> Result<PathBuf> {
        let to = self.dir.join("bin").join(name);
        self.compile("gcc", name, &to, &["-static"])?;
        Ok(to)
    }

    /// A root with two static programs.
    pub(super) fn tiny(&self) -> PathBuf {
        self.dir.join("tiny")
    }

    /// Hyperion with a store of this stage.
    pub(super) fn hyperion(&self, store: &str) -> Cmd {
        cmd![&self.hyperion].env("HYPERION_ROOT", self.store(store))
    }

    /// The folder of a store.
    pub(super) fn store(&self, name: &str) -> PathBuf {
        self.dir.join("stores").join(name)
    }

    /// Brings the kernel of the tests' guests into the store `main`; gives its file.
    pub(super) fn kernel(&self) -> Result<PathBuf> {
        let kernels = self.store("main").join("kernels");
        let find = || {
            let releases = fs::read_dir(&kernels).into_iter().flatten().flatten();
            let mut files = releases.map(|release| release.path().join("vmlinux"));
            files.find(|file| file.is_file())
        };
        if find().is_none() {
            let package = hyperion_testkit::guest_cache().join("kernel.deb");
            self.hyperion("main")
                .args(["vm", "kernel", "install", "--deb"])
                .args([package])
                .run()?;
        }
        find().context("the kernel does not start by PVH")
    }

    /// The path of the binary that is measured.
    pub(super) fn binary(&self) -> &Path {
        &self.hyperion
    }

    /// Brings the tiny root into the store `main`, as `tiny`.
    pub(super) fn import_tiny(&self) -> Result<()> {
        if self
            .hyperion("main")
            .args(["image", "inspect", "tiny"])
            .run()
            .is_ok()
        {
            return Ok(());
        }
        self.hyperion("main")
            .args(["image", "import"])
            .args([self.tiny()])
            .args(["tiny"])
            .run()
    }

    /// Brings the real image into the store `main`, as `real`.
    pub(super) fn import_real(&self) -> Result<()> {
        if self
            .hyperion("main")
            .args(["image", "inspect", "real"])
            .run()
            .is_ok()
        {
            return Ok(());
        }
        let layout = self.real()?;
        self.load(layout, "main").run()
    }

    /// The command that brings the real image's layout into a store.
    pub(super) fn load(&self, layout: PathBuf, store: &str) -> Cmd {
        self.hyperion(store)
            .args(["image", "load", "--name", "real"])
            .args([layout])
    }

    /// Makes the bundle for crun that asks for what Hyperion's container has,
    /// or the same without the list of system calls.
    pub(super) fn bundle(&self, with_seccomp: bool) -> Result<PathBuf> {
        let name = if with_seccomp {
            "bundle"
        } else {
            "bundle-open"
        };
        let dir = self.dir.join(name);
        fs::create_dir_all(&dir)?;
        let config = dir.join("config.json");
        let _ = fs::remove_file(&config);
        cmd!["sh", "-c", "cd \"$1\" && exec crun spec", "sh", &dir].run()?;
        let mut spec: Value = serde_json::from_slice(&fs::read(&config)?)?;
        spec["process"]["terminal"] = json!(false);
        spec["process"]["args"] = json!(["/bin/true"]);
        spec["root"] = json!({"path": self.tiny(), "readonly": true});
        // The host's network, as a parallel job has it.
        spec["linux"]["namespaces"] = ["user", "mount", "pid", "ipc", "uts", "cgroup"]
            .iter()
            .map(|kind| json!({"type": kind}))
            .collect();
        let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]);
        spec["linux"]["uidMappings"] = map.clone();
        spec["linux"]["gidMappings"] = map;
        if with_seccomp {
            spec["linux"]["seccomp"] = seccomp()?;
        }
        fs::write(&config, serde_json::to_vec_pretty(&spec)?)?;
        // The user namespace's root must reach the root folder.
        for folder in dir.ancestors().take_while(|d| d.starts_with(&self.dir)) {
            fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?;
        }
        Ok(dir)
    }

    /// An MPI program of one family, built for the host and found in the real image.
    pub(super) fn pingpong(&self, family: &str) -> PathBuf {
        self.dir
            .join("extra/opt")
            .join(format!("pingpong.{family}"))
    }

    /// Makes the real image, once: an OCI layout with one gzip layer.
    pub(super) fn real(&self) -> Result<PathBuf> {
        let layout = self.dir.join("layout");
        if layout.join("index.json").exists() {
            return Ok(layout);
        }
        eprintln!("making the real image: Debian with {PACKAGES}");
        let extra = self.dir.join("extra/opt");
        fs::create_dir_all(&extra)?;
        for family in ["mpich", "openmpi"] {
            let compiler = format!("mpicc.{family}");
            self.compile(&compiler, "pingpong", &self.pingpong(family), &[])?;
        }
        fs::copy(self.tiny().join("opt/true"), extra.join("true"))?;
        let tar = self.dir.join("real.tar");
        let include = format!("--include={PACKAGES}");
        cmd![
            "mmdebstrap",
            "--quiet",
            "--variant=minbase",
            include,
            "bookworm",
            &tar
        ]
        .run()?;
        // Files only: podman refuses an archive that names a folder twice.
        let files = ["true", "pingpong.mpich", "pingpong.openmpi"];
        cmd!["tar", "-rf", &tar, "--owner=0", "--group=0", "-C"]
            .args([self.dir.join("extra")])
            .args(files.map(|file| format!("./opt/{file}")))
            .run()?;
        write_layout(&layout, &tar)?;
        Ok(layout)
    }

    /// The compressed layer of the real image.
    pub(super) fn real_layer(&self) -> Result<PathBuf> {
        let layout = self.real()?;
        let index: Value = serde_json::from_slice(&fs::read(layout.join("index.json"))?)?;
        let blob = |digest: &Value| -> Result<PathBuf> {
            let digest = digest.as_str().context("no digest")?;
            Ok(layout.join("blobs").join(digest.replace(':', "/")))
        };
        let manifest = blob(&index["manifests"][0]["digest"])?;
        let manifest: Value = serde_json::from_slice(&fs::read(manifest)?)?;
        blob(&manifest["layers"][0]["digest"])
    }

    /// An empty folder of this stage.
    pub(super) fn fresh(&self, name: &str) -> Result<PathBuf> {
        let dir = self.dir.join("fresh").join(name);
        clear(&dir)?;
        fs::create_dir_all(&dir)?;
        Ok(dir)
    }

    /// Removes what a case unpacked, and lets the disk come to rest before the next.
    pub(super) fn tidy_up(&self, leftovers: &Path) -> Result<()> {
        clear(leftovers)?;
        cmd!["sync", "--file-system", &self.dir].run()
    }
}

/// Lets these programs, the peers and the libraries of all lie in memory in the
/// same way: in the large pieces in which a file is read in one go. One that a
/// linker has just written lies there in single pages, and every execution maps
/// them one by one, which would be measured as a property of the program.
fn read_afresh(programs: &[&Path]) -> Result<()> {
    let script = r#"
        peers=$(command -v crun ch-run bwrap)
        libraries=$(ldd $peers 2>/dev/null | sed -n 's/.* => \(.*\) (.*/\1/p' | sort -u)
        for file in "$@" $peers $libraries; do
            sync "$file" && dd if="$file" iflag=nocache count=0 status=none && cat "$file" > /dev/null
        done"#;
    cmd!["sh", "-c", script, "sh"].args(programs).run()
}

fn clear(dir: &Path) -> Result<()> {
    if dir.exists() {
        fs::remove_dir_all(dir).with_context(|| dir.display().to_string())?;
    }
    Ok(())
}

/// Docker's seccomp list in the shape that a runtime takes.
fn seccomp() -> Result<Value> {
    let text = fs::read(SECCOMP).with_context(|| SECCOMP)?;
    let profile: Value = serde_json::from_slice(&text)?;
    let rules = profile["syscalls"].as_array().context("no rules")?;
    let has = |rule: &Value, side: &str, what: &str| {
        rule[side][what]
            .as_array()
            .is_some_and(|list| !list.is_empty())
    };
    // For this architecture and a program without the capabilities asked about.
    let applies = |rule: &&Value| {
        let here = !has(rule, "includes", "arches")
            || rule["includes"]["arches"].to_string().contains("amd64");
        here && !has(rule, "includes", "caps")
    };
    let syscalls: Vec<Value> = rules
        .iter()
        .filter(applies)
        .map(|rule| {
            let mut out = json!({"names": rule["names"], "action": rule["action"]});
            if let Some(args) = rule["args"].as_array().filter(|args| !args.is_empty()) {
                out["args"] = json!(args);
            }
            if rule["action"] == "SCMP_ACT_ERRNO" {
                out["errnoRet"] = json!(1);
            }
            out
        })
        .collect();
    Ok(json!({
        "defaultAction": profile["defaultAction"],
        "defaultErrnoRet": 38,
        // One, as in Hyperion's own list: the two older ones would cost crun 14 ms more.
        "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": syscalls,
    }))
}

/// Writes an OCI layout of one gzip layer from a tar file, which it consumes.
fn write_layout(layout: &Path, tar: &Path) -> Result<()> {
    let blobs = layout.join("blobs/sha256");
    fs::create_dir_all(&blobs)?;
    let diff = sha256(tar)?;
    cmd!["gzip", "-n", "-f", tar].run()?;
    let mut packed = OsString::from(tar);
    packed.push(".gz");
    let put = |bytes: &[u8]| -> Result<(String, usize)> {
        let part = blobs.join("part");
        fs::write(&part, bytes)?;
        let digest = sha256(&part)?;
        fs::rename(part, blobs.join(&digest))?;
        Ok((digest, bytes.len()))
    };
    let layer = sha256(Path::new(&packed))?;
    let layer_size = fs::metadata(&packed)?.len();
    fs::rename(&packed, blobs.join(&layer))?;
    let config = json!({
        "architecture": "amd64", "os": "linux",
        "config": {"Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{diff}")]},
    });
    let (config, config_size) = put(&serde_json::to_vec(&config)?)?;
    let kind = |name: &str| format!("application/vnd.oci.image.{name}");
    let manifest = json!({
        "schemaVersion": 2, "mediaType": kind("manifest.v1+json"),
        "config": {"mediaType": kind("config.v1+json"), "digest": format!("sha256:{config}"), "size": config_size},
        "layers": [{"mediaType": kind("layer.v1.tar+gzip"), "digest": format!("sha256:{layer}"), "size": layer_size}],
    });
    let (manifest, size) = put(&serde_json::to_vec(&manifest)?)?;
    fs::write(
        layout.join("oci-layout"),
        r#"{"imageLayoutVersion":"1.0.0"}"#,
    )?;
    let index = json!({"schemaVersion": 2, "manifests": [{
        "mediaType": kind("manifest.v1+json"), "digest": format!("sha256:{manifest}"), "size": size,
        "annotations": {"org.opencontainers.image.ref.name": "real"},
    }]});
    // Last: its presence says that the layout is whole.
    fs::write(layout.join("index.json"), serde_json::to_vec(&index)?)?;
    Ok(())
}

fn sha256(file: &Path) -> Result<String> {
    let output = cmd!["sha256sum", "--binary", file].output()?;
    match output.split_whitespace().next() {
        Some(digest) if digest.len() == 64 => Ok(digest.to_owned()),
        _ => bail!("sha256sum said {output:?}"),
    }
}
