//! The environment by which a rank learns who it is.

use hyperion_model::Rank;
use hyperion_model::nodes::Seat;

use crate::decide::LaunchKind;

/// The variable by which Open MPI's launcher tells a process its rank.
pub const OPEN_MPI_RANK: &str = "OMPI_COMM_WORLD_RANK";

/// Where one rank stands in its job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// Its number in the job.
    pub rank: Rank,
    /// How many ranks the job has.
    pub size: u32,
    /// Its number among the ranks of this node.
    pub local_rank: u32,
    /// How many ranks this node has.
    pub local_size: u32,
}

impl Position {
    /// Makes the position of a rank from where it sits.
    pub fn at(rank: Rank, size: u32, seat: Seat) -> Self {
        Self {
            rank,
            size,
            local_rank: seat.local_rank,
            local_size: seat.local_size,
        }
    }
}

/// Gives the variables of a rank: `HYPERION_*` always, and `PMI_*` with the
/// names of MPICH's launcher where PMI-1 is served on the descriptor `pmi_fd`.
pub fn rank_env(
    kind: &LaunchKind,
    position: Position,
    pmi_fd: Option<i32>,
) -> Vec<(String, String)> {
    let pair = |name: &str, value: u32| (name.to_owned(), value.to_string());
    let mut env = vec![
        pair("HYPERION_RANK", position.rank.0),
        pair("HYPERION_SIZE", position.size),
        pair("HYPERION_LOCAL_RANK", position.local_rank),
        pair("HYPERION_LOCAL_SIZE", position.local_size),
    ];
    if let (LaunchKind::Pmi1, Some(fd)) = (kind, pmi_fd) {
        env.push(("PMI_FD".to_owned(), fd.to_string()));
        env.extend([
            pair("PMI_RANK", position.rank.0),
            pair("PMI_SIZE", position.size),
            pair("MPI_LOCALRANKID", position.local_rank),
            pair("MPI_LOCALNRANKS", position.local_size),
        ]);
    }
    env
}

/// Gives the variables by which Slurm's srun tells a process who it is.
pub fn slurm_env(position: Position) -> Vec<(String, String)> {
    let pair = |name: &str, value: u32| (name.to_owned(), value.to_string());
    vec![
        pair("SLURM_PROCID", position.rank.0),
        pair("SLURM_LOCALID", position.local_rank),
        pair("SLURM_NODEID", 0),
        pair("SLURM_NTASKS", position.size),
        pair("SLURM_NPROCS", position.size),
        pair("SLURM_STEP_NUM_TASKS", position.size),
    ]
}

/// Gives the variables by which PBS and LSF tell a process who it is.
pub fn pbs_and_lsf_env(position: Position) -> Vec<(String, String)> {
    let number = position.rank.0;
    let pair = |name: &str, value: u32| (name.to_owned(), value.to_string());
    vec![
        pair("PBS_TASKNUM", number + 1),
        pair("PBS_NODENUM", 0),
        pair("PBS_VNODENUM", number),
        pair("LSF_PM_TASKID", number + 1),
    ]
}

/// Names the variables of other launchers, which must not reach a rank that
/// Hyperion starts: with them MPI would look for a launcher that is not there.
pub fn is_foreign_launcher_variable(name: &str) -> bool {
    const PREFIXES: [&str; 9] = [
        "PMI_",
        "PMI2_",
        "PMIX_",
        "PRTE_MCA_",
        "OMPI_COMM_",
        "OMPI_MCA_ess_",
        "OMPI_MCA_orte_",
        "HYDI_",
        "MPI_LOCAL",
    ];
    PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use hyperion_model::nodes::seat;

    use super::*;

    #[test]
    fn a_pmi_rank_gets_the_variables_of_mpichs_launcher() {
        let env = rank_env(
            &LaunchKind::Pmi1,
            Position::at(Rank(1), 4, seat(&[], 4, 1)),
            Some(7),
        );
        let text: Vec<String> = env.iter().map(|(k, v)| format!("{k}={v}")).collect();
        insta::assert_snapshot!(text.join("\n"), @"
        HYPERION_RANK=1
        HYPERION_SIZE=4
        HYPERION_LOCAL_RANK=1
        HYPERION_LOCAL_SIZE=4
        PMI_FD=7
        PMI_RANK=1
        PMI_SIZE=4
        MPI_LOCALRANKID=1
        MPI_LOCALNRANKS=4
        ");
    }

    #[test]
    fn an_independent_rank_gets_no_pmi() {
        let env = rank_env(
            &LaunchKind::None,
            Position::at(Rank(0), 1, seat(&[], 1, 0)),
            Some(7),
        );
        assert!(env.iter().all(|(name, _)| name.starts_with("HYPERION_")));
    }

    #[test]
    fn the_variables_of_an_outer_launcher_are_known() {
        for name in [
            "PMI_FD",
            "PMIX_RANK",
            "OMPI_COMM_WORLD_SIZE",
            "MPI_LOCALRANKID",
        ] {
            assert!(is_foreign_launcher_variable(name), "{name}");
        }
        for name in ["PATH", "OMPI_MCA_btl", "PYTHONPATH", "UCX_TLS"] {
            assert!(!is_foreign_launcher_variable(name), "{name}");
        }
    }
}
