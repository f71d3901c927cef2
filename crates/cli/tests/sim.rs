//! `hyperion sim` from the outside.

use std::path::PathBuf;

use hyperion_testkit::{Done, TestDir, hyperion, requires, traces};
use serde_json::{Map, Value};

fn run(home: &TestDir, words: &[&str]) -> Done {
    Done::of(hyperion(home.path()).args(words))
}

fn file(home: &TestDir, name: &str, text: &str) -> String {
    let path = home.path().join(name);
    std::fs::write(&path, text).expect("a file");
    path.display().to_string()
}

fn json(text: &str) -> Map<String, Value> {
    serde_json::from_str(text).expect("one JSON object")
}

#[test]
fn a_workload_is_made_from_a_seed_and_runs_under_several_policies() {
    let home = TestDir::new();
    let words = ["sim", "generate", "lublin", "--jobs", "400", "--seed", "7"];
    let made = run(&home, &words).ok();
    assert_eq!(made, run(&home, &words).ok(), "the same seed");
    let trace = file(&home, "made.swf", &made);
    let policies = "fifo,sjf,easy,conservative";
    let words = ["sim", "swf", &trace, "--policy", policies];
    let found = json(&run(&home, &[&words[..], &["--output", "json"]].concat()).ok());
    let of = |policy: &str, key: &str| found[policy][key].as_f64().expect("a number");
    for policy in policies.split(',') {
        assert_eq!(of(policy, "jobs"), 400.0);
        assert_eq!(of(policy, "procs"), 128.0);
        assert!((0.0..=1.0).contains(&of(policy, "util")), "{policy}");
        assert!(of(policy, "avg_bsld") >= 1.0, "{policy}");
    }
    // What passes the head of the queue does not make others wait longer, in the mean.
    assert!(of("easy", "avg_wait") < of("fifo", "avg_wait"));
    let page = home.path().join("page.html").display().to_string();
    let table = run(&home, &[&words[..], &["--report", &page]].concat()).ok();
    let page = std::fs::read_to_string(page).expect("a page");
    for policy in policies.split(',') {
        assert!(page.contains(&format!("<h2>{policy}</h2>")), "{policy}");
    }
    // Two curves and a chart of jobs for each, and nothing from elsewhere.
    assert_eq!(page.matches("<svg ").count(), 12);
    assert_eq!(
        page.matches("job 399: ").count() % 4,
        0,
        "each job is drawn"
    );
    assert!(
        page.contains("job 399: ") && !page.contains("http"),
        "one file"
    );
    assert!(
        table.lines().all(|line| line.chars().count() <= 80),
        "{table}"
    );
    assert_eq!(table.lines().count(), 6, "{table}");
}

#[test]
fn loads_are_compared_warm_up_is_not_counted_and_each_job_is_in_the_csv() {
    let home = TestDir::new();
    let job =
        |number, submit| format!("{number} {submit} 0 10 1 -1 -1 1 10 -1 1 1 1 1 1 1 -1 -1\n");
    let log = [
        "; MaxProcs: 1\n".to_owned(),
        job(1, 0),
        job(2, 5),
        job(3, 30),
    ];
    let trace = file(&home, "three.swf", &log.concat());
    let csv = home.path().join("three.csv").display().to_string();
    let words = [
        "sim",
        "swf",
        &trace,
        "--policy",
        "fifo,easy",
        "--load",
        "1,2",
    ];
    let more = ["--warm-up", "1", "--csv", &csv, "--output", "json"];
    let found = json(&run(&home, &[&words[..], &more].concat()).ok());
    let wait = |name: &str| found[name]["avg_wait"].as_f64().expect("a number");
    // One processor: they start at 0, 10 and 30, or 0, 10 and 20.
    for (name, right) in [("fifo at 1", 2.5), ("fifo at 2", 6.25), ("easy at 2", 6.25)] {
        assert_eq!(
            (wait(name), &found[name]["jobs"]),
            (right, &2.into()),
            "{name}"
        );
    }
    let rows = std::fs::read_to_string(csv).expect("written");
    assert_eq!(rows.lines().count(), 1 + 2 * 2 * 3);
    for row in [
        "policy,job,submit,start,end,processors",
        "fifo at 1,1,5,10,20,1",
        "easy at 2,1,2.5,10,20,1",
    ] {
        assert!(rows.lines().any(|line| line == row), "{row}: {rows}");
    }
    run(&home, &["sim", "swf", &trace, "--load", "0"]).refused("a load is a number", "");
    run(&home, &["sim", "swf", &trace, "--warm-up", "3"]).refused("no job of", "3 of its jobs");
    run(&home, &["sim", "swf", &trace, "--csv", "/nowhere/x.csv"]).refused("/nowhere/x.csv", "");
}

#[test]
fn a_history_stands_beside_what_it_would_have_been_and_how_sure_that_is() {
    let home = TestDir::new();
    let words = ["sim", "generate", "lublin", "--jobs", "300"];
    let made = run(&home, &words).ok();
    // Two processors to a node.
    let made = made.replace("MaxNodes: 128", "MaxNodes: 64");
    let log = file(&home, "made.swf", &made);
    let words = ["sim", "what-if", "--log", &log, "--replications", "20"];
    let ways = [
        "--policy",
        "conservative",
        "--add-nodes",
        "64",
        "--isolation",
        "vm=200%",
    ];
    let words = [&words[..], &ways].concat();
    let table = run(&home, &words).ok();
    assert!(
        table.lines().all(|line| line.chars().count() <= 80),
        "{table}"
    );
    for row in ["simulated, easy", "conservative", "+ 64 nodes", "vm +200 %"] {
        assert!(
            table.lines().any(|line| line.trim().starts_with(row)),
            "{row}: {table}"
        );
    }
    assert!(
        table.contains("of 20 workloads, drawn from 8 blocks of "),
        "{table}"
    );
    let words = [&words[..], &["--output", "json"]].concat();
    let text = run(&home, &words).ok();
    assert_eq!(text, run(&home, &words).ok(), "the same seed");
    let found = json(&text);
    assert!(!found.contains_key("as_it_was"), "a made log has no waits");
    // What is simulated is what the other verb simulates.
    let plain = json(&run(&home, &["sim", "swf", &log, "--output", "json"]).ok());
    for key in ["avg_wait", "avg_bsld", "makespan", "util", "jobs"] {
        assert_eq!(found["simulated"][key], plain[key], "{key}");
    }
    let of = |variant: usize, end: &str| {
        let change = &found["variants"][variant]["avg_wait_change"][end];
        change.as_f64().expect("a number")
    };
    assert_eq!(found["variants"][1]["procs"], 256);
    // What shares alone would say stands beside it: queues are what it leaves out.
    let naive = "\nby shares alone: conservative: +0 %; + 64 nodes: -50 %; vm +200 %: +200 %";
    assert!(table.ends_with(naive), "{table}");
    assert_eq!(found["variants"][1]["naive_change"], -0.5);
    assert!(of(1, "high") < 0.0, "twice the nodes: {found:?}");
    assert!(of(2, "low") > 0.0, "longer jobs: {found:?}");
    assert!(of(0, "low") <= of(0, "high"), "{found:?}");
    let together = [&words[..], &["--together"]].concat();
    let together = json(&run(&home, &together).ok());
    assert_eq!(together["variants"].as_array().map(Vec::len), Some(1));
    let base = ["sim", "what-if", "--log", &log];
    let refused = |more: &[&str], what: &str, hint: &str| {
        run(&home, &[&base[..], more].concat()).refused(what, hint);
    };
    refused(&[], "nothing is to be otherwise", "--add-nodes 2");
    refused(
        &["--add-nodes", "gpu:2"],
        "no node is called gpu",
        "--add-nodes N",
    );
    refused(&["--isolation", "vm=lots"], "vm=20%", "");
    // What isolation costs may be what it did.
    for (name, seconds) in [("plain", "0.2"), ("fenced", "0.3")] {
        let job = ["run", "--name", name, "--isolation", "process"];
        run(&home, &[&job[..], &["sleep", seconds]].concat()).ok();
    }
    let measured = ["--isolation", "process=plain:fenced", "--output", "json"];
    let measured = [&base[..], &["--replications", "0"], &measured].concat();
    let measured = json(&run(&home, &measured).ok());
    let more = measured["variants"][0]["naive_change"]
        .as_f64()
        .expect("a number");
    assert!((0.3..0.7).contains(&more), "{more}");
    let other = ["--isolation", "vm=plain:fenced"];
    refused(
        &other,
        "fenced as process, not as vm",
        "process=plain:fenced",
    );
    refused(&["--isolation", "vm=plain:none"], "no job \"none\"", "");
    refused(
        &["--policy", "esay"],
        "there is no policy",
        "did you mean easy?",
    );
    let two = ["--load", "1,2", "--together"];
    refused(&two, "cannot hold at once", "--together");
    let none = ["sim", "what-if", "--load", "2"];
    run(&home, &none).refused("the history of this queue", "--log");
    let odd = made.replace("MaxNodes: 64", "MaxNodes: 100");
    let odd = file(&home, "odd.swf", &odd);
    let words = ["sim", "what-if", "--log", &odd, "--add-nodes", "1"];
    run(&home, &words).refused("does not say how many nodes", "MaxNodes");
}

#[test]
fn workloads_of_a_model_run_several_times_and_policies_have_the_same() {
    let home = TestDir::new();
    let words = [
        "sim",
        "model",
        "lublin",
        "--jobs",
        "300",
        "--replications",
        "5",
    ];
    let sweep = [
        "--policy",
        "fifo,easy",
        "--load",
        "0.5,1",
        "--processors",
        "64,128",
    ];
    let words = [&words[..], &sweep].concat();
    let table = run(&home, &words).ok();
    assert_eq!(table.lines().count(), 2 + 8, "{table}");
    assert!(
        table.lines().all(|line| line.chars().count() <= 80),
        "{table}"
    );
    let text = run(&home, &[&words[..], &["--output", "json"]].concat()).ok();
    let rows: Vec<Value> = serde_json::from_str(&text).expect("JSON");
    let row = |policy: &str, load: f64, processors: u64| {
        let its = |row: &&Value| {
            row["policy"] == policy && row["load"] == load && row["processors"] == processors
        };
        rows.iter().find(its).expect("a row")
    };
    let wait = |row: &Value| row["avg_wait"]["mean"].as_f64().expect("a number");
    // The same workloads: what passes the head does no harm in any mean of these.
    assert!(wait(row("easy", 1.0, 128)) < wait(row("fifo", 1.0, 128)));
    assert!(wait(row("fifo", 0.5, 64)) < wait(row("fifo", 1.0, 64)));
    let interval = &row("fifo", 1.0, 128)["avg_wait"]["interval"];
    let mean = wait(row("fifo", 1.0, 128));
    let bound = |end: &str| interval[end].as_f64().expect("a number");
    assert!(bound("low") < mean && mean < bound("high"), "{interval}");
    // The first workload is the one that the other verb makes.
    let once = [
        "sim",
        "model",
        "lublin",
        "--jobs",
        "300",
        "--replications",
        "1",
    ];
    let once = run(&home, &[&once[..], &["--output", "json"]].concat()).ok();
    let once: Vec<Value> = serde_json::from_str(&once).expect("JSON");
    let made = run(&home, &["sim", "generate", "lublin", "--jobs", "300"]).ok();
    let log = file(&home, "made.swf", &made);
    let plain = json(&run(&home, &["sim", "swf", &log, "--output", "json"]).ok());
    assert_eq!(once[0]["avg_wait"]["mean"], plain["avg_wait"]);
    assert_eq!(once[0]["avg_wait"].get("interval"), None);
    let none = ["sim", "model", "lublin", "--jobs", "5", "--warm-up", "5"];
    run(&home, &none).refused("no job is left", "--warm-up");
}

#[test]
fn jobs_of_a_model_are_as_in_a_log_that_is_given() {
    let home = TestDir::new();
    let made = |words: &str| {
        let words: Vec<&str> = words.split(' ').collect();
        run(&home, &[&["sim", "generate"], &words[..]].concat())
    };
    // Sixteen processors for an hour, and for twice as long in the other half of the day.
    let job = |number: u64| {
        let (submit, run) = match number % 4 {
            0 => (number * 20_000 + 45_000, 7200),
            _ => (number * 20_000, 3600),
        };
        format!("{number} {submit} -1 {run} 16 -1 -1 16 {run} -1 1 1 1 -1 1 -1 -1 -1\n")
    };
    let jobs: String = (0..200).map(job).collect();
    let log = file(&home, "like.swf", &format!("; MaxProcs: 64\n{jobs}"));
    let text = made(&format!("downey --like {log} --jobs 500")).ok();
    let said = |what: &str| assert!(text.contains(what), "{what}: {text}");
    said("; MaxProcs: 64\n");
    said(" 16.0 to 16.0 processors");
    let field = |line: &str, at: usize| -> u64 {
        let word = line.split_whitespace().nth(at).expect("18 fields");
        word.parse().expect("a number")
    };
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with(';')).collect();
    assert_eq!(lines.len(), 500);
    assert!(lines.iter().all(|line| field(line, 7) == 16));
    let runs = lines.iter().map(|line| field(line, 3));
    let mean = runs.sum::<u64>() / 500;
    assert!((3600..6000).contains(&mean), "{mean}");
    let days = field(lines[499], 1) as f64 / 86_400.0;
    assert!((500.0 / days / 4.32 - 1.0).abs() < 0.2, "{days}");

    // Without a log, for another machine, and through the verb that repeats it.
    let plain = made("downey --jobs 50 --processors 1000").ok();
    assert!(plain.contains("; MaxProcs: 1000\n") && plain.contains(" 1 to all processors"));
    let model = ["sim", "model", "downey", "--like", &log, "--jobs", "100"];
    let told = run(&home, &[&model[..], &["--output", "json"]].concat()).ok();
    let rows: Vec<Value> = serde_json::from_str(&told).expect("JSON");
    assert_eq!(rows[0]["processors"], 64);

    made(&format!("lublin --like {log}")).refused("--like is for the model downey", "published");
    let few = file(&home, "few.swf", "; MaxProcs: 4\n");
    made(&format!("downey --like {few}")).refused("fewer than ten jobs", "without --like");
    let bad = file(
        &home,
        "bad.swf",
        &format!("; MaxProcs: 64\nnonsense\n{jobs}"),
    );
    made(&format!("downey --like {bad}")).refused("line 2", "--skip-malformed");
    made(&format!("downey --like {bad} --skip-malformed --jobs 1")).ok();
    made("downey --skip-malformed").refused("required arguments", "--help");
}

/// What the model has without a log is what it finds in the one that it is of; that is in
/// short numbers, so jobs are the same but for seldom a second.
#[test]
fn jobs_of_a_model_without_a_log_are_those_of_the_sp2() {
    requires!("traces");
    let home = TestDir::new();
    let folder: PathBuf = traces().expect("it is there");
    let log = folder.join("KTH-SP2-1996-2.1-cln.swf.gz");
    let log = log.display().to_string();
    let words = ["sim", "generate", "downey", "--jobs", "1"];
    let found = run(&home, &[&words[..], &["--like", &log]].concat()).ok();
    let plain = run(&home, &words).ok();
    let same = ["10.6 to 461", " 70.8 and 14.7 jobs"];
    for said in same {
        assert!(
            found.contains(said) && plain.contains(said),
            "{found}{plain}"
        );
    }
    assert!(found.contains(" 0.4 to 23.0 processors"), "{found}");
}

#[test]
fn fairness_and_the_utilization_of_a_window_are_told_where_they_are_asked_for() {
    let home = TestDir::new();
    // The second waits as long as it runs.
    let job = |number, submit, user| {
        format!("{number} {submit} -1 100 2 -1 -1 2 100 -1 1 {user} 1 -1 1 -1 -1 -1\n")
    };
    let jobs = [job(1, 0, 7), job(2, 0, 8), job(3, 500, 7)].concat();
    let log = file(&home, "two.swf", &format!("; MaxProcs: 2\n{jobs}"));
    let swf = |more: &[&str]| {
        let words = ["sim", "swf", &log, "--policy", "fifo"];
        run(&home, &[&words[..], more].concat())
    };
    let asked = ["--detail", "--window", "150:9m10s"];
    let found = json(&swf(&[&asked[..], &["--output", "json"]].concat()).ok());
    assert_eq!(found["fair_jobs"], 16.0 / 18.0);
    assert_eq!(found["fair_users"], 0.9);
    assert_eq!(found["avg_slowdown"], 4.0 / 3.0);
    assert_eq!(found["window"]["util"], 0.25);
    assert_eq!(
        (&found["window"]["from"], &found["window"]["to"]),
        (&150.into(), &550.into())
    );
    let table = swf(&asked).ok();
    assert!(
        table.contains(" fifo    25.0 %          2:13        1.33       0.889  0.900"),
        "{table}"
    );
    assert!(
        table.lines().all(|line| line.chars().count() <= 80),
        "{table}"
    );
    // Nobody who did not ask is told.
    let plain = json(&swf(&["--output", "json"]).ok());
    assert!(!plain.contains_key("fair_jobs") && !plain.contains_key("window"));
    assert_eq!(swf(&[]).ok().lines().count(), 3);
    swf(&["--window", "10"]).refused("such as 30d:300d", "--help");
    swf(&["--window", "10:5"]).refused("it is to end after it begins", "--help");
}

#[test]
fn what_was_simulated_is_a_log_like_any_other() {
    let home = TestDir::new();
    let made = ["sim", "generate", "lublin", "--jobs", "300", "--seed", "3"];
    let trace = file(&home, "made.swf", &run(&home, &made).ok());
    let out = home.path().join("out.swf").display().to_string();
    let summary = |log: &str, more: &[&str]| {
        let words = ["sim", "swf", log, "--policy", "easy", "--output", "json"];
        json(&run(&home, &[&words[..], more].concat()).ok())
    };
    let first = summary(&trace, &["--swf", &out]);
    let log = std::fs::read_to_string(&out).expect("written");
    let waits = log.lines().filter(|line| !line.starts_with(';'));
    let waits: Vec<f64> = waits
        .map(|line| line.split(' ').nth(2).expect("a field"))
        .map(|wait| wait.parse().expect("a number"))
        .collect();
    assert_eq!(waits.len(), 300);
    assert_eq!(waits.iter().sum::<f64>() / 300.0, first["avg_wait"]);
    // The same jobs come out of it.
    assert_eq!(summary(&out, &[]), first);
    let two = ["sim", "swf", &trace, "--swf", &out, "--policy", "fifo,easy"];
    run(&home, &two).refused("--swf is for one policy", "--policy");
    run(&home, &["sim", "swf", &trace, "--swf", "/nowhere/x.swf"]).refused("/nowhere/x.swf", "");
}

#[test]
fn jobs_lie_on_nodes_where_these_are_said_and_processors_are_shared_evenly() {
    let home = TestDir::new();
    let model = |words: &str| {
        let model = "sim model lublin --jobs 300 --replications 1";
        let words: Vec<&str> = model.split(' ').chain(words.split(' ')).collect();
        run(&home, &words)
    };
    let wait = |said: &str| {
        let told = model(&format!("{said} --output json")).ok();
        let rows: Vec<Value> = serde_json::from_str(&told).expect("JSON");
        let nodes = said.rsplit(' ').next().expect("a number");
        assert_eq!(rows[0]["nodes"].to_string(), nodes);
        rows[0]["avg_wait"]["mean"].as_f64().expect("a number")
    };
    // Who came first has room where there are enough processors, whatever nodes they are on.
    let fifo = "--processors 256 --policy fifo --nodes";
    assert_eq!(wait(&format!("{fifo} 1")), wait(&format!("{fifo} 32")));
    // What passes the first may be in its way on a node, which it cannot be in a pool.
    let easy = "--processors 256 --policy easy --nodes";
    assert_ne!(wait(&format!("{easy} 1")), wait(&format!("{easy} 32")));
    model("--processors 100 --nodes 32").refused(
        "100 processors do not lie on 32 nodes",
        "--processors 96 or 128 would",
    );
    model("--processors 3 --nodes 32").refused("3 processors", "--processors 32 would");
    model("--nodes 0").refused("0 is not in 1..=1000000", "--help");

    let made = ["sim", "generate", "lublin", "--jobs", "300", "--seed", "3"];
    let trace = file(&home, "made.swf", &run(&home, &made).ok());
    let swf = |words: &str| {
        let words: Vec<&str> = words.split(' ').collect();
        run(&home, &[&["sim", "swf"], &words[..]].concat())
    };
    let told = swf(&format!("{trace} --nodes 16")).ok();
    assert!(
        told.starts_with("300 jobs, 128 processors on 16 nodes\n"),
        "{told}"
    );
    swf(&format!("{trace} --nodes 7"))
        .refused("128 processors do not lie on 7 nodes", "126 or 133 would");
    // The file has the nodes in it.
    let cut = home.path().join("cut.sim").display().to_string();
    let whole = swf(&format!("{trace} --nodes 16 --output json")).ok();
    swf(&format!("{trace} --nodes 16 --until 12h --snapshot {cut}")).ok();
    assert_eq!(swf(&format!("--resume {cut} --output json")).ok(), whole);
    swf(&format!("--resume {cut} --nodes 16")).refused("cannot be used with", "--help");
}

#[test]
fn a_gantt_chart_fits_a_terminal() {
    let home = TestDir::new();
    let made = run(&home, &["sim", "generate", "lublin", "--jobs", "100"]).ok();
    let log = file(&home, "made.swf", &made);
    let words = ["sim", "swf", &log, "--policy", "fifo,easy", "--gantt"];
    let text = run(&home, &words).ok();
    assert!(
        text.lines().all(|line| line.chars().count() <= 80),
        "{text}"
    );
    for policy in ["fifo", "easy"] {
        let head = format!("{policy}, the first 62 jobs:");
        assert!(text.contains(&head), "{text}");
    }
    // Three lines of a table, and for each policy a blank one, a head, sixteen and an axis.
    assert_eq!(text.lines().count(), 4 + 2 * 19, "{text}");
}

#[test]
fn what_is_left_out_of_a_log_is_told_by_line_and_rule() {
    let home = TestDir::new();
    let rest = "-1 -1 4 20 -1 1 1 1 1 1 1 -1 -1";
    let log = format!(
        "; MaxProcs: 8\n1 10 0 10 4 {rest}\n2 5 0 10 4 {rest}\n3 11 0 0 4 {rest}\n4 12 0 9 x {rest}\n"
    );
    let trace = file(&home, "odd.swf", &log);
    run(&home, &["sim", "swf", &trace]).refused(
        "line 5: field 5 (allocated processors) is no number: \"x\"",
        "--skip-malformed",
    );
    let done = run(&home, &["sim", "swf", &trace, "--skip-malformed"]).expect_code(0);
    for note in [
        "not in the order of submission (first in line 3)",
        "1 job left out: no run time, field 4 is not above 0 (first in line 4)",
        "1 job left out: field 5 (allocated processors) is no number: \"x\" (first in line 5)",
    ] {
        assert!(done.err.contains(note), "{note}: {}", done.err);
    }
    let small = file(&home, "small.swf", &format!("1 10 0 10 4 {rest}\n"));
    run(&home, &["sim", "swf", &small]).refused("does not say how many processors", "--processors");
    run(&home, &["sim", "swf", &small, "--processors", "2"])
        .refused("no job of", "0 of its jobs can run");
    run(&home, &["sim", "swf", &small, "--policy", "esay"])
        .refused("there is no policy \"esay\"", "did you mean easy?");
}

#[test]
fn schedules_of_real_traces_are_those_of_other_simulators() {
    requires!("traces");
    let home = TestDir::new();
    let folder: PathBuf = traces().expect("it is there");
    let text = std::fs::read_to_string(folder.join("expected.json")).expect("it is there");
    let policies = [
        ("FCFS", "fifo"),
        ("SJF", "sjf"),
        ("EASY", "easy"),
        ("EASY_SJBF", "easy-sjbf"),
        ("SJF_EASY", "sjf-easy"),
        ("CONS", "conservative"),
    ];
    let ours = policies.map(|(_, ours)| ours).join(",");
    let mut wrong = String::new();
    for (name, right) in json(&text) {
        let trace = folder.join(format!("{name}.gz")).display().to_string();
        let words = ["sim", "swf", &trace, "--policy", &ours, "--jobs", "1024"];
        let found = json(&run(&home, &[&words[..], &["--output", "json"]].concat()).ok());
        for (theirs, ours) in policies {
            let right = right["1024"][theirs].as_object().expect("results");
            let found = found[ours].as_object().expect("results");
            assert!(found.keys().eq(right.keys()), "{found:?}");
            for (key, value) in right {
                let same = match (value.as_f64(), found[key].as_f64()) {
                    (Some(right), Some(ours)) => (right - ours).abs() <= 1e-9 * right.abs(),
                    _ => *value == found[key],
                };
                if !same {
                    wrong += &format!("{name} {ours} {key}: {} not {value}\n", found[key]);
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn a_scenario_runs_and_what_is_wrong_with_one_is_told() {
    let home = TestDir::new();
    let text = "[[datacenter]]
name = 'east'
[[datacenter.host]]
cores = 2
mips = 1000
power_watts = [100, 200]
[[broker]]
name = 'user'
[[broker.vm]]
count = 3
mips = 1000
[[broker.cloudlet]]
count = 3
length_mi = 10000
[[broker.cloudlet]]
length_mi = 10000
vm = 2
";
    let scenario = file(&home, "scenario.toml", text);
    let found = json(&run(&home, &["sim", "run", &scenario, "--output", "json"]).ok());
    let cloudlets = found["cloudlets"].as_array().expect("rows");
    // VM 2 has no room: its cloudlet does not run, the others share two VMs.
    let ended = |row: &Value| (row["cloudlet"].as_u64(), row["finish"].as_f64());
    let ended: Vec<_> = cloudlets.iter().map(ended).collect();
    assert_eq!(ended.len(), 3, "{found:?}");
    assert_eq!(found["not_run"][0]["cloudlet"], 3);
    assert_eq!(
        found["not_run"][0]["why"],
        "no datacenter had room for its VM"
    );
    assert_eq!(cloudlets[0]["datacenter"], "east");
    let joules = found["host_energy"][0]["joules"]
        .as_f64()
        .expect("a number");
    let end = found["end"].as_f64().expect("a number");
    assert!(joules > 100.0 * end && joules < 200.0 * end, "{found:?}");
    let table = run(&home, &["sim", "run", &scenario]).ok();
    assert!(
        table.contains("1 not run: no datacenter had room for its VM"),
        "{table}"
    );
    assert!(table.contains("3 cloudlets ended in"), "{table}");

    let wrong = file(
        &home,
        "wrong.toml",
        &text.replace("mips = 1000\npower", "mpis = 1000\npower"),
    );
    run(&home, &["sim", "run", &wrong]).refused("line 5", "did you mean \"mips\"?");
    let wrong = file(&home, "wrong.toml", &text.replace("vm = 2", "vm = 5"));
    run(&home, &["sim", "run", &wrong]).refused(
        "line 17: broker[0].cloudlet[1].vm",
        "docs/reference/scenarios.md",
    );
    let large = file(
        &home,
        "large.toml",
        &text.replace("count = 3\nmips = 1000", "mips = 3000\nid = 2"),
    );
    let done = run(&home, &["sim", "run", &large]).expect_code(0);
    for note in [
        "line 3: datacenter[0].host[0]: no VM fits it",
        "vm[0].mips: more than any host has",
    ] {
        assert!(done.err.contains(note), "{note}: {}", done.err);
    }
}

#[test]
fn traces_of_a_scenario_are_read_and_what_became_of_machines_is_told() {
    let home = TestDir::new();
    std::fs::create_dir(home.path().join("day")).expect("a folder");
    file(&home, "day/one", "10\n90\n10\n");
    file(&home, "day/two", "50\n");
    let text = "stop_s = 1500
[[datacenter]]
name = 'east'
allocation = 'power-aware'
cost = { per_memory_mib = 0.5 }
dynamic = { interval_s = 300, overload = { static = 0.8 } }
host = [{ count = 2, cores = 1, mips = 1000, bandwidth_mbps = 1000, power_watts = [100, 200] }]
[[broker]]
name = 'user'
vm = [{ count = 2, mips = 500, memory_mib = 100 }]
[[broker.cloudlet]]
count = 2
length_mi = 1e9
utilization = { every_s = 300, trace = 'day' }
";
    let scenario = file(&home, "scenario.toml", text);
    let found = json(&run(&home, &["sim", "run", &scenario, "--output", "json"]).ok());
    let service = &found["services"][0];
    assert_eq!(service["datacenter"], "east");
    assert!(
        service["joules"]
            .as_f64()
            .is_some_and(|joules| joules > 0.0),
        "{found:?}"
    );
    assert!(
        service["migrations"].is_u64() && service["sla_overall"].is_f64(),
        "{found:?}"
    );
    assert_eq!(found["cost"], 100.0);
    assert_eq!(found["end"], 1500.0);
    assert_eq!(found["not_run"].as_array().map(Vec::len), Some(2));
    let table = run(&home, &["sim", "run", &scenario]).ok();
    assert!(
        table.contains("east: ") && table.contains("cost 100"),
        "{table}"
    );

    file(&home, "day/two", "50\nhalf\n");
    run(&home, &["sim", "run", &scenario]).refused(
        "day/two, line 2: must be a percentage from 0 to 100",
        "docs/reference/scenarios.md",
    );
    let missing = file(&home, "missing.toml", &text.replace("'day'", "'night'"));
    let done = run(&home, &["sim", "run", &missing]);
    assert!(
        done.err.contains("cannot read the trace night"),
        "{}",
        done.err
    );
}

#[test]
fn a_simulation_goes_on_from_a_file_to_the_same_end() {
    let home = TestDir::new();
    let text = "seed = 4
[[datacenter]]
name = 'east'
host = [{ count = 2, cores = 2, mips = 1000, power_watts = [100, 200] }]
[[broker]]
name = 'user'
vm = [{ count = 3, mips = 700 }]
cloudlet = [{ count = 60, length_mi = { exponential = 9000 }, gap_s = { exponential = 4 } }]
";
    let scenario = file(&home, "scenario.toml", text);
    let path = |name: &str| home.path().join(name).display().to_string();
    let (one, two) = (path("one.sim"), path("two.sim"));
    let sim = |words: String| {
        let words: Vec<&str> = words.split(' ').collect();
        run(&home, &[&["sim", "run"], &words[..]].concat())
    };
    let whole = sim(format!("{scenario} --output json")).ok();
    let cut = format!("{scenario} --until 1m --snapshot {one} --output json");
    let cut = sim(cut).expect_code(0);
    assert!(cut.err.contains("goes on from 60 s"), "{}", cut.err);
    let why = "it had not ended when the scenario stopped";
    assert!(cut.out.contains(why), "{}", cut.out);
    std::fs::remove_file(&scenario).expect("no more needed");
    sim(format!("--resume {one} --until 100.5 --snapshot {two}")).ok();
    for from in [&one, &two] {
        let end = sim(format!("--resume {from} --output json")).ok();
        assert_eq!(end, whole, "from {from}");
    }
    assert!(!home.path().join("two.sim.part").exists());

    sim(format!("--resume {two} --until 3"))
        .refused("100.5 s are over in the snapshot", "later time");
    let foreign = file(&home, "foreign.sim", text);
    for foreign in [&foreign, "/dev/zero"] {
        let said = format!("{foreign} is no snapshot of a simulation");
        sim(format!("--resume {foreign}")).refused(&said, "--snapshot");
    }
    let bytes = std::fs::read(&one).expect("a snapshot");
    let mut changed = bytes.clone();
    changed[bytes.len() / 2] ^= 1;
    for bad in [&changed[..], &bytes[..bytes.len() / 2]] {
        std::fs::write(&one, bad).expect("a file");
        sim(format!("--resume {one}")).refused("one.sim is damaged", "copy it again");
    }
    let scenario = file(&home, "scenario.toml", text);
    sim(format!("{scenario} --until 9 --snapshot /dev/null"))
        .refused("/dev/null is no plain file", "name another file");
}

#[test]
fn jobs_of_a_log_go_on_from_a_file_to_the_same_starts() {
    let home = TestDir::new();
    let words = ["sim", "generate", "lublin", "--jobs", "500", "--seed", "3"];
    let trace = file(&home, "made.swf", &run(&home, &words).ok());
    let path = |name: &str| home.path().join(name).display().to_string();
    let (one, two) = (path("one.sim"), path("two.sim"));
    let swf = |words: &str| {
        let words: Vec<&str> = words.split(' ').collect();
        run(&home, &[&["sim", "swf"], &words[..]].concat())
    };
    for policy in ["fifo", "easy", "conservative", "wfp3-easy"] {
        let (load, warm_up) = ("--load 3", "--warm-up 50 --output json");
        let whole = swf(&format!("{trace} --policy {policy} {load} {warm_up}")).ok();
        let cut = swf(&format!(
            "{trace} --policy {policy} {load} --until 12h --snapshot {one}"
        ));
        assert!(cut.err.contains("goes on from 43200 s"), "{}", cut.err);
        assert!(cut.err.contains("jobs wait and"), "{}", cut.err);
        assert!(cut.out.contains(policy), "{}", cut.out);
        swf(&format!("--resume {one} --until 20h --snapshot {two}")).ok();
        for from in [&one, &two] {
            let end = swf(&format!("--resume {from} {warm_up}")).ok();
            assert_eq!(end, whole, "{policy} from {from}");
        }
    }
    swf(&format!("--resume {two} --until 3"))
        .refused("72000 s are over in the snapshot", "later time");
    swf(&format!("{trace} --policy fifo,easy --until 3"))
        .refused("--until is for one policy", "name one");
    swf(&format!("--resume {trace}")).refused(
        "made.swf is no snapshot of a simulation",
        "sim swf --snapshot",
    );
    run(&home, &["sim", "run", "--resume", &two]).refused(
        "two.sim is no snapshot of a simulation",
        "sim run --snapshot",
    );
}

#[test]
fn cloudlets_in_containers_and_what_they_draw_are_in_the_table_the_json_and_the_csv() {
    let home = TestDir::new();
    let text = "[[datacenter]]
name = 'east, or \"here\"'
host = [{ cores = 2, mips = 1000, power_watts = [100, 200] }]
[[broker]]
name = 'user'
vm = [{ cores = 2, mips = 1000 }]
container = [{ count = 2, mips = 1000 }]
cloudlet = [{ count = 2, length_mi = 10000 }]
";
    let scenario = file(&home, "scenario.toml", text);
    let csv = home.path().join("ran.csv").display().to_string();
    let words = ["sim", "run", &scenario, "--csv", &csv];
    let table = run(&home, &words).ok();
    assert!(
        table.contains("CONTAINER") && table.contains("JOULES"),
        "{table}"
    );
    let found = json(&run(&home, &["sim", "run", &scenario, "--output", "json"]).ok());
    let row = &found["cloudlets"][1];
    assert_eq!((&row["vm"], &row["container"]), (&0.into(), &1.into()));
    // 10 s at 200 W, for both of them alike; and 0.02 s idle.
    let near = |value: &Value, right: f64| {
        let found = value.as_f64().expect("a number");
        assert!((found - right).abs() < 0.2, "{found}, not {right}");
    };
    near(&row["joules"], 1000.0);
    near(&found["container_energy"][1]["joules"], 1000.0);
    near(&found["vm_energy"][0]["joules"], 2000.0);
    near(&found["host_energy"][0]["joules"], 2002.0);
    near(&found["host_energy"][0]["idle_joules"], 2.0);
    let rows = std::fs::read_to_string(csv).expect("written");
    let lines: Vec<&str> = rows.lines().collect();
    assert_eq!(
        lines[0],
        "broker,cloudlet,datacenter,host,vm,container,submitted,start,finish,cost,joules"
    );
    assert!(
        lines[2].starts_with("user,1,\"east, or \"\"here\"\"\",0,0,1,0.02,0.02,10.02,0,"),
        "{rows}"
    );
}
