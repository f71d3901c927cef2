//! What comes before the program's own `main`, and after it.
//!
//! Rust's own start also reads the process' map to find its stack's end, and puts
//! up a second stack on which to say that the first one overflowed: a tenth of a
//! millisecond of each command line, supervisor and init. A stack that overflows
//! ends this program by SIGSEGV, without a word.

use std::panic::catch_unwind;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use rustix::stdio;

/// How the program ends: as [`std::process::ExitCode`], which cannot be had as a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExitCode(u8);

impl ExitCode {
    /// 0.
    pub const SUCCESS: Self = Self(0);
    /// 1.
    pub const FAILURE: Self = Self(1);
}

impl From<u8> for ExitCode {
    fn from(code: u8) -> Self {
        Self(code)
    }
}

/// What a program ends with that panicked, as Rust's own start has it.
const PANICKED: u8 = 101;

/// Makes a function the program's `main`; the crate says `#![no_main]`.
#[macro_export]
macro_rules! main {
    ($run:path) => {
        // SAFETY: the program has no other function of this name, for it has no `main` of Rust's.
        #[unsafe(no_mangle)]
        extern "C" fn main(count: i32, words: *mut *mut u8) -> i32 {
            // SAFETY: they are what a `main` is called with.
            unsafe { $crate::entry::start($run, count, words) }
        }
    };
}

/// Calls `run` and ends the process.
///
/// # Safety
/// `count` and `words` are what the program's `main` was called with, and this is its only call.
pub unsafe fn start(run: fn() -> ExitCode, count: i32, words: *mut *mut u8) -> ! {
    // SAFETY: the caller's promise.
    unsafe { crate::process::remember_words(count, words) };
    open_first_three();
    crate::signals::ignore_broken_pipes();
    crate::signals::hear_of_children();
    let ExitCode(code) = catch_unwind(run).unwrap_or(ExitCode(PANICKED));
    // It writes out what standard output still holds.
    std::process::exit(code.into())
}

/// Opens what is closed of descriptors 0 to 2: else a file would come to be one of
/// them, and errors would be written into it.
fn open_first_three() {
    let mut first = [stdio::stdin(), stdio::stdout(), stdio::stderr()]
        .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::empty()));
    let asked = loop {
        match poll(&mut first, Some(&rustix::time::Timespec::default())) {
            Err(Errno::INTR) => {}
            asked => break asked,
        }
    };
    if asked.is_ok_and(|count| count == 0) {
        return;
    }
    for fd in &first {
        if fd.revents().contains(PollFlags::NVAL) {
            // The lowest number that is free: this one, for they are gone through in order.
            match open("/dev/null", OFlags::RDWR, Mode::empty()) {
                Ok(null) => std::mem::forget(null),
                Err(_) => std::process::abort(),
            }
        }
    }
}
