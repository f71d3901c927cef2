//! The command line of Open MPI's own launcher.

use serde::Serialize;

/// Open MPI's `mpirun`, as it is called inside the sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OpenMpi {
    /// Where it is.
    pub mpirun: String,
    /// The first number of its version, where it is known.
    pub major: Option<u32>,
    /// How many ranks it starts.
    pub ranks: u32,
    /// How many ranks it may start without being told that it is too many.
    pub slots: u32,
    /// Messages may be copied from process to process in one step (CMA).
    pub single_copy: bool,
}

impl OpenMpi {
    /// Gives the command that starts `program` once for each rank.
    ///
    /// Ranks are bound by Hyperion, alike for every family, so `mpirun` binds
    /// nothing. It is told where it may start (here) and how many: what a
    /// batch system around it says would name other hosts.
    pub fn argv(&self, program: &[String]) -> Vec<String> {
        let mut argv = vec![
            self.mpirun.clone(),
            "--allow-run-as-root".to_owned(),
            "-n".to_owned(),
            self.ranks.to_string(),
            "--host".to_owned(),
            format!("localhost:{}", self.slots),
            "--bind-to".to_owned(),
            "none".to_owned(),
        ];
        if self.ranks > self.slots {
            argv.push("--oversubscribe".to_owned());
        }
        let mut mca = |name: &str, value: &str| {
            argv.extend(["--mca", name, value].map(str::to_owned));
        };
        if self.major == Some(4) {
            // Without a remote shell in the image there is nothing else to start with.
            mca("plm", "isolated");
            mca("ras", "^slurm,tm,gridengine,lsf,loadleveler,alps");
            if !self.single_copy {
                mca("btl_vader_single_copy_mechanism", "none");
            }
        } else if self.major >= Some(5) && !self.single_copy {
            mca("smsc", "^cma");
        }
        argv.extend_from_slice(program);
        argv
    }

    /// Gives the variables that `mpirun` itself needs; both are needed by
    /// versions from 4.1 on when it runs as root inside a sandbox.
    pub fn env() -> [(String, String); 2] {
        ["OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"]
            .map(|name| (name.to_owned(), "1".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mpirun_is_told_the_ranks_the_place_and_nothing_of_binding() {
        let open_mpi = OpenMpi {
            mpirun: "/usr/bin/mpirun".into(),
            major: Some(4),
            ranks: 4,
            slots: 2,
            single_copy: true,
        };
        let line = open_mpi
            .argv(&["/.hyperion".into(), "rank".into()])
            .join(" ");
        insta::assert_snapshot!(line, @"/usr/bin/mpirun --allow-run-as-root -n 4 --host localhost:2 --bind-to none --oversubscribe --mca plm isolated --mca ras ^slurm,tm,gridengine,lsf,loadleveler,alps /.hyperion rank");
    }
}
