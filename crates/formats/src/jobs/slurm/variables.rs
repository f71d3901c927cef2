//! The variables that sbatch heeds.

use crate::jobs::Origin;
use crate::jobs::draft::Draft;
use crate::jobs::options::Takes::{Attached, Nothing};
use crate::jobs::options::apply;
use crate::jobs::tell::shown;
use crate::jobs::words::Word;

use super::GRAMMAR;

/// The variables that sbatch heeds, with the option that each stands for.
const VARIABLES: &[(&str, &str)] = &[
    ("SBATCH_ACCOUNT", "--account"),
    ("SBATCH_ACCTG_FREQ", "--acctg-freq"),
    ("SBATCH_ARRAY_INX", "--array"),
    ("SBATCH_BATCH", "--batch"),
    ("SBATCH_BURST_BUFFER", "--bb"),
    ("SBATCH_CLUSTER_CONSTRAINT", "--cluster-constraint"),
    ("SBATCH_CLUSTERS", "--clusters"),
    ("SLURM_CLUSTERS", "--clusters"),
    ("SBATCH_CONSOLIDATE_SEGMENTS", "--consolidate-segments"),
    ("SBATCH_CONSTRAINT", "--constraint"),
    ("SBATCH_CONTAINER", "--container"),
    ("SBATCH_CONTAINER_ID", "--container-id"),
    ("SBATCH_CORE_SPEC", "--core-spec"),
    ("SBATCH_CPU_FREQ_REQ", "--cpu-freq"),
    ("SBATCH_CPUS_PER_GPU", "--cpus-per-gpu"),
    ("SBATCH_DELAY_BOOT", "--delay-boot"),
    ("SBATCH_DEBUG", "--verbose"),
    ("SBATCH_DISTRIBUTION", "--distribution"),
    ("SBATCH_ERROR", "--error"),
    ("SBATCH_EXCLUSIVE", "--exclusive"),
    ("SBATCH_EXPORT", "--export"),
    ("SBATCH_GET_USER_ENV", "--get-user-env"),
    ("SBATCH_GPU_BIND", "--gpu-bind"),
    ("SBATCH_GPU_FREQ", "--gpu-freq"),
    ("SBATCH_GPUS", "--gpus"),
    ("SBATCH_GPUS_PER_NODE", "--gpus-per-node"),
    ("SBATCH_GPUS_PER_SOCKET", "--gpus-per-socket"),
    ("SBATCH_GPUS_PER_TASK", "--gpus-per-task"),
    ("SBATCH_GRES", "--gres"),
    ("SBATCH_GRES_FLAGS", "--gres-flags"),
    ("SBATCH_HINT", "--hint"),
    ("SLURM_HINT", "--hint"),
    ("SBATCH_IGNORE_PBS", "--ignore-pbs"),
    ("SBATCH_INPUT", "--input"),
    ("SBATCH_JOB_NAME", "--job-name"),
    ("SBATCH_MEM_BIND", "--mem-bind"),
    ("SBATCH_MEM_PER_CPU", "--mem-per-cpu"),
    ("SBATCH_MEM_PER_GPU", "--mem-per-gpu"),
    ("SBATCH_MEM_PER_NODE", "--mem"),
    ("SBATCH_NETWORK", "--network"),
    ("SBATCH_NO_KILL", "--no-kill"),
    ("SBATCH_NO_REQUEUE", "--no-requeue"),
    ("SBATCH_OPEN_MODE", "--open-mode"),
    ("SBATCH_OUTPUT", "--output"),
    ("SBATCH_OVERCOMMIT", "--overcommit"),
    ("SBATCH_PARTITION", "--partition"),
    ("SBATCH_POWER", "--power"),
    ("SBATCH_PROFILE", "--profile"),
    ("SBATCH_QOS", "--qos"),
    ("SBATCH_REQ_SWITCH", "--switches"),
    ("SBATCH_REQUEUE", "--requeue"),
    ("SBATCH_RESERVATION", "--reservation"),
    ("SBATCH_RUNTIME", "--runtime"),
    ("SBATCH_SEGMENT_SIZE", "--segment"),
    ("SBATCH_SIGNAL", "--signal"),
    ("SBATCH_SPREAD_JOB", "--spread-job"),
    ("SBATCH_SPREAD_SEGMENTS", "--spread-segments"),
    ("SBATCH_THREAD_SPEC", "--thread-spec"),
    ("SBATCH_THREADS_PER_CORE", "--threads-per-core"),
    ("SBATCH_TIMELIMIT", "--time"),
    ("SBATCH_TRES_BIND", "--tres-bind"),
    ("SBATCH_TRES_PER_TASK", "--tres-per-task"),
    ("SBATCH_USE_MIN_NODES", "--use-min-nodes"),
    ("SBATCH_WAIT", "--wait"),
    ("SBATCH_WAIT4SWITCH", "--switches"),
    ("SBATCH_WAIT_ALL_NODES", "--wait-all-nodes"),
    ("SBATCH_WCKEY", "--wckey"),
];

/// Reads the variables that stand for options.
pub(in crate::jobs) fn variables(draft: &mut Draft, variables: &[(String, String)]) {
    let parts = draft.job.parts.len();
    for (name, value) in variables {
        let Some((_, option)) = VARIABLES.iter().find(|(known, _)| known == name) else {
            continue;
        };
        let takes = GRAMMAR
            .options
            .iter()
            .find(|o| o.names.contains(option))
            .map(|o| o.takes);
        let text = match takes {
            Some(Nothing) if !is_set(value) => {
                let span = Word::of(value, Origin::Variable(name.clone()), 1).span();
                let what = format!("{option} is not said by {}", shown(value));
                let hint = "sbatch takes nothing, yes and numbers for yes".to_owned();
                draft.told.note(span, what, Some(hint));
                continue;
            }
            Some(Nothing) => (*option).to_owned(),
            Some(Attached) if value.is_empty() => (*option).to_owned(),
            _ => format!("{option}={value}"),
        };
        let words = [Word::of(&text, Origin::Variable(name.clone()), 1)];
        for part in 0..parts {
            draft.part = part;
            let _ = apply(&GRAMMAR, draft, &words);
        }
    }
    draft.part = 0;
}

/// Tells whether a variable sets an option that takes no value.
fn is_set(value: &str) -> bool {
    let number = value.parse::<i64>();
    value.is_empty() || value.eq_ignore_ascii_case("yes") || number.is_ok_and(|n| n != 0)
}
