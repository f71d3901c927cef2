//! How a program is fenced.

pub mod init;
