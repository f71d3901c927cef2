//! Slurm as a peer: a controller and two nodes of its own on this host, from
//! Debian's packages, with nothing that a rate would suffer from.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::stage::Stage;

/// How long anything may take on a slow host.
const PATIENCE: Duration = Duration::from_secs(300);
/// So many times is it asked whether nothing is queued, per second.
const LOOKS: u32 = 20;
/// The daemons, in the order of their starts, each with the file of its process number.
const DAEMONS: [(&str, &[&str], &str); 4] = [
    ("munged", &["--force"], "munge.pid"),
    ("slurmctld", &[], "slurmctld.pid"),
    ("slurmd", &["-N", "n1"], "slurmd.n1.pid"),
    ("slurmd", &["-N", "n2"], "slurmd.n2.pid"),
];

/// One that runs, until it is dropped.
pub(super) struct Slurm {
    folder: PathBuf,
}

impl Slurm {
    /// Starts it, and waits until both nodes are idle.
    pub(super) fn start(stage: &Stage) -> Result<Self> {
        for daemon in ["munged", "slurmctld", "slurmd"] {
            if !Path::new("/usr/sbin").join(daemon).exists() {
                bail!("no `{daemon}` here");
            }
        }
        let slurm = Self {
            folder: stage.fresh("slurm")?,
        };
        slurm.write()?;
        for (daemon, words, _) in DAEMONS {
            let mut command = slurm.command(&format!("/usr/sbin/{daemon}"));
            if daemon == "munged" {
                for (flag, file) in [
                    ("key-file", "munge.key"),
                    ("socket", "munge.sock"),
                    ("pid-file", "munge.pid"),
                    ("log-file", "munge.log"),
                    ("seed-file", "munge.seed"),
                ] {
                    command.arg(format!("--{flag}={}", slurm.folder.join(file).display()));
                }
            }
            let done = command.args(words).status()?;
            if !done.success() {
                bail!("{daemon} ended with {done}");
            }
        }
        slurm.until("both nodes are idle", || {
            Ok(slurm.said("sinfo", &["-h", "-o", "%T %D"])?.trim() == "idle 2")
        })?;
        Ok(slurm)
    }

    fn write(&self) -> Result<()> {
        let root = self.folder.display();
        for name in ["state", "log", "spool/n1", "spool/n2", "tmp/n1", "tmp/n2"] {
            fs::create_dir_all(self.folder.join(name))?;
        }
        fs::set_permissions(&self.folder, fs::Permissions::from_mode(0o700))?;
        let key = self.folder.join("munge.key");
        let mut bytes = vec![0; 1024];
        std::io::Read::read_exact(&mut fs::File::open("/dev/urandom")?, &mut bytes)?;
        fs::write(&key, bytes)?;
        fs::set_permissions(&key, fs::Permissions::from_mode(0o400))?;
        let host = fs::read_to_string("/proc/sys/kernel/hostname")?;
        let host = host.trim().split('.').next().context("a host's name")?;
        fs::write(
            self.folder.join("slurm.conf"),
            format!(
                "ClusterName=bench\nSlurmctldHost={host}(127.0.0.1)\nSlurmctldPort=16817\n\
                 SlurmUser=root\nSlurmdUser=root\n\
                 AuthType=auth/munge\nAuthInfo=socket={root}/munge.sock\nCredType=cred/munge\n\
                 StateSaveLocation={root}/state\nSlurmdSpoolDir={root}/spool/%n\nTmpFS={root}/tmp/%n\n\
                 SlurmctldPidFile={root}/slurmctld.pid\nSlurmdPidFile={root}/slurmd.%n.pid\n\
                 SlurmctldLogFile={root}/log/slurmctld.log\nSlurmdLogFile={root}/log/slurmd.%n.log\n\
                 SwitchType=switch/none\nProctrackType=proctrack/linuxproc\nTaskPlugin=task/none\n\
                 JobAcctGatherType=jobacct_gather/none\nAccountingStorageType=accounting_storage/none\n\
                 JobCompType=jobcomp/none\nSchedulerType=sched/backfill\n\
                 SelectType=select/cons_tres\nSelectTypeParameters=CR_CPU\n\
                 SlurmdParameters=config_overrides\nReturnToService=2\nMaxJobCount=20000\n\
                 NodeName=n[1-2] NodeHostname={host} NodeAddr=127.0.0.1 Port=[17001-17002] CPUs=64 \
                 RealMemory=8000 State=UNKNOWN\n\
                 PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP\n"
            ),
        )?;
        fs::write(self.folder.join("true.sh"), "#!/bin/true\n")?;
        Ok(())
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .env("SLURM_CONF", self.folder.join("slurm.conf"))
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        command
    }

    fn said(&self, program: &str, words: &[&str]) -> Result<String> {
        let mut command = self.command(program);
        let done = command.args(words).stdout(Stdio::piped()).output()?;
        if !done.status.success() {
            bail!("{program} ended with {}", done.status);
        }
        Ok(String::from_utf8_lossy(&done.stdout).into_owned())
    }

    fn until(&self, what: &str, is_so: impl Fn() -> Result<bool>) -> Result<()> {
        let began = Instant::now();
        while !is_so()? {
            if began.elapsed() > PATIENCE {
                bail!("{what}: not after {} s", PATIENCE.as_secs());
            }
            std::thread::sleep(Duration::from_secs(1) / LOOKS);
        }
        Ok(())
    }

    /// Jobs per second, from the first submission to the last end.
    fn rate(&self, jobs: usize, submissions: &[&[&str]]) -> Result<f64> {
        let began = Instant::now();
        for words in submissions {
            let mut command = self.command("sbatch");
            let done = command
                .args(["-o", "/dev/null"])
                .args(*words)
                .arg("true.sh");
            let done = done.status()?;
            if !done.success() {
                bail!("sbatch ended with {done}");
            }
        }
        self.until("nothing is queued", || {
            Ok(self.said("squeue", &["-h", "-o", "%i"])?.is_empty())
        })?;
        Ok(jobs as f64 / began.elapsed().as_secs_f64())
    }

    /// As many submissions as jobs.
    pub(super) fn one_by_one(&self, jobs: usize) -> Result<f64> {
        self.rate(jobs, &vec![&[][..]; jobs])
    }

    /// One submission.
    pub(super) fn array(&self, jobs: usize) -> Result<f64> {
        self.rate(jobs, &[&[&format!("--array=1-{jobs}")]])
    }
}

impl Drop for Slurm {
    fn drop(&mut self) {
        for (.., file) in DAEMONS.iter().rev() {
            let number = fs::read_to_string(self.folder.join(file));
            if let Ok(number) = number {
                let _ = Command::new("kill").arg(number.trim()).status();
            }
        }
        // They write their states at their ends.
        let _ = self.until("no process file is left", || {
            let mut files = DAEMONS.iter().map(|(.., file)| self.folder.join(file));
            Ok(files.all(|file| !file.exists()))
        });
        let _ = fs::remove_dir_all(&self.folder);
    }
}
