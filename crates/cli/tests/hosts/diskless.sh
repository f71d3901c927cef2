#!/bin/sh
# Checks on a host that runs in the kernel's first root, which nothing can leave.
. /checks/lib.sh
export HOME=/root
mount -t cgroup2 none $cgroups
echo 'root:x:0:0::/root:/bin/sh' >/etc/passwd
mkdir -p /tiny/bin /tiny/tmp
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
  run container --rm -- true
  gives 'bin dev etc proc sys tmp' run container --rm -- sh -c 'cd /; cd ../../..; echo $(ls)'
  for path in /proc/1/root /proc/self/root /proc/1/cwd; do
    gives no run container --rm -- sh -c "[ -e $path/checks ] && echo yes || echo no"
  done
}
check 'a container cannot leave its root' no_way_out
check 'limits hold' limits_hold container
check 'nothing is left' nothing_is_left
