#!/usr/bin/env bash
# The main job: an image, MPI on four ranks as a process, in a container and in
# a virtual machine, a heat equation, and what each cost. Called by `make demo`
# after the set-up.
set -euo pipefail
cd "$(dirname "$0")/.."

hyperion=$(realpath "${HYPERION:?names the binary; call this by: make demo}")
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

title "the kernel of a virtual machine"
"$hyperion" vm kernel ls --output quiet | grep -q . || show vm kernel install
show vm kernel ls

# Folders of the host come into a machine by virtiofsd, which is root's.
if [ "$(id -u)" = 0 ]; then
  in_vm() { show run "$@" -v "$PWD/examples:/examples:ro" $image python3 "/examples/$script"; }
else
  in_vm() { show run "$@" $image python3 -c "$(cat "examples/$script")"; }
fi

title "hello on 4 ranks, as a process, in a container and in a virtual machine"
show run --rm -n 4 "${many[@]}" --isolation process python3 "$PWD/examples/hello/hello.py"
show run --rm -n 4 "${many[@]}" --isolation container -v "$PWD/examples:/examples:ro" \
  $image python3 /examples/hello/hello.py
script=hello/hello.py in_vm --rm -n 4 "${many[@]}" --isolation vm

title "messages of 8 B and 4 MiB between two ranks, at the three levels"
for level in process container vm; do
  "$hyperion" rm --force pingpong-$level >/dev/null 2>&1 || true
done
show run --name pingpong-process -n 2 "${many[@]}" --isolation process \
  python3 "$PWD/examples/pingpong/pingpong.py"
show run --name pingpong-container -n 2 "${many[@]}" --isolation container \
  -v "$PWD/examples:/examples:ro" $image python3 /examples/pingpong/pingpong.py
script=pingpong/pingpong.py in_vm --name pingpong-vm -n 2 "${many[@]}" --isolation vm
show report pingpong-process pingpong-container pingpong-vm

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

title "the same as scripts of Slurm, PBS and LSF, in a queue"
shims=$HYPERION_ROOT/shims work=$HYPERION_ROOT/work
# A queue of its own, too: jobs of another day have the same names.
"$hyperion" serve --stop >/dev/null 2>&1 || true
rm -rf "$work" "$HYPERION_ROOT/queue"
mkdir -p "$work"
cp -r examples/heat examples/batch "$work"
"$hyperion" install-shims "$shims" >/dev/null 2>&1
# The distribution's Python has what the equation needs, whichever else there is.
export PATH=$shims:/usr/bin:/bin:$PATH
# Open MPI's own launcher wants to be told that root, and few processors, are meant.
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
here=$PWD
cd "$work"
line() {
  printf '$ %s\n' "$*"
  bash -c "$*"
}
# Four ranks: where there are fewer processors they share them, and let each other on.
shared=
if [ "$ranks" -lt 4 ]; then
  shared="--overcommit --mincpus=$ranks "
  export OMPI_MCA_mpi_yield_when_idle=1
fi
line "sbatch ${shared}batch/heat.slurm"
line "HYPERION_IMAGE=$image qsub batch/heat.pbs"
line 'bsub < batch/heat.lsf'
show queue
line 'squeue -o "%10i %8j %8u %2t %6M %R"'
# Bounded: what has not ended after two minutes is taken out.
timeout 120 bash -c 'while [ -n "$(squeue -h -o %i)" ]; do sleep 0.2; done' || scancel --me
show history
line cat check.out || true
"$hyperion" serve --stop || true

title "what if: 2,000 jobs under four policies, simulated by the code that scheduled these"
line "\"$hyperion\" sim generate lublin --jobs 2000 --processors 256 > lublin.swf"
show sim swf lublin.swf --policy fifo,sjf,easy,conservative --report simulated.html
traces=${HYPERION_TRACES:-$here/../shared/data/swf}
for trace in "$traces"/KTH-SP2-*.swf.gz; do
  [ -e "$trace" ] || continue
  show sim swf "$trace" --policy fifo,sjf,easy,conservative --report simulated-real.html
done
printf 'The schedules are drawn in %s\n' "$work"/simulated*.html
