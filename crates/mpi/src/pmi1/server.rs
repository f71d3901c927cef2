//! The launcher's side of PMI-1 as a state machine.

use std::collections::BTreeSet;

use hyperion_model::Rank;
use thiserror::Error;

use super::frame::{Frame, FrameError, Frames};
use super::message::Message;
use super::store::{KEY_MAX, KVSNAME_MAX, Store, VALUE_MAX};

/// What a rank did that ends the job.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ProtocolError {
    /// What came is not PMI-1.
    #[error("what the rank sends is not PMI-1")]
    Frame(#[from] FrameError),
    /// The client asks for PMI-2.
    #[error("the rank's MPI library asks for PMI-2, and PMI-1 is served")]
    Pmi2,
    /// A command that PMI-1 does not have.
    #[error("the rank sends {0:?}, which is no command of PMI-1")]
    Unknown(String),
    /// A command came before `init` or after `finalize`.
    #[error("the rank sends {0:?} while it is not initialised")]
    NotInitialised(String),
    /// A field is missing or is not of its type.
    #[error("the rank sends {command:?} without a valid {field:?}")]
    Field {
        /// The command.
        command: String,
        /// The field.
        field: &'static str,
    },
    /// The rank entered a barrier that it is in already.
    #[error("the rank enters a barrier twice")]
    BarrierTwice,
    /// The barrier can never complete.
    #[error("the rank waits in a barrier for rank {0}, which has ended")]
    BarrierBroken(Rank),
    /// There is no such rank.
    #[error("there is no rank {0}")]
    NoRank(Rank),
}

/// What the owner of the sockets must do.
#[derive(Debug, PartialEq, Eq)]
pub enum Action {
    /// Send these bytes to the rank.
    Send {
        /// To whom.
        rank: Rank,
        /// What.
        bytes: Vec<u8>,
    },
    /// The rank ends the job: stop all ranks and exit with this code.
    Abort {
        /// Who.
        rank: Rank,
        /// The code given to `MPI_Abort`.
        code: i32,
        /// The text given, empty when the library sends none.
        message: String,
    },
    /// The rank has left MPI in good order.
    Finalized {
        /// Who.
        rank: Rank,
    },
    /// The rank broke the protocol: stop the job. Nothing more is read from it.
    Protocol {
        /// Who.
        rank: Rank,
        /// How.
        error: ProtocolError,
    },
    /// The connection ended between `init` and `finalize`: the rank died.
    Lost {
        /// Who.
        rank: Rank,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    New,
    Active,
    Finalized,
}

#[derive(Debug)]
struct Client {
    frames: Frames,
    stage: Stage,
    /// Nothing more is read: the connection ended or the protocol was broken.
    closed: bool,
}

/// Serves PMI-1 to the ranks of one job on one node.
///
/// Memory is bounded by [`super::LINE_MAX`] and [`super::RANK_BYTES_MAX`] for
/// each rank. Answers are bounded only by questions, so the owner of the
/// sockets stops reading from a rank that does not read its answers.
#[derive(Debug)]
pub struct Server {
    size: u32,
    /// Which ranks are on which node, in PMI-1's words: ranks of one node use shared memory.
    mapping: String,
    kvsname: String,
    clients: Vec<Client>,
    store: Store,
    services: Store,
    waiting: BTreeSet<Rank>,
}

/// Writes `(vector,(FIRST NODE,NODES,RANKS OF EACH),…)`, with a block for each
/// run of nodes that hold as many.
fn mapping(nodes: &[u32]) -> String {
    let mut text = "(vector".to_owned();
    let mut first = 0;
    for run in nodes.chunk_by(|a, b| a == b) {
        let each = run.first().copied().unwrap_or(0);
        text += &format!(",({first},{},{each})", run.len());
        first += run.len();
    }
    text + ")"
}

impl Server {
    /// Makes a server for ranks `0..size` of one node whose key-value space has this name.
    pub fn new(size: u32, kvsname: &str) -> Self {
        Self::over(&[size], kvsname)
    }

    /// Makes a server for the ranks of several nodes, which hold this many each.
    pub fn over(nodes: &[u32], kvsname: &str) -> Self {
        let size = nodes.iter().sum();
        let client = |_| Client {
            frames: Frames::default(),
            stage: Stage::New,
            closed: false,
        };
        Self {
            size,
            mapping: mapping(nodes),
            kvsname: kvsname.to_owned(),
            clients: (0..size).map(client).collect(),
            store: Store::default(),
            services: Store::default(),
            waiting: BTreeSet::new(),
        }
    }

    /// Takes what a rank sent and tells what to do.
    pub fn feed(&mut self, rank: Rank, mut bytes: &[u8]) -> Vec<Action> {
        let mut actions = Vec::new();
        let Some(client) = self.clients.get_mut(rank.0 as usize) else {
            let error = ProtocolError::NoRank(rank);
            return vec![Action::Protocol { rank, error }];
        };
        if client.closed {
            return actions;
        }
        let mut frames = std::mem::take(&mut client.frames);
        loop {
            let outcome = match frames.next(&mut bytes) {
                Ok(None) => break,
                Ok(Some(frame)) => self.handle(rank, &frame, &mut actions),
                Err(error) => Err(error.into()),
            };
            if let Err(error) = outcome {
                self.clients[rank.0 as usize].closed = true;
                actions.push(Action::Protocol { rank, error });
                return actions;
            }
        }
        self.clients[rank.0 as usize].frames = frames;
        actions
    }

    /// Takes note that a rank's connection ended.
    pub fn closed(&mut self, rank: Rank) -> Vec<Action> {
        let Some(client) = self.clients.get_mut(rank.0 as usize) else {
            return Vec::new();
        };
        if std::mem::replace(&mut client.closed, true) {
            return Vec::new();
        }
        if client.stage == Stage::Active {
            return vec![Action::Lost { rank }];
        }
        // It left in good order, but others may be waiting for it.
        match self.waiting.first() {
            Some(&waiting) => vec![Action::Protocol {
                rank: waiting,
                error: ProtocolError::BarrierBroken(rank),
            }],
            None => Vec::new(),
        }
    }

    fn handle(
        &mut self,
        rank: Rank,
        frame: &Frame,
        actions: &mut Vec<Action>,
    ) -> Result<(), ProtocolError> {
        let message = match frame {
            Frame::Line(message) => message,
            Frame::Spawn => {
                let refused = Message::new("spawn_result")
                    .with("rc", -1)
                    .with("msg", "spawn_not_supported");
                actions.push(send(rank, &refused));
                return Ok(());
            }
        };
        let command = message.command();
        let before_init = ["init", "initack", "singinit", "abort"].contains(&command);
        if !before_init && self.clients[rank.0 as usize].stage != Stage::Active {
            return Err(ProtocolError::NotInitialised(command.to_owned()));
        }
        let field = |field| ProtocolError::Field {
            command: command.to_owned(),
            field,
        };
        let text = |name: &'static str| message.get(name).ok_or_else(|| field(name));
        let answer = match command {
            "init" => {
                let version: u32 = message.number("pmi_version").unwrap_or(0);
                if version != 1 {
                    let no = Message::new("response_to_init")
                        .with("pmi_version", 1)
                        .with("pmi_subversion", 1)
                        .with("rc", -1);
                    actions.push(send(rank, &no));
                    return Err(match version {
                        2.. => ProtocolError::Pmi2,
                        _ => field("pmi_version"),
                    });
                }
                self.clients[rank.0 as usize].stage = Stage::Active;
                Message::new("response_to_init")
                    .with("pmi_version", 1)
                    .with("pmi_subversion", 1)
                    .with("rc", 0)
            }
            // The handshake of a client that was given PMI_PORT and PMI_ID.
            "initack" => {
                if message.number("pmiid") != Some(rank.0) {
                    return Err(field("pmiid"));
                }
                actions.push(send(rank, &Message::new("initack").with("rc", 0)));
                for (key, value) in [("size", self.size), ("rank", rank.0)] {
                    actions.push(send(rank, &Message::new("set").with(key, value)));
                }
                Message::new("set").with("debug", 0)
            }
            // A process that was started alone and wants a launcher now; only
            // a job of one rank can give it what it asks for.
            "singinit" => {
                let ok = self.size == 1 && message.number("pmi_version") == Some(1);
                Message::new("singinit_info")
                    .with("versionok", if ok { "yes" } else { "no" })
                    .with("stdio", "no")
                    .with("kvsname", &self.kvsname)
            }
            "get_maxes" => Message::new("maxes")
                .with("kvsname_max", KVSNAME_MAX)
                .with("keylen_max", KEY_MAX)
                .with("vallen_max", VALUE_MAX),
            "get_appnum" => Message::new("appnum").with("rc", 0).with("appnum", 0),
            "get_universe_size" => Message::new("universe_size")
                .with("rc", 0)
                .with("size", self.size),
            "get_my_kvsname" => Message::new("my_kvsname")
                .with("rc", 0)
                .with("kvsname", &self.kvsname),
            "put" => {
                let (key, value) = (text("key")?, text("value")?);
                let put = match key.starts_with("PMI_") {
                    true => Err("reserved_key"),
                    false => self
                        .known(message)
                        .and_then(|()| self.store.put(rank, key, value)),
                };
                result("put_result", put)
            }
            "get" => {
                let key = text("key")?;
                let value = match key {
                    "PMI_process_mapping" => Some(self.mapping.as_str()),
                    _ if self.known(message).is_ok() => self.store.get(key),
                    _ => None,
                };
                match value {
                    Some(value) => result("get_result", Ok(())).with("value", value),
                    None => result("get_result", Err("key_not_found")).with("value", "unknown"),
                }
            }
            "getbyidx" => {
                let index: usize = message.number("idx").ok_or_else(|| field("idx"))?;
                let results = Message::new("getbyidx_results");
                match self.store.nth(index) {
                    Some((key, value)) => results
                        .with("rc", 0)
                        .with("nextidx", index + 1)
                        .with("key", key)
                        .with("val", value),
                    None => results.with("rc", -1).with("reason", "no_more_keyvals"),
                }
            }
            "barrier_in" if message.get("group").is_some() => {
                result("barrier_out", Err("group_not_supported"))
            }
            "barrier_in" => return self.barrier(rank, actions),
            "publish_name" => {
                let (service, port) = (text("service")?, text("port")?);
                let published = match self.services.get(service) {
                    Some(_) => Err("already_published"),
                    None => self.services.put(rank, service, port),
                };
                result("publish_result", published)
            }
            "unpublish_name" => {
                let removed = self.services.remove(text("service")?);
                result(
                    "unpublish_result",
                    removed.then_some(()).ok_or("not_published"),
                )
            }
            "lookup_name" => match self.services.get(text("service")?) {
                Some(port) => result("lookup_result", Ok(())).with("port", port),
                None => result("lookup_result", Err("not_published")),
            },
            "finalize" => {
                self.clients[rank.0 as usize].stage = Stage::Finalized;
                actions.push(send(rank, &Message::new("finalize_ack").with("rc", 0)));
                actions.push(Action::Finalized { rank });
                return Ok(());
            }
            "abort" => {
                actions.push(Action::Abort {
                    rank,
                    code: message.number("exitcode").unwrap_or(1),
                    message: message.get("message").unwrap_or_default().to_owned(),
                });
                return Ok(());
            }
            _ => return Err(ProtocolError::Unknown(command.chars().take(60).collect())),
        };
        actions.push(send(rank, &answer));
        Ok(())
    }

    /// Tells whether a request is about this job's key-value space.
    fn known(&self, message: &Message) -> Result<(), &'static str> {
        match message.get("kvsname") {
            Some(name) if name != self.kvsname => Err("kvs_not_found"),
            _ => Ok(()),
        }
    }

    fn barrier(&mut self, rank: Rank, actions: &mut Vec<Action>) -> Result<(), ProtocolError> {
        if !self.waiting.insert(rank) {
            return Err(ProtocolError::BarrierTwice);
        }
        if let Some(gone) = self.clients.iter().position(|c| c.closed) {
            return Err(ProtocolError::BarrierBroken(Rank(gone as u32)));
        }
        if self.waiting.len() == self.clients.len() {
            let out = Message::new("barrier_out").with("rc", 0);
            let waiting = std::mem::take(&mut self.waiting);
            actions.extend(waiting.into_iter().map(|rank| send(rank, &out)));
        }
        Ok(())
    }
}

fn send(rank: Rank, message: &Message) -> Action {
    let bytes = message.encode();
    Action::Send { rank, bytes }
}

fn result(command: &str, outcome: Result<(), &'static str>) -> Message {
    match outcome {
        Ok(()) => Message::new(command).with("rc", 0).with("msg", "success"),
        Err(reason) => Message::new(command).with("rc", -1).with("msg", reason),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const INIT: &str = "cmd=init pmi_version=1 pmi_subversion=1\n";

    /// Feeds a line and gives what rank 0.. get, as `rank line`.
    fn talk(server: &mut Server, rank: u32, line: &str) -> Vec<String> {
        let show = |action| match action {
            Action::Send { rank, bytes } => {
                format!("{rank} {}", String::from_utf8_lossy(&bytes).trim_end())
            }
            other => format!("{other:?}"),
        };
        let actions = server.feed(Rank(rank), line.as_bytes());
        actions.into_iter().map(show).collect()
    }

    fn ready(size: u32) -> Server {
        let mut server = Server::new(size, "kvs_1");
        for rank in 0..size {
            talk(&mut server, rank, INIT);
        }
        server
    }

    #[test]
    fn ranks_learn_who_is_on_their_node() {
        assert_eq!(mapping(&[4]), "(vector,(0,1,4))");
        assert_eq!(mapping(&[2, 2]), "(vector,(0,2,2))");
        assert_eq!(mapping(&[3, 2, 2, 1]), "(vector,(0,1,3),(1,2,2),(3,1,1))");
    }

    #[test]
    fn the_dialogue_of_mpich_4_0_2_is_answered() {
        let mut server = Server::new(1, "kvs_1");
        let lines = [
            INIT,
            "cmd=get_maxes\n",
            "cmd=get_appnum\n",
            "cmd=get_my_kvsname\n",
            "cmd=get kvsname=kvs_1 key=PMI_process_mapping\n",
            "cmd=barrier_in\n",
            "cmd=put kvsname=kvs_1 key=-bcast-1-0 value=2F64\n",
            "cmd=get kvsname=kvs_1 key=-bcast-1-0\n",
            "cmd=get kvsname=kvs_1 key=nothing\n",
            "cmd=get_universe_size\n",
            "cmd=finalize\n",
        ];
        let said: Vec<String> = lines
            .iter()
            .flat_map(|line| talk(&mut server, 0, line))
            .collect();
        insta::assert_snapshot!(said.join("\n"), @"
        0 cmd=response_to_init pmi_version=1 pmi_subversion=1 rc=0
        0 cmd=maxes kvsname_max=256 keylen_max=64 vallen_max=1024
        0 cmd=appnum rc=0 appnum=0
        0 cmd=my_kvsname rc=0 kvsname=kvs_1
        0 cmd=get_result rc=0 msg=success value=(vector,(0,1,1))
        0 cmd=barrier_out rc=0
        0 cmd=put_result rc=0 msg=success
        0 cmd=get_result rc=0 msg=success value=2F64
        0 cmd=get_result rc=-1 msg=key_not_found value=unknown
        0 cmd=universe_size rc=0 size=1
        0 cmd=finalize_ack rc=0
        Finalized { rank: Rank(0) }
        ");
        assert_eq!(server.closed(Rank(0)), []);
    }

    #[test]
    fn a_barrier_lets_go_when_the_last_rank_enters() {
        let mut server = ready(3);
        assert!(talk(&mut server, 2, "cmd=barrier_in\n").is_empty());
        assert!(talk(&mut server, 0, "cmd=barrier_in\n").is_empty());
        assert_eq!(talk(&mut server, 1, "cmd=barrier_in\n").len(), 3);
        assert!(talk(&mut server, 1, "cmd=barrier_in\n").is_empty());
        assert_eq!(
            server.feed(Rank(1), b"cmd=barrier_in\n"),
            [Action::Protocol {
                rank: Rank(1),
                error: ProtocolError::BarrierTwice
            }]
        );
    }

    #[test]
    fn a_rank_that_dies_between_init_and_finalize_is_reported() {
        let mut server = ready(2);
        assert_eq!(server.closed(Rank(1)), [Action::Lost { rank: Rank(1) }]);
        assert_eq!(server.closed(Rank(1)), []);
        let mut never = Server::new(2, "kvs_1");
        assert_eq!(never.closed(Rank(1)), []);
    }

    #[test]
    fn a_barrier_that_can_never_complete_is_reported() {
        let broken = |by| Action::Protocol {
            rank: Rank(0),
            error: ProtocolError::BarrierBroken(Rank(by)),
        };
        // Rank 1 leaves MPI and ends while rank 0 waits; or ended before.
        let mut server = ready(2);
        talk(&mut server, 0, "cmd=barrier_in\n");
        talk(&mut server, 1, "cmd=finalize\n");
        assert_eq!(server.closed(Rank(1)), [broken(1)]);
        let mut server = Server::new(2, "kvs_1");
        talk(&mut server, 0, INIT);
        server.closed(Rank(1));
        assert_eq!(server.feed(Rank(0), b"cmd=barrier_in\n"), [broken(1)]);
    }

    #[test]
    fn a_shell_script_may_run_one_mpi_program_after_another() {
        let mut server = ready(1);
        talk(&mut server, 0, "cmd=finalize\n");
        assert_eq!(
            server.feed(Rank(0), b"cmd=get_maxes\n"),
            [Action::Protocol {
                rank: Rank(0),
                error: ProtocolError::NotInitialised("get_maxes".into())
            }]
        );
        let mut server = ready(1);
        talk(&mut server, 0, "cmd=finalize\n");
        assert!(talk(&mut server, 0, INIT)[0].ends_with("rc=0"));
        assert!(talk(&mut server, 0, "cmd=get_maxes\n")[0].contains("keylen_max"));
    }

    #[test]
    fn spawning_is_refused_and_the_rank_lives_on() {
        let mut server = ready(1);
        let spawn = "mcmd=spawn\nnprocs=2\nexecname=./a\ntotspawns=1\nspawnssofar=1\nargcnt=0\npreput_num=0\ninfo_num=0\nendcmd\n";
        assert_eq!(
            talk(&mut server, 0, spawn),
            ["0 cmd=spawn_result rc=-1 msg=spawn_not_supported"]
        );
        assert_eq!(talk(&mut server, 0, "cmd=barrier_in\n").len(), 1);
    }

    #[test]
    fn a_pmi_2_client_gets_a_refusal_that_names_it() {
        let mut server = Server::new(1, "kvs_1");
        let said = talk(&mut server, 0, "cmd=init pmi_version=2 pmi_subversion=0\n");
        assert_eq!(
            said,
            [
                "0 cmd=response_to_init pmi_version=1 pmi_subversion=1 rc=-1",
                "Protocol { rank: Rank(0), error: Pmi2 }"
            ]
        );
    }

    #[test]
    fn a_client_with_a_port_learns_its_rank_and_size() {
        let mut server = Server::new(4, "kvs_1");
        assert_eq!(
            talk(&mut server, 2, "cmd=initack pmiid=2\n"),
            [
                "2 cmd=initack rc=0",
                "2 cmd=set size=4",
                "2 cmd=set rank=2",
                "2 cmd=set debug=0"
            ]
        );
        assert!(talk(&mut server, 1, "cmd=initack pmiid=2\n")[0].starts_with("Protocol"));
    }

    #[test]
    fn names_are_published_looked_up_and_taken_back() {
        let mut server = ready(2);
        let mut say = |rank, line: &str| talk(&mut server, rank, line).join("");
        assert!(say(0, "cmd=publish_name service=s port=tag#0\n").contains("rc=0"));
        assert!(say(1, "cmd=publish_name service=s port=other\n").contains("already_published"));
        assert!(say(1, "cmd=lookup_name service=s\n").contains("port=tag#0"));
        assert!(say(1, "cmd=unpublish_name service=s\n").contains("rc=0"));
        assert!(say(1, "cmd=lookup_name service=s\n").contains("rc=-1 msg=not_published"));
    }

    #[test]
    fn abort_carries_its_code_and_text() {
        let mut server = ready(2);
        assert_eq!(
            server.feed(
                Rank(1),
                b"cmd=abort exitcode=7 message=application called\n"
            ),
            [Action::Abort {
                rank: Rank(1),
                code: 7,
                message: "application called".into()
            }]
        );
    }

    #[test]
    fn the_store_can_be_walked_by_index() {
        let mut server = ready(1);
        talk(&mut server, 0, "cmd=put kvsname=kvs_1 key=a value=1\n");
        assert_eq!(
            talk(&mut server, 0, "cmd=getbyidx kvsname=kvs_1 idx=0\n"),
            ["0 cmd=getbyidx_results rc=0 nextidx=1 key=a val=1"]
        );
        assert_eq!(
            talk(&mut server, 0, "cmd=getbyidx kvsname=kvs_1 idx=1\n"),
            ["0 cmd=getbyidx_results rc=-1 reason=no_more_keyvals"]
        );
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_server_panic(
            chunks in prop::collection::vec((0u32..5, prop::collection::vec(any::<u8>(), 0..80)), 0..20),
        ) {
            let mut server = ready(4);
            for (rank, bytes) in chunks {
                server.feed(Rank(rank), &bytes);
            }
        }

        #[test]
        fn no_sequence_of_commands_makes_the_server_panic(
            lines in prop::collection::vec((0u32..3, prop::sample::select(vec![
                INIT, "cmd=get_maxes\n", "cmd=barrier_in\n", "cmd=finalize\n", "cmd=abort exitcode=1\n",
                "cmd=put kvsname=k key=a value=b\n", "cmd=put key=a\n", "cmd=get key=a\n",
                "cmd=getbyidx idx=99999999999999999999\n", "cmd=publish_name service=a port=b\n",
                "cmd=singinit pmi_version=1\n", "cmd=initack pmiid=-1\n", "mcmd=spawn\n", "endcmd\n", "close",
            ])), 0..40),
        ) {
            let mut server = Server::new(3, "k");
            for (rank, line) in lines {
                match line {
                    "close" => server.closed(Rank(rank)),
                    line => server.feed(Rank(rank), line.as_bytes()),
                };
            }
        }
    }
}
