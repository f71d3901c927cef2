use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::thread::{self, JoinHandle};

use hyperion_model::report::Exit;
use proptest::prelude::*;
use rustix::io::{Errno, ioctl_fionread};

use super::*;
use crate::protocol::{Event, Request};

const NOW: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 0,
};
const SOON: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 20_000_000,
};

/// A supervisor and an init, with two relays between them.
struct Talk {
    supervisor: Wire,
    init: Wire,
    host: JoinHandle<io::Result<()>>,
    guest: JoinHandle<io::Result<()>>,
}

fn wires() -> (Wire, Wire) {
    Wire::pair().expect("a pair")
}

fn pipe() -> (File, File) {
    let (read, write) = rustix::pipe::pipe().expect("a pipe");
    (read.into(), write.into())
}

impl Talk {
    fn start() -> Self {
        let (port, its_port) = wires();
        Self::over(port, its_port)
    }

    /// Starts it over a stream that comes in pieces of these sizes, again and again.
    fn in_pieces(sizes: Vec<usize>) -> Self {
        let (port, near) = UnixStream::pair().expect("a pair");
        let (far, its_port) = UnixStream::pair().expect("a pair");
        for (from, to) in [(&near, &far), (&far, &near)] {
            let (mut from, mut to) = (from.try_clone().expect("one"), to.try_clone().expect("one"));
            let sizes = sizes.clone();
            thread::spawn(move || {
                let mut piece = [0; 4096];
                for size in sizes.iter().cycle() {
                    match from.read(&mut piece[..*size]) {
                        Ok(got @ 1..) if to.write_all(&piece[..got]).is_ok() => {}
                        _ => break,
                    }
                }
                let _ = to.shutdown(std::net::Shutdown::Both);
            });
        }
        Self::over(Wire::new(port.into()), Wire::new(its_port.into()))
    }

    fn over(port: Wire, its_port: Wire) -> Self {
        let (supervisor, its) = wires();
        let (init, inits) = wires();
        let mut host = Relay::new(Side::Host, its, port);
        let mut guest = Relay::new(Side::Guest, inits, its_port);
        Self {
            supervisor,
            init,
            host: thread::spawn(move || {
                while host.turn(&[], None)?.0 == Course::On && !host.is_left() {}
                Ok(())
            }),
            guest: thread::spawn(move || {
                while guest.turn(&[], None)?.0 == Course::On {}
                guest.other.queue(&Word::Over)?;
                while guest.other.queued() > 0 {
                    guest.other.flush()?;
                }
                // A machine goes on until the host has taken that.
                poll(&mut [PollFd::new(&guest.other, PollFlags::empty())], None)?;
                Ok(())
            }),
        }
    }

    /// Sends a spawn with open files, and gives what the init gets for them.
    fn spawn<const N: usize>(&mut self, files: [&dyn AsFd; N]) -> [File; N] {
        let files = files.map(|file| file.as_fd());
        self.supervisor.send(&spawn(1), &files).expect("sent");
        assert_eq!(self.init.receive::<Request>().expect("received"), spawn(1));
        files.map(|_| self.init.take_fd().expect("a file came").into())
    }

    fn end(self) {
        drop(self.init);
        self.guest.join().expect("no panic").expect("it went well");
        drop(self.supervisor);
        self.host.join().expect("no panic").expect("it went well");
    }
}

fn spawn(id: u32) -> Request {
    let process = hyperion_model::ProcessSpec {
        node: 0,
        argv: vec!["program".into()],
        env: Vec::new(),
        cwd: "/".into(),
        user: None,
        tty: false,
        terminal_size: None,
        cpus: None,
        rlimits: Vec::new(),
    };
    Request::Spawn { id, process }
}

fn ended(id: u32) -> Reply {
    Reply::Event(Event::Ended {
        id,
        exit: Exit::Code(0),
        user: Duration::ZERO,
        system: Duration::ZERO,
        max_rss: 0,
        io_read: 0,
        io_written: 0,
        starved: false,
        alone: false,
    })
}

fn exactly(mut from: impl Read, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    from.read_exact(&mut bytes).expect("they come");
    bytes
}

fn all(mut from: impl Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    from.read_to_end(&mut bytes).expect("an end comes");
    bytes
}

#[test]
fn files_of_each_kind_arrive_and_carry_bytes_both_ways() {
    let mut talk = Talk::start();
    let (stdin, mut to_stdin) = pipe();
    let (from_stdout, stdout) = pipe();
    let (mut ours, theirs) = UnixStream::pair().expect("a pair");
    let null = File::open("/dev/null").expect("it is there");
    let mut regular = tempfile::tempfile().expect("a file");
    regular.write_all(b"of a file").expect("written");
    let regular = File::open(format!("/proc/self/fd/{}", {
        use std::os::fd::AsRawFd;
        regular.as_raw_fd()
    }))
    .expect("opened to be read");
    let got = talk.spawn([&stdin, &stdout, &theirs, &null, &regular]);
    drop((stdin, stdout, theirs, null, regular));
    let [its_stdin, mut its_stdout, mut socket, its_null, its_regular] = got;
    to_stdin.write_all(b"in").expect("written");
    drop(to_stdin);
    assert_eq!(all(its_stdin), b"in");
    its_stdout.write_all(b"out").expect("written");
    drop(its_stdout);
    assert_eq!(all(from_stdout), b"out");
    // Half of a socket is closed, and the other half goes on.
    ours.write_all(b"question").expect("written");
    ours.shutdown(std::net::Shutdown::Write).expect("shut");
    assert_eq!(all(&socket), b"question");
    socket.write_all(b"answer").expect("written");
    drop(socket);
    assert_eq!(all(&ours), b"answer");
    assert_eq!(Way::of(&its_null.into()).expect("looked at"), Way::Null);
    assert_eq!(all(its_regular), b"of a file");
    // A terminal comes the other way.
    let (mut master, slave) = UnixStream::pair().expect("a pair");
    let reply = Reply::Spawned {
        pid: 7,
        terminal: true,
    };
    talk.init.send(&reply, &[slave.as_fd()]).expect("sent");
    drop(slave);
    assert_eq!(talk.supervisor.receive::<Reply>().expect("one"), reply);
    let mut terminal = File::from(talk.supervisor.take_fd().expect("it came"));
    terminal.write_all(b"typed").expect("written");
    assert_eq!(exactly(&master, 5), b"typed");
    master.write_all(b"shown").expect("written");
    assert_eq!(exactly(&terminal, 5), b"shown");
    // Data of a message comes after it.
    let reply = Reply::Data { found: true };
    talk.init.send(&reply, &[]).expect("sent");
    talk.init.send_data(0, &[7; 100_000]).expect("sent");
    assert_eq!(talk.supervisor.receive::<Reply>().expect("one"), reply);
    let data = talk.supervisor.receive_frame().expect("one");
    assert_eq!(data, Some(Frame::Data(0, vec![7; 100_000])));
    talk.end();
}

#[test]
fn a_reader_that_goes_away_is_noticed_and_harms_nothing_else() {
    let mut talk = Talk::start();
    let (stdin, mut to_stdin) = pipe();
    let (from_stdout, stdout) = pipe();
    let (from_stderr, stderr) = pipe();
    let (ours, theirs) = UnixStream::pair().expect("a pair");
    let got = talk.spawn([&stdin, &stdout, &stderr, &theirs]);
    drop((stdin, stdout, stderr, theirs));
    let [its_stdin, mut its_stdout, mut its_stderr, mut its_socket] = got;
    drop((its_stdin, from_stdout));
    // Much is under way when it is noticed.
    for file in [&mut to_stdin, &mut its_stdout] {
        let error = loop {
            if let Err(e) = file.write_all(&[0; 100_000]) {
                break e;
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }
    // Of a socket only the half that nobody reads.
    let mut its_other = its_socket.try_clone().expect("one");
    ours.shutdown(std::net::Shutdown::Read).expect("shut");
    let writer = thread::spawn(move || while its_other.write_all(&[0; 10_000]).is_ok() {});
    writer.join().expect("it noticed");
    (&ours).write_all(b"still").expect("written");
    assert_eq!(exactly(&mut its_socket, 5), b"still");
    its_stderr.write_all(b"on").expect("written");
    drop(its_stderr);
    assert_eq!(all(from_stderr), b"on");
    drop((to_stdin, its_stdout, its_socket, ours));
    talk.end();
}

#[test]
fn an_end_never_overtakes_what_was_written_before_it() {
    let mut talk = Talk::start();
    let (mut from_stdout, stdout) = pipe();
    let [mut its_stdout] = talk.spawn([&stdout]);
    drop(stdout);
    let length = 10 * WINDOW;
    let mut init = talk.init;
    let program = thread::spawn(move || {
        its_stdout.write_all(&vec![b'x'; length]).expect("written");
        drop(its_stdout);
        init.send(&ended(1), &[]).expect("sent");
        init
    });
    // A slow reader: the end is there only when all the rest is in the pipe.
    let mut read = 0;
    loop {
        let heard = talk.supervisor.try_receive_frame().expect("it goes on");
        let waiting = ioctl_fionread(&from_stdout).expect("asked") as usize;
        if heard.is_some() {
            assert_eq!(read + waiting, length);
            break;
        }
        let take = (length - read).min(3000).min(waiting);
        read += exactly(&mut from_stdout, take).len();
    }
    talk.init = program.join().expect("it ended");
    talk.end();
}

#[test]
fn many_programs_talk_at_once() {
    const MANY: usize = 60;
    let mut talk = Talk::start();
    let mut programs = Vec::new();
    let mut readers = Vec::new();
    for number in 0..MANY {
        let (stdin, to_stdin) = pipe();
        let (from_stdout, stdout) = pipe();
        let [its_stdin, mut its_stdout] = talk.spawn([&stdin, &stdout]);
        talk.init
            .send(
                &Reply::Spawned {
                    pid: 1,
                    terminal: false,
                },
                &[],
            )
            .expect("sent");
        talk.supervisor.receive::<Reply>().expect("an answer");
        programs.push(thread::spawn(move || {
            let heard = all(its_stdin);
            its_stdout.write_all(&heard).expect("written");
        }));
        readers.push(thread::spawn(move || {
            let said = vec![number as u8; 3 * WINDOW / 2];
            let writer = thread::spawn({
                let (said, mut to_stdin) = (said.clone(), to_stdin);
                move || to_stdin.write_all(&said).expect("written")
            });
            assert!(all(from_stdout) == said);
            writer.join().expect("it ended");
        }));
    }
    for thread in programs.into_iter().chain(readers) {
        thread.join().expect("it ended");
    }
    for id in 0..MANY as u32 {
        talk.init.send(&ended(id), &[]).expect("sent");
        let reply = talk.supervisor.receive::<Reply>().expect("an end");
        assert_eq!(reply, ended(id));
    }
    talk.end();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

    #[test]
    fn the_pieces_that_a_stream_comes_in_do_not_matter(
        sizes in prop::collection::vec(1..300usize, 1..6),
        texts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..2000), 1..4),
    ) {
        let mut talk = Talk::in_pieces(sizes);
        for text in texts {
            let (stdin, mut to_stdin) = pipe();
            let (from_stdout, stdout) = pipe();
            let [its_stdin, mut its_stdout] = talk.spawn([&stdin, &stdout]);
            drop((stdin, stdout));
            to_stdin.write_all(&text).expect("written");
            drop(to_stdin);
            let heard = all(its_stdin);
            its_stdout.write_all(&heard).expect("written");
            drop(its_stdout);
            talk.init.send(&ended(1), &[]).expect("sent");
            prop_assert_eq!(talk.supervisor.receive::<Reply>().expect("an end"), ended(1));
            prop_assert_eq!(all(from_stdout), text);
        }
        talk.end();
    }
}

/// A host's relay with the sockets of a supervisor and of a hostile guest, and
/// the pipe that the guest's first program writes to.
fn hostile() -> (Relay, Wire, Wire, File) {
    let (mut supervisor, its) = wires();
    let (port, guest) = wires();
    let mut host = Relay::new(Side::Host, its, port);
    let (from_stdout, stdout) = pipe();
    supervisor.send(&spawn(1), &[stdout.as_fd()]).expect("sent");
    host.turn(&[], Some(&NOW)).expect("heard");
    (host, supervisor, guest, from_stdout)
}

fn said(json: &str) -> String {
    let message = serde_json::to_string(json).expect("a string");
    format!(r#"{{"pass":{{"message":{message},"channels":[]}}}}"#)
}

#[test]
fn nonsense_of_a_guest_ends_it_and_reaches_nobody() {
    let passed = |say: &str, channels: &str| {
        let message = serde_json::to_string(say).expect("a string");
        format!(r#"{{"pass":{{"message":{message},"channels":[{channels}]}}}}"#)
    };
    let spawned = r#"{"say":"spawned","pid":1,"terminal":true}"#;
    let terminal = r#"{"channel":1,"way":"both"}"#;
    let words = [
        "[]".to_owned(),
        r#"{"pass":{"message":"#.into(),
        r#"{"boot":{}}"#.into(),
        r#"{"end":{"channel":4}}"#.into(),
        r#"{"end":{"channel":1}}"#.into(),
        r#"{"took":{"channel":2,"bytes":1}}"#.into(),
        r#"{"took":{"channel":2,"bytes":18446744073709551615}}"#.into(),
        said("no json"),
        said(r#"{"ask":"stop"}"#),
        said(r#"{"say":"gone","why":"off"}"#),
        said(r#"{"say":"event","event":"collected","changes":0}"#),
        // One answer was asked for, without a terminal in it.
        said(spawned),
        passed(spawned, r#"{"channel":2,"way":"both"}"#),
        passed(spawned, r#"{"channel":0,"way":"both"}"#),
        passed(spawned, r#"{"channel":4,"way":"both"}"#),
        passed(spawned, r#"{"channel":1,"way":"in"}"#),
        passed(spawned, &format!("{terminal},{terminal}")),
        passed(r#"{"say":"ready"}"#, terminal),
        passed(r#"{"say":"event","event":"joined","id":1}"#, terminal),
    ];
    for word in words {
        let (mut host, mut supervisor, guest, _out) = hostile();
        let mut frame = (word.len() as u32 + 1).to_le_bytes().to_vec();
        frame.push(b'J');
        frame.extend(word.bytes());
        rustix::io::write(&guest, &frame).expect("written");
        let error = host.turn(&[], Some(&NOW)).expect_err(&word);
        assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{word}");
        let heard = supervisor.try_receive_frame().expect("it goes on");
        assert_eq!(heard, None, "{word}");
    }
    // Answers that nobody waits for, more than the window, what was never opened.
    let (mut host, _supervisor, mut guest, _out) = hostile();
    for _ in 0..2 {
        let answer = said(r#"{"say":"spawn-failed","step":"fork","errno":1}"#);
        guest
            .queue_raw(answer.as_bytes(), Vec::new())
            .expect("queued");
    }
    guest.flush().expect("sent");
    host.turn(&[], Some(&NOW)).expect_err("one too many");
    for (channel, length) in [(2, WINDOW + 70_000), (4, 1), (1, 1)] {
        let (mut host, _supervisor, mut guest, _out) = hostile();
        guest.queue_data(channel, &vec![0; length]);
        let error = loop {
            let _ = guest.flush();
            if let Err(e) = host.turn(&[], Some(&NOW)) {
                break e;
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{channel}");
    }
    // A frame that is larger than any.
    let (mut host, _supervisor, guest, _out) = hostile();
    let length = (MAX_OF_GUEST as u32 + 1).to_le_bytes();
    rustix::io::write(&guest, &length).expect("written");
    host.turn(&[], Some(&NOW)).expect_err("too large");
}

#[test]
fn a_guest_that_only_speaks_and_never_listens_fills_no_memory() {
    let (mut host, _supervisor, mut guest, from_stdout) = hostile();
    rustix::io::ioctl_fionbio(&from_stdout, true).expect("set");
    let (mut sent, mut piece) = (0u64, [0; 4096]);
    // Each of these takes an answer of a word once in a while: it is never read.
    for _ in 0..100 {
        while guest.queued() < 100_000 {
            guest.queue_data(2, b"x");
            sent += 1;
        }
        let _ = guest.flush();
        match host.turn(&[], Some(&NOW)) {
            Ok(_) => {}
            // It did not wait for its window to be opened.
            Err(e) => {
                assert_eq!(e.kind(), io::ErrorKind::InvalidData);
                break;
            }
        }
        while let Ok(1..) = rustix::io::read(&from_stdout, &mut piece) {}
        assert!(
            host.other.queued() < FULL && host.waiting() < FULL,
            "{sent}"
        );
    }
    // Answers that the supervisor does not take stop the hearing.
    let (mut host, _supervisor, mut guest, _out) = hostile();
    let answer = said(&format!(
        r#"{{"say":"names","names":["{}"]}}"#,
        "n".repeat(10_000)
    ));
    for _ in 0..2000 {
        while guest.queued() < 100_000 {
            guest
                .queue_raw(answer.as_bytes(), Vec::new())
                .expect("queued");
        }
        let _ = guest.flush();
        host.turn(&[], Some(&NOW)).expect("it goes on");
    }
    assert!(
        host.waiting() < FULL + PIECES * 20_000,
        "{}",
        host.waiting()
    );
    assert!(guest.queued() > 0, "it is held up");
    // Ends that wait for output that nobody takes.
    let (mut host, _supervisor, mut guest, _out) = hostile();
    guest.queue_data(2, &[0; WINDOW]);
    guest.queue_data(2, b"more than fits");
    let event = said(&format!(
        r#"{{"say":"event","x":"{}"}}"#,
        "x".repeat(1 << 20)
    ));
    let error = loop {
        if guest.queued() == 0 {
            guest
                .queue_raw(event.as_bytes(), Vec::new())
                .expect("queued");
        }
        let _ = guest.flush();
        if let Err(e) = host.turn(&[], Some(&NOW)) {
            break e;
        }
        assert!(host.held_bytes <= MAX_HELD);
    };
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
}

#[test]
fn a_guest_that_takes_nothing_does_not_hold_up_its_supervisor() {
    let (mut host, mut supervisor, guest, _out) = hostile();
    let relay = thread::spawn(move || {
        while let Ok((Course::On, _)) = host.turn(&[], Some(&SOON))
            && !host.is_left()
        {}
    });
    let (stdin, to_stdin) = pipe();
    supervisor.send(&spawn(2), &[stdin.as_fd()]).expect("sent");
    rustix::io::ioctl_fionbio(&to_stdin, true).expect("set");
    for _ in 0..40_000 {
        supervisor
            .send(
                &Request::Signal {
                    id: None,
                    signal: 15,
                },
                &[],
            )
            .expect("taken");
        let written = rustix::io::write(&to_stdin, &[0; 4096]);
        assert!(matches!(written, Ok(_) | Err(Errno::AGAIN)));
    }
    drop(supervisor);
    relay.join().expect("it ended with its supervisor");
    drop(guest);
}

#[test]
fn what_a_guest_said_before_its_end_arrives_before_the_reason() {
    let (mut host, mut supervisor, mut guest, mut from_stdout) = hostile();
    let text = vec![b'x'; WINDOW];
    guest.queue_data(2, &text);
    let event = said(&serde_json::to_string(&ended(1)).expect("a message"));
    guest
        .queue_raw(event.as_bytes(), Vec::new())
        .expect("queued");
    let relay = thread::spawn(move || {
        while host.turn(&[], None).is_ok() {}
        host.hear_rest();
        host.finish(&Reply::Gone {
            why: crate::vm::MachineEnd::InitEnded,
        })
    });
    while guest.queued() > 0 {
        guest.flush().expect("sent");
    }
    drop(guest);
    assert!(exactly(&mut from_stdout, text.len()) == text);
    assert_eq!(supervisor.receive::<Reply>().expect("one"), ended(1));
    let last = supervisor.receive::<Reply>().expect("the reason");
    assert!(matches!(last, Reply::Gone { .. }), "{last:?}");
    relay.join().expect("no panic").expect("it went well");
    assert_eq!(all(from_stdout), b"");
}
