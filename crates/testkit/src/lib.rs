//! What the tests of every crate share: gates, temporary folders, the
//! binary, servers on loopback, another host to run on.
//!
//! Holds no knowledge of Hyperion's own types, so every crate can use it for
//! its tests. Never a dependency of what ships.

mod binary;
mod dice;
mod dir;
mod done;
mod gate;
mod guest;
mod http;
mod need;
mod registry;
mod traces;
mod wait;

pub use binary::{binary, hyperion, hyperion_as, hyperion_binary, run_as};
pub use dice::Dice;
pub use dir::TestDir;
pub use done::Done;
pub use gate::{Gate, check, count_inside};
pub use guest::{Guest, cache as guest_cache, disk_image, first_root};
pub use http::{HttpServer, Request};
pub use need::{Need, Unmet};
pub use registry::{DockerRegistry, RegistryOptions};
pub use traces::traces;
pub use wait::{wait_for, wait_until};
