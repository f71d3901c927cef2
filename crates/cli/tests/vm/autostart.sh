#!/bin/bash
# On a host that has just been booted, and keeps a queue for its users: says `ok NAME` or `not ok NAME: WHY`.
export PATH=/usr/local/bin:/usr/bin:/usr/sbin LC_ALL=C.UTF-8
unit=hyperion-machines.service

check() { # NAME COMMAND…
  local name=$1 out
  shift
  if out=$( ("$@") 2>&1); then echo "ok $name"; else echo "not ok $name: $out"; fi
}
vm() { hyperion --root /var/lib/hyperion vm "$@"; }

started() {
  [ "$(systemctl is-active $unit)" = active ] && return
  systemctl status --no-pager --full $unit
  vm show early
  return 1
}
runs() { [ "$(vm ls | awk 'NR > 1 { print $2, $3 }')" = 'early running' ] || { vm ls --all; return 1; }; }
by_the_unit() {
  local keeper group
  keeper=$(grep -lx hyperion-keep /proc/[0-9]*/comm) || return 1
  grep -F "/$unit" "${keeper%comm}cgroup" || return 1
  group=$(sed 's/^0:://' "/proc/$(pidof qemu-system-x86_64)/cgroup")
  echo "$group" && grep '^[0-9]' "/sys/fs/cgroup$group/memory.max"
}
told() { journalctl --no-pager -o cat -u $unit | grep -x early; }
ends() {
  vm stop -t 0s early && systemctl stop $unit && ! pidof qemu-system-x86_64 &&
    [ -z "$(vm ls --output quiet)" ]
}

# Nobody says which queue is meant.
user() { (cd && exec env -i HOME="$HOME" USER="$USER" PATH="$PATH" setpriv --reuid="$USER" --regid="$USER" --init-groups "$@"); }
HOME=/home/hyperion-test USER=hyperion-test

waits() { # COMMAND…
  for _ in $(seq 600); do
    ("$@") && return
    sleep 0.1
  done
  return 1
}
listens() { [ "$(systemctl is-active hyperion.socket hyperion.service | tr '\n' ' ')" = 'active inactive ' ]; }
submits() {
  user hyperion submit --wait -o out --wrap 'id -un; cat /proc/self/cgroup' && cat $HOME/out &&
    grep -qx $USER $HOME/out && grep -q "^0::/hyperion/hyperion-user-$(id -u $USER)/" $HOME/out &&
    [ "$(systemctl is-active hyperion.service)" = active ]
}
held() {
  user hyperion submit --wait --mem=32M -o /dev/null --wrap 'head -c 200M /dev/zero | tail'
  user hyperion queue --all 2 | grep "out of memory" || { user hyperion queue --all; return 1; }
}
restarted() {
  user hyperion submit -o long --wrap 'echo $$ > pid; until [ -e go ]; do sleep 0.1; done; echo gone' || return
  waits test -s $HOME/pid || return
  systemctl restart hyperion.service || { journalctl --no-pager -u hyperion.service; return 1; }
  [ "$(user hyperion --output quiet queue)" = 3 ] && kill -0 "$(cat $HOME/pid)" || return
  user touch go
  waits grep -qx gone $HOME/long && waits sh -c '! hyperion queue | grep -q long' &&
    user hyperion history 3 | grep completed
}
let_go() {
  systemctl stop hyperion.socket hyperion.service && ! find /sys/fs/cgroup -name 'hyperion-user-*' | grep .
}

check 'systemd has started the machines that are marked' started
check 'the one that is marked runs, and the other does not' runs
check 'the unit has its keeper, and QEMU is held to its limits' by_the_unit
check 'the journal tells which' told
check 'it ends, and nothing of it is left' ends
check 'systemd listens for the server of the queue, which does not run yet' listens
check 'a user submits to it, and the job has a group of that user' submits
check 'the job is held to its memory' held
check 'the server is started anew while a job runs, which goes on' restarted
check 'it ends, and leaves no group' let_go
echo done
