//! Who is connected.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use hyperion_api::Lines;
use hyperion_api::queue::{Refused, Reply, Request};
use hyperion_lifecycle::Who;
use hyperion_model::Class;
use rustix::event::{PollFd, PollFlags};
use rustix::net::sockopt::socket_peercred;
use rustix::process::geteuid;

/// As many can be connected at once; the others wait.
const MOST: usize = 1000;
/// Who lets so many bytes of answers lie is not asked for more.
const FULL: usize = 1 << 20;
/// So many questions of one client are taken in one turn.
const AT_ONCE: usize = 256;

/// A connection's number.
pub(crate) type ClientId = u64;

/// All connections, and the socket on which others come.
#[derive(Debug)]
pub(crate) struct Clients {
    listener: UnixListener,
    all: BTreeMap<ClientId, Connection>,
    next: ClientId,
}

#[derive(Debug)]
struct Connection {
    lines: Lines,
    who: Who,
    /// It asked for something that takes time, and is not heard until that is answered.
    waits: bool,
    gone: bool,
}

impl Clients {
    /// Listens at a path. Whatever lies there is taken away: the caller has the lock of
    /// the queue.
    pub(crate) fn listen(path: &Path) -> io::Result<Self> {
        match fs::remove_file(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        // An address has room for 108 bytes; a path by way of an open folder is short.
        let folder = path.parent().unwrap_or(Path::new("."));
        let open = fs::File::open(folder)?;
        let name = path.file_name().unwrap_or_default();
        let short = Path::new("/proc/self/fd")
            .join(std::os::fd::AsRawFd::as_raw_fd(&open).to_string())
            .join(name);
        let listener = UnixListener::bind(short)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
        listener.set_nonblocking(true)?;
        Ok(Self {
            listener,
            all: BTreeMap::new(),
            next: 1,
        })
    }

    /// Tells whether nobody is there.
    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Adds what is to be waited for.
    pub(crate) fn poll_set<'a>(&'a self, fds: &mut Vec<PollFd<'a>>) {
        let room = self.all.len() < MOST;
        let flags = if room {
            PollFlags::IN
        } else {
            PollFlags::empty()
        };
        fds.push(PollFd::new(&self.listener, flags));
        for connection in self.all.values() {
            let unsent = connection.lines.unsent();
            let mut flags = PollFlags::empty();
            if unsent > 0 {
                flags |= PollFlags::OUT;
            }
            if unsent < FULL && !connection.waits {
                flags |= PollFlags::IN;
            }
            fds.push(PollFd::from_borrowed_fd(connection.lines.as_fd(), flags));
        }
    }

    /// Takes those who come, and gives what is asked. Tells whether more has come than
    /// was taken.
    pub(crate) fn hear(&mut self) -> (Vec<(ClientId, Who, Request)>, bool) {
        while self.all.len() < MOST
            && let Ok((stream, _)) = self.listener.accept()
        {
            let _ = self.greet(stream);
        }
        let (mut asked, mut more) = (Vec::new(), false);
        for (&id, connection) in &mut self.all {
            let mut heard = 0;
            while !connection.waits && !connection.gone && connection.lines.unsent() < FULL {
                if heard == AT_ONCE {
                    more = true;
                    break;
                }
                match connection.lines.try_hear() {
                    Ok(Some(request)) => {
                        connection.waits = matches!(request, Request::Wait(_));
                        asked.push((id, connection.who, request));
                        heard += 1;
                    }
                    Ok(None) => break,
                    Err(_) => connection.gone = true,
                }
            }
        }
        (asked, more)
    }

    fn greet(&mut self, stream: UnixStream) -> io::Result<()> {
        let user = socket_peercred(&stream)?.uid.as_raw();
        // Whatever is submitted runs as the user of this process: nobody else may ask.
        let may = user == 0 || user == geteuid().as_raw();
        let mut connection = Connection {
            lines: Lines::new(stream)?,
            who: Who {
                user,
                operator: may,
            },
            waits: false,
            gone: !may,
        };
        if !may {
            connection.lines.queue(&Reply::Refused(Refused {
                class: Class::Denied,
                causes: vec!["the queue is another user's".into()],
                hint: "leave out --root: each user has a queue of their own".into(),
            }))?;
        }
        self.all.insert(self.next, connection);
        self.next += 1;
        Ok(())
    }

    /// Answers.
    pub(crate) fn answer(&mut self, to: ClientId, reply: &Reply) {
        if let Some(connection) = self.all.get_mut(&to) {
            connection.waits = false;
            connection.gone |= connection.lines.queue(reply).is_err();
        }
    }

    /// Sends what is taken just now, and forgets who is gone; gives those.
    pub(crate) fn flush(&mut self) -> Vec<ClientId> {
        let mut gone = Vec::new();
        self.all.retain(|&id, connection| {
            if connection.lines.unsent() > 0 {
                connection.gone |= connection.lines.flush().is_err();
            }
            if connection.gone {
                gone.push(id);
            }
            !connection.gone
        });
        gone
    }
}
