//! What the last lines of a failed rank mean, where they are known.

use serde::Serialize;

/// A known failure and its way out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Hint {
    /// What happened.
    pub cause: String,
    /// What to do.
    pub fix: String,
}

/// A failure is known by words that all stand in one line.
struct Known {
    words: &'static [&'static str],
    cause: &'static str,
    fix: &'static str,
}

const KNOWN: &[Known] = &[
    Known {
        words: &["AttributeError", "Get_node"],
        cause: "an mpi4py communicator has no Get_node(): the node's name belongs to the process",
        fix: "write MPI.Get_processor_name() in place of comm.Get_node()",
    },
    Known {
        words: &["No module named", "mpi4py"],
        cause: "mpi4py is not installed for this Python",
        fix: "add the package python3-mpi4py to the image, or run with the Python that has mpi4py",
    },
    Known {
        words: &["No module named", "numpy"],
        cause: "NumPy is not installed for this Python",
        fix: "add the package python3-numpy to the image",
    },
    Known {
        words: &["error while loading shared libraries"],
        cause: "a shared library that the program needs is not in the image",
        fix: "add the package of the named library to the image; --preflight shows all that are missing",
    },
    Known {
        words: &["not enough slots available"],
        cause: "Open MPI's mpirun found fewer processors than ranks",
        fix: "ask for fewer ranks, or add --oversubscribe",
    },
    Known {
        words: &["getting local rank failed"],
        cause: "each rank may start one MPI program, and this is its second",
        fix: "call mpiexec in the script for each program, or run them as two jobs",
    },
    Known {
        words: &["ucx function returned", "init_worker"],
        cause: "MPICH could not get its shared memory",
        fix: "make /dev/shm larger with --shm-size, at least 5 MiB for each rank",
    },
    Known {
        words: &["Value too large for defined data type"],
        cause: "the folder that is the image belongs to a user who is not known inside, so nothing can be made in it",
        fix: "make an image of the folder, whose files are yours: hyperion image import FOLDER NAME",
    },
    Known {
        words: &["Bus error"],
        cause: "most often a full /dev/shm: shared memory was mapped that cannot be backed",
        fix: "make /dev/shm larger with --shm-size, or give the job more --memory",
    },
    Known {
        words: &["xec format error"],
        cause: "the program is built for another processor, or is a script without #!",
        fix: "use an image of this host's architecture, or name the interpreter: sh SCRIPT",
    },
];

/// Recognises a failure by the last lines of a rank's standard error.
///
/// The last line that is known wins: what is printed last is nearest to the end.
pub fn explain_failure(stderr_tail: &str) -> Option<Hint> {
    let known = |line: &str| {
        let mut all = KNOWN.iter();
        all.find(|known| known.words.iter().all(|word| line.contains(word)))
    };
    let known = stderr_tail.lines().rev().find_map(known)?;
    Some(Hint {
        cause: known.cause.to_owned(),
        fix: known.fix.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wrong_script_of_the_source_gets_its_fix_named() {
        let tail = "Traceback (most recent call last):\n  File \"hello.py\", line 10, in <module>\n    \
            print(\"Hello from process\", rank, \"of\", size, \"on node\", comm.Get_node())\n\
            AttributeError: 'mpi4py.MPI.Intracomm' object has no attribute 'Get_node'\n";
        let hint = explain_failure(tail).expect("known");
        assert!(hint.fix.contains("MPI.Get_processor_name()"), "{hint:?}");
    }

    #[test]
    fn what_is_not_known_is_not_explained() {
        assert_eq!(explain_failure(""), None);
        assert_eq!(
            explain_failure("ZeroDivisionError: division by zero\n"),
            None
        );
    }
}
