//! What to do about the server of a queue.

use hyperion_model::Class;
use hyperion_server::journal::JournalError;
use hyperion_server::{HistoryError, ServeError};

use super::{Told, of_root};

/// Tells the class and the hint of an error of the server, or of its journal.
pub(super) fn classify(cause: &(dyn std::error::Error + 'static)) -> Option<Told> {
    if let Some(error) = cause.downcast_ref::<ServeError>() {
        return match error {
            ServeError::Folder { source, .. } => of_root(source),
            ServeError::Socket { source, .. } => {
                let in_use = source.kind() == std::io::ErrorKind::AddrInUse;
                in_use.then(|| Told {
                    class: Class::Conflict,
                    hint: Some(
                        "another server listens there: `hyperion serve --stop` ends it".into(),
                    ),
                })
            }
            ServeError::Journal(error) => of_journal(error),
            ServeError::History(HistoryError::Foreign(_)) => Some(Told {
                class: Class::Conflict,
                hint: Some("move it away: jobs that ended long ago are not listed then".into()),
            }),
            ServeError::History(_) | ServeError::Agent(_) | ServeError::Poll(_) => None,
        };
    }
    cause.downcast_ref().and_then(of_journal)
}

fn of_journal(error: &JournalError) -> Option<Told> {
    use JournalError as E;
    let (class, hint) = match error {
        E::InUse(_) => (
            Class::Conflict,
            "`hyperion queue` asks the server that runs; `hyperion serve --stop` ends it",
        ),
        E::Full(_) => (
            Class::Unavailable,
            "make room on the disk; what was submitted is written down, and what runs goes on",
        ),
        E::Foreign(_) => (
            Class::Conflict,
            "something else lies there: move it away, or choose another folder with --root",
        ),
        E::Form { .. } | E::Strange { .. } => (
            Class::Unsupported,
            "run the version that wrote it, or choose another folder with --root",
        ),
        E::Unreadable { .. } | E::Record(_) | E::Sqlite { .. } => return None,
        E::Io { source, .. } => return of_root(source),
    };
    Some(Told {
        class,
        hint: Some(hint.into()),
    })
}
