# What a list of checks in a guest is written with.

export PATH=/bin:/usr/bin NO_COLOR=1
cgroups=/sys/fs/cgroup

# check NAME COMMAND…: says whether the command succeeds, and what it wrote if not.
check() {
  local name=$1 out
  shift
  if out=$( ("$@") 2>&1); then
    echo "ok $name"
  else
    echo "not ok $name"
    echo "$out" | sed 's/^/    /'
  fi
}

# Checks are made of these; the first that fails ends its check.
fail() {
  echo "$*"
  exit 1
}
gives() { # TEXT COMMAND…: writes exactly that, and succeeds
  local want=$1 got
  shift
  got=$("$@") || fail "$* ended with $?: $got"
  [ "$got" = "$want" ] || fail "$* gave '$got', not '$want'"
}
says() { # CODE WORDS COMMAND…: ends with that code and its output holds the words
  local code=$1 words=$2 got status=0
  shift 2
  got=$("$@" 2>&1) || status=$?
  [ $status = "$code" ] || fail "$* ended with $status, not $code: $got"
  case $got in *"$words"*) ;; *) fail "$* did not say '$words': $got" ;; esac
}
at_least() { # LOW NUMBER WHAT
  [ "${2:-0}" -ge "$1" ] || fail "$3 is ${2:-nothing}, not $1 at least"
}
until_true() { # COMMAND…: tries for ten seconds
  local tries=0
  until "$@" >/dev/null 2>&1; do
    tries=$((tries + 1))
    [ $tries -lt 200 ] || fail "never came true: $*"
    usleep 50000
  done
}

levels='process container'
run() { # LEVEL [FLAG…] -- COMMAND…
  local level=$1 flags=
  shift
  while [ "$1" != -- ]; do
    flags="$flags $1"
    shift
  done
  shift
  case $level in
    process) hyperion run --isolation process $flags "$@" ;;
    container) hyperion run $flags "${image:-/tiny}" "$@" ;;
  esac
}

groups_of_jobs() { find $cgroups -type d -name 'hyperion-*' ! -name hyperion-supervisors; }
# A supervisor tells the end before it ends itself.
no_processes() { ! ps -o args | grep '^[^ ]*hyperion'; }
nothing_is_left() {
  until_true no_processes
  gives '' groups_of_jobs
  ! grep hyperion /proc/mounts || fail 'mounts are left'
  gives '' hyperion ps --all --output quiet
}

# Tried from inside, and by what is said of them.
limits_hold() { # LEVEL
  says 137 'reached its memory limit' run "$1" --rm --memory 64MiB -- \
    dd if=/dev/zero of=/dev/null bs=200M count=1
  says 2 "can't fork" run "$1" --rm --pids 9 -- \
    sh -c 'for i in 1 2 3 4 5 6 7 8 9; do sleep 5 & done'
  [ "$2" = but-cpuset ] || gives 1 run "$1" --rm --cpuset 1 -- \
    sed -n 's/^Cpus_allowed_list:.//p' /proc/self/status
  # With a fifth of a processor it soon waits for the next period.
  local id=$(run "$1" -d --cpus 0.2 -- sh -c 'while :; do :; done')
  throttled() { find $cgroups -name "hyperion-$id" -exec cat {}/cpu.stat \; | grep 'nr_throttled [1-9]'; }
  until_true throttled
  hyperion stop -t 0s "$id" && hyperion rm "$id"
}
usage_is_counted() { # LEVEL
  local work
  [ "$1" = process ] || work='-v /work:/work'
  local report=$(run "$1" --rm --report=json $work -- sh -c '
    dd if=/dev/zero of=/dev/null bs=40M count=1
    dd if=/dev/zero of=/work/$$ bs=1M count=4 conv=fsync
    rm /work/$$
    i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done' 2>&1 | tail -1)
  local usage=${report##*\"usage\"}
  number() { echo "$usage" | sed -n "s/.*\"$1\":\([0-9]*\).*/\1/p"; }
  at_least $((40 << 20)) "$(number memory_peak)" 'the peak of memory'
  at_least 1 "$((60 * (1 << 20) / $(number memory_peak)))" '60 MiB against the peak'
  at_least $((4 << 20)) "$(number io_written)" 'what was written'
  case $usage in
    *'"cpu_user":null'* | *'"cpu_user":{"nanos":0,"secs":0}'*) fail "no time: $usage" ;;
  esac
}
limits_are_refused() { # HINT
  for level in $levels; do
    for flag in '--memory 64MiB' '--pids 9' '--cpus 0.5' '--cpuset 1'; do
      says 125 "hint: $1" run $level --rm $flag -- true
    done
  done
}
a_job_is_looked_after() { # LEVEL
  local id=$(run "$1" -d --name watched --memory 64MiB -- sleep 100) group
  group=$(find $cgroups -name "hyperion-$id")
  gives $((64 << 20)) cat "$group/memory.max"
  says 0 PROCESSES hyperion stats watched
  # What comes later is in the group too.
  local before=$(wc -l <"$group/cgroup.procs")
  hyperion exec watched sleep 100 &
  until_true sh -c "[ \$(wc -l <$group/cgroup.procs) -gt $before ]"
  hyperion stop -t 1s watched
  [ ! -e "$group" ] || fail "$group is left"
  hyperion rm watched
}
a_killed_supervisor_leaves_nothing() { # LEVEL
  local id=$(run "$1" -d -- sh -c 'sleep 100 & sleep 100') group pid
  group=$(find $cgroups -name "hyperion-$id" | head -n 1)
  until_true grep -q . "$group/cgroup.procs"
  pid=$(hyperion inspect "$id" | sed -n 's/.*"supervisor": \([0-9]*\).*/\1/p')
  kill -9 "$pid"
  # Who looks next cleans up.
  until_true sh -c "hyperion ps && ! [ -e $group ]"
  hyperion rm "$id"
}
sees_its_own_group() {
  gives $((64 << 20)) run container --rm --memory 64MiB -- cat /sys/fs/cgroup/memory.max
  gives 0::/ run container --rm -- cat /proc/self/cgroup
  ! run container --rm -- sh -c 'echo max >/sys/fs/cgroup/memory.max' || fail 'a limit was raised'
  ! run container --rm -- mkdir /sys/fs/cgroup/x || fail 'a group was made'
}
runs_without_limits() { # [ID]: of another user inside
  gives hello run process --rm -- echo hello
  gives 0 run container --rm -- id -u
  gives '' run container --rm -- ls /sys/fs/cgroup
  gives '' run container --rm -v /work:/work -- touch "/work/of-$USER"
  gives "$(id -u)" stat -c %u "/work/of-$USER"
  if [ -n "$1" ]; then
    gives "$1" run container --rm -u "$1" -- id -u
  else
    says 125 'hint: inside are only root and the ids' run container --rm -u 7 -- id -u
  fi
}
usage_comes_from_processes() {
  local report=$(run process --rm --report=json -- dd if=/dev/zero of=/dev/null bs=40M count=1 2>&1)
  case $report in *'"memory_peak":4'*) ;; *) fail "no peak: $report" ;; esac
  case $report in *'"cpu_system":null'*) fail "no time: $report" ;; esac
}
start_at_once() { # the first that ever run in a group
  local n
  for n in 1 2 3 4; do run process --rm --memory 64MiB --pids 20 -- echo $n >"$n.out" & done
  wait
  gives '1 2 3 4' sh -c 'echo $(cat ?.out)'
}
runs_unlimited() {
  limits_are_refused 'start in a group'
  gives hello run container --rm -- echo hello
}
