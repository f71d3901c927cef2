//! Every target over its seeds, old findings and a fixed number of mutations.

use std::time::{Duration, Instant};

use hyperion_fuzz::{Mutator, TARGETS, Target};

/// How many mutations of each target.
const ROUNDS: u64 = 1500;
/// No input of a few kilobytes may take longer, in a debug build on a busy machine.
const SLOWEST: Duration = Duration::from_secs(10);
/// The most memory that this process may take in all, in KiB.
const MEMORY_KIB: u64 = 512 << 10;

fn run(name: &str) {
    let target = Target::named(name).expect("a target");
    let inputs = target.inputs();
    let mut mutator = Mutator::new(1);
    let mutated: Vec<Vec<u8>> = (0..ROUNDS)
        .map(|_| mutator.mutate(&inputs, target.words))
        .collect();
    for input in inputs.iter().chain(&mutated) {
        let start = Instant::now();
        let result = std::panic::catch_unwind(|| (target.run)(input));
        let text = input.escape_ascii();
        assert!(result.is_ok(), "{name} panics on \"{text}\"");
        assert!(start.elapsed() < SLOWEST, "{name} is slow on \"{text}\"");
    }
    let peak = peak_memory_kib();
    assert!(peak < MEMORY_KIB, "{name} took {peak} KiB");
}

fn peak_memory_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("procfs");
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.expect("the kernel tells the peak")
}

/// One test for each target, and a check that none is forgotten.
macro_rules! targets {
    ($($test:ident: $name:literal,)*) => {
        $(#[test]
        fn $test() {
            run($name);
        })*

        #[test]
        fn every_target_has_a_test() {
            let names: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
            assert_eq!(names, [$($name),*]);
        }
    };
}

targets! {
    no_archive_harms_the_tar_reader: "tar",
    no_archive_harms_the_writer_of_one_file_images: "erofs",
    no_layers_get_out_and_both_forms_agree: "layers",
    no_changes_of_a_guest_leave_the_folder: "changes",
    no_archive_of_images_harms_the_store: "archive",
    no_layout_folder_harms_the_store: "layout",
    no_manifest_harms_the_registry_client: "manifest",
    no_header_harms_the_registry_client: "challenge",
    no_file_of_credentials_harms_its_reader: "credentials",
    no_name_harms_the_parser_of_references: "reference",
    no_settings_harm_the_parser_of_registries: "registries",
    no_rank_harms_the_pmi_server: "pmi",
    no_frame_harms_the_supervisor: "wire",
    no_monitor_harms_its_client: "qmp",
    no_guest_harms_its_hosts_relay: "relay",
    no_guest_gives_more_than_is_asked: "guest",
    no_guest_harms_who_asks_its_agent: "agent",
    no_passwd_file_harms_the_init: "passwd",
    no_binary_harms_the_preflight: "elf",
    no_command_harms_the_preflight: "command",
    no_kernel_harms_its_reader: "kernel",
    no_module_harms_its_reader: "module",
    no_package_harms_its_reader: "package",
    no_word_harms_the_command_line: "words",
    no_domain_harms_the_reader_of_machines: "domain_xml",
    no_descriptor_harms_the_reader_of_appliances: "ovf",
    no_archive_harms_the_reader_of_appliances: "ova",
    no_script_harms_the_reader_of_jobs: "job_script",
    no_scenario_harms_the_simulator: "scenario",
    no_snapshot_of_a_simulation_does_harm_when_it_is_read: "snapshot",
    no_log_harms_its_reader: "swf",
}
