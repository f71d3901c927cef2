//! Each listing beside what the system itself printed, or its manual shows.

use std::time::Duration;

use hyperion_model::errand::Cost;
use hyperion_model::report::Exit;
use hyperion_model::submission::{Condition, Dialect, Event, JobRef, JobWord};
use hyperion_model::task::{End, State};
use hyperion_model::view::{JobView, NodeView, PartitionView, ReservationView, Terms, Waits};
use hyperion_model::{Bytes, Cores, Level};

use super::words::{Style, Words, Wrong};
use super::{Civil, Site, lsf, one_by_one, pbs, sge, slurm, words};

fn local(at: u64) -> Civil {
    let seconds = (at / 1_000_000) as u32;
    Civil {
        year: 2026,
        month: 11,
        day: 21,
        hour: 23,
        minute: (40 + seconds / 60) as u8,
        second: (seconds % 60) as u8,
        weekday: 6,
    }
}

const SITE: Site<'static> = Site {
    host: "vm",
    now: 100_000_000,
    local: &local,
    user: &|uid| {
        if uid == 0 {
            "root".into()
        } else {
            uid.to_string()
        }
    },
};

fn job(number: u64) -> JobView {
    JobView {
        job: number,
        index: None,
        name: "j.sh".into(),
        user: "root".into(),
        uid: 0,
        dialect: Dialect::Slurm,
        account: None,
        queue: "main".into(),
        level: Level::Process,
        state: State::Pending,
        reason: Some(Waits::Resources(0)),
        submitted: 37_000_000,
        started: None,
        ended: None,
        still: Default::default(),
        limit: None,
        starts: 0,
        tasks: 1,
        nodes: 1,
        hosts: Vec::new(),
        cores: Cores(1000),
        memory: Bytes(0),
        cpus: None,
        asks: Default::default(),
        devices: Default::default(),
        end: None,
        why: None,
        cost: None,
        script: true,
        qos: None,
        files: (None, None),
        steps: Vec::new(),
        command: None,
        folder: "/tmp/w".into(),
        comment: None,
        id: None,
        terms: Default::default(),
    }
}

#[test]
fn the_script_of_a_job_is_told_with_what_it_is_given() {
    let script = JobView {
        command: Some("/tmp/w/j.sh a b".into()),
        comment: Some("hey".into()),
        ..job(7)
    };
    let words = Words::default();
    let list = slurm::Squeue::read(&words, Some("%i %o")).expect("a list");
    let told = list.write(vec![script.clone(), job(8)], &SITE);
    assert_eq!(told, "JOBID COMMAND\n7 /tmp/w/j.sh a b\n8 (null)\n");
    let shown = slurm::job(&script, &SITE);
    let lines = "   Command=/tmp/w/j.sh a b\n   WorkDir=/tmp/w\n   Comment=hey \n   StdErr=";
    assert!(shown.contains(lines), "{shown}");
}

fn running(number: u64) -> JobView {
    JobView {
        state: State::Running,
        reason: None,
        started: Some(39_000_000),
        hosts: vec!["n1".into()],
        starts: 1,
        ..job(number)
    }
}

fn failed(number: u64) -> JobView {
    JobView {
        state: State::Failed,
        ended: Some(42_000_000),
        hosts: Vec::new(),
        end: Some(End::Exit(Exit::Code(3))),
        cost: Some(Cost {
            wall: Duration::from_secs(3),
            cpu_user: Some(Duration::from_millis(1250)),
            cpu_system: Some(Duration::from_millis(250)),
            memory_peak: Some(Bytes(5 << 20)),
            ..Cost::default()
        }),
        ..running(number)
    }
}

fn waiting_array(number: u64) -> JobView {
    JobView {
        index: Some("15,20%2".into()),
        name: "nm".into(),
        reason: Some(Waits::AtOnce),
        ..job(number)
    }
}

fn read(options: &[words::Opt], style: Style, line: &[&str]) -> Words {
    let line: Vec<String> = line.iter().map(|word| (*word).to_owned()).collect();
    words::read(options, style, &line).expect("words")
}

fn squeue(line: &[&str], jobs: Vec<JobView>) -> String {
    let words = read(slurm::SQUEUE, Style::Long, line);
    let list = slurm::Squeue::read(&words, None).expect("a format");
    list.write(jobs, &SITE)
}

#[test]
fn squeue_prints_the_table_that_slurm_prints() {
    let running = JobView {
        name: "nm".into(),
        index: Some("5".into()),
        ..running(9)
    };
    let held = JobView {
        state: State::Held,
        reason: Some(Waits::HeldByUser),
        name: "wrap".into(),
        ..job(3)
    };
    let out = squeue(&[], vec![running, held, waiting_array(8)]);
    assert_eq!(
        out,
        "             JOBID PARTITION     NAME     USER ST       TIME  NODES NODELIST(REASON)\n\
         \x20                3      main     wrap     root PD       0:00      1 (JobHeldUser)\n\
         \x20      8_[15,20%2]      main       nm     root PD       0:00      1 (JobArrayTaskLimit)\n\
         \x20              9_5      main       nm     root  R       1:01      1 n1\n"
    );
}

#[test]
fn squeue_writes_every_column_as_slurm_does() {
    let limited = JobView {
        limit: Some(Duration::from_secs(300)),
        comment: Some("hey".into()),
        ..job(2)
    };
    let format = "%A|%.5a|%C|%D|%e|%E|%F|%K|%l|%L|%m|%M|%N|%P|%q|%r|%R|%S|%t|%u|%U|%V|%y|%z|%k|%b|%c|%f|%h|%H|%O|%s|%v|%w|%W|%x|%X|%Y|%B|%n|%d|%I|%J";
    let out = squeue(&["-h", "-o", format], vec![limited]);
    assert_eq!(
        out,
        "2|(null|1|1|N/A|(null)|2|N/A|5:00|5:00|0|0:00||main|(null)|Resources|(Resources)|N/A|PD|root|0|2026-11-21T23:40:37|0|*:*:*|hey|N/A|1|(null)|OK|*|0||(null)|(null)|(null)||N/A|(null)|n/a||0|*|*\n"
    );
    let named = squeue(
        &["-O", "jobid,statecompact,timeused:20,username"],
        vec![job(7)],
    );
    assert_eq!(
        named,
        "JOBID               ST                  TIME                USER                \n\
         7                   PD                  0:00                root                \n"
    );
    let odd = squeue(
        &["-o%.3i|%5j|%.10M|x%y %j %q7"],
        vec![JobView {
            name: "wrap".into(),
            ..job(7)
        }],
    );
    assert_eq!(
        odd,
        "JOB|NAME |      TIME|xNICE NAME QOS7\n  7|wrap |      0:00|x0 wrap (null)7\n"
    );
    let words = read(slurm::SQUEUE, Style::Long, &["-o", "%-5i"]);
    let wrong = slurm::Squeue::read(&words, None).expect_err("no such column");
    assert_eq!(wrong, "Invalid job format specification: -");
}

#[test]
fn tasks_of_an_array_that_wait_are_listed_one_by_one_when_asked() {
    let out = squeue(
        &["-h", "-o", "%i %F %K"],
        one_by_one(vec![waiting_array(8)]),
    );
    assert_eq!(out, "8_[15] 8 15\n8_[20] 8 20\n");
}

#[test]
fn sacct_prints_fields_and_steps() {
    let list = |line: &[&str], jobs: &[JobView]| {
        let words = read(slurm::SACCT, Style::Long, line);
        let list = slurm::Sacct::read(&words, None).expect("fields");
        list.write(jobs, &SITE)
    };
    assert_eq!(
        list(
            &[
                "-P",
                "-n",
                "-o",
                "JobID,State,ExitCode,Elapsed,MaxRSS,TotalCPU"
            ],
            &[failed(12)]
        ),
        "12|FAILED|3:0|00:00:03||00:01.500\n12.batch|FAILED|3:0|00:00:03|5120K|00:01.500\n"
    );
    let cancelled = JobView {
        state: State::Cancelled,
        uid: 1000,
        reason: None,
        ..job(3)
    };
    assert_eq!(
        list(
            &["-X", "-n", "-P", "-ostate"],
            std::slice::from_ref(&cancelled)
        ),
        "CANCELLED by 1000\n"
    );
    assert_eq!(
        list(&["-X"], &[failed(1), cancelled]),
        "JobID           JobName  Partition    Account  AllocCPUS      State ExitCode \n\
         ------------ ---------- ---------- ---------- ---------- ---------- -------- \n\
         1                  j.sh       main                     1     FAILED      3:0 \n\
         3                  j.sh       main                     0 CANCELLED+      0:0 \n"
    );
    let words = read(slurm::SACCT, Style::Long, &["-o", "nothing"]);
    let wrong = slurm::Sacct::read(&words, None).expect_err("no such field");
    assert_eq!(wrong, "Invalid field requested: \"nothing\"");
}

/// As Slurm 22.05 with `priority/multifactor` told it of such jobs.
#[test]
fn what_decides_when_a_job_starts_is_told() {
    let on = |number, event| {
        Condition::Job(
            JobRef {
                job: JobWord::Number(number),
                tasks: None,
            },
            event,
        )
    };
    let asked = JobView {
        reason: Some(Waits::Depends),
        terms: Terms {
            priority: Some(181),
            nice: 100,
            requeue: Some(false),
            after: Some(on(1, Event::Succeeded)),
            least_time: Some(Duration::from_secs(1800)),
            features: Some("fast".into()),
            licences: [("matlab".to_owned(), 2)].into(),
            with: vec!["n1".into()],
            without: vec!["n2".into(), "n3".into()],
            ..Terms::default()
        },
        ..job(2)
    };
    let list = |line: &[&str], job: &JobView| squeue(line, vec![job.clone()]);
    assert_eq!(
        list(&["-h", "-o", "%i|%Q|%p|%y|%E|%f|%W|%n|%x|%v|%S"], &asked),
        "2|181|0.00000004214235|100|afterok:1(unfulfilled)|fast|matlab:2|n1|n[2-3]|(null)|N/A\n"
    );
    assert_eq!(
        list(&["-h", "-O", "requeue:4,nice:4"], &asked),
        "0   100 \n"
    );
    let told = slurm::job(&asked, &SITE);
    for part in [
        "Priority=181 Nice=100 ",
        "Reason=Dependency Dependency=afterok:1(unfulfilled)\n",
        "Requeue=0 Restarts=0 BatchFlag=1 ",
        "TimeMin=00:30:00\n",
        "EligibleTime=Unknown\n   AccrueTime=Unknown\n",
        "ReqNodeList=n1 ExcNodeList=n[2-3]\n",
        "Features=fast ",
        "Licenses=matlab:2 ",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
    let either = vec![
        on(1, Event::Failed),
        on(1, Event::Started(Duration::from_secs(300))),
    ];
    let either = JobView {
        reason: Some(Waits::Depends),
        terms: Terms {
            after: Some(Condition::Any(either)),
            ..Terms::default()
        },
        ..job(4)
    };
    let told = "afternotok:1(unfulfilled)?after:1+5(unfulfilled)\n";
    assert_eq!(list(&["-h", "-o", "%E"], &either), told);
    let later = JobView {
        reason: Some(Waits::Begins(99_000_000)),
        terms: Terms {
            begin: Some(99_000_000),
            ..Terms::default()
        },
        ..job(3)
    };
    let told = slurm::job(&later, &SITE);
    let begin = local(99_000_000).iso();
    for part in [
        format!("EligibleTime={begin}\n   AccrueTime=Unknown\n   StartTime={begin} "),
        "Dependency=(null)\n".to_owned(),
    ] {
        assert!(told.contains(&part), "{part}: {told}");
    }
}

fn nodes() -> Vec<NodeView> {
    let node = |name: &str, used| NodeView {
        name: name.into(),
        cores: Cores(8000),
        cores_used: Cores(used),
        memory: Bytes(8000 << 20),
        memory_used: Bytes(0),
        devices: Default::default(),
        features: Default::default(),
        tasks: u32::from(used > 0),
        closed: None,
        closed_by: None,
        closed_at: None,
    };
    vec![node("n1", 0), node("n2", 0)]
}

fn partitions() -> Vec<PartitionView> {
    vec![PartitionView::named(PartitionView::ONLY, &nodes())]
}

#[test]
fn partitions_of_a_site_are_listed_with_their_limits_and_states() {
    let debug = PartitionView {
        name: "debug".into(),
        nodes: vec!["n1".into()],
        limit: Some(Duration::from_secs(600)),
        usual_limit: Some(Duration::from_secs(60)),
        most_nodes: Some(1),
        starts: false,
        priority: 10,
        ..partitions()[0].clone()
    };
    let debug = PartitionView {
        default: false,
        ..debug
    };
    let both = [partitions(), vec![debug.clone()]].concat();
    let list = |line: &[&str]| {
        let words = read(slurm::SINFO, Style::Long, line);
        slurm::Sinfo::read(&words, None)
            .expect("a format")
            .write(&nodes(), &both, &SITE)
    };
    assert_eq!(
        list(&[]),
        "PARTITION AVAIL  TIMELIMIT  NODES  STATE NODELIST\n\
         main*        up   infinite      2   idle n[1-2]\n\
         debug      down      10:00      1   idle n1\n"
    );
    assert_eq!(list(&["-h", "-o", "%n %t"]), "n1 idle\nn2 idle\n");
    let told = slurm::partition(&debug, &nodes());
    for part in [
        "PartitionName=debug\n",
        " Default=NO ",
        "DefaultTime=00:01:00 ",
        "MaxNodes=1 MaxTime=00:10:00 ",
        "Nodes=n1\n",
        "PriorityJobFactor=10 ",
        "State=DOWN TotalCPUs=8 TotalNodes=1 ",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
    let kept = ReservationView {
        name: "maint".into(),
        from: 90_000_000,
        until: 3_690_000_000,
        nodes: vec!["n1".into()],
        cores: Cores(8000),
        users: vec!["root".into()],
        accounts: Vec::new(),
        made: 0,
        gone: None,
    };
    let from = local(90_000_000).iso();
    let told = slurm::reservation(&kept, &SITE);
    for part in [
        format!("ReservationName=maint StartTime={from} EndTime="),
        " Duration=01:00:00\n   Nodes=n1 NodeCnt=1 CoreCnt=8 Features=(null) ".into(),
        " Flags=SPEC_NODES\n   TRES=cpu=8\n   Users=root Groups=(null) Accounts=(null) ".into(),
        " State=ACTIVE BurstBuffer=(null) Watts=n/a\n   MaxStartDelay=(null)\n".into(),
    ] {
        assert!(told.contains(&part), "{part}: {told}");
    }
    let told = slurm::node(&nodes()[0], &both, &SITE);
    assert!(told.contains("Partitions=main,debug \n"), "{told}");
    let closed = NodeView {
        closed: Some("drained: new disk".into()),
        closed_by: Some(0),
        closed_at: Some(90_000_000),
        ..nodes()[0].clone()
    };
    let told = slurm::node(&closed, &both, &SITE);
    let reason = format!("   Reason=new disk [root@{from}]\n");
    assert!(told.contains(&reason), "{told}");
    let words = read(
        slurm::SINFO,
        Style::Long,
        &["-R", "-h", "-o", "%E|%u|%U|%H|%N"],
    );
    let list = slurm::Sinfo::read(&words, None).expect("a format");
    let told = list.write(&[closed], &partitions(), &SITE);
    assert_eq!(told, format!("new disk|root|root(0)|{from}|n1\n"));
}

#[test]
fn sinfo_prints_what_slurm_prints() {
    let list = |line: &[&str]| {
        let words = read(slurm::SINFO, Style::Long, line);
        slurm::Sinfo::read(&words, None)
            .expect("a format")
            .write(&nodes(), &partitions(), &SITE)
    };
    assert_eq!(
        list(&[]),
        "PARTITION AVAIL  TIMELIMIT  NODES  STATE NODELIST\n\
         main*        up   infinite      2   idle n[1-2]\n"
    );
    assert_eq!(
        list(&["-N"]),
        "NODELIST   NODES PARTITION STATE \n\
         n1             1     main* idle  \n\
         n2             1     main* idle  \n"
    );
    assert_eq!(
        list(&["-s"]),
        "PARTITION AVAIL  TIMELIMIT   NODES(A/I/O/T) NODELIST\n\
         main*        up   infinite          0/2/0/2 n[1-2]\n"
    );
    assert_eq!(
        list(&[
            "-h",
            "-o",
            "%P|%a|%l|%D|%t|%T|%N|%c|%m|%C|%A|%F|%z|%w|%s|%r|%h|%g|%d|%B|%R"
        ]),
        "main*|up|infinite|2|idle|idle|n[1-2]|8|8000|0/16/0/16|0/2|0/2/0/2|8:1:1|1|1-infinite|no|NO|all|0|UNLIMITED|main\n"
    );
}

#[test]
fn scontrol_writes_the_lines_that_are_read() {
    let out = slurm::job(&failed(1), &SITE);
    for line in [
        "JobId=1 JobName=j.sh\n",
        "   JobState=FAILED Reason=NonZeroExitCode Dependency=(null)\n",
        "   Requeue=1 Restarts=0 BatchFlag=1 Reboot=0 ExitCode=3:0\n",
        "   RunTime=00:00:03 TimeLimit=UNLIMITED TimeMin=N/A\n",
        "   SubmitTime=2026-11-21T23:40:37 EligibleTime=2026-11-21T23:40:37\n",
        "   NumNodes=1 NumCPUs=1 NumTasks=1 CPUs/Task=1 ReqB:S:C:T=0:0:*:*\n",
        "   WorkDir=/tmp/w\n",
    ] {
        assert!(out.contains(line), "no {line:?} in {out}");
    }
    let array = slurm::job(&waiting_array(8), &SITE);
    assert!(array.starts_with("JobId=8 ArrayJobId=8 ArrayTaskId=15,20%2 JobName=nm\n"));
}

#[test]
fn qstat_prints_the_table_and_the_attributes_of_pbs() {
    assert_eq!(
        pbs::table(&[running(13), waiting_array(14)], &SITE),
        "Job id            Name             User              Time Use S Queue\n\
         ----------------  ---------------- ----------------  -------- - -----\n\
         13.vm             j.sh             root                     0 R main           \n\
         14[].vm           nm               root                     0 Q main           \n"
    );
    let full = pbs::full(&failed(13), &SITE, true);
    for line in [
        "Job Id: 13.vm\n",
        "    Job_Name = j.sh\n",
        "    Job_Owner = root@vm\n",
        "    resources_used.cput = 00:00:01\n",
        "    resources_used.mem = 5120kb\n",
        "    resources_used.walltime = 00:00:03\n",
        "    job_state = F\n",
        "    ctime = Sat Nov 21 23:40:37 2026\n",
        "    Exit_status = 3\n",
    ] {
        assert!(full.contains(line), "no {line:?} in {full}");
    }
}

#[test]
fn bjobs_prints_columns_and_tables_of_lsf() {
    let columns = lsf::Columns::read("jobid stat exit_code delimiter=','").expect("columns");
    assert_eq!(
        columns.write(&[failed(3), running(4)], &SITE, true),
        "JOBID,STAT,EXIT_CODE\n3,EXIT,3\n4,RUN,-\n"
    );
    let wide = lsf::Columns::read("jobid:8 stat: job_name").expect("columns");
    assert_eq!(wide.write(&[job(3)], &SITE, false), "3        PEND  j.sh\n");
    // As the manual of bjobs has them: the usual width, to the right; and a unit.
    let manual = lsf::Columns::read("stat: queue:- app:-6 mem:12:G kill_reason pendstate");
    assert_eq!(
        manual.expect("columns").write(&[job(3)], &SITE, true),
        "STAT       QUEUE APPLIC MEM          KILL_REASON                                        PENDSTATE\n\
         PEND        main      - -            -                                                  EPEND\n"
    );
    let every = lsf::Columns::read("all:1").expect("columns");
    assert_eq!(every.fields(&job(3), &SITE).len(), 114);
    let wrong = lsf::Columns::read("jobid what").expect_err("no such field");
    assert_eq!(wrong, "what: unknown field name");
    assert_eq!(
        lsf::table(&[running(4)], &SITE, true, false),
        "JOBID   USER    STAT  QUEUE      FROM_HOST   EXEC_HOST   JOB_NAME   SUBMIT_TIME\n\
         4       root    RUN   main       vm          n1          j.sh       Nov 21 23:40\n"
    );
}

#[test]
fn grid_engine_has_its_own_table() {
    let out = sge::table(&[running(4)], &SITE);
    assert!(
        out.ends_with(
            "\n      4 0.55500 j.sh       root         r     11/21/2026 23:40:39 main@n1                            1 \n"
        ),
        "{out}"
    );
    let account = sge::account(&failed(4), &SITE);
    assert!(account.contains("\nexit_status  3\n"), "{account}");
}

#[test]
fn options_are_read_as_each_system_writes_them() {
    let words = read(
        slurm::SQUEUE,
        Style::Long,
        &["-hj12", "--states=R,PD", "--use", "ada"],
    );
    assert!(words.has("--noheader"));
    assert_eq!(words.value("--jobs"), Some("12"));
    assert_eq!(words.list("--states"), Some(vec!["R".into(), "PD".into()]));
    assert_eq!(words.value("--user"), Some("ada"));
    let wrong = |line: &[&str], style| {
        let line: Vec<String> = line.iter().map(|word| (*word).to_owned()).collect();
        words::read(slurm::SQUEUE, style, &line).expect_err("wrong")
    };
    assert_eq!(
        wrong(&["--nope"], Style::Long),
        Wrong::Unknown("--nope".into())
    );
    assert_eq!(wrong(&["-hK"], Style::Long), Wrong::Unknown("-K".into()));
    assert_eq!(
        wrong(&["--format"], Style::Long),
        Wrong::NoValue("--format".into())
    );
    assert_eq!(
        wrong(&["--noheader=3"], Style::Long),
        Wrong::Value("--noheader".into())
    );
    let lsf = read(lsf::BJOBS, Style::Names, &["-noheader", "-o", "stat", "12"]);
    assert_eq!(
        (lsf.has("-noheader"), lsf.value("-o")),
        (true, Some("stat"))
    );
    assert_eq!(lsf.rest, ["12"]);
}

#[test]
fn patterns_match_names() {
    for (pattern, name, does) in [
        ("job*", "job12", true),
        ("*", "", true),
        ("a*c", "abc", true),
        ("a*c", "abx", false),
        ("job", "job1", false),
    ] {
        assert_eq!(super::matches(pattern, name), does, "{pattern} {name}");
    }
}
