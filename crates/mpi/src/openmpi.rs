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
    /// The names of the nodes and how many ranks each holds; empty where there is one.
    pub nodes: Vec<(String, u32)>,
    /// Messages may be copied from process to process in one step (CMA).
    pub single_copy: bool,
}

impl OpenMpi {
    /// Gives the command that starts `program` once for each rank.
    ///
    /// Ranks are bound by Hyperion, alike for every family, so `mpirun` binds
    /// nothing. It is told where it may start (here) and how many: what a
    /// batch system around it says would name other hosts. Other nodes of the job
    /// it reaches by `remote_shell`, a program and its first arguments.
    pub fn argv(&self, program: &[String], remote_shell: &str) -> Vec<String> {
        let hosts = match self.nodes.is_empty() {
            true => format!("localhost:{}", self.slots),
            false => {
                let hosts = self
                    .nodes
                    .iter()
                    .map(|(name, ranks)| format!("{name}:{ranks}"));
                hosts.collect::<Vec<_>>().join(",")
            }
        };
        let mut argv = vec![
            self.mpirun.clone(),
            "--allow-run-as-root".to_owned(),
            "-n".to_owned(),
            self.ranks.to_string(),
            "--host".to_owned(),
            hosts,
            "--bind-to".to_owned(),
            "none".to_owned(),
        ];
        if !self.nodes.is_empty() {
            argv.extend(["--map-by", "slot"].map(str::to_owned));
        }
        if self.nodes.is_empty() && self.ranks > self.slots {
            argv.push("--oversubscribe".to_owned());
        }
        let mut set = |kind: &str, name: &str, value: &str| {
            argv.extend([kind, name, value].map(str::to_owned));
        };
        if self.major >= Some(5) {
            // Its launcher is a program of its own, PRRTE, with parameters of its own.
            if !self.nodes.is_empty() {
                set("--prtemca", "plm", "ssh");
                set("--prtemca", "plm_ssh_agent", remote_shell);
                set("--prtemca", "plm_ssh_no_tree_spawn", "1");
            }
            if !self.single_copy {
                set("--mca", "smsc", "^cma");
            }
        // Where it is not known: over several nodes the words of either must be taken.
        } else if self.major == Some(4) || (self.major.is_none() && !self.nodes.is_empty()) {
            match self.nodes.is_empty() {
                // Without a remote shell in the image there is nothing else to start with.
                true => set("--mca", "plm", "isolated"),
                false => {
                    set("--mca", "plm", "rsh");
                    set("--mca", "plm_rsh_agent", remote_shell);
                    set("--mca", "plm_rsh_no_tree_spawn", "1");
                }
            }
            set("--mca", "ras", "^slurm,tm,gridengine,lsf,loadleveler,alps");
            if !self.single_copy {
                set("--mca", "btl_vader_single_copy_mechanism", "none");
            }
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
            nodes: Vec::new(),
            single_copy: true,
        };
        let program = ["/.hyperion".into(), "rank".into()];
        let line = open_mpi.argv(&program, "remote").join(" ");
        insta::assert_snapshot!(line, @"/usr/bin/mpirun --allow-run-as-root -n 4 --host localhost:2 --bind-to none --oversubscribe --mca plm isolated --mca ras ^slurm,tm,gridengine,lsf,loadleveler,alps /.hyperion rank");
    }

    #[test]
    fn several_nodes_are_named_and_reached_by_the_remote_shell() {
        let mut open_mpi = OpenMpi {
            mpirun: "/usr/bin/mpirun".into(),
            major: Some(4),
            ranks: 3,
            slots: 1,
            nodes: vec![("job-0".into(), 2), ("job-1".into(), 1)],
            single_copy: true,
        };
        let line = open_mpi
            .argv(&["rank".into()], "/x/shim --remote")
            .join(" ");
        insta::assert_snapshot!(line, @"/usr/bin/mpirun --allow-run-as-root -n 3 --host job-0:2,job-1:1 --bind-to none --map-by slot --mca plm rsh --mca plm_rsh_agent /x/shim --remote --mca plm_rsh_no_tree_spawn 1 --mca ras ^slurm,tm,gridengine,lsf,loadleveler,alps rank");
        open_mpi.major = Some(5);
        let line = open_mpi
            .argv(&["rank".into()], "/x/shim --remote")
            .join(" ");
        insta::assert_snapshot!(line, @"/usr/bin/mpirun --allow-run-as-root -n 3 --host job-0:2,job-1:1 --bind-to none --map-by slot --prtemca plm ssh --prtemca plm_ssh_agent /x/shim --remote --prtemca plm_ssh_no_tree_spawn 1 rank");
    }
}
