#!/bin/bash
# Runs the suite on a Debian host: as root in a service, as a user in a scope of
# the user's own manager, and as a user in a service.
#
#   run            says what came of each test: `ok WHO: NAME`, `skip WHO: NAME: WHY`,
#                  or `not ok WHO: NAME` with what it said; at last `done`
#   run all WHO    runs the tests of /checks/WHO
#   run one WHO NAME
export PATH=/usr/local/bin:/usr/bin:/usr/sbin HYPERION_BIN_hyperion=/usr/bin/hyperion
export HYPERION_TEST_PROBE=/checks/probe RUST_BACKTRACE=0 LC_ALL=C.UTF-8
# A test that takes longer hangs.
limit=150

# One thing at a time: two tests run side by side.
say() { flock /checks/lock cat; }

check() { # NAME COMMAND…
  local name=$1 out
  shift
  if out=$( ("$@") 2>&1); then echo "ok $name"; else echo "not ok $name: $out"; fi | say
}

fail() {
  echo "$*"
  exit 1
}

one() {
  local who=$1 name=$2 folder status=0
  folder=$(mktemp -d)
  HYPERION_SKIPS=$folder/skips timeout -k 5 $limit \
    /checks/suite --exact "$name" >"$folder/out" 2>&1 || status=$?
  if [ $status = 124 ] || [ $status = 137 ]; then
    echo "not ok $who: $name: it hung, and was ended after $limit s"
  elif [ $status != 0 ]; then
    echo "not ok $who: $name"
    sed 's/^/    /' "$folder/out"
  elif ! grep -q '1 passed' "$folder/out"; then
    echo "not ok $who: $name: there is no such test"
  elif [ -s "$folder/skips" ]; then
    echo "skip $who: $name: $(cut -f2 "$folder/skips")"
  else
    echo "ok $who: $name"
  fi | say
  rm -rf "$folder"
}

has_group() { # WHO PATH
  grep -qE "^0::$2$" /proc/self/cgroup || fail "$(cat /proc/self/cgroup)"
  [ "$1" = root ] || [ -n "$HYPERION_TEST_DELEGATED" ] || fail 'the tests were not told of it'
}

all() {
  check "$1 has the group that was given" has_group "$1" "$2"
  xargs -r -P 2 -n 1 /checks/run one "$1" <"/checks/$1"
}

case ${1:-} in
  one) one "$2" "$3" && exit ;;
  all) all "$2" "$3" && exit ;;
esac

only_version_2() {
  [ "$(readlink /proc/1/exe)" = /usr/lib/systemd/systemd ] &&
    [ "$(grep -c ' cgroup2 ' /proc/mounts)" = 1 ] && ! grep ' cgroup ' /proc/mounts
}
check 'systemd is the first process, with cgroup version 2 alone' only_version_2
all root /system.slice/checks.service

# A manager of the user's own, as after a login.
uid=$(id -u hyperion-test)
check 'the user has a manager' loginctl enable-linger hyperion-test
check 'the manager is up' timeout 60 bash -c "until [ -S /run/user/$uid/bus ]; do sleep 0.1; done"
export HYPERION_TEST_DELEGATED=1
runuser -u hyperion-test -- env XDG_RUNTIME_DIR=/run/user/$uid systemd-run --user --scope --quiet \
  -p Delegate=yes /checks/run all hyperion-test "/user.slice/user-$uid.slice/user@$uid.service/.*\.scope"
systemd-run --quiet --pipe --wait --uid=nobody --unit=of-nobody -p Delegate=yes \
  -E HYPERION_TEST_DELEGATED /checks/run all nobody /system.slice/of-nobody.service

nothing_left() { ! find /sys/fs/cgroup -name 'hyperion-*' ! -name hyperion-supervisors | grep .; }
check 'no group of a job is left' nothing_left
echo done
