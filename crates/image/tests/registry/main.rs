//! Registries: Debian's `docker-registry`, with skopeo and podman as the other
//! side, and servers that lie, cut and stall.

mod debian;
mod fake;
mod sample;

use std::time::Duration;

use hyperion_image::Store;
use hyperion_image::registry::{Access, Backoff};
use hyperion_testkit::TestDir;

/// A store in a folder of its own.
fn store() -> (TestDir, Store) {
    let dir = TestDir::new();
    let store = Store::open(&dir.path().join("store")).expect("a store can be made");
    (dir, store)
}

/// Access by HTTP, with short pauses.
fn insecure() -> Access {
    Access {
        insecure: true,
        backoff: Backoff {
            attempts: 4,
            first: Duration::from_millis(1),
            ..Backoff::default()
        },
        ..Access::default()
    }
}

/// The files that a store holds besides its locks: to see what was left behind.
fn partials(store: &Store) -> usize {
    std::fs::read_dir(store.dir().join("partial"))
        .expect("the store has its folders")
        .count()
}
