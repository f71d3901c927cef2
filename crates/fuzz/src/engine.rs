//! The targets under libFuzzer: `cargo xtask fuzz` builds and starts this.
//!
//! libFuzzer owns the command line, so the target's name and the folder for
//! its seeds come by the environment.

#![no_main]

use std::path::PathBuf;
use std::sync::OnceLock;

use hyperion_fuzz::Target;

static TARGET: OnceLock<&'static Target> = OnceLock::new();

/// Writes seeds and dictionary before libFuzzer looks for them.
fn prepare() {
    let name = std::env::var("HYPERION_FUZZ_TARGET").unwrap_or_default();
    let target = Target::named(&name).expect("HYPERION_FUZZ_TARGET names a target");
    let target = TARGET.get_or_init(|| target);
    let Some(folder) = std::env::var_os("HYPERION_FUZZ_SEEDS").map(PathBuf::from) else {
        return;
    };
    for (at, seed) in target.inputs().iter().enumerate() {
        std::fs::write(folder.join(format!("seed-{at:03}")), seed).expect("a seed is written");
    }
    let escape = |byte: u8| match byte {
        b'"' | b'\\' | 0..0x20 | 0x7f.. => format!("\\x{byte:02x}"),
        byte => char::from(byte).to_string(),
    };
    let line = |word: &&str| format!("\"{}\"\n", word.bytes().map(escape).collect::<String>());
    let words: String = target.words.iter().map(line).collect();
    std::fs::write(folder.with_extension("words"), words).expect("the words are written");
}

libfuzzer_sys::fuzz_target!(init: prepare(), |bytes: &[u8]| {
    (TARGET.get().expect("it was prepared").run)(bytes);
});
