//! The job scripts of other batch systems.

use hyperion_formats::jobs::{
    Facts, Kind, Origin, Source, altered, detect, hosts, paths, read, tell, update, wanted,
};
use hyperion_model::submission::{Dialect, Submission};

use super::texts;
use crate::Target;

pub(super) const JOB_SCRIPT: Target = Target {
    name: "job_script",
    about: "a job script in all four dialects, with a command line in front of the first NUL: what comes out survives a record, and what is told lies inside",
    run: |bytes| {
        let nul = bytes.iter().position(|&b| b == 0);
        let (line, script) = nul.map_or((&[][..], bytes), |at| (&bytes[..at], &bytes[at + 1..]));
        let line = String::from_utf8_lossy(line);
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        let variables = [("SBATCH_EXPORT".to_owned(), line.clone().into_owned())];
        let _ = detect(script);
        let fields: Vec<&str> = words.iter().map(String::as_str).collect();
        let _ = update(&fields);
        let ends = script.iter().filter(|&&b| b == b'\n').count() + 1;
        for dialect in [Dialect::Slurm, Dialect::Pbs, Dialect::Lsf, Dialect::Sge] {
            let _ = wanted(dialect, &words);
            let _ = altered(dialect, &words);
            let source = Source {
                script: Some(script),
                words: &words,
                variables: &variables,
            };
            let (mistakes, notes) = match read(dialect, &source) {
                Ok(parsed) => {
                    let job = parsed.submission;
                    let record = serde_json::to_string(&job).expect("a record");
                    let back: Submission = serde_json::from_str(&record).expect("the record");
                    assert_eq!(back, job);
                    assert!(!job.parts.is_empty());
                    let name = job.name.clone().unwrap_or_default();
                    let _ = paths(
                        &job,
                        &Facts {
                            name: &name,
                            ..Facts::default()
                        },
                    );
                    for part in &job.parts {
                        let short = hosts::compress(&part.without);
                        assert_eq!(hosts::expand(&short).as_ref(), Some(&part.without));
                    }
                    (Vec::new(), parsed.notes)
                }
                Err(refused) => {
                    assert!(!refused.mistakes.is_empty());
                    (refused.mistakes, refused.notes)
                }
            };
            for remark in mistakes.iter().chain(&notes) {
                let most = match &remark.span.origin {
                    Origin::Script => ends,
                    Origin::Words => words.len(),
                    Origin::Variable(_) => 1,
                };
                let at = remark.span.place.line as usize;
                assert!((1..=most).contains(&at), "{remark:?}");
            }
            let told = tell(&mistakes, Kind::Error, "job.sh", script, &words);
            let control = |c: char| c.is_control() && c != '\n';
            assert!(!told.contains(control), "{told:?}");
        }
    },
    seeds: || {
        texts(&[
            "-n 2 : -n 3 job.sh\0#!/bin/bash\n#SBATCH -J a --array=1-9%2 --gres=gpu:h100:2\n#SBATCH -t 1-12 -d afterok:1:2?after:3+4 --mem=4G\n#SBATCH hetjob\n#SBATCH -N 1-2 -x n[1-3,5] --signal=B:USR1@90 --begin=now+1hour\nsrun\n",
            "-C #X -l mem=1gb\0#PBS -l select=2:ncpus=4:mem=4gb+1:ngpus=1,walltime=1:00:00\n#PBS -W depend=afterok:1.s:2[].s,block=true \\\n -l place=pack:excl\n#PBS -v A='b,c',D\nrun\n",
            "#!/bin/sh\n#BSUB -J \"a[1-9:2]%3\" -n 2,4 -W 1:30\n#BSUB -R \"select[a] rusage[mem=4G/task] span[ptile=2]\"\n#BSUB -w 'done(1) && (ended(\"b\") || !exit(2,>=3))' -gpu \"num=1:gmodel=x\"\n#BSUB -R \"1*{rusage[mem=1]}+2*{span[hosts=1]}\"\n",
            "#$ -pe smp 4-8 -l h_rt=1::,h_vmem=1.5G -t 1-9:2 -tc 2\n#$ -hold_jid a*,12 -q x@y -v A=b -m as\n",
        ])
    },
    words: &[
        "#SBATCH ",
        "#PBS ",
        "#BSUB ",
        "#$ ",
        "hetjob",
        "--dependency=",
        "--array=",
        "--export=",
        "--mem=",
        "-l ",
        "-R ",
        "-W ",
        "-w ",
        "-pe ",
        "select=",
        "nodes=",
        "place=",
        "depend=",
        "rusage[",
        "affinity[core(2)]",
        "4000000",
        "1000000000",
        "99999999999999999999",
        "[1-65536]",
        "\\\n",
        "\r\n",
        "\u{feff}",
    ],
};
