#!/usr/bin/env bash
# Installs what is missing for one level of work, and says what and why.
#
#   scripts/setup.sh build|demo|test|bench
#
# From Debian's packages by apt-get, as root or with sudo; for `test` also the
# Rust tools that check the sources, built into a folder of their own. What is
# there already is left alone. No service is started.
set -euo pipefail

level=${1:-}

# What to install, and why. A level holds those above it.
packages() {
  local build='gcc:links_the_binary libc6-dev:static_C_library_and_headers make:runs_the_recipes
    git:lists_the_sources_for_tidy'
  local demo='ca-certificates:registries_by_HTTPS
    mmdebstrap:image_bootstrap erofs-utils:images_as_one_file uidmap:several_users_in_rootless_containers
    mpich:MPI_of_the_MPICH_family openmpi-bin:MPI_of_the_Open_MPI_family
    python3:examples python3-mpi4py:examples python3-numpy:examples
    qemu-system-x86:virtual_machines qemu-utils:their_disks'
  local test='libmpich-dev:MPI_programs_in_C libopenmpi-dev:MPI_programs_in_C
    g++:the_example_in_several_languages gfortran:the_example_in_several_languages
    skopeo:the_other_side_of_pull_and_push podman:the_other_side_of_images
    docker-registry:a_registry_on_loopback apache2-utils:its_passwords
    crun:oracle_and_peer runc:oracle_and_peer umoci:oracle_and_peer
    charliecloud:peer bubblewrap:peer hyperfine:timing
    e2fsprogs:the_disk_of_another_host kmod:its_modules
    libvirt-clients:the_schema_of_domain_XML libxml2-utils:checks_by_it
    qemu-block-extra:disks_behind_HTTP passt:networks_of_machines iproute2:bridges_for_them
    ovmf:UEFI_of_machines systemd:checks_its_units openssh-client:into_machines dosfstools:a_disk_that_boots mtools:a_disk_that_boots
    fdisk:a_disk_that_boots syslinux:a_disk_that_boots syslinux-common:a_disk_that_boots
    qemu-guest-agent:answers_in_the_place_of_a_guest
    genisoimage:reads_the_seeds_of_machines python3-yaml:reads_what_is_in_them
    attr:extended_attributes_of_layers tmux:a_terminal_to_detach_from strace:counts_system_calls'
  local bench='slurm-wlm:peer munge:peer'
  case $level in
    build) echo "$build" ;;
    demo) echo "$build $demo" ;;
    test) echo "$build $demo $test" ;;
    bench) echo "$build $demo $test $bench" ;;
    *) echo "usage: scripts/setup.sh build|demo|test|bench" >&2 && exit 2 ;;
  esac
}

# Rust tools, pinned so that a check means the same everywhere.
tools='cargo-nextest@0.9.151 cargo-deny@0.20.2 cargo-machete@0.9.2 typos-cli@1.52.0'

say() { printf 'setup: %s\n' "$*"; }

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

# Debian starts a service when its package is installed, unless this file says no.
policy=/usr/sbin/policy-rc.d
no_services() {
  [ -e $policy ] && return
  printf '#!/bin/sh\nexit 101\n' | as_root tee $policy >/dev/null
  as_root chmod 755 $policy
  trap 'as_root rm -f $policy' EXIT
}

missing() {
  local entry
  for entry in $(packages); do
    [ "$(dpkg-query -W -f='${db:Status-Status}' "${entry%%:*}" 2>/dev/null)" = installed ] ||
      echo "$entry"
  done
}

install_packages() {
  local missing
  missing=$(missing)
  if [ -z "$missing" ]; then
    say "every package for '$level' is there"
    return
  fi
  sed -E 's/([^:]*):(.*)/setup: \1 is missing: \2/; s/_/ /g' <<<"$missing"
  missing=$(cut -d: -f1 <<<"$missing")
  if [ "$(id -u)" != 0 ] && ! command -v sudo >/dev/null; then
    say "error: not root and no sudo; as root run: apt-get install" $missing >&2
    exit 1
  fi
  no_services
  as_root apt-get update -q
  apt_get_install $missing
  # What was there from another source may have had to go for the rest: then Debian's own takes its place.
  missing=$(missing | cut -d: -f1)
  [ -z "$missing" ] || apt_get_install $missing
}

apt_get_install() {
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@"
}

# A user without privileges who has a range of subordinate ids, for rootless tests.
test_user() {
  [ "$(id -u)" = 0 ] || return 0
  id hyperion-test >/dev/null 2>&1 && return
  say "user hyperion-test is missing: rootless containers with a range of user ids"
  useradd --create-home --shell /bin/sh hyperion-test
}

install_tools() {
  local cache=${XDG_CACHE_HOME:-$HOME/.cache}/hyperion entry crate command
  for entry in $tools; do
    crate=${entry%@*}
    command=${crate%-cli}
    if command -v "$command" >/dev/null || [ -x "$cache/tools/bin/$command" ]; then
      continue
    fi
    say "$command is missing: building $entry into $cache/tools"
    # From the root folder: this workspace's own settings (a static target) are
    # not for tools. Quick to build rather than quick to run.
    (cd / && CARGO_TARGET_DIR=$cache/build CARGO_PROFILE_RELEASE_OPT_LEVEL=1 \
      CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
      CARGO_PROFILE_RELEASE_DEBUG=0 CARGO_PROFILE_RELEASE_STRIP=symbols \
      cargo install --quiet --locked --root "$cache/tools" "$entry" $(features "$crate"))
  done
  rm -rf "$cache/build"
}

# nextest without the part that would update itself.
features() {
  case $1 in cargo-nextest) echo --no-default-features ;; esac
}

if ! command -v apt-get >/dev/null; then
  say "this machine has no apt-get; install the like of these yourself:"
  packages | tr -s ' \n' '\n' | cut -d: -f1 | paste -sd' '
else
  install_packages
fi
if ! command -v cargo >/dev/null; then
  say "error: no cargo on the search path; install Rust 1.95 or later (rustup)" >&2
  exit 1
fi
case $level in
  test | bench)
    "${0%/*}/guest.sh"
    "${0%/*}/disk.sh"
    ;;
esac
if [ "$level" = test ]; then
  test_user
  install_tools
fi
