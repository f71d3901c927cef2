//! What every level of isolation promises, and what it must refuse, seen from
//! the outside: the built `hyperion` runs a tiny image as root and as users.

mod contract;
mod fixture;
mod security;
mod systemd;
