//! Tells the linker which functions lie together: those that a start runs
//! (docs/decisions/0013). Without that all works as well, and starts later.

use std::env;
use std::path::Path;
use std::process::Command;

const ORDER: &str = "link-order.txt";

fn main() {
    println!("cargo::rerun-if-changed={ORDER}");
    let is = |name, value| env::var(name).is_ok_and(|v| v == value);
    // The names are those of an optimized build, and of functions of this target only.
    if is("PROFILE", "release") && is("TARGET", "x86_64-unknown-linux-gnu") && links_with_lld() {
        let folder = env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
        println!("cargo::rustc-link-arg-bins=-Wl,--symbol-ordering-file={folder}/{ORDER}");
        println!("cargo::rustc-link-arg-bins=-Wl,--no-warn-symbol-ordering");
    }
}

/// Tells whether this is a Rust with its own linker, which it takes for this
/// target: another may not know the words.
fn links_with_lld() -> bool {
    let rustc = env::var_os("RUSTC").unwrap_or("rustc".into());
    let output = Command::new(rustc).args(["--print", "sysroot"]).output();
    let sysroot = output.map(|o| String::from_utf8_lossy(&o.stdout).into_owned());
    sysroot.is_ok_and(|root| {
        let linker = "lib/rustlib/x86_64-unknown-linux-gnu/bin/gcc-ld/ld.lld";
        Path::new(root.trim()).join(linker).exists()
    })
}
