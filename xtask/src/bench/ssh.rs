//! The time from the start of a machine with Debian on its disk, at its first
//! boot, until a command runs in it by SSH: beside QEMU with the same devices,
//! started by hand.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::command::{Cmd, cmd};
use super::page::{Outcome, Row};
use super::sample::{Case, alternate, milliseconds};
use super::stage::Stage;
use super::vm::Ending;

/// A boot takes most of a minute where it is emulated.
const ROUNDS: usize = 3;
/// How long a boot may take on a slow host.
const PATIENCE: Duration = Duration::from_secs(600);
/// After how long the guest is asked again when it has said no, when it says
/// nothing, and how long it may say nothing: what is asked before it has a network
/// may never be answered, and each one that is gives it work.
const ASKED: [Duration; 3] = [
    Duration::from_millis(100),
    Duration::from_secs(4),
    Duration::from_secs(60),
];
const NAME: &str = "bench-ssh";

/// Both kinds of machine, in turns.
pub(super) fn rows(stage: &Stage) -> Vec<Row> {
    vec![Row::new(
        "first boot of a Debian disk image to a command by SSH",
        "≤ 1.1 × plain QEMU",
        measured(stage),
    )]
}

fn measured(stage: &Stage) -> Result<Outcome> {
    let guest = Guest::new(stage)?;
    guest.delete();
    let cases = vec![
        Case::new("plain QEMU", || guest.by_hand()),
        Case::new("hyperion vm start", || guest.ours()),
    ];
    let samples = alternate(cases, ROUNDS, 0);
    guest.delete();
    let (plain, ours) = (samples[0].first()?, samples[1].first()?);
    let ratio = ours.paired_ratio(plain);
    let how = if guest.emulated { ", emulated" } else { "" };
    Ok(Outcome::Measured {
        ours: format!("{:.1} s", ours.median() / 1e3),
        beside: format!("plain QEMU {:.1} s{how}", plain.median() / 1e3),
        figure: format!("{ratio:.2} ×"),
        met: ratio <= 1.1,
    })
}

/// What both machines boot.
struct Guest<'a> {
    stage: &'a Stage,
    dir: PathBuf,
    address: SocketAddr,
    /// The address of its network card, by which the seed knows it.
    mac: String,
    emulated: bool,
}

impl<'a> Guest<'a> {
    fn new(stage: &'a Stage) -> Result<Self> {
        let image = hyperion_testkit::disk_image();
        if !image.exists() {
            bail!("no disk image in the cache; scripts/disk.sh makes it");
        }
        let dir = stage.dir.join("ssh");
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir)?;
        cmd!["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f"]
            .args([dir.join("key")])
            .run()?;
        let key = fs::read_to_string(dir.join("key.pub"))?;
        // One kind of key: how long it takes to find one of RSA is chance.
        let text = format!(
            "#cloud-config\nssh_genkeytypes: [ed25519]\nssh_authorized_keys: []\n\
             users:\n- name: bench\n  ssh_authorized_keys: [\"{}\"]\n",
            key.trim()
        );
        fs::write(dir.join("user-data"), text)?;
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let mut guest = Self {
            stage,
            dir,
            address,
            mac: String::new(),
            emulated: false,
        };
        // The seed that both read.
        guest.delete();
        guest.create()?;
        let seed = stage.store("main").join("machines").join(NAME);
        fs::copy(seed.join("disks/seed.iso"), guest.dir.join("seed.iso"))?;
        let words = guest.vm(&["export", NAME, "--format", "qemu"]).output()?;
        guest.emulated = words.contains("-accel tcg");
        let mac = words.split_once(",mac=").map(|(_, rest)| rest);
        let mac = mac.and_then(|rest| rest.split([',', ' ']).next());
        mac.context("a card without an address")?
            .clone_into(&mut guest.mac);
        guest.delete();
        Ok(guest)
    }

    fn vm(&self, words: &[&str]) -> Cmd {
        self.stage.hyperion("main").args(["vm"]).args(words)
    }

    fn create(&self) -> Result<()> {
        let publish = format!("{}:22", self.address);
        self.vm(&["create", NAME, "--memory", "512MiB", "-p", &publish])
            .args([Path::new("--image"), &hyperion_testkit::disk_image()])
            .args([Path::new("--user-data"), &self.dir.join("user-data")])
            .run()
    }

    fn delete(&self) {
        let _ = self.vm(&["delete", "--force", NAME]).run();
    }

    fn ours(&self) -> Result<Vec<f64>> {
        self.create()?;
        let start = Instant::now();
        self.vm(&["start", NAME]).run()?;
        self.reached()?;
        let took = start.elapsed();
        self.delete();
        Ok(vec![milliseconds(took)])
    }

    fn by_hand(&self) -> Result<Vec<f64>> {
        let disk = self.dir.join("disk.qcow2");
        let _ = fs::remove_file(&disk);
        cmd![
            "qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b"
        ]
        .args([&hyperion_testkit::disk_image(), &disk])
        .run()?;
        let (disk, seed) = (disk.display(), self.dir.join("seed.iso"));
        let accelerator = match self.emulated {
            true => ["tcg,thread=multi", "max"],
            false => ["kvm", "host"],
        };
        let words = [
            format!(
                "-machine q35 -accel {} -cpu {}",
                accelerator[0], accelerator[1]
            ),
            "-m 512M -smp 1 -nodefaults -display none -serial null".to_owned(),
            format!("-drive if=virtio,format=qcow2,discard=unmap,file={disk}"),
            format!(
                "-drive if=virtio,format=raw,readonly=on,file={}",
                seed.display()
            ),
            format!("-netdev user,id=net,hostfwd=tcp:{}-:22", self.address),
            format!(
                "-device virtio-net-pci,netdev=net,mac={} -device virtio-rng-pci",
                self.mac
            ),
            "-device virtio-serial-pci -chardev null,id=agent".to_owned(),
            "-device virtserialport,chardev=agent,name=org.qemu.guest_agent.0".to_owned(),
        ];
        let start = Instant::now();
        let child = Command::new("qemu-system-x86_64")
            .args(words.iter().flat_map(|words| words.split(' ')))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()?;
        let _qemu = Ending(child);
        self.reached()?;
        Ok(vec![milliseconds(start.elapsed())])
    }

    /// Waits until a command runs in the guest.
    fn reached(&self) -> Result<()> {
        let until = Instant::now() + PATIENCE;
        greeted(self.address, until)?;
        let ssh = cmd!["ssh", "-p"]
            .args([self.address.port().to_string()])
            .args(["-o", "StrictHostKeyChecking=no"])
            .args(["-o", "UserKnownHostsFile=/dev/null"])
            .args(["-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes", "-i"])
            .args([self.dir.join("key")])
            .args(["bench@127.0.0.1", "true"]);
        loop {
            match ssh.run() {
                Ok(()) => return Ok(()),
                Err(error) if Instant::now() > until => return Err(error),
                Err(_) => thread::sleep(ASKED[0]),
            }
        }
    }
}

/// Waits until a server greets.
fn greeted(address: SocketAddr, until: Instant) -> Result<()> {
    let (says, heard) = mpsc::channel();
    while Instant::now() < until {
        let says = says.clone();
        thread::spawn(move || {
            let ask = || -> std::io::Result<()> {
                let mut socket = TcpStream::connect_timeout(&address, ASKED[2])?;
                socket.set_read_timeout(Some(ASKED[2]))?;
                // As a client does: some versions of passt wait for its word.
                socket.write_all(b"SSH-2.0-Bench\r\n")?;
                socket.read_exact(&mut [0; 4])
            };
            let _ = says.send(ask().is_ok());
        });
        match heard.recv_timeout(ASKED[1]) {
            Ok(true) => return Ok(()),
            Ok(false) => thread::sleep(ASKED[0]),
            Err(_) => {}
        }
    }
    bail!("no SSH server greets at {address}")
}
