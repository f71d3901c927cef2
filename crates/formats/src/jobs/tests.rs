//! What takes more than a script: the command line, variables, and hostile input.

use std::time::{Duration, Instant};

use hyperion_model::Bytes;
use hyperion_model::submission::{Command, Dialect, Per, Submission, TimeLimit};
use proptest::prelude::*;

use super::*;

const ALL: [Dialect; 4] = [Dialect::Slurm, Dialect::Pbs, Dialect::Lsf, Dialect::Sge];

fn words(text: &[&str]) -> Vec<String> {
    text.iter().map(|word| (*word).to_owned()).collect()
}

fn with(dialect: Dialect, script: Option<&str>, line: &[&str]) -> Result<Parsed, Refused> {
    let words = words(line);
    let source = Source {
        script: script.map(str::as_bytes),
        words: &words,
        variables: &[],
    };
    read(dialect, &source)
}

fn job(dialect: Dialect, script: &str, line: &[&str]) -> Submission {
    with(dialect, Some(script), line).expect(script).submission
}

fn minutes(minutes: u64) -> Option<TimeLimit> {
    Some(TimeLimit::Span(Duration::from_secs(minutes * 60)))
}

#[test]
fn the_command_line_wins_over_the_script() {
    let script = "#!/bin/sh\n#SBATCH -t 5 -p short -n 2\n";
    let read = job(Dialect::Slurm, script, &["--time=9", "job.sh"]);
    assert_eq!(read.time_limit, minutes(9));
    assert_eq!(read.parts[0].queues, ["short"]);
    let script = "#PBS -l walltime=5:00,mem=1gb -q short\n";
    let read = job(Dialect::Pbs, script, &["-l", "walltime=9:00", "job.sh"]);
    assert_eq!(read.time_limit, minutes(9));
    // One resource of a list wins, and the others stay.
    assert_eq!(read.parts[0].memory[&Per::Job], Bytes(1 << 30));
    let script = "#BSUB -W 5 -o o\n#BSUB -R rusage[mem=1G]\n#BSUB -R span[hosts=1]\n";
    let read = job(Dialect::Lsf, script, &["-W", "9"]);
    assert_eq!(read.time_limit, minutes(9));
    assert_eq!(read.parts[0].memory[&Per::Node], Bytes(1 << 30));
    // All strings of the script count, and none beside the command line's.
    let read = job(Dialect::Lsf, script, &["-R", "rusage[mem=2G]"]);
    assert_eq!(read.parts[0].memory[&Per::Node], Bytes(2 << 30));
    assert_eq!(read.parts[0].nodes, None);
    let read = job(
        Dialect::Sge,
        "#$ -l h_rt=5:: -N a\n",
        &["-l", "h_rt=540", "job.sh"],
    );
    assert_eq!(read.time_limit, minutes(9));
}

#[test]
fn slurms_variables_stand_between_script_and_command_line() {
    let script = b"#!/bin/sh\n#SBATCH -t 5 -p scr -J scr\n";
    let variable = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let variables = [
        variable("SBATCH_TIMELIMIT", "7"),
        variable("SBATCH_PARTITION", "var"),
        variable("SBATCH_EXCLUSIVE", ""),
        variable("PBS_DEFAULT", "x"),
    ];
    let words = words(&["-p", "cmd", "job.sh"]);
    let source = Source {
        script: Some(script),
        words: &words,
        variables: &variables,
    };
    let read = read(Dialect::Slurm, &source).expect("a job").submission;
    assert_eq!(read.time_limit, minutes(7));
    assert_eq!(read.parts[0].queues, ["cmd"]);
    assert_eq!(read.name.as_deref(), Some("scr"));
    // Of memory, a variable gives way to an option of another name.
    let memory = [variable("SBATCH_MEM_PER_NODE", "4G")];
    let source = Source {
        script: Some(b"#!/bin/sh\n#SBATCH --mem-per-cpu=1G\n"),
        words: &[],
        variables: &memory,
    };
    let read = super::read(Dialect::Slurm, &source).expect("a job");
    let part = &read.submission.parts[0];
    assert_eq!(part.memory, [(Per::Cpu, Bytes(1 << 30))].into());
    let bad = [variable("SBATCH_TIMELIMIT", "soon")];
    let source = Source {
        script: Some(script),
        words: &[],
        variables: &bad,
    };
    let refused = super::read(Dialect::Slurm, &source).expect_err("no limit");
    let told = tell(&refused.mistakes, Kind::Error, "job.sh", script, &[]);
    assert!(
        told.starts_with("error: $SBATCH_TIMELIMIT: --time: \"soon\""),
        "{told}"
    );
}

#[test]
fn parts_of_a_heterogeneous_job_may_come_from_both() {
    let script = "#!/bin/sh\n#SBATCH -n2 -p a\n#SBATCH hetjob\n#SBATCH -n4 -p b\n";
    let tasks = |job: &Submission| -> Vec<u32> {
        job.parts.iter().map(|part| part.tasks[&Per::Job]).collect()
    };
    let read = job(Dialect::Slurm, script, &["-J", "x", "job.sh"]);
    assert_eq!(
        (tasks(&read), read.name.as_deref()),
        (vec![2, 4], Some("x"))
    );
    let read = job(
        Dialect::Slurm,
        "#!/bin/sh\n#SBATCH -n2\n",
        &["-n", "3", ":", "-n", "5", "job.sh", "arg"],
    );
    assert_eq!(tasks(&read), [3, 5]);
    let Command::Script { arguments, .. } = read.command else {
        panic!("a script");
    };
    assert_eq!(arguments, ["arg"]);
    let refused = with(
        Dialect::Slurm,
        Some("#!/bin/sh\n#SBATCH hetjob -n 5\n"),
        &[],
    );
    assert!(refused.is_err());
}

#[test]
fn the_command_line_says_where_the_script_is() {
    let file = Wanted::File("job.sh".to_owned());
    for (dialect, line, expected) in [
        (
            Dialect::Slurm,
            &["-n", "4", "job.sh", "-x"][..],
            file.clone(),
        ),
        (Dialect::Slurm, &["-n4"], Wanted::Input),
        (Dialect::Slurm, &["--wrap=hostname"], Wanted::Command),
        (
            Dialect::Slurm,
            &["-n", "3", ":", "-n", "5", "job.sh"],
            file.clone(),
        ),
        (
            Dialect::Pbs,
            &["-V", "-l", "walltime=1", "job.sh"],
            file.clone(),
        ),
        (
            Dialect::Pbs,
            &["-N", "x", "--", "/bin/true", "-l"],
            Wanted::Command,
        ),
        (Dialect::Pbs, &[], Wanted::Input),
        (Dialect::Lsf, &["-n", "4"], Wanted::Input),
        (
            Dialect::Lsf,
            &["-n", "4", "./a.out", "-n"],
            Wanted::Program("./a.out".to_owned()),
        ),
        (Dialect::Sge, &["-cwd", "job.sh", "-t"], file.clone()),
        (Dialect::Sge, &["-b", "y", "hostname"], Wanted::Command),
        (Dialect::Sge, &["-pe", "smp", "4"], Wanted::Input),
    ] {
        assert_eq!(
            wanted(dialect, &words(line)),
            expected,
            "{dialect:?} {line:?}"
        );
    }
}

#[test]
fn a_command_needs_no_script() {
    let program =
        |dialect, line: &[&str]| with(dialect, None, line).expect("a job").submission.command;
    let pbs = program(Dialect::Pbs, &["-N", "x", "--", "/bin/echo", "-n"]);
    assert_eq!(pbs, Command::Program(words(&["/bin/echo", "-n"])));
    let lsf = program(Dialect::Lsf, &["-n", "4", "mpirun", "-n", "4"]);
    assert_eq!(lsf, Command::Program(words(&["mpirun", "-n", "4"])));
    let sge = program(Dialect::Sge, &["-b", "y", "hostname", "-f"]);
    assert_eq!(sge, Command::Program(words(&["hostname", "-f"])));
    let Command::Script { text, .. } = program(Dialect::Slurm, &["--wrap", "echo a; echo b"])
    else {
        panic!("a script");
    };
    assert_eq!(text, b"#!/bin/sh\necho a; echo b\n");
    assert!(with(Dialect::Slurm, Some("#!/bin/sh\n"), &["--wrap=true"]).is_err());
}

#[test]
fn words_for_the_command_itself_are_heeded_on_its_line() {
    let reply = |dialect, script: &str, line: &[&str]| {
        with(dialect, Some(script), line).expect("a job").reply
    };
    assert!(reply(Dialect::Slurm, "#!/bin/sh\n", &["--parsable", "j"]).terse);
    assert!(reply(Dialect::Slurm, "#!/bin/sh\n", &["--test-only", "j"]).test_only);
    assert!(reply(Dialect::Sge, "", &["-terse", "j"]).terse);
    assert!(reply(Dialect::Pbs, "", &["-z", "j"]).quiet);
    assert!(reply(Dialect::Slurm, "#!/bin/sh\n", &["-Q", "j"]).quiet);
}

#[test]
fn another_beginning_of_directives_may_be_chosen() {
    let read = job(
        Dialect::Pbs,
        "#QSUB -N a\n#PBS -N b\n",
        &["-C", "#QSUB", "job.sh"],
    );
    assert_eq!(read.name.as_deref(), Some("a"));
    let read = job(Dialect::Sge, "#% -N a\n#$ -N b\n", &["-C", "#%", "job.sh"]);
    assert_eq!(read.name.as_deref(), Some("a"));
    let read = job(Dialect::Pbs, "#PBS -N b\n", &["-C", "", "job.sh"]);
    assert_eq!(read.name, None);
}

#[test]
fn a_mistake_of_the_command_line_is_shown_in_its_word() {
    let line = words(&["--nodes", "4", "--array=5-1", "job.sh"]);
    let source = Source {
        script: Some(b"#!/bin/sh\n"),
        words: &line,
        variables: &[],
    };
    let refused = read(Dialect::Slurm, &source).expect_err("a mistake");
    let told = tell(&refused.mistakes, Kind::Error, "job.sh", b"", &line);
    insta::assert_snapshot!(told, @r"
    error: command line: --array: the range 5-1 ends before it begins
        --array=5-1
                ^^^
    ");
}

#[test]
fn what_is_shown_cannot_move_the_cursor() {
    let script = "#!/bin/sh\n#SBATCH --\u{1b}[2J\u{202e}x\n";
    let refused = with(Dialect::Slurm, Some(script), &[]).expect_err("no option");
    let told = tell(
        &refused.mistakes,
        Kind::Error,
        "a\u{1b}.sh",
        script.as_bytes(),
        &[],
    );
    assert!(!told.contains(['\u{1b}', '\u{202e}']), "{told:?}");
}

#[test]
fn a_long_line_is_shown_where_it_is_wrong() {
    let script = format!(
        "#!/bin/sh\n#SBATCH --comment={} --bogus {}\n",
        "x".repeat(3000),
        "y".repeat(3000)
    );
    let refused = with(Dialect::Slurm, Some(&script), &[]).expect_err("no option");
    let told = tell(
        &refused.mistakes,
        Kind::Error,
        "job.sh",
        script.as_bytes(),
        &[],
    );
    let lines: Vec<_> = told.lines().collect();
    let at = lines[2].find('^').expect("a mark");
    assert_eq!(&lines[1][at..at + 7], "--bogus");
    assert!(lines[1].len() < 120);
}

#[test]
fn what_is_hostile_takes_no_time() {
    let many = 200_000;
    let scripts = [
        format!("#!/bin/sh\n{}", "#SBATCH --bogus\n".repeat(100_000)),
        format!(
            "#!/bin/sh\n{}",
            "#SBATCH --array=0-4000000:2,1-4000000:3\n".repeat(50_000)
        ),
        format!(
            "#!/bin/sh\n{}",
            "#SBATCH --exclude=n[1-60000]\n".repeat(50_000)
        ),
        format!("#!/bin/sh\n#SBATCH {}\n", "-".repeat(many)),
        format!("#!/bin/sh\n#SBATCH --gres={}\n", "gpu:a:1,".repeat(8_000)),
        format!(
            "#PBS -l {}\n",
            (0..8_000).map(|n| format!("r{n}=1,")).collect::<String>()
        ),
        format!("#PBS -l select={}\n", "1:a=b+".repeat(9_000)),
        format!("#PBS {}\n", "\\\n".repeat(many)),
        format!("#PBS -W {}\n", "a=,".repeat(20_000)),
        format!("#BSUB -w \"{}\"\n", "(".repeat(60_000)),
        format!("#BSUB -R \"{}\"\n", "select[a && ".repeat(5_000)),
        format!("#BSUB -m \"{}\"\n", "n[1-60000] ".repeat(5_000)),
        "#$ -l a\n".repeat(100_000),
        "#$ -q a@b,c@@d\n".repeat(50_000),
        "x\n".repeat(many),
        "\n".repeat(2 * many),
    ];
    for (at, script) in scripts.iter().enumerate() {
        let start = Instant::now();
        let _ = detect(script.as_bytes());
        for dialect in ALL {
            let source = Source {
                script: Some(script.as_bytes()),
                ..Source::default()
            };
            if let Err(refused) = read(dialect, &source) {
                let _ = tell(&refused.mistakes, Kind::Error, "x", script.as_bytes(), &[]);
            }
        }
        let taken = start.elapsed();
        assert!(
            taken < Duration::from_secs(20),
            "script {at} took {taken:?}"
        );
    }
}

proptest! {
    #[test]
    fn no_bytes_make_the_readers_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        for dialect in ALL {
            let _ = read(dialect, &Source { script: Some(&bytes), ..Source::default() });
        }
        let _ = detect(&bytes);
    }

    #[test]
    fn no_directive_makes_the_readers_panic(
        option in 0usize..100,
        value in "[-a-z0-9:=,+%@\\[\\](){}\"'\\\\ #$&|!*./]{0,30}",
        other in "\\PC{0,12}",
    ) {
        for (dialect, prefix) in [
            (Dialect::Slurm, "#SBATCH"),
            (Dialect::Pbs, "#PBS"),
            (Dialect::Lsf, "#BSUB"),
            (Dialect::Sge, "#$"),
        ] {
            let options = grammar(dialect).options;
            let option = options[option % options.len()].names[0];
            for value in [&value, &other] {
                let script = format!("#!/bin/sh\n{prefix} {option} {value}\n{prefix} {option}={value}\n");
                let line = [option.to_owned(), value.clone(), "x".to_owned()];
                let source = Source { script: Some(script.as_bytes()), words: &line, variables: &[] };
                match read(dialect, &source) {
                    Ok(parsed) => drop(paths(&parsed.submission, &Facts::default())),
                    Err(refused) => {
                        let told = tell(&refused.mistakes, Kind::Error, "x", script.as_bytes(), &line);
                        prop_assert!(told.starts_with("error: "));
                    }
                }
                let _ = wanted(dialect, &line);
            }
        }
    }
}

#[test]
fn a_program_of_lsf_is_a_script_where_it_has_directives_of_lsf() {
    assert!(is_script(b"#!/bin/sh\n#BSUB -n 4\ntrue\n"));
    assert!(!is_script(b"#!/bin/sh\n#SBATCH -n 4\ntrue\n"));
    assert!(!is_script(b"\x7fELF\n#BSUB"));
    let text = b"#!/bin/sh\n#BSUB -J name -n 4 -o out\ntrue\n";
    let words = words(&["-n", "2", "job.sh", "first"]);
    let source = Source {
        script: Some(text),
        words: &words,
        variables: &[],
    };
    let read = read(Dialect::Lsf, &source).expect("right").submission;
    assert_eq!(read.name.as_deref(), Some("name"));
    let Command::Script { arguments, .. } = &read.command else {
        panic!("{read:?}");
    };
    assert_eq!(arguments, &["first"]);
}

#[test]
fn what_is_wrapped_may_have_lines() {
    let read = with(Dialect::Slurm, None, &["--wrap=echo a\n\techo b"]);
    let Command::Script { text, .. } = &read.expect("right").submission.command else {
        panic!("a script");
    };
    assert_eq!(text, b"#!/bin/sh\necho a\n\techo b\n");
}
