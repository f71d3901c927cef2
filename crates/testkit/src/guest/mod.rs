//! Another Linux host: Debian's own kernel in QEMU, by emulation, so that it
//! needs no rights and no KVM.
//!
//! Kernel and user space lie in a cache that `scripts/guest.sh` fills from
//! Debian's packages; `requires!("guest")` asks for both and for QEMU. The
//! guest has a disk of its own at most, thrown away afterwards, and no network.

mod cpio;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::{TestDir, wait_until};
use cpio::Archive;

/// What is to be run on another host.
#[derive(Debug)]
pub struct Guest {
    archive: Archive,
    kind: Kind,
    processors: u32,
}

/// What stands on the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Busybox, on a disk.
    Disk,
    /// Busybox, in memory.
    Diskless,
    /// Debian, on a disk.
    Systemd,
}

impl Guest {
    /// Makes a guest with busybox, `newuidmap` and nothing else, on an ext4 disk.
    #[must_use]
    pub fn new() -> Self {
        let mut archive = Archive::default();
        archive.file("init", 0o755, include_bytes!("init.sh"));
        Self {
            archive,
            kind: Kind::Disk,
            processors: 2,
        }
    }

    /// Lets all of it stay in the kernel's first root, in memory, as on the
    /// nodes of a cluster that have no disk.
    #[must_use]
    pub fn without_disk(mut self) -> Self {
        self.kind = Kind::Diskless;
        self
    }

    /// Makes it a Debian host: systemd is PID 1, with cgroup version 2 alone,
    /// managers of users and logins; the program is a service of the system's, to
    /// which its cgroup is delegated. A user `hyperion-test` has other ids.
    #[must_use]
    pub fn with_systemd(mut self) -> Self {
        self.kind = Kind::Systemd;
        self
    }

    /// Gives it one processor instead of two.
    #[must_use]
    pub fn with_one_processor(mut self) -> Self {
        self.processors = 1;
        self
    }

    /// Puts a file at a path of the guest, owned by root.
    #[must_use]
    pub fn file(mut self, path: &str, mode: u32, content: &[u8]) -> Self {
        let path = format!("put/{}", path.trim_start_matches('/'));
        self.archive.file(&path, mode, content);
        self
    }

    /// Puts a symbolic link there.
    #[must_use]
    pub fn link(mut self, path: &str, target: &str) -> Self {
        let path = format!("put/{}", path.trim_start_matches('/'));
        self.archive.link(&path, target);
        self
    }

    /// Puts a program of this host there, at the path that it has here, with the
    /// libraries that it needs; the C library is the guest's own.
    ///
    /// # Panics
    /// If one of them cannot be read, or `ldd` tells nothing of them.
    #[must_use]
    pub fn program(mut self, program: &str) -> Self {
        let read = |path: &str| fs::read(path).unwrap_or_else(|e| panic!("{path}: {e}"));
        let told = Command::new("ldd").arg(program).output();
        let told = told.expect("ldd starts").stdout;
        let told = String::from_utf8_lossy(&told).into_owned();
        let own = ["libc", "libm", "libpthread", "libdl", "librt", "libresolv"];
        // "	libz.so.1 => /lib/x86_64-linux-gnu/libz.so.1 (0x…)"
        for line in told.lines() {
            let mut words = line.split_whitespace();
            let (Some(name), Some("=>"), Some(path)) = (words.next(), words.next(), words.next())
            else {
                continue;
            };
            let stem = name.split_once(".so").map_or(name, |(stem, _)| stem);
            if !own.contains(&stem) {
                // Where the others are links to.
                let place = match path.starts_with("/usr/") {
                    true => path.to_owned(),
                    false => format!("/usr{path}"),
                };
                self = self.file(&place, 0o755, &read(path));
            }
        }
        self.file(program, 0o755, &read(program))
    }

    /// Boots the guest, runs one of its files as root and powers off. Gives
    /// what that program wrote, line by line; the kernel's
    /// own words are not among them.
    ///
    /// # Panics
    /// If the guest cannot be started, or runs longer than `limit`.
    #[must_use]
    pub fn run(mut self, program: &str, limit: Duration) -> Vec<String> {
        let cache = cache();
        let read = |name: &str| {
            fs::read(cache.join(name)).unwrap_or_else(|e| panic!("{name} of the guest: {e}"))
        };
        let modules = fs::read_dir(cache.join("modules")).expect("the cache holds modules");
        for module in modules {
            let name = module.expect("an entry").file_name();
            let name = format!("modules/{}", name.display());
            self.archive.file(&name, 0o644, &read(&name));
        }
        self.archive.file("bin/busybox", 0o755, &read("busybox"));
        if self.kind != Kind::Systemd {
            self.archive.file("root.tar", 0o644, &read("root.tar"));
        }

        let dir = TestDir::new();
        let initrd = dir.join("initrd");
        fs::write(&initrd, self.archive.finish()).expect("the first root is written");
        let (said, console) = (dir.join("said"), dir.join("console"));
        let mut command = Command::new("qemu-system-x86_64");
        command
            .args(["-nodefaults", "-no-user-config", "-display", "none"])
            .args(["-machine", "q35,accel=tcg", "-cpu", "max,erms=off,fsrm=off"])
            .args(["-smp", &self.processors.to_string()])
            .args(["-m", "1G", "-no-reboot", "-kernel"])
            .arg(cache.join("vmlinuz"))
            .arg("-initrd")
            .arg(&initrd);
        for file in [&console, &said] {
            command.args(["-serial", &format!("file:{}", file.display())]);
        }
        let mut words = format!("console=ttyS0 loglevel=5 panic=-1 hyperion.run={program}");
        if self.kind != Kind::Diskless {
            let disk = dir.join("disk");
            make_disk(&disk);
            let drive = format!("file={},format=raw,if=virtio,cache=unsafe", disk.display());
            command.args(["-drive", &drive]);
        }
        match self.kind {
            Kind::Disk => words += " hyperion.disk",
            Kind::Diskless => {}
            Kind::Systemd => {
                let image = cache.join(SYSTEMD);
                let drive = format!("file={},format=raw,if=virtio,readonly=on", image.display());
                command.args(["-drive", &drive]);
                // systemd says of its own what goes wrong on the way up.
                words += " hyperion.systemd systemd.show_status=error";
            }
        }
        command
            .args(["-append", &words])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(dir.join("qemu")).expect("a file can be made"));
        let mut qemu = Qemu(command.spawn().expect("qemu starts"));
        let ended = wait_until(limit, || !matches!(qemu.0.try_wait(), Ok(None)));
        let lines = |file: &Path| -> Vec<String> {
            let bytes = fs::read(file).unwrap_or_default();
            let text = String::from_utf8_lossy(&bytes).replace('\r', "");
            text.lines().map(str::to_owned).collect()
        };
        let said = lines(&said);
        if !ended || said.is_empty() {
            let console = lines(&console);
            let qemu = lines(&dir.join("qemu"));
            let last = console.iter().rev().take(40).rev().chain(&qemu);
            let last: Vec<&str> = last.map(String::as_str).collect();
            panic!(
                "the guest {}; it said:\n{}\nits console:\n{}",
                if ended {
                    "said nothing"
                } else {
                    "ran too long"
                },
                said.join("\n"),
                last.join("\n")
            );
        }
        said
    }
}

/// Gives a first root with these programs, by their path in it, and nothing else.
/// The kernel takes several one after the other, and of a file the last.
#[must_use]
pub fn first_root(programs: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = Archive::default();
    for (path, program) in programs {
        archive.file(path, 0o755, program);
    }
    archive.finish()
}

impl Default for Guest {
    fn default() -> Self {
        Self::new()
    }
}

/// The emulator; it ends when this is dropped.
struct Qemu(Child);

impl Drop for Qemu {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The root of Debian, in the cache.
const SYSTEMD: &str = "systemd.erofs";

/// Where `scripts/guest.sh` leaves what a guest is made of: `kernel.deb` (the
/// package), `vmlinuz` and `modules` of it, `generic.deb` (a kernel with 9p),
/// `busybox`, `root.tar`, `systemd.erofs`.
#[must_use]
pub fn cache() -> PathBuf {
    all_caches().join("guest")
}

/// Where `scripts/disk.sh` leaves a disk image with Debian: its own boot loader,
/// cloud-init, OpenSSH's server, QEMU's agent, and nothing set up.
#[must_use]
pub fn disk_image() -> PathBuf {
    all_caches().join("disk/debian.qcow2")
}

fn all_caches() -> PathBuf {
    let home = std::env::var_os("HOME").unwrap_or_default();
    let cache = std::env::var_os("XDG_CACHE_HOME")
        .map_or_else(|| Path::new(&home).join(".cache"), PathBuf::from);
    cache.join("hyperion")
}

/// Looks whether guests can be made here.
///
/// # Errors
/// What is missing.
pub(crate) fn check() -> Result<(), String> {
    if !cfg!(target_arch = "x86_64") {
        return Err("the guest's kernel is for x86_64".into());
    }
    for command in ["qemu-system-x86_64", "mkfs.ext4"] {
        crate::need::check_command(command)?;
    }
    if ["versions", "kernel.deb", "generic.deb", SYSTEMD]
        .iter()
        .all(|name| cache().join(name).exists())
    {
        Ok(())
    } else {
        Err("no kernel in the cache; scripts/guest.sh brings it".into())
    }
}

/// Makes an empty ext4 file system in a sparse file.
fn make_disk(path: &Path) {
    let file = File::create(path).expect("a disk can be made");
    file.set_len(2 << 30).expect("a disk can be sized");
    let made = Command::new("mkfs.ext4")
        .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
        .args(["-q", "-F"])
        .arg(path)
        .status()
        .expect("mkfs.ext4 starts");
    assert!(made.success(), "mkfs.ext4: {made}");
}
