//! The queue from the outside: the built `hyperion`, one queue per test.
//!
//! What is looked at is what users see: what their scripts wrote, what the lists say,
//! and that nothing that was acknowledged is lost, whoever is killed.

mod faults;
mod host;
mod interactive;
mod kills;
mod policy;
mod scripts;
mod shims;
#[path = "../jobs/site.rs"]
#[allow(dead_code, reason = "made for the tests of jobs, and shared")]
mod site;
mod steps;
mod updates;
mod users;
mod verbs;

use std::fs;
use std::path::PathBuf;

use hyperion_testkit::{Done, wait_until};
use serde_json::Value;

use site::{LONG, Site, finish};

/// A queue, and a folder in which scripts lie and are submitted.
struct Queue {
    site: Site,
}

impl Queue {
    fn new() -> Self {
        let queue = Self { site: Site::new() };
        fs::create_dir(queue.folder()).expect("a folder");
        queue
    }

    /// One of an ordinary user, for programs that refuse to be root's.
    fn of_user() -> Self {
        let queue = Self {
            site: Site::of_user(),
        };
        fs::create_dir(queue.folder()).expect("a folder");
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        fs::set_permissions(queue.folder(), open).expect("it is there");
        queue
    }

    fn folder(&self) -> PathBuf {
        self.site.path().join("work")
    }

    /// Runs a command in the folder of scripts.
    #[track_caller]
    fn run(&self, words: &[&str]) -> Done {
        let mut command = self.site.command(words);
        command.current_dir(self.folder());
        finish(command)
    }

    /// Writes a script.
    #[track_caller]
    fn script(&self, name: &str, text: &str) {
        fs::write(self.folder().join(name), text).expect("a script");
    }

    /// Submits; gives the number.
    #[track_caller]
    fn submit(&self, words: &[&str]) -> String {
        self.run(&[&["submit"][..], words].concat()).ok()
    }

    /// Submits a line of shell that Slurm would wrap.
    #[track_caller]
    fn wrap(&self, flags: &[&str], line: &str) -> String {
        let line = format!("--wrap={line}");
        self.submit(&[flags, &[line.as_str()]].concat())
    }

    /// What a list says of a job, a value for each of its tasks.
    #[track_caller]
    fn list(&self, verb: &str, job: &str) -> Vec<Value> {
        let words = ["--output", "json"].into_iter();
        let words: Vec<&str> = words.chain(verb.split(' ')).chain([job]).collect();
        let all = self.run(&words).ok();
        serde_json::from_str(&all).expect("a list")
    }

    /// The state of a job that is one task, ended or not.
    #[track_caller]
    fn state(&self, job: &str) -> String {
        let all = self.list("queue --all", job);
        assert_eq!(all.len(), 1, "{all:?}");
        all[0]["state"].as_str().expect("a word").to_owned()
    }

    #[track_caller]
    fn wait_for_state(&self, job: &str, state: &str) {
        let came = wait_until(LONG, || self.state(job) == state);
        assert!(came, "job {job} is {} and not {state}", self.state(job));
    }

    /// Waits until nothing of a job waits or runs.
    #[track_caller]
    fn wait_over(&self, job: &str) {
        let over = wait_until(LONG, || self.list("queue", job).is_empty());
        assert!(over, "{:?}", self.list("queue", job));
    }

    /// What a file in the folder of scripts holds.
    #[track_caller]
    fn read(&self, name: &str) -> String {
        let path = self.folder().join(name);
        fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
    }

    /// Waits until a file in the folder of scripts holds this.
    #[track_caller]
    fn wait_for_text(&self, name: &str, text: &str) {
        let path = self.folder().join(name);
        let read = || fs::read_to_string(&path).unwrap_or_default();
        let came = wait_until(LONG, || read().contains(text));
        assert!(came, "{name} holds {:?}", read());
    }
}
