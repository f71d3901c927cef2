//! Coverage-guided fuzzing: builds `crates/fuzz` with libFuzzer and starts it.
//!
//! The stable compiler is enough: libFuzzer is built by its own crate, and the
//! counters that guide it come from a pass of LLVM that any compiler can be
//! told to run. A C++ compiler must be there.

use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context as _, Result, bail};

/// What cargo-fuzz gives the compiler, without the address sanitizer: that needs
/// a nightly compiler, and would watch over `unsafe` code that no reader has.
/// Not static: libFuzzer's weak symbols are not for a static program.
const FLAGS: &str = "-Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares \
    -Ctarget-feature=-crt-static";
/// Seconds for each target when none are given.
const SECONDS: &str = "60";

/// Runs one target, or all, for some seconds each; stops at the first defect.
///
/// # Errors
/// What could not be built or started.
pub(crate) fn run(root: &Path, words: &[&str]) -> Result<ExitCode> {
    let (target, seconds) = match words {
        [] => (None, SECONDS),
        ["all", rest @ ..] => (None, *rest.first().unwrap_or(&SECONDS)),
        [target] => (Some(*target), SECONDS),
        [target, seconds] => (Some(*target), *seconds),
        _ => bail!("usage: cargo xtask fuzz [TARGET|all [SECONDS]]"),
    };
    let _: u32 = seconds.parse().context("SECONDS is a number")?;
    let all = targets(root)?;
    if let Some(target) = target.filter(|target| !all.iter().any(|name| name == target)) {
        bail!("there is no target `{target}`: {}", all.join(", "));
    }
    let folder = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| root.join("target"), Into::into)
        .join("fuzz");
    let program = build(root, &folder)?;
    let chosen = all.iter().filter(|name| target.is_none_or(|t| t == *name));
    for name in chosen {
        println!("== {name}");
        if !search(&program, &folder, name, seconds)? {
            eprintln!(
                "hint: when it is mended, keep the input as crates/fuzz/regressions/{name}/WHAT-IT-DID"
            );
            return Ok(ExitCode::FAILURE);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The names in the list of targets: the crate itself is too much to build for that.
fn targets(root: &Path) -> Result<Vec<String>> {
    let file = root.join("crates/fuzz/tests/bounded.rs");
    let text = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    let (_, list) = text
        .rsplit_once("targets! {")
        .context("no list of targets")?;
    let name = |line: &str| Some(line.split('"').nth(1)?.to_owned());
    Ok(list.lines().filter_map(name).collect())
}

fn build(root: &Path, folder: &Path) -> Result<std::path::PathBuf> {
    // Named, so that the flags are not for build scripts too.
    let triple = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo)
        .args(["build", "--quiet", "--locked", "--profile", "fuzz"])
        .args(["--package", "hyperion-fuzz", "--features", "engine"])
        .args(["--bin", "hyperion-fuzz", "--target", &triple])
        .current_dir(root)
        .env("CARGO_TARGET_DIR", folder)
        .env("RUSTFLAGS", FLAGS)
        .status()
        .context("cannot start cargo")?;
    if !built.success() {
        bail!("the targets cannot be built");
    }
    Ok(folder.join(triple).join("fuzz/hyperion-fuzz"))
}

/// Says whether no defect was found. What was learnt stays in `corpus`, and a
/// defect's input in `found`, for the next time.
fn search(program: &Path, folder: &Path, name: &str, seconds: &str) -> Result<bool> {
    let place = |what: &str| folder.join(what).join(name);
    let (seeds, corpus, found) = (place("seeds"), place("corpus"), place("found"));
    for folder in [&seeds, &corpus, &found] {
        std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    // Rust's programs live on when nobody reads what they write; libFuzzer's `main` is none.
    let status = Command::new("sh")
        .args(["-c", "trap '' PIPE; exec \"$@\"", "sh"])
        .arg(program)
        .env("HYPERION_FUZZ_TARGET", name)
        .env("HYPERION_FUZZ_SEEDS", &seeds)
        .arg(format!("-max_total_time={seconds}"))
        .args(["-timeout=20", "-rss_limit_mb=1024", "-print_final_stats=1"])
        .arg(format!("-dict={}", seeds.with_extension("words").display()))
        .arg(format!("-artifact_prefix={}/", found.display()))
        .args([&corpus, &seeds])
        .stdin(Stdio::null())
        .status()
        .with_context(|| format!("cannot start {}", program.display()))?;
    Ok(status.success())
}
