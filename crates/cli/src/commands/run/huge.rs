//! Huge pages for the memory of machines.

use hyperion_model::{Bytes, Class};
use hyperion_sys::host::HugePages;

use crate::errors;

/// The size of x86's huge pages that the kernel takes where none is named.
const USUAL: Bytes = Bytes(2 << 20);

/// Finds the pool that the memory of some machines is to come from, by the size of
/// its pages (none: the usual one); gives that size. Memory that was asked for must
/// be a whole number of pages.
pub(in crate::commands) fn pages(
    pools: &[HugePages],
    size: Bytes,
    memory: Bytes,
    was_asked: bool,
    machines: u32,
) -> anyhow::Result<Bytes> {
    let refuse = |class, what: String, hint: String| Err(errors::advised(class, what, hint));
    let size = if size == Bytes(0) { USUAL } else { size };
    let Some(pool) = pools.iter().find(|pool| pool.size == size) else {
        let sizes: Vec<String> = pools.iter().map(|pool| pool.size.to_string()).collect();
        return refuse(
            Class::Unsupported,
            format!("this host has no huge pages of {size}"),
            match sizes.is_empty() {
                true => "leave out --hugepages: its kernel was built without".into(),
                false => format!(
                    "name one of these with --hugepages=SIZE: {}",
                    sizes.join(", ")
                ),
            },
        );
    };
    let count = memory.0 / size.0;
    if count == 0 || (was_asked && !memory.0.is_multiple_of(size.0)) {
        let next = Bytes(memory.0.div_ceil(size.0).max(1) * size.0);
        return refuse(
            Class::User,
            format!("memory of {memory} is no whole number of pages of {size}"),
            format!("ask for --memory {next}, or leave out --hugepages"),
        );
    }
    let needed = count * u64::from(machines);
    if pool.free < needed {
        let total = pool.total + needed - pool.free;
        let path = format!("/sys/kernel/mm/hugepages/hugepages-{}kB", size.0 >> 10);
        return refuse(
            Class::Unsupported,
            format!(
                "{needed} huge pages of {size} are needed, and {} are free",
                pool.free
            ),
            match size == USUAL {
                true => {
                    format!("as root: sysctl vm.nr_hugepages={total}, or ask for less --memory")
                }
                false => {
                    format!("as root: echo {total} > {path}/nr_hugepages, or ask for less --memory")
                }
            },
        );
    }
    Ok(size)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn what_the_pools_cannot_give_is_refused_with_the_fix() {
        let pool = |mib: u64, total, free| HugePages {
            size: Bytes(mib * MIB),
            total,
            free,
        };
        let pools = [pool(1024, 0, 0), pool(2, 200, 128)];
        let ask = |size: u64, memory: u64, machines| {
            let memory = Bytes(memory * MIB);
            match pages(&pools, Bytes(size * MIB), memory, true, machines) {
                Ok(page) => format!("{page}"),
                Err(error) => format!("{error}: {}", errors::hint_of(&error)),
            }
        };
        assert_eq!(ask(0, 256, 1), "2MiB");
        let two = ask(0, 256, 2);
        assert!(
            two.contains("256 huge pages of 2MiB are needed, and 128 are free"),
            "{two}"
        );
        assert!(two.contains("sysctl vm.nr_hugepages=328"), "{two}");
        let large = ask(1024, 1024, 1);
        assert!(
            large.contains("echo 1 > /sys/kernel/mm/hugepages/hugepages-1048576kB"),
            "{large}"
        );
        assert!(ask(1024, 1500, 1).contains("--memory 2GiB"));
        assert!(ask(4, 1500, 1).contains("one of these with --hugepages=SIZE: 1GiB, 2MiB"));
    }
}
