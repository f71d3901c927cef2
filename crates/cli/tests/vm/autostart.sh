#!/bin/bash
# On a host that has just been booted: says `ok NAME` or `not ok NAME: WHY`.
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

check 'systemd has started the machines that are marked' started
check 'the one that is marked runs, and the other does not' runs
check 'the unit has its keeper, and QEMU is held to its limits' by_the_unit
check 'the journal tells which' told
check 'it ends, and nothing of it is left' ends
echo done
