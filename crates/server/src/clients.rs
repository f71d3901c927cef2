//! Who is connected.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use hyperion_api::Lines;
use hyperion_api::queue::{Refused, Reply, Request};
use hyperion_lifecycle::Who;
use hyperion_model::Class;
use rustix::event::{PollFd, PollFlags};
use rustix::net::sockopt::socket_peercred;
use rustix::process::geteuid;

use crate::bounds::weight;

/// As many can be connected at once; the others wait.
const MOST: usize = 1000;
/// As many of one user, where others are heard too; more are refused.
const MOST_EACH: usize = 100;
/// As much is kept for one user, in bytes: of questions that have not come whole, and of
/// answers that nobody takes.
const HELD_EACH: usize = 64 << 20;
/// Who lets so many bytes of answers lie is not asked for more.
const FULL: usize = 1 << 20;
/// So many questions of one user are taken in one turn.
const AT_ONCE: usize = 256;

/// Whom a server is for.
#[derive(Debug, Clone, Default)]
pub struct Audience {
    /// Everybody on this host, who asks here; else only the user whose server it is, and root.
    pub everybody: Option<PathBuf>,
    /// Who may touch what is others', beside root and the user whose server it is.
    pub operators: BTreeSet<u32>,
    /// Users see no jobs but their own.
    pub private: bool,
}

impl Audience {
    fn who(&self, user: u32) -> Option<Who> {
        let own = user == 0 || user == geteuid().as_raw();
        (own || self.everybody.is_some()).then(|| Who {
            user,
            operator: own || self.operators.contains(&user),
        })
    }
}

/// A connection's number.
pub(crate) type ClientId = u64;

/// All connections, and the socket on which others come.
#[derive(Debug)]
pub(crate) struct Clients {
    listener: UnixListener,
    /// Others may be there that have not been let in.
    newcomers: bool,
    all: BTreeMap<ClientId, Connection>,
    next: ClientId,
    audience: Audience,
}

#[derive(Debug)]
struct Connection {
    lines: Lines,
    who: Who,
    /// It may have said something that was not read.
    speaks: bool,
    /// It asked for something that takes time, and is not heard until that is answered.
    waits: bool,
    gone: bool,
}

impl Connection {
    fn refuse(&mut self, what: &str, hint: &str) {
        let refused = self.lines.queue(&Reply::Refused(Refused {
            class: Class::Denied,
            causes: vec![what.into()],
            hint: hint.into(),
        }));
        self.gone |= refused.is_err();
    }
}

impl Clients {
    /// Listens where it is to be asked, the queue lying in a folder; `given` is a socket on
    /// which somebody else listens for it.
    pub(crate) fn listen(
        folder: &Path,
        audience: Audience,
        given: Option<UnixListener>,
    ) -> io::Result<Self> {
        let own = folder.join("socket");
        let listener = match (&audience.everybody, given) {
            (None, _) => listen(&own, 0o600)?,
            (Some(path), given) => {
                let listener = match given {
                    Some(listener) => listener,
                    None if UnixStream::connect(path).is_ok() => {
                        return Err(io::ErrorKind::AddrInUse.into());
                    }
                    None => listen(path, 0o666)?,
                };
                // Whoever names the folder finds it, too.
                remove(&own)?;
                symlink(path, &own)?;
                listener
            }
        };
        listener.set_nonblocking(true)?;
        Ok(Self {
            listener,
            newcomers: true,
            all: BTreeMap::new(),
            next: 1,
            audience,
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
        let unsent_each = self.unsent_each();
        for connection in self.all.values() {
            let unsent = connection.lines.unsent();
            let all = unsent_each.get(&connection.who.user);
            let full = unsent >= FULL || all.is_some_and(|all| *all >= HELD_EACH);
            let mut flags = PollFlags::empty();
            if unsent > 0 {
                flags |= PollFlags::OUT;
            }
            if !full && !connection.waits {
                flags |= PollFlags::IN;
            }
            fds.push(PollFd::from_borrowed_fd(connection.lines.as_fd(), flags));
        }
    }

    /// Is told of which of what was waited for there is something, in the order of
    /// [`Clients::poll_set`].
    pub(crate) fn see(&mut self, ready: &[PollFlags]) {
        let mut ready = ready.iter();
        self.newcomers |= ready.next().is_some_and(|ready| !ready.is_empty());
        for (connection, ready) in self.all.values_mut().zip(ready) {
            connection.speaks |= ready.intersects(!PollFlags::OUT);
            // Who waits says nothing, and may leave.
            connection.gone |= connection.waits && ready.contains(PollFlags::HUP);
        }
    }

    /// Gives what users have not taken, in bytes; of most that is nothing.
    fn unsent_each(&self) -> BTreeMap<u32, usize> {
        let mut each = BTreeMap::new();
        for connection in self.all.values() {
            if connection.lines.unsent() > 0 {
                *each.entry(connection.who.user).or_default() += connection.lines.unsent();
            }
        }
        each
    }

    /// Takes those who come, and gives what is asked. Tells whether more has come than
    /// was taken.
    pub(crate) fn hear(&mut self) -> (Vec<(ClientId, Who, Request)>, bool) {
        while self.newcomers && self.all.len() < MOST {
            match self.listener.accept() {
                Ok((stream, _)) => drop(self.greet(stream)),
                Err(_) => self.newcomers = false,
            }
        }
        let (mut asked, mut more) = (Vec::new(), false);
        // Of each user: what was asked in this turn, and what has come and is not whole.
        let mut each: BTreeMap<u32, (usize, usize)> = BTreeMap::new();
        let unsent_each = self.unsent_each();
        for (&id, connection) in &mut self.all {
            let unsent = unsent_each.get(&connection.who.user);
            if unsent.is_some_and(|unsent| *unsent >= HELD_EACH) {
                continue;
            }
            let (heard, held) = each.entry(connection.who.user).or_default();
            while connection.speaks
                && !connection.waits
                && !connection.gone
                && connection.lines.unsent() < FULL
            {
                if *heard >= AT_ONCE {
                    more = true;
                    break;
                }
                match connection.lines.try_hear() {
                    Ok(Some(request)) => match weight(&request) {
                        Some(weight) => {
                            connection.waits = matches!(request, Request::Wait(_));
                            *heard += weight;
                            asked.push((id, connection.who, request));
                        }
                        None => {
                            *heard += AT_ONCE;
                            connection.refuse("that is too much at once", "ask in pieces");
                        }
                    },
                    Ok(None) => connection.speaks = false,
                    Err(_) => connection.gone = true,
                }
            }
            *held += connection.lines.unheard();
            connection.gone |= *held > HELD_EACH;
        }
        (asked, more)
    }

    fn greet(&mut self, stream: UnixStream) -> io::Result<()> {
        let user = socket_peercred(&stream)?.uid.as_raw();
        let of_user = |other: &&Connection| other.who.user == user;
        let refused = match self.audience.who(user) {
            None => Some((
                "the queue is another user's",
                "leave out --root: each user has a queue of their own",
            )),
            Some(_)
                if self.audience.everybody.is_some()
                    && self.all.values().filter(of_user).count() >= MOST_EACH =>
            {
                Some((
                    "this user asks too often at once",
                    "wait until others of your commands have ended",
                ))
            }
            Some(_) => None,
        };
        let mut connection = Connection {
            lines: Lines::new(stream)?,
            who: self.audience.who(user).unwrap_or(Who {
                user,
                operator: false,
            }),
            speaks: true,
            waits: false,
            gone: refused.is_some(),
        };
        if let Some((what, hint)) = refused {
            connection.refuse(what, hint);
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

/// Listens at a path. Whatever lies there is taken away: the caller has the lock of the
/// queue.
fn listen(path: &Path, mode: u32) -> io::Result<UnixListener> {
    remove(path)?;
    // An address has room for 108 bytes; a path by way of an open folder is short.
    let folder = path.parent().unwrap_or(Path::new("."));
    let open = fs::File::open(folder)?;
    let name = path.file_name().unwrap_or_default();
    let short = Path::new("/proc/self/fd")
        .join(std::os::fd::AsRawFd::as_raw_fd(&open).to_string())
        .join(name);
    let listener = UnixListener::bind(short)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    Ok(listener)
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}
