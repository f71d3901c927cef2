//! Real MPICH programs against the PMI-1 server.

use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use hyperion_model::Rank;
use hyperion_model::nodes::seat;
use hyperion_mpi::LaunchKind;
use hyperion_mpi::env::{Position, rank_env};
use hyperion_mpi::pmi1::{Action, Server};
use hyperion_testkit::{TestDir, requires};

/// Longer than any of these programs takes on a loaded machine.
const LIMIT: Duration = Duration::from_secs(60);

const PROGRAM: &str = r#"
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
int main(int argc, char **argv) {
    int rank, size, bytes = 4 << 20;
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    char *out = malloc(bytes), *in = malloc(bytes);
    memset(out, rank, bytes);
    int next = (rank + 1) % size, last = (rank + size - 1) % size;
    MPI_Sendrecv(out, bytes, MPI_CHAR, next, 0, in, bytes, MPI_CHAR, last, 0,
                 MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    if (in[0] != last || in[bytes - 1] != last) return 3;
    if (argc > 1 && !strcmp(argv[1], "abort") && rank == 1) MPI_Abort(MPI_COMM_WORLD, 7);
    if (argc > 1 && !strcmp(argv[1], "die") && rank == 1) _exit(9);
    if (argc > 1) MPI_Barrier(MPI_COMM_WORLD);
    if (rank == 0) printf("%d ranks\n", size);
    MPI_Finalize();
    return 0;
}
"#;

/// Starts a command once for each rank and serves it until all have left, or
/// until a rank ends the job. Gives what was seen, and what rank 0 printed.
fn serve(argv: &[&str], size: u32) -> (Vec<Action>, String) {
    let (events, received) = channel();
    let mut ranks: Vec<(Child, UnixStream)> = (0..size)
        .map(|rank| start(argv, Rank(rank), size, &events))
        .collect();
    let mut server = Server::new(size, "kvs_test");
    let (mut seen, mut open, end) = (Vec::new(), size, Instant::now() + LIMIT);
    'serve: while open > 0 {
        let left = end.saturating_duration_since(Instant::now());
        let (rank, bytes) = received.recv_timeout(left).expect("the ranks go on");
        let actions = match bytes.is_empty() {
            true => {
                open -= 1;
                server.closed(rank)
            }
            false => server.feed(rank, &bytes),
        };
        for action in actions {
            match action {
                Action::Send { rank, bytes } => {
                    // A rank that has died does not read its answer.
                    let _ = ranks[rank.0 as usize].1.write_all(&bytes);
                }
                Action::Finalized { .. } => seen.push(action),
                _ => {
                    seen.push(action);
                    break 'serve;
                }
            }
        }
    }
    let mut printed = String::new();
    for (child, _) in &mut ranks {
        // Killing one that has ended is no error.
        if open > 0 {
            child.kill().expect("an own child");
        }
        let mut output = child.stdout.take().expect("a pipe");
        output.read_to_string(&mut printed).expect("text");
        child.wait().expect("an own child");
    }
    (seen, printed)
}

fn start(
    argv: &[&str],
    rank: Rank,
    size: u32,
    events: &Sender<(Rank, Vec<u8>)>,
) -> (Child, UnixStream) {
    let (ours, theirs) = UnixStream::pair().expect("a pair");
    // Standard input is the one descriptor that a test may hand down without unsafe code.
    let position = Position::at(rank, size, seat(&[], size, rank.0));
    let child = Command::new(argv[0])
        .args(&argv[1..])
        .envs(rank_env(&LaunchKind::Pmi1, position, Some(0)))
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::piped())
        .spawn()
        .expect("started");
    let mut reader = ours.try_clone().expect("cloned");
    let events = events.clone();
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        loop {
            let read = reader.read(&mut buffer).unwrap_or(0);
            if events.send((rank, buffer[..read].to_vec())).is_err() || read == 0 {
                return;
            }
        }
    });
    (child, ours)
}

fn compile(dir: &TestDir) -> String {
    let source = dir.path().join("ring.c");
    std::fs::write(&source, PROGRAM).expect("written");
    let program = dir.path().join("ring");
    let status = Command::new("mpicc.mpich")
        .arg(&source)
        .arg("-o")
        .arg(&program)
        .status();
    assert!(status.expect("a compiler").success());
    program.to_str().expect("text").to_owned()
}

#[test]
fn four_ranks_of_mpich_meet_and_pass_4_mib_round_a_ring() {
    requires!("command:mpicc.mpich");
    let dir = TestDir::new();
    let program = compile(&dir);
    let (seen, printed) = serve(&[&program], 4);
    assert_eq!(seen.len(), 4, "{seen:?}");
    assert!(seen.iter().all(|a| matches!(a, Action::Finalized { .. })));
    assert_eq!(printed, "4 ranks\n");
}

#[test]
fn an_abort_arrives_with_its_code() {
    requires!("command:mpicc.mpich");
    let dir = TestDir::new();
    let (seen, _) = serve(&[&compile(&dir), "abort"], 3);
    assert!(
        matches!(
            seen[..],
            [Action::Abort {
                rank: Rank(1),
                code: 7,
                ..
            }]
        ),
        "{seen:?}"
    );
}

#[test]
fn a_rank_that_dies_in_the_middle_is_named() {
    requires!("command:mpicc.mpich");
    let dir = TestDir::new();
    let (seen, _) = serve(&[&compile(&dir), "die"], 3);
    assert_eq!(seen, [Action::Lost { rank: Rank(1) }]);
}
