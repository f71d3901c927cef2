//! Virtual machines beside plain QEMU: the same kernel, memory, processors and
//! words, so that what is measured is what Hyperion adds, emulated or not.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::command::cmd;
use super::page::{Outcome, Row};
use super::sample::{Case, alternate, milliseconds};
use super::stage::Stage;
use super::start::{own_processes, pss_kib, settle};

/// A boot takes a second or more where it is emulated.
const ROUNDS: usize = 15;
/// How many machines of one image run side by side.
const MACHINES: usize = 8;
/// How long a machine may take for anything on a slow host.
const PATIENCE: Duration = Duration::from_secs(300);
/// What plain QEMU's guest says first; `first.c`.
const FIRST: &str = "first line";

/// The start of `true`, and the memory of a job that waits.
pub(super) fn start(stage: &Stage) -> Vec<Row> {
    let what = "start of `true` in a tiny image, virtual machine";
    let bar = "≤ plain QEMU to its first line + 0.4 s";
    let memory = "own memory per running virtual machine";
    let ready = stage.import_tiny().and_then(|()| stage.kernel());
    let sample = ready.and_then(|kernel| Ok((kernel, Waiting::start(stage)?)));
    let (kernel, waiting) = match sample {
        Ok(both) => both,
        Err(error) => {
            let again = anyhow::anyhow!("{error:#}");
            let memory = Row::new(memory, "≤ 4 MiB over QEMU's", Err(again));
            return vec![Row::new(what, bar, Err(error)), memory];
        }
    };
    let own = waiting.memory();
    let plain = waiting.words().and_then(|its| plain(stage, &kernel, &its));
    drop(waiting);
    let beside = match plain {
        Ok((words, emulated)) => {
            let case = Case::new("plain QEMU", move || {
                Ok(vec![milliseconds(to_first_line(&words)?)])
            });
            (case, emulated)
        }
        Err(error) => (super::start::out("plain QEMU", &error), false),
    };
    let ours = |settings: &Path| {
        let words = ["run", "--rm", "--isolation", "vm", "tiny", "/bin/true"];
        let command = stage.hyperion("main").args(words);
        command.env("XDG_CONFIG_HOME", settings)
    };
    let boots = match boots_only(stage) {
        Ok(settings) => Case::wall("hyperion, with its kernel", ours(&settings)),
        Err(error) => super::start::out("hyperion, with its kernel", &error),
    };
    let none = stage.dir.join("no-settings");
    let cases = vec![
        beside.0,
        Case::wall("hyperion, from memory", ours(&none)),
        boots,
    ];
    // The first start of a kind is remembered, the second written down.
    let samples = alternate(cases, ROUNDS, 2);
    let outcome = |ours: usize| -> Result<Outcome> {
        let plain = samples[0].first()?.median();
        let ours = samples[ours].first()?.median();
        let how = if beside.1 { ", emulated" } else { "" };
        Ok(Outcome::Measured {
            ours: format!("{:.2} s", ours / 1e3),
            beside: format!("plain QEMU {:.2} s{how}", plain / 1e3),
            figure: format!("{:+.2} s", (ours - plain) / 1e3),
            met: ours <= plain + 400.0,
        })
    };
    vec![
        Row::new(format!("{what}, from its third start on"), bar, outcome(1)),
        Row::new(format!("{what}, with its kernel"), bar, outcome(2)),
        Row::new(memory, "≤ 4 MiB over QEMU's", own),
    ]
}

/// Makes settings by which each machine begins with its kernel; gives their folder.
fn boots_only(stage: &Stage) -> Result<PathBuf> {
    let settings = stage.fresh("settings")?;
    let folder = settings.join("hyperion");
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("config.toml"), "warm_machines = false\n")?;
    Ok(settings)
}

/// A job in a machine that waits to be looked at.
struct Waiting<'a> {
    stage: &'a Stage,
    before: BTreeSet<u32>,
}

impl<'a> Waiting<'a> {
    const NAME: &'static str = "bench-vm";

    fn start(stage: &'a Stage) -> Result<Self> {
        remove(stage, Self::NAME);
        let waiting = Self {
            stage,
            before: own_processes(stage)?,
        };
        stage
            .hyperion("main")
            .args(["run", "-d", "--isolation", "vm", "--name", Self::NAME])
            .args(["tiny", "/opt/wait"])
            .run()?;
        Ok(waiting)
    }

    /// Its processes: QEMU's, and those beside it.
    fn processes(&self) -> Result<(u32, Vec<u32>)> {
        let all = own_processes(self.stage)?;
        let (qemu, own): (Vec<u32>, Vec<u32>) =
            all.difference(&self.before).partition(|pid| is_qemu(**pid));
        match qemu[..] {
            [qemu] => Ok((qemu, own)),
            _ => bail!("{} processes of QEMU where one was started", qemu.len()),
        }
    }

    fn words(&self) -> Result<Vec<String>> {
        let (qemu, _) = self.processes()?;
        let words = fs::read_to_string(format!("/proc/{qemu}/cmdline"))?;
        Ok(words.split_terminator('\0').map(str::to_owned).collect())
    }

    /// What its processes beside QEMU have: proportional set size.
    fn memory(&self) -> Result<Outcome> {
        // What was needed for the start is given back shortly after it.
        thread::sleep(Duration::from_secs(2));
        let (sum, count, qemu) = settle(|| {
            let (qemu, own) = self.processes()?;
            let mut sum = 0.0;
            for pid in &own {
                sum += pss_kib(*pid)?;
            }
            // QEMU's own changes all the time; it is told, not compared.
            Ok((sum / 1024.0, own.len(), qemu))
        })?;
        let qemu = pss_kib(qemu)? / 1024.0;
        Ok(Outcome::Measured {
            ours: format!("{sum:.2} MiB"),
            beside: format!("PSS of {count} processes; QEMU has {qemu:.0} MiB"),
            figure: format!("{sum:.2} MiB"),
            met: sum <= 4.0,
        })
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        remove(self.stage, Self::NAME);
    }
}

fn remove(stage: &Stage, name: &str) {
    let _ = stage
        .hyperion("main")
        .args(["rm", "--force", "--", name])
        .run();
}

fn is_qemu(pid: u32) -> bool {
    let exe = fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
    exe.file_name()
        .is_some_and(|name| name.to_string_lossy().starts_with("qemu-system"))
}

/// Builds the words of a plain QEMU for the guest that another has: the machine
/// as it comes, and a root whose init says one line. Tells whether it emulates.
fn plain(stage: &Stage, kernel: &Path, its: &[String]) -> Result<(Vec<String>, bool)> {
    let said = |flag: &str| -> Result<String> {
        let at = its.iter().position(|word| word == flag);
        let value = at.and_then(|at| its.get(at + 1));
        value
            .cloned()
            .with_context(|| format!("QEMU was started without {flag}"))
    };
    let initrd = stage.dir.join("first.cpio");
    let init = stage.compiled("first")?;
    fs::write(
        &initrd,
        hyperion_testkit::first_root(&[("init", &fs::read(init)?)]),
    )?;
    let mut words = vec![its.first().context("no words")?.clone()];
    words.extend(["-nodefaults", "-no-user-config", "-display", "none"].map(str::to_owned));
    words.extend(["-machine", "q35", "-serial", "stdio"].map(str::to_owned));
    for flag in ["-accel", "-cpu", "-smp", "-m", "-append"] {
        words.extend([flag.to_owned(), said(flag)?]);
    }
    words.extend(["-kernel".to_owned(), kernel.display().to_string()]);
    words.extend(["-initrd".to_owned(), initrd.display().to_string()]);
    Ok((words, said("-accel")?.starts_with("tcg")))
}

/// The time from the execution of QEMU to what its guest says first.
fn to_first_line(words: &[String]) -> Result<Duration> {
    let (program, rest) = words.split_first().context("an empty command")?;
    let start = Instant::now();
    let child = Command::new(program)
        .args(rest)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let mut child = Ending(child);
    let out = child.0.stdout.take().context("no output")?;
    for line in BufReader::new(out).lines() {
        if line?.contains(FIRST) {
            return Ok(start.elapsed());
        }
    }
    bail!("plain QEMU ended before its guest said anything")
}

/// A process that ends with this.
pub(super) struct Ending(pub(super) Child);

impl Drop for Ending {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Several machines of one image: how often it is read and how often it is there.
pub(super) fn shared(stage: &Stage) -> Vec<Row> {
    vec![Row::new(
        format!("{MACHINES} virtual machines that read all of one image"),
        "one copy in the page cache and on disk",
        read_by_all(stage),
    )]
}

fn read_by_all(stage: &Stage) -> Result<Outcome> {
    stage.import_real()?;
    stage.kernel()?;
    let names: Vec<String> = (0..MACHINES).map(|n| format!("bench-vm-{n}")).collect();
    let clear = || names.iter().for_each(|name| remove(stage, name));
    clear();
    let measured = read_once(stage, &names);
    clear();
    measured
}

/// Counts the files that the machines have open as their image: the page cache
/// holds a file once, whoever reads it. Tells what all of them together bring
/// from the disk, too: no more than once, unless the host forgets meanwhile.
fn read_once(stage: &Stage, names: &[String]) -> Result<Outcome> {
    let before = own_processes(stage)?;
    // Makes the image's file where there is none yet, and reads what all start by.
    let run = |flags: &[&str]| {
        let base = stage.hyperion("main").args(["run"]).args(flags);
        base.args([
            "--isolation",
            "vm",
            "--memory",
            "512MiB",
            "--cpus",
            "1",
            "real",
        ])
    };
    run(&["--rm"]).args(["/opt/true"]).run()?;
    let image = largest(&stage.store("main").join("images/erofs"))?;
    let size = fs::metadata(&image)?.len() as f64;
    let on_disk = disk_usage(&stage.store("main").join("images"))?;
    // Not a byte of it lies in memory.
    cmd!["dd", "iflag=nocache", "count=0", "status=none"]
        .args([format!("if={}", image.display())])
        .run()?;
    let script = "find / -xdev -type f -exec cat {} + > /dev/null 2>&1; echo all; exec sleep 1000";
    for name in names {
        run(&["-d", "--name", name])
            .args(["sh", "-c", script])
            .run()?;
    }
    let start = Instant::now();
    while !names.iter().all(|name| has_said_all(stage, name)) {
        if start.elapsed() > PATIENCE {
            bail!("the machines take too long to read their image");
        }
        thread::sleep(Duration::from_secs(1));
    }
    let after = own_processes(stage)?;
    let (mut asked, mut brought) = (0.0, 0.0);
    let mut copies = BTreeSet::new();
    for pid in after.difference(&before).filter(|pid| is_qemu(**pid)) {
        let io = fs::read_to_string(format!("/proc/{pid}/io"))?;
        asked += counter(&io, "rchar")?;
        brought += counter(&io, "read_bytes")?;
        copies.extend(images(*pid, size as u64)?);
    }
    let grown = disk_usage(&stage.store("main").join("images"))? - on_disk;
    let mib = |bytes: f64| format!("{:.0} MiB", bytes / f64::from(1 << 20));
    let all_read = 0.8 * size * MACHINES as f64;
    if asked < all_read {
        bail!("the machines read {} only", mib(asked));
    }
    Ok(Outcome::Measured {
        ours: format!("{} file of {}", copies.len(), mib(size)),
        beside: format!(
            "{} read, {} of it from the disk; images grew by {}",
            mib(asked),
            mib(brought),
            mib(grown.max(0.0))
        ),
        figure: format!("{} ×", copies.len()),
        met: copies.len() == 1 && grown <= 0.1 * size,
    })
}

/// The files of this size that a process has open: device and number.
fn images(pid: u32, size: u64) -> Result<BTreeSet<(u64, u64)>> {
    let open = fs::read_dir(format!("/proc/{pid}/fd"))?.flatten();
    let files = open.filter_map(|entry| fs::metadata(entry.path()).ok());
    let images = files.filter(|file| file.len() == size);
    Ok(images.map(|file| (file.dev(), file.ino())).collect())
}

fn has_said_all(stage: &Stage, name: &str) -> bool {
    let logs = stage.hyperion("main").args(["logs", name]).output();
    logs.is_ok_and(|text| text.lines().any(|line| line == "all"))
}

fn counter(io: &str, name: &str) -> Result<f64> {
    let mut lines = io.lines().filter_map(|line| line.split_once(": "));
    let value = lines.find_map(|(of, value)| (of == name).then_some(value));
    Ok(value.with_context(|| format!("no {name}"))?.parse()?)
}

/// The bytes of a folder on disk.
fn disk_usage(folder: &Path) -> Result<f64> {
    let text = cmd!["du", "--summarize", "--block-size=1", folder].output()?;
    let number = text.split_whitespace().next().context("du said nothing")?;
    Ok(number.parse()?)
}

/// The largest file of a folder.
fn largest(folder: &Path) -> Result<PathBuf> {
    let files = fs::read_dir(folder)?.flatten();
    let sized = files.filter_map(|file| Some((file.metadata().ok()?.len(), file.path())));
    let largest = sized.max().with_context(|| folder.display().to_string())?;
    Ok(largest.1)
}

/// A copy of a machine that is switched off, its disk as it was made and after use.
pub(super) fn clone(stage: &Stage) -> Vec<Row> {
    let written = [("nothing", None), ("256 MiB", Some("256M"))];
    let row = |(how_much, amount): (&str, Option<&str>)| {
        Row::new(
            format!("clone of a thin disk of 10 GiB, {how_much} written to it"),
            "≤ 100 ms",
            clone_of(stage, amount),
        )
    };
    written.into_iter().map(row).collect()
}

fn clone_of(stage: &Stage, written: Option<&str>) -> Result<Outcome> {
    let vm = |words: &[&str]| stage.hyperion("main").args(["vm"]).args(words);
    let (old, new) = ("bench-disk", "bench-copy");
    let delete = |name| drop(vm(&["delete", name]).run());
    let measured = (|| {
        delete(old);
        delete(new);
        vm(&["create", old, "--disk", "10GiB"]).run()?;
        let cases = vec![Case::new("hyperion vm clone", || {
            if let Some(amount) = written {
                // Each clone finds as much that no clone before it has shared.
                cmd!["qemu-io", "-f", "qcow2", "-c"]
                    .args([format!("write 0 {amount}")])
                    .args([written_to(&vm(&["show", old]).output()?)?])
                    .run()?;
            }
            let took = vm(&["clone", old, new]).time()?;
            vm(&["delete", new]).run()?;
            Ok(vec![milliseconds(took)])
        })];
        let samples = alternate(cases, 9, 1);
        let took = samples[0].first()?.median();
        Ok(Outcome::Measured {
            ours: format!("{took:.1} ms"),
            beside: format!("{} written before each", written.unwrap_or("nothing")),
            figure: format!("{took:.1} ms"),
            met: took <= 100.0,
        })
    })();
    delete(new);
    delete(old);
    measured
}

/// Gives the file that a machine writes its first disk to.
fn written_to(shown: &str) -> Result<String> {
    let shown: Value = serde_json::from_str(shown)?;
    let file = shown["disks"][0]["content"]["file"].as_str();
    Ok(file.context("a machine without a disk")?.to_owned())
}
