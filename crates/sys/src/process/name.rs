//! The words under which this process is seen by others.

use std::ffi::CStr;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

/// Names this process, in place of what it was started as: `ps` and `/proc`
/// show the name only, and none of the words of its command line. Meant for a
/// copy of a process that never asks for its arguments again.
pub fn rename(name: &CStr) {
    let _ = rustix::thread::set_name(name);
    let first = WORDS.load(Ordering::Relaxed);
    let size = WORDS_SIZE.load(Ordering::Relaxed);
    let shown = name.to_bytes().len().min(size.saturating_sub(1));
    // SAFETY: the words begin where the first one does and are `size` bytes long; they lie on the
    // stack's top, may be written (proc_pid_cmdline(5)), and nothing in this one thread reads them.
    unsafe {
        ptr::write_bytes(first, 0, size);
        ptr::copy_nonoverlapping(name.as_ptr().cast(), first, shown);
    }
}

/// Where the words of this process's command line begin, and how many bytes they are with the
/// zeros at their ends. Nothing in a program whose `main` is another.
static WORDS: AtomicPtr<u8> = AtomicPtr::new(ptr::dangling_mut());
static WORDS_SIZE: AtomicUsize = AtomicUsize::new(0);

/// Notes where the words of the command line lie, for [`rename`].
///
/// # Safety
/// `count` and `words` are what the program's `main` was called with.
pub(crate) unsafe fn remember_words(count: i32, words: *mut *mut u8) {
    let Some(last) = usize::try_from(count).ok().and_then(|n| n.checked_sub(1)) else {
        return;
    };
    // SAFETY: there are as many words, each with a zero at its end, and the kernel has put one
    // behind the other.
    let (first, end) = unsafe {
        let last = *words.add(last);
        let size = CStr::from_ptr(last.cast()).to_bytes_with_nul().len();
        (*words, last.add(size))
    };
    WORDS.store(first, Ordering::Relaxed);
    WORDS_SIZE.store(end.addr() - first.addr(), Ordering::Relaxed);
}
