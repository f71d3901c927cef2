//! Foreign words in and out: definitions of machines that were written for
//! other programs, the job scripts of batch systems, and what a guest reads when it first boots.
//!
//! **Architecture invariant:** this crate is pure. Text comes in and goes out;
//! it opens no file and asks nobody, least of all because a document says so.

pub mod diff;
pub mod domain;
pub mod iso;
pub mod jobs;
pub mod listings;
pub mod ova;
pub mod seed;
pub mod swf;
pub mod xml;
