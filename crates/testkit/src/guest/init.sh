#!/bin/busybox sh
# PID 1 of the first root: puts user space together, on the disk where there is
# one, goes there and runs what the kernel's command line names.
export PATH=/bin:/usr/bin
b=/bin/busybox
$b mkdir -p /proc /dev /sys
$b mount -t proc none /proc
$b mount -t devtmpfs none /dev
$b mount -t sysfs none /sys
run=
for word in $($b cat /proc/cmdline); do
  case $word in hyperion.run=*) run=${word#*=} ;; esac
done
for module in /modules/*.ko; do $b insmod "$module"; done

if $b grep -q hyperion.systemd /proc/cmdline; then
  until [ -b /dev/vda ] && [ -b /dev/vdb ]; do $b usleep 10000; done
  $b mkdir /image /disk /new
  $b mount -t erofs -o ro /dev/vdb /image
  $b mount -t ext4 /dev/vda /disk
  $b mkdir -m 755 /disk/upper /disk/work
  $b mkdir -m 1777 /disk/tmp
  $b mount -t overlay -o lowerdir=/image,upperdir=/disk/upper,workdir=/disk/work none /new
  $b cp -a /put/. /new/
  # What an overlay writes to is no overlay itself.
  $b mount --bind /disk/tmp /new/tmp
  units=/new/etc/systemd/system
  $b cat >$units/checks.service <<END
[Unit]
FailureAction=poweroff-force
SuccessAction=poweroff-force
After=multi-user.target dbus.service systemd-logind.service
Wants=dbus.service systemd-logind.service
[Service]
Type=exec
ExecStart=$run
Delegate=yes
StandardOutput=file:/dev/ttyS1
StandardError=inherit
END
  $b mkdir -p $units/multi-user.target.wants
  $b ln -s ../checks.service $units/multi-user.target.wants/checks.service
  # Nobody is there for these.
  for name in apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer \
    e2scrub_reap.service fstrim.timer getty@tty1.service serial-getty@ttyS0.service; do
    $b ln -sf /dev/null $units/$name
  done
  for name in dev proc sys; do $b mount --move /$name /new/$name; done
  exec $b switch_root /new /sbin/init
fi
root=
if $b grep -q hyperion.disk /proc/cmdline; then
  until [ -b /dev/vda ]; do $b usleep 10000; done
  root=/new
  $b mkdir $root
  $b mount -t ext4 /dev/vda $root
fi
$b tar xf /root.tar -C $root/
$b cp -a /put/. $root/
for name in etc proc sys dev tmp root home var; do $b mkdir -p $root/$name; done
for name in $($b --list); do [ -e "$root/bin/$name" ] || $b ln -s busybox "$root/bin/$name"; done
$b chmod 1777 $root/tmp
$b mkdir -p /dev/shm /dev/pts
$b mount -t tmpfs -o mode=1777 none /dev/shm
$b mount -t devpts none /dev/pts
exec </dev/null >/dev/ttyS1 2>&1
if [ -n "$root" ]; then
  for name in dev proc sys; do $b mount --move /$name $root/$name; done
  exec $b switch_root $root /bin/sh -c "$run; poweroff -f"
fi
$b rm -r /root.tar /put /modules
exec sh -c "$run; poweroff -f"
