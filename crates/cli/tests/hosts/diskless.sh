#!/bin/sh
# Checks on an old kind of node: in the kernel's first root, which nothing can
# leave, with cgroup version 1 alone.
. /checks/lib.sh
export HOME=/root
mount -t tmpfs none $cgroups
for controllers in cpu,cpuacct cpuset memory pids; do
  mkdir $cgroups/$controllers
  mount -t cgroup -o $controllers none $cgroups/$controllers
done
printf 'root:x:0:0::/root:/bin/sh\nben:x:1001:1001::/home/ben:/bin/sh\n' >/etc/passwd
mkdir -p /home/ben /tiny/bin /tiny/tmp
chown 1001:1001 /home/ben
cp /bin/busybox /tiny/bin
for name in $(busybox --list); do [ -e /tiny/bin/$name ] || ln -s busybox /tiny/bin/$name; done

both() {
  grep -q ' / / rw - rootfs ' /proc/self/mountinfo || fail 'this is not the first root'
  gives hello run process --rm -- echo hello
  gives hello run container --rm -- echo hello
  gives hello run container --rm --read-only -- echo hello
}
check 'jobs run at both levels' both
no_way_out() {
  gives 'bin dev etc proc sys tmp' run container --rm -- sh -c 'cd /; cd ../../..; echo $(ls)'
  for path in /proc/1/root /proc/self/root /proc/1/cwd; do
    gives no run container --rm -- sh -c "[ -e $path/checks ] && echo yes || echo no"
  done
  gives '' run container --rm -- ls /sys/fs/cgroup
}
check 'a container cannot leave its root' no_way_out
check 'doctor finds version 1' says 0 'version 1; usable by root: cpu, cpuacct, cpuset, memory, pids' \
  hyperion doctor cgroups
for level in $levels; do
  check "limits of root hold: $level" limits_hold $level
  check "a killed supervisor of root leaves nothing: $level" a_killed_supervisor_leaves_nothing $level
done
su ben -c '. /checks/lib.sh; cd; check "ben is refused every limit" limits_are_refused "run as root"'
check 'nothing is left' nothing_is_left
