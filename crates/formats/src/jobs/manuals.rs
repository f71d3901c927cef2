//! What the manuals of the batch systems say, held against the readers.

use std::collections::BTreeMap;

use hyperion_model::Bytes;
use hyperion_model::submission::{Condition, Dialect, Event, Per, Sharing, Submission};

use super::options::Takes;
use super::*;

fn with(dialect: Dialect, script: &str, line: &[&str]) -> Result<Parsed, Refused> {
    let words: Vec<String> = line.iter().map(|word| (*word).to_owned()).collect();
    let source = Source {
        script: Some(script.as_bytes()),
        words: &words,
        variables: &[],
    };
    read(dialect, &source)
}

fn job(dialect: Dialect, script: &str) -> Submission {
    with(dialect, script, &[]).expect(script).submission
}

fn mistakes(dialect: Dialect, script: &str) -> Vec<String> {
    let refused = with(dialect, script, &[]).expect_err(script);
    refused
        .mistakes
        .into_iter()
        .map(|remark| remark.what)
        .collect()
}

fn notes(dialect: Dialect, script: &str) -> Vec<String> {
    let notes = with(dialect, script, &[]).expect(script).notes;
    notes.into_iter().map(|remark| remark.what).collect()
}

/// The options of sbatch, of releases 22.05 and 26.11: its manual and the table of its
/// options.
const SBATCH: [(&str, &str); 3] = [
    (
        "value",
        "--account --acctg-freq --array --autocomplete --batch --bb --bbf --begin --chdir \
         --cluster --cluster-constraint --clusters --comment --constraint --container \
         --container-id --context --core-spec --cores-per-socket --cpu-freq --cpus-per-gpu \
         --cpus-per-task --deadline --delay-boot --dependency --distribution --error --exclude \
         --export --export-file --extra --extra-node-info --gid --gpu-bind --gpu-freq --gpus \
         --gpus-per-node --gpus-per-socket --gpus-per-task --gres --gres-flags --hint --input \
         --job-name --kill-on-invalid-dep --licenses --mail-type --mail-user --mcs-label --mem \
         --mem-bind --mem-per-cpu --mem-per-gpu --mem-update --mincpus --network --nodefile \
         --nodelist --nodes --ntasks --ntasks-per-core --ntasks-per-gpu --ntasks-per-node \
         --ntasks-per-socket --ntasks-per-tres --open-mode --output --partition --power \
         --prefer --priority --profile --qos --reservation --resources --runtime --segment \
         --signal --sockets-per-node --switches --tasks-per-node --thread-spec \
         --threads-per-core --time --time-min --tmp --tres-bind --tres-per-task --uid \
         --wait-all-nodes --wckey --wrap -A -B -C -D -F -G -J -L -M -N -S -a -b -c -d -e -i -m \
         -n -o -p -q -t -w -x",
    ),
    (
        "perhaps",
        "--exclusive --get-user-env --nice --no-kill --oom-kill-step --propagate --requeue \
         --resv-ports -k",
    ),
    (
        "nothing",
        "--consolidate-segments --contiguous --external --help --hold --ignore-pbs --no-requeue \
         --overcommit --oversubscribe --parsable --quiet --reboot --spread-job \
         --spread-segments --stepmgr --test-only --usage --use-min-nodes --verbose --version \
         --wait -H -O -Q -V -W -h -s -v",
    ),
];

/// The options of qsub in the manuals of OpenPBS (2021) and Torque (6.1).
const QSUB: [(&str, &str); 2] = [
    (
        "value",
        "-a -A -b -c -C -d -D -e -F -i -j -J -k -K -l -L -m -M -N -o -p -P -q -r -R -S -t -T -u \
         -v -w -W",
    ),
    ("nothing", "-f -G -h -I -n -V -x -X -z"),
];

/// The options of bsub in its reference, 7.0 to 10.1.
const BSUB: [(&str, &str); 2] = [
    (
        "value",
        "-a -alloc_flags -app -b -C -c -clusters -cn_cu -cn_mem -core_isolation -csm -cwd -D \
         -data -datagrp -E -Ep -e -env -eo -eptl -ext -F -f -freq -G -g -gpu -hostfile -i -is -J \
         -Jd -jobaff -jsdl -jsdl_strict -json -jsm -k -L -ln_mem -ln_slots -Lp -M -m -mig -n \
         -network -nnodes -notify -o -oo -outdir -P -p -pack -ptl -Q -q -R -rcacct -rnc -S -s \
         -sla -smt -sp -stage -step_cgroup -T -t -U -u -v -W -We -w -wa -wt -yaml",
    ),
    (
        "nothing",
        "-ar -B -datachk -H -h -hl -I -Ip -Is -IS -ISp -ISs -IX -K -N -Ne -r -rn -ti -tty -ul -V \
         -x -XF -Zs",
    ),
];

/// The options of qsub in submit(1) of Grid Engine 8.1.
const SUBMIT: [(&str, &str); 2] = [
    (
        "value",
        "-@ -a -A -ac -ar -b -binding -c -C -ckpt -dc -display -dl -e -hold_jid -hold_jid_ad -i \
         -j -js -jsv -l -m -M -masterq -N -now -o -ot -p -P -pe -pty -q -r -R -S -sc -shell -sync \
         -t -tc -u -v -w -wd",
    ),
    (
        "nothing",
        "-clear -cwd -hard -help -inherit -noshell -nostdin -notify -soft -terse -V -verbose \
         -verify",
    ),
];

#[test]
fn every_option_of_the_manuals_is_known_and_takes_what_it_takes_there() {
    let all = [
        (Dialect::Slurm, &SBATCH[..]),
        (Dialect::Pbs, &QSUB),
        (Dialect::Lsf, &BSUB),
        (Dialect::Sge, &SUBMIT),
    ];
    for (dialect, rows) in all {
        let options = grammar(dialect).options.iter();
        let known: BTreeMap<&str, Takes> = options
            .flat_map(|option| option.names.iter().map(|name| (*name, option.takes)))
            .collect();
        for (takes, names) in rows {
            for name in names.split_whitespace() {
                let own = match known.get(name) {
                    Some(Takes::Nothing) => "nothing",
                    Some(Takes::Attached) => "perhaps",
                    Some(_) => "value",
                    None => "missing",
                };
                assert_eq!(own, *takes, "{dialect:?} {name}");
            }
        }
    }
}

/// sbatch's manual names them under INPUT ENVIRONMENT VARIABLES; those that tell the
/// command itself something (SLURM_CONF and the like) are not heeded here.
#[test]
fn every_variable_of_sbatchs_manual_is_heeded() {
    let names = "ACCOUNT=a ACCTG_FREQ=1 ARRAY_INX=1-2 BATCH=x CLUSTERS=c CONSTRAINT=f CONTAINER=x \
         CONTAINER_ID=x CORE_SPEC=1 CPUS_PER_GPU=1 DEBUG=1 DELAY_BOOT=1 DISTRIBUTION=block \
         ERROR=e EXCLUSIVE=user EXPORT=ALL GET_USER_ENV=1 GPU_BIND=none GPU_FREQ=low GPUS=1 \
         GPUS_PER_NODE=1 GPUS_PER_TASK=1 GRES=gpu GRES_FLAGS=x HINT=compute_bound IGNORE_PBS=1 \
         INPUT=i JOB_NAME=n MEM_BIND=local MEM_PER_CPU=1 MEM_PER_GPU=1 MEM_PER_NODE=1 NETWORK=x \
         NO_KILL=set NO_REQUEUE=1 OPEN_MODE=a OUTPUT=o OVERCOMMIT=1 PARTITION=p POWER=x \
         PROFILE=task QOS=q REQ_SWITCH=1 REQUEUE=1 RESERVATION=r RUNTIME=x SEGMENT_SIZE=2 \
         SIGNAL=INT SPREAD_JOB=1 THREAD_SPEC=1 THREADS_PER_CORE=1 TIMELIMIT=1 \
         TRES_BIND=gres/gpu:none TRES_PER_TASK=cpu=1 USE_MIN_NODES=1 WAIT=1 WAIT_ALL_NODES=1 \
         WAIT4SWITCH=1 WCKEY=k";
    let plain = job(Dialect::Slurm, "#!/bin/sh\n");
    for pair in names.split_whitespace() {
        let (name, value) = pair.split_once('=').expect("a pair");
        let variables = [(format!("SBATCH_{name}"), value.to_owned())];
        let source = Source {
            script: Some(b"#!/bin/sh\n"),
            variables: &variables,
            ..Source::default()
        };
        // It is in the request, or told, or refused.
        let heeded = match read(Dialect::Slurm, &source) {
            Ok(parsed) => parsed.submission != plain || !parsed.notes.is_empty(),
            Err(refused) => !refused.mistakes.is_empty(),
        };
        assert!(heeded || ["EXPORT"].contains(&name), "SBATCH_{name}");
    }
}

/// The code of sbatch (`slurm_process_option`): an option without a value is said by a
/// variable that is empty, `yes` or a number other than zero.
#[test]
fn a_variable_says_an_option_without_a_value_by_yes() {
    let read = |value: &str| {
        let variables = [("SBATCH_OVERCOMMIT".to_owned(), value.to_owned())];
        let source = Source {
            script: Some(b"#!/bin/sh\n"),
            variables: &variables,
            ..Source::default()
        };
        let parsed = super::read(Dialect::Slurm, &source).expect("a job");
        (parsed.submission.overcommit, parsed.notes.len())
    };
    for yes in ["", "yes", "YES", "1", "2"] {
        assert_eq!(read(yes), (true, 0), "{yes:?}");
    }
    for no in ["0", "no", "false"] {
        assert_eq!(read(no), (false, 1), "{no:?}");
    }
}

/// The code of sbatch: it hands in after the script was read, and looks at these then.
/// `--quiet` is read in its first pass, which is of the command line alone. qsub of Grid
/// Engine puts the options of script and command line together before it looks.
#[test]
fn a_script_may_ask_for_nothing_but_a_look() {
    let reply = |dialect, script: &str| with(dialect, script, &[]).expect(script).reply;
    let slurm = reply(
        Dialect::Slurm,
        "#!/bin/sh\n#SBATCH --test-only --parsable --quiet\n",
    );
    assert!(slurm.test_only && slurm.terse && !slurm.quiet);
    assert!(reply(Dialect::Sge, "#$ -verify\n").test_only);
    assert!(reply(Dialect::Sge, "#$ -w v\n").test_only);
    assert!(!reply(Dialect::Sge, "#$ -w e\n").test_only);
}

/// burst_buffer.conf(5) and the code of its plugins: `#DW`, `#BB` and `#BB_LUA` at the
/// head of a script, up to its first command.
#[test]
fn lines_for_burst_buffers_are_no_comments() {
    for line in [
        "#DW jobdw capacity=1TB",
        "#BB create_persistent name=a",
        "#BB_LUA pool=a",
    ] {
        let script = format!("#!/bin/sh\n#SBATCH -n1\n{line}\n");
        assert_eq!(mistakes(Dialect::Slurm, &script).len(), 1, "{line}");
        assert_eq!(
            mistakes(Dialect::Pbs, &format!("#!/bin/sh\n{line}\n")).len(),
            1
        );
        let behind = format!("#!/bin/sh\n#SBATCH -n1\ntrue\n{line}\n");
        assert!(notes(Dialect::Slurm, &behind).is_empty(), "{line}");
    }
    let comments = "#!/bin/sh\n#DWARF is a format\n#BBQ\n#DW\n#BB\n";
    assert!(notes(Dialect::Slurm, comments).is_empty());
}

/// slurmctld: "Job's required and excluded node lists overlap".
#[test]
fn a_host_is_not_asked_for_and_excluded() {
    let script = "#!/bin/sh\n#SBATCH -w n[1-3]\n#SBATCH -x n3\n";
    let told = mistakes(Dialect::Slurm, script);
    assert_eq!(told, ["--nodelist: the host \"n3\" is excluded, too"]);
    let parts = "#!/bin/sh\n#SBATCH -w n1\n#SBATCH hetjob\n#SBATCH -x n1\n";
    assert_eq!(job(Dialect::Slurm, parts).parts.len(), 2);
}

/// The code of sbatch, `_opt_batch_script` and `get_argument`.
#[test]
fn lines_of_slurm_are_read_as_sbatch_reads_them() {
    let script = "#!/usr/bin/python3\n#SBATCH\n#SBATCH \t \n#SBATCH\t--time=7\t# of minutes\n\
        #SBATCH --job-name=\"a b\"'c'#d -n 9\n \t\n# a word\n#SBATCH -N2# nodes\n#SBATCH -p q \\\n\
        import os\n#SBATCH -n 3\n";
    let parsed = with(Dialect::Slurm, script, &[]).expect("a job");
    let read = parsed.submission;
    assert_eq!(read.name.as_deref(), Some("a bc"));
    assert_eq!(read.parts[0].nodes.map(|nodes| nodes.least), Some(2));
    assert!(read.parts[0].tasks.is_empty());
    assert_eq!(parsed.notes.len(), 1, "{:?}", parsed.notes);
    // "Batch script contains DOS line breaks"
    assert_eq!(
        mistakes(Dialect::Slurm, "#!/bin/sh\r\n#SBATCH -n 1\r\n").len(),
        1
    );
    assert!(!mistakes(Dialect::Slurm, "#!/bin/sh\n#SBATCH --nod=2\n").is_empty());
    let short = job(
        Dialect::Slurm,
        "#!/bin/sh\n#SBATCH --job-n=x --part p --ntasks-per-no 2\n",
    );
    assert_eq!(short.name.as_deref(), Some("x"));
    // getopt(3): what stands behind a letter that may have a value is its value.
    let survives =
        |word: &str| job(Dialect::Slurm, &format!("#!/bin/sh\n#SBATCH {word}\n")).survives_nodes;
    assert!(survives("-k") && !survives("-koff") && survives("--no-kill=set"));
    assert_eq!(short.parts[0].tasks, [(Per::Node, 2)].into());
}

/// sbatch(1): "The job will contain all of these hosts"; the code of sbatch, `_opt_verify`.
#[test]
fn hosts_and_tasks_say_how_many_nodes_there_are() {
    let nodes = |options: &str| {
        let script = format!("#!/bin/sh\n#SBATCH {options}\n");
        let nodes = job(Dialect::Slurm, &script).parts[0].nodes;
        nodes.map(|nodes| (nodes.least, nodes.most))
    };
    assert_eq!(nodes("-w n[1-4]"), Some((4, 4)));
    assert_eq!(nodes("-w n[1-4] -n 9"), Some((4, 4)));
    assert_eq!(nodes("-w n[1-4] -n 2"), Some((2, 2)));
    assert_eq!(nodes("-N 2-6 -w n[1-4]"), Some((4, 4)));
    assert_eq!(nodes("-N 8 -n 4"), Some((4, 4)));
    assert_eq!(nodes("-N 2-8 -n 4"), Some((2, 4)));
    assert_eq!(nodes("-N 8 -n 16"), Some((8, 8)));
    for wrong in ["-w n[1-4] -N 2", "-w n1 -N 2"] {
        let script = format!("#!/bin/sh\n#SBATCH {wrong}\n");
        assert_eq!(mistakes(Dialect::Slurm, &script).len(), 1, "{wrong}");
    }
    assert_eq!(
        notes(Dialect::Slurm, "#!/bin/sh\n#SBATCH -N8 -n4\n").len(),
        1
    );
}

/// The code of sbatch, `validate_options_salloc_sbatch_srun`, and slurmctld's `_valid_job_part`.
#[test]
fn options_that_exclude_each_other_are_a_mistake() {
    for options in [
        "--exclusive -s",
        "-S1 --thread-spec=1",
        "--cpus-per-gpu=2 -c 4",
        "--ntasks-per-gpu=2 --ntasks-per-node=4",
        "--ntasks-per-gpu=2 --gpus-per-task=1",
        "--mem=1G --mem-per-cpu=1G",
        "-t 10 --time-min=20",
    ] {
        let script = format!("#!/bin/sh\n#SBATCH {options}\n");
        assert_eq!(mistakes(Dialect::Slurm, &script).len(), 1, "{options}");
    }
    let parts = "#!/bin/sh\n#SBATCH --exclusive\n#SBATCH hetjob\n#SBATCH -s\n";
    assert_eq!(job(Dialect::Slurm, parts).parts.len(), 2);
}

/// sbatch(1): variables that are set already "will take precedence over any environment
/// variables in the user's login environment".
#[test]
fn variables_of_a_login_take_nothing_away() {
    let script = "#!/bin/sh\n#SBATCH --get-user-env\n#SBATCH --export=ALL,A=1\n";
    assert!(job(Dialect::Slurm, script).environment.all);
    let script = "#!/bin/sh\n#SBATCH --export=ALL,A=1\n#SBATCH --get-user-env=10L\n";
    let environment = job(Dialect::Slurm, script).environment;
    assert!(environment.all && environment.set.contains_key("A"));
}

/// sbatch(1): "Explicitly setting a job's specialized core value implicitly sets the
/// --exclusive option."
#[test]
fn who_sets_cores_aside_is_alone() {
    for option in ["-S2", "--core-spec=2", "--thread-spec=4"] {
        let script = format!("#!/bin/sh\n#SBATCH {option}\n");
        assert_eq!(
            job(Dialect::Slurm, &script).parts[0].sharing,
            Sharing::Nobody
        );
    }
}

/// queue_conf(5): the limits are soft and hard ones of one kind.
#[test]
fn a_soft_limit_of_memory_leaves_the_hard_one() {
    for list in ["h_vmem=8G,s_vmem=6G", "s_vmem=6G,h_vmem=8G"] {
        let job = job(Dialect::Sge, &format!("#$ -l {list}\n"));
        let limits: Vec<_> = job
            .rlimits
            .iter()
            .map(|l| (&*l.name, l.soft, l.hard))
            .collect();
        assert_eq!(limits, [("as", Some(6 << 30), Some(8 << 30))], "{list}");
        assert_eq!(job.parts[0].memory[&Per::Task], Bytes(8 << 30));
    }
    let job = job(
        Dialect::Sge,
        "#$ -l s_vmem=6G,h_stack=1G,h_stack=infinity\n",
    );
    assert_eq!(job.rlimits.len(), 1);
    assert_eq!(
        (job.rlimits[0].soft, job.rlimits[0].hard),
        (Some(6 << 30), None)
    );
}

/// submit(1): "all -q and -l resource requirements following" are meant by -soft and -hard.
#[test]
fn a_queue_that_is_liked_is_not_needed() {
    let part = &job(Dialect::Sge, "#$ -soft -q fast.q@n1 -hard -q all.q\n").parts[0];
    assert_eq!(
        (&part.queues[..], part.hosts.len()),
        (&["all.q".to_owned()][..], 0)
    );
}

/// sge_types(5): `expression`, with `!`, `&`, `|` and brackets.
#[test]
fn hosts_of_grid_engine_are_expressions() {
    let read = |text: &str| {
        let part = job(Dialect::Sge, &format!("#$ {text}\n")).parts[0].clone();
        (part.hosts.join(" "), part.without.join(" "))
    };
    for (text, any, none) in [
        ("-l h=a", "a", ""),
        ("-l h=a|b", "a b", ""),
        ("-l h=(a|b)&!c", "a b", "c"),
        ("-l h=!c&!d", "", "c d"),
        ("-l hostname=!(c|d.example.org)", "", "c d.example.org"),
        ("-q q1@a,q2@b", "a b", ""),
        ("-q q1@!a,q2@*", "", "a"),
        ("-l h=n*&!n1*", "n*", "n1*"),
        ("-l h=n?", "n?", ""),
    ] {
        assert_eq!(read(text), (any.to_owned(), none.to_owned()), "{text}");
    }
    for text in [
        "-l h=n[1-2]",
        "-l h=",
        "-l h=!(|a)",
        "-l h=a&",
        "-l h=a|b&!c",
        "-l h=!a|!b",
        "-l h=a&b",
        "-q !long.q",
        "-q q@n[1-2]",
    ] {
        assert_eq!(
            mistakes(Dialect::Sge, &format!("#$ {text}\n")).len(),
            1,
            "{text}"
        );
    }
}

/// sbatch of 22.05: `"1,5,9" is not a valid node count`. Later ones take such lists.
#[test]
fn a_list_of_sizes_is_no_count_of_nodes() {
    for count in ["1,5,9", "1-9:2", "2,4"] {
        let said = mistakes(
            Dialect::Slurm,
            &format!("#!/bin/sh\n#SBATCH --nodes={count}\n"),
        );
        assert_eq!(said.len(), 1, "{count} {said:?}");
    }
}

/// complex(5): of what is a string a pattern, or an expression of such, says what is wanted.
#[test]
fn strings_of_grid_engine_are_asked_for_by_patterns() {
    for (text, features) in [
        ("-l arch=lx*", "arch=lx*"),
        ("-l arch=lx-amd64|lx26-*", "(arch=lx-amd64|arch=lx26-*)"),
        (
            "-l a=!sol*,arch='(lx*|li*)&!*-x86'",
            "(!a=sol*)&((arch=lx*|arch=li*)&!arch=*-x86)",
        ),
    ] {
        let part = job(Dialect::Sge, &format!("#$ {text}\n")).parts[0].clone();
        assert_eq!(part.features.as_deref(), Some(features), "{text}");
    }
}

/// Of the ways to place chunks there is one of each kind, and none without chunks: OpenPBS's
/// pbs_error.h, `PBSE_PLACENOSELECT`.
#[test]
fn place_of_pbs_stands_beside_select() {
    let read = |place: &str| format!("#PBS -l place={place}\n#PBS -l select=2:ncpus=2\n");
    for place in [
        "pack",
        "scatter:excl",
        "excl",
        "shared:vscatter",
        "free:group=rack",
    ] {
        job(Dialect::Pbs, &read(place));
    }
    for place in ["pack:scatter", "excl:shared", "spread", ""] {
        let said = mistakes(Dialect::Pbs, &read(place));
        assert_eq!(said.len(), 1, "{place} {said:?}");
    }
    let alone = mistakes(Dialect::Pbs, "#PBS -l place=excl -l walltime=1:00\n");
    assert_eq!(alone.len(), 1, "{alone:?}");
    assert!(alone[0].contains("without select"), "{alone:?}");
}

/// complex(5), and the complexes that Grid Engine comes with: `num_proc` (`p`) is what a
/// host has, and slots are asked for by `-pe` alone.
#[test]
fn what_hosts_tell_of_themselves_is_no_device() {
    let part = job(
        Dialect::Sge,
        "#$ -l num_proc=8,np_load_avg=1.5,s_rss=1G,mt=4G\n",
    )
    .parts[0]
        .clone();
    assert_eq!(part.cpus, [(Per::Node, 8)].into());
    assert!(part.resources.is_empty() && part.features.is_none());
    assert_eq!(mistakes(Dialect::Sge, "#$ -l slots=4\n").len(), 1);
}

/// The reference of bsub -w: `*` is a dependency of one element on one, of arrays.
#[test]
fn the_star_of_lsf_is_of_one_task_on_one() {
    let event = |script: &str| match job(Dialect::Lsf, script).after {
        Some(Condition::Job(_, event)) => event,
        other => panic!("{other:?}"),
    };
    let array = "#BSUB -w done(first[*])\n#BSUB -J second[1-5]\n#BSUB -o o\n";
    assert_eq!(event(array), Event::SameSucceeded);
    let quoted = "#BSUB -w 'ended(\"first[*]\")' -J second[1-5] -o o\n";
    assert_eq!(event(quoted), Event::SameEnded);
    // A job without tasks waits for all of them.
    assert_eq!(
        event("#BSUB -w done(first[*])\n#BSUB -o o\n"),
        Event::Succeeded
    );
}

/// The reference of -R: units since 10.1.0.2; what is broken is not cut.
#[test]
fn memory_of_lsf_may_be_broken() {
    let memory = |text: &str| {
        job(Dialect::Lsf, &format!("#BSUB -o o -R \"{text}\"\n")).parts[0].memory[&Per::Node]
    };
    assert_eq!(memory("rusage[mem=1.5]"), Bytes(3 << 19));
    assert_eq!(memory("rusage[mem=1.5G]"), Bytes(3 << 29));
    assert_eq!(memory("rusage[mem=0.25GB/host]"), Bytes(1 << 28));
    assert_eq!(memory("rusage[mem=2.]"), Bytes(2 << 20));
    assert_eq!(memory("rusage [mem=7]"), Bytes(7 << 20));
    let part = &job(
        Dialect::Lsf,
        "#BSUB -o o -R \"type==any span [hosts=1] rusage [mem=7]\"\n",
    )
    .parts[0];
    assert_eq!(
        (part.memory[&Per::Node], &part.features),
        (Bytes(7 << 20), &None)
    );
    for bad in [
        "rusage[mem=.]",
        "rusage[mem=1.5.2]",
        "rusage[mem=1.5X]",
        "rusage[mem=x.5]",
    ] {
        assert_eq!(
            mistakes(Dialect::Lsf, &format!("#BSUB -R \"{bad}\"\n")).len(),
            1,
            "{bad}"
        );
    }
}

/// The manual of Torque's qsub, and pbs_resources(7B) of both.
#[test]
fn words_of_torque_and_of_older_pbs_are_read() {
    let folder = |text: &str| job(Dialect::Pbs, &format!("#PBS {text}\n")).folder;
    let here = hyperion_model::submission::Folder::Path("/data".to_owned());
    assert_eq!(folder("-d /data"), here);
    assert_eq!(folder("-w /data"), here);
    assert_eq!(
        folder("-l wd"),
        hyperion_model::submission::Folder::Submission
    );
    let part = job(
        Dialect::Pbs,
        "#PBS -l mppwidth=48,mppnppn=24,mppdepth=2,mppmem=1gb\n",
    )
    .parts[0]
        .clone();
    assert_eq!(part.tasks, [(Per::Job, 48), (Per::Node, 24)].into());
    assert_eq!(part.cpus, [(Per::Task, 2)].into());
    assert_eq!(part.memory[&Per::Task], Bytes(1 << 30));
    // A limit of tasks that are queued at once, and no file.
    let array = job(Dialect::Pbs, "#PBS -t 0-99 -i 10\n");
    assert_eq!(array.files.input, None);
    for text in [
        "-l prologue=/a.sh",
        "-l epilogue=/a.sh",
        "-L tasks=2:lprocs=4",
        "-l trl=2+4",
    ] {
        assert_eq!(
            mistakes(Dialect::Pbs, &format!("#PBS {text}\n")).len(),
            1,
            "{text}"
        );
    }
    for text in [
        "-l cpuclock=2200",
        "-l var=a:b",
        "-l soft_walltime=1:00:00",
        "-W create_resv_from_job=1",
    ] {
        assert_eq!(
            notes(Dialect::Pbs, &format!("#PBS {text}\n")).len(),
            1,
            "{text}"
        );
    }
}

/// submit(1): where "the submitted job" is no array, "the request list will be rejected".
#[test]
fn tasks_wait_for_tasks_and_jobs_for_jobs() {
    assert_eq!(mistakes(Dialect::Sge, "#$ -hold_jid_ad first\n").len(), 1);
    assert!(
        job(Dialect::Sge, "#$ -hold_jid_ad first -t 1-3\n")
            .after
            .is_some()
    );
}
