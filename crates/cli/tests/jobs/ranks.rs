//! Several ranks: whose output is whose, and what the death of one does.

use std::time::{Duration, Instant};

use hyperion_testkit::Done;

use crate::site::Site;

const FOUR: [&str; 5] = ["-n", "4", "--oversubscribe", "--mpi", "none"];

fn four(site: &Site, flags: &[&str], script: &str) -> Done {
    site.process(&[&FOUR[..], flags].concat(), script)
}

#[test]
fn labels_and_files_tell_the_ranks_apart() {
    let site = Site::new();
    let dir = site.path().join("out");
    let dir_text = dir.to_str().expect("text");
    let script = "echo out $HYPERION_RANK; echo err $HYPERION_RANK >&2; printf 'no end'";
    let done = four(&site, &["--label", "--output-dir", dir_text], script).expect_code(0);
    let mut lines: Vec<&str> = done.out.lines().collect();
    lines.sort_unstable();
    let expected: Vec<String> = (0..4)
        .flat_map(|r| [format!("[{r}] no end"), format!("[{r}] out {r}")])
        .collect();
    assert_eq!(lines, expected);
    for rank in 0..4 {
        let read = |kind: &str| {
            std::fs::read_to_string(dir.join(format!("rank.{rank}.{kind}"))).expect("a file")
        };
        assert_eq!(read("out"), format!("out {rank}\nno end"));
        assert_eq!(read("err"), format!("err {rank}\n"));
    }
    let job = &site.jobs()[0];
    assert_eq!(
        site.run(&["logs", "--rank", "2", job]).ok(),
        "out 2\nno end"
    );
    assert!(
        site.run(&["logs", "--label", job])
            .ok()
            .contains("[3] out 3\n")
    );
}

#[test]
fn one_rank_that_fails_ends_the_job_within_a_second_and_is_named() {
    let site = Site::new();
    let others = "trap '' TERM; while :; do sleep 0.02; done";
    let with = |last: &str| {
        let script =
            format!("if [ $HYPERION_RANK = 2 ]; then echo last words >&2; {last}; fi; {others}");
        let since = Instant::now();
        let done = four(&site, &[], &script);
        // The others ignore SIGTERM: this is the grace, and SIGKILL.
        let took = since.elapsed();
        assert!(took < Duration::from_secs(3), "{took:?}");
        let end = site.inspect(site.jobs().last().expect("a job"))["end"].take();
        let ended: jiff::Timestamp = end["finished"]
            .as_str()
            .expect("a time")
            .parse()
            .expect("one");
        let _ = ended;
        assert_eq!(end["failure"]["rank"], 2);
        assert_eq!(end["failure"]["last_lines"][0], "last words");
        done.says("its last lines:\n  last words")
    };
    with("exit 3")
        .expect_code(3)
        .says("error: rank 2 of 4 ended with exit code 3");
    with("kill -SEGV $$")
        .expect_code(139)
        .says("error: rank 2 of 4 was killed by SIGSEGV");
}

#[test]
fn the_first_failure_decides_whatever_the_others_do_then() {
    let site = Site::new();
    let script = "if [ $HYPERION_RANK = 1 ]; then exit 9; fi; trap 'exit 4' TERM; while :; do sleep 0.02; done";
    four(&site, &[], script).expect_code(9).says("rank 1 of 4");
}

#[test]
fn ranks_know_their_number_and_how_many_they_are() {
    let site = Site::new();
    let done = four(&site, &[], "echo $HYPERION_RANK/$HYPERION_SIZE").expect_code(0);
    let mut lines: Vec<&str> = done.out.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["0/4", "1/4", "2/4", "3/4"]);
}

#[test]
fn a_launcher_of_another_mpi_than_the_programs_is_warned_of() {
    hyperion_testkit::requires!(
        "command:mpiexec.mpich",
        "path:/usr/lib/python3/dist-packages/mpi4py"
    );
    let site = Site::new();
    // mpi4py of the distribution is built with Open MPI.
    let program = [
        "/usr/bin/python3",
        "-c",
        "from mpi4py import MPI; print(MPI.COMM_WORLD.size)",
    ];
    let run = |launcher: &[&str]| {
        let run = ["run", "--rm", "--isolation", "process"];
        site.run(&[&run[..], launcher, &program].concat())
    };
    let done = run(&["mpiexec.mpich", "-n", "2"]).expect_code(0);
    assert_eq!(done.out, "1\n1\n");
    let warned = "! launcher   mpiexec.mpich serves PMI-1, Open MPI asks by PMIx";
    assert!(done.err.contains(warned), "{done:?}");
    let alone = run(&[]).expect_code(0);
    assert_eq!((alone.out.as_str(), alone.err.as_str()), ("1\n", ""));
}

#[test]
fn ranks_of_the_launcher_of_open_mpi_know_the_same() {
    hyperion_testkit::requires!("command:mpirun.openmpi");
    let site = Site::new();
    let script = "echo $HYPERION_RANK/$HYPERION_SIZE, here $HYPERION_LOCAL_RANK/$HYPERION_LOCAL_SIZE, OMPI $OMPI_COMM_WORLD_RANK";
    let done = site
        .process(&["-n", "2", "--oversubscribe", "--mpi", "openmpi"], script)
        .expect_code(0);
    let mut lines: Vec<&str> = done.out.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["0/2, here 0/2, OMPI 0", "1/2, here 1/2, OMPI 1"]);

    // In a job of Slurm's words, by those too.
    let flags = ["-n", "2", "--oversubscribe", "--mpi", "openmpi"];
    let step = [&flags[..], &["-e", "SLURM_JOB_ID=7"]].concat();
    let done = site.process(
        &step,
        "echo $SLURM_PROCID/$SLURM_NTASKS, here $SLURM_LOCALID",
    );
    let mut lines: Vec<&str> = done.out.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["0/2, here 0", "1/2, here 1"], "{done:?}");
}

#[test]
fn more_ranks_than_processors_need_to_be_allowed() {
    let site = Site::new();
    let cpus = std::thread::available_parallelism().expect("known").get();
    let many = (cpus + 1).to_string();
    let run = |flags: &[&str]| {
        site.process(
            &[&["-n", &many, "--mpi", "none"][..], flags].concat(),
            "true",
        )
    };
    run(&[]).refused("the ranks do not fit this host", "--oversubscribe");
    run(&["--oversubscribe"]).ok();
}

#[test]
fn a_look_before_the_start_shows_or_stops_there() {
    let site = Site::new();
    let marker = site.path().join("ran");
    let script = format!("touch {}", marker.display());
    site.process(&["--preflight=only"], &script).expect_code(0);
    assert!(!marker.exists());
    let done = site
        .process(&["--preflight", "show"], &script)
        .expect_code(0);
    assert!(marker.exists());
    assert!(!done.err.is_empty() && done.out.is_empty(), "{done:?}");
}

#[test]
fn the_look_refuses_a_program_of_another_architecture_or_without_its_interpreter() {
    let site = Site::new();
    let mut elf = std::fs::read("/bin/true").expect("readable");
    // e_machine: 0xf7 is 64-bit BPF, which no host runs.
    elf[18..20].copy_from_slice(&0xf7_u16.to_le_bytes());
    let foreign = write_program(&site, "foreign", &elf);
    let mut elf = std::fs::read("/bin/true").expect("readable");
    let needle = b"/lib64/ld-linux-x86-64.so.2";
    if let Some(at) = elf.windows(needle.len()).position(|w| w == needle) {
        elf[at + 1..at + 4].copy_from_slice(b"lob");
    }
    let no_interpreter = write_program(&site, "no-interpreter", &elf);
    let no_line = write_program(&site, "script", b"#!/no/such/shell\n");
    let look =
        |program: &str| site.run(&["run", "--isolation", "process", "--preflight=only", program]);
    look(&foreign)
        .says("error: ")
        .says("hint: ")
        .expect_code(126);
    look("no-such-program")
        .says("error: ")
        .says("hint: ")
        .expect_code(127);
    look("/etc/passwd")
        .says("error: ")
        .says("hint: ")
        .expect_code(126);
    for program in [&no_interpreter, &no_line] {
        let done = look(program).says("error: ").says("hint: ");
        assert!([126, 127].contains(&done.code), "{done:?}");
    }
    // The same without a look: the kernel says it.
    let run = |program: &str| site.run(&["run", "--isolation", "process", program]);
    run(&foreign).expect_code(126).says("hint: ");
    run(&no_line).expect_code(127).says("interpreter");
}

fn write_program(site: &Site, name: &str, bytes: &[u8]) -> String {
    let path = site.path().join(name);
    std::fs::write(&path, bytes).expect("written");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&path, mode).expect("set");
    path.to_str().expect("text").to_owned()
}
