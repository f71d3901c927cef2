//! What virtual machines are made of.

pub mod kernel;
