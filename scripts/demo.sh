#!/usr/bin/env bash
# The main job: an image, MPI on four ranks, a heat equation as a process and
# in a container, and what each cost. Called by `make demo` after the set-up.
set -euo pipefail
cd "$(dirname "$0")/.."

hyperion=${HYPERION:?names the binary; call this by: make demo}
image=hyperion-demo
# A store of its own: the user's images and jobs are left alone.
export HYPERION_ROOT=${HYPERION_ROOT:-${CARGO_TARGET_DIR:-$PWD/target}/demo}
mkdir -p "$HYPERION_ROOT"

title() { printf '\n== %s\n' "$*"; }
show() {
  printf '$ hyperion %s\n' "$*"
  "$hyperion" "$@"
}

title "the image: Debian with MPICH, Open MPI, mpi4py and NumPy"
if "$hyperion" image inspect $image >/dev/null 2>&1; then
  echo "$image is in the store already"
else
  show image bootstrap debian:bookworm $image \
    --include mpich,openmpi-bin,python3-mpi4py,python3-numpy
fi
show image ls

cores=$(nproc)
many=()
[ "$cores" -lt 4 ] && many=(--oversubscribe)
ranks=$((cores < 4 ? cores : 4))

title "hello on 4 ranks, as a process and in a container"
show run --rm -n 4 "${many[@]}" --isolation process python3 "$PWD/examples/hello/hello.py"
show run --rm -n 4 "${many[@]}" --isolation container -v "$PWD/examples:/examples:ro" \
  $image python3 /examples/hello/hello.py

title "the heat equation on $ranks ranks, as a process and in a container"
for level in process container; do
  "$hyperion" rm --force demo-$level >/dev/null 2>&1 || true
done
show run --name demo-process -n "$ranks" --repeat 3 --isolation process \
  python3 "$PWD/examples/heat/heat.py"
show run --name demo-container -n "$ranks" --repeat 3 --isolation container \
  -v "$PWD/examples:/examples:ro" $image python3 /examples/heat/heat.py

title "what each level cost"
show report demo-process demo-container
