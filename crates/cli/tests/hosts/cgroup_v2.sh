#!/bin/sh
# Checks on a host with cgroup version 2 alone, Linux 6.1, and hardly any user space.
. /checks/lib.sh
export HOME=/root
# As systemd mounts it.
mount -t cgroup2 -o nsdelegate,memory_recursiveprot none $cgroups

cat >/etc/passwd <<END
root:x:0:0::/root:/bin/sh
ada:x:1000:1000::/home/ada:/bin/sh
ben:x:1001:1001::/home/ben:/bin/sh
END
printf 'root:x:0:\nada:x:1000:\nben:x:1001:\n' >/etc/group
echo ada:100000:65536 >/etc/subuid
echo ada:100000:65536 >/etc/subgid
mkdir -m 1777 /work
mkdir -p /home/ada /home/ben /tiny/bin /tiny/tmp
chown ada:ada /home/ada
chown ben:ben /home/ben
cp /bin/busybox /tiny/bin
for name in $(busybox --list); do [ -e /tiny/bin/$name ] || ln -s busybox /tiny/bin/$name; done

# as USER GROUP COMMAND…: in a shell of that user whose processes are in that group.
as() {
  local user=$1 group=$cgroups/$2
  shift 2
  # Who was there before has made room.
  [ ! -d "$group/hyperion-supervisors" ] || group=$group/hyperion-supervisors
  (
    echo 0 >"$group/cgroup.procs"
    quoted=
    for word; do quoted="$quoted '$(echo "$word" | sed "s/'/'\\\\''/g")'"; done
    exec su "$user" -c ". /checks/lib.sh; cd; $quoted"
  )
}
# enable CONTROLLER… -- GROUP: for what is below it, from the top down.
enable() {
  local group=$cgroups part controllers=
  while [ "$1" != -- ]; do
    controllers="$controllers +$1"
    shift
  done
  echo "$controllers" >$cgroups/cgroup.subtree_control
  for part in $(echo "$2" | tr / ' '); do
    group=$group/$part
    mkdir -p "$group"
    echo "$controllers" >"$group/cgroup.subtree_control"
  done
}
delegate() { # USER GROUP: as systemd does it
  local group=$cgroups/$2 file
  mkdir -p "$group"
  chown "$1:$1" "$group"
  for file in cgroup.procs cgroup.subtree_control cgroup.threads; do
    chown "$1:$1" "$group/$file"
  done
}

# --- The binary alone: there is nothing that could load a library.
mv /lib64 /lib64.away
alone() {
  ! /usr/bin/newuidmap || fail 'a program with libraries runs'
  says 0 hyperion hyperion --version
  says 0 'version 2; usable by root: cpu, cpuset' hyperion doctor cgroups
  gives hello run process --rm -- echo hello
  gives hello run container --rm -- echo hello
}
check 'the binary copied alone runs at both levels' alone
mv /lib64.away /lib64

# --- root
ids_inside() {
  gives 0 run container --rm -- id -u
  ! run container --rm -- grep -q '^ *0 *0 ' /proc/self/uid_map || fail 'ids of the host'
  gives '' run container --rm --userns host -- grep -q '^ *0 *0 ' /proc/self/uid_map
  gives '' run container --rm -- touch /made
  gives '' run container --rm --userns host -- touch /made
  [ ! -e /tiny/made ] || fail 'the image was written to'
  gives '' run container --rm -v /work:/work -- touch /work/file
  gives 0 stat -c %u /work/file
}
check "root's containers have ids of their own" ids_inside
in_memory() {
  mkdir -p /memory
  mount -t tmpfs none /memory
  cp -a /tiny /memory
  image=/memory/tiny
  says 0 'before Linux 6.3' run container --rm -- true
  gives 0 run container --rm -- id -u
  ! run container --rm --read-only -- touch /made || fail 'a read-only root was written to'
  until_true no_processes
  umount /memory
}
check 'where ids cannot be mapped root is told so and gets a container' in_memory
in_a_chroot() {
  mkdir -p /jail/bin /jail/proc /jail/sys /jail/dev /jail/tmp
  cp /bin/busybox /bin/hyperion /jail/bin
  cp -a /tiny /jail
  for name in proc sys dev; do mount --bind /$name /jail/$name; done
  says 125 'hint: this is a chroot' chroot /jail hyperion run --rm --userns host /tiny true
  gives hello chroot /jail hyperion run --rm --isolation process busybox echo hello
  until_true no_processes
  for name in proc sys dev; do umount /jail/$name; done
  # A mount can be left behind for good, so its folder is no trap.
  mount --bind /jail /jail
  for name in proc sys dev; do mount --bind /$name /jail/$name; done
  gives hello chroot /jail hyperion run --rm --userns host /tiny echo hello
  until_true no_processes
  for name in proc sys dev .; do umount /jail/$name; done
}
check 'a container is not put up in a chroot, which it could leave' in_a_chroot
imported() {
  hyperion image import /tiny imported
  image=imported
  gives hello run container --rm -- echo hello
  gives '' run container --rm --read-only -- true
  hyperion image rm imported
}
check 'an image of the store is mounted' imported
for level in $levels; do
  check "limits of root hold: $level" limits_hold $level
  check "usage of root is counted: $level" usage_is_counted $level
  check "a job of root is looked after: $level" a_job_is_looked_after $level
  check "a killed supervisor of root leaves nothing: $level" a_killed_supervisor_leaves_nothing $level
done
check 'a container sees its own group and cannot write to it' sees_its_own_group
in_a_job() {
  # What the inner job may use is not more than what the outer one has.
  for level in $levels; do
    says 137 'memory limit' run process --rm --memory 64MiB -- sh -c "
      . /checks/lib.sh
      run $level --rm --memory 512MiB -- dd if=/dev/zero of=/dev/null bs=200M count=1"
  done
  # A job that is killed with one inside takes it along.
  local id=$(run process -d -- hyperion run --isolation process --memory 64MiB sleep 100)
  until_true sh -c "ps -o args | grep -q '^sleep 100'"
  hyperion stop -t 0s "$id"
  hyperion ps >/dev/null
  for id in $(hyperion ps -a -q); do hyperion rm "$id"; done
}
check 'a job in a job keeps the limits of the outer one' in_a_job
in_a_container() {
  # A container with a writable view calls its own group the top.
  says 137 'memory limit' hyperion run --rm --memory 256MiB --userns host --cap-add ALL \
    --security-opt seccomp=unconfined -v /bin:/host -v /checks:/checks /tiny sh -c '
      umount /proc/* 2>/dev/null
      mkdir -p /tmp/groups && mount -t cgroup2 none /tmp/groups
      umount -l /sys/fs/cgroup; umount -l /sys/fs/cgroup
      /host/hyperion run --isolation process --memory 64MiB cat /proc/self/cgroup || exit 3
      /host/hyperion run --isolation process --memory 64MiB dd if=/dev/zero of=/dev/null bs=100M count=1'
}
check 'root of a container limits jobs inside it' in_a_container
in_a_queue() {
  hyperion serve --host >/said 2>&1 &
  until_true test -S /run/hyperion/socket
  cat >/home/ada/lift <<'END'
#!/bin/sh
own=/sys/fs/cgroup$(sed -n 's/^0:://p' /proc/self/cgroup)
echo max >$own/memory.max && echo lifted
echo max >${own%/*}/memory.max || echo kept
dd if=/dev/zero of=/dev/null bs=200M count=1 || echo killed
END
  su ada -c 'cd; hyperion submit --wait --mem=50M -o out lift' || fail "$(cat /said /home/ada/out)"
  for word in lifted kept killed; do
    grep -q "^$word" /home/ada/out || fail "not $word: $(cat /home/ada/out)"
  done
  # The job's record is hers, and goes with what she has else.
  rm -rf /home/ada/.local
  hyperion serve --stop
  until_true test ! -d $cgroups/hyperion-user-1000
}
check 'a user of the queue is held to what the own jobs have' in_a_queue
check 'nothing of root is left' nothing_is_left

# --- A user to whom nothing is delegated, without and with other ids.
for user in ben ada; do
  group=user.slice/user-$user.slice/session-1.scope
  mkdir -p $cgroups/$group
  [ $user = ada ] && other=7 || other=
  as $user $group check "$user without a delegated group runs jobs at both levels" runs_without_limits $other
  as $user $group check "$user without a delegated group is refused every limit" \
    limits_are_refused 'start in a group'
  as $user $group check "$user without a delegated group has usage from the processes" usage_comes_from_processes
  as $user $group check "doctor tells $user what to do" \
    says 0 'Delegate=yes' hyperion --output json doctor cgroups
done

# --- A group of one's own.
enable cpu cpuset memory pids io -- site
delegate ada site/ada
delegate ben site/ben
for user in ada ben; do
  as $user site/$user check "$user starts four limited jobs at once" start_at_once
  # Without a fence it is the same for both.
  [ $user = ada ] && these=$levels || these=container
  for level in $these; do
    as $user site/$user check "limits of $user hold: $level" limits_hold $level
    as $user site/$user check "usage of $user is counted: $level" usage_is_counted $level
    as $user site/$user check "a job of $user is looked after: $level" a_job_is_looked_after $level
    as $user site/$user check "a killed supervisor of $user leaves nothing: $level" \
      a_killed_supervisor_leaves_nothing $level
  done
  as $user site/$user check "a container of $user sees its own group" sees_its_own_group
  as $user site/$user check "doctor calls a delegated group of $user usable" \
    says 0 'usable by this user: cpu, cpuset, io, memory, pids' hyperion doctor cgroups
  as $user site/$user check "nothing of $user is left" nothing_is_left
done
check 'the group of ada holds her shells and no job' \
  gives hyperion-supervisors sh -c "ls -d $cgroups/site/ada/*/ | xargs -n 1 basename"

# --- As systemd lays it out: a manager of each user, without cpuset.
user_manager=user.slice/user-1000.slice/user@1000.service
enable cpu memory pids -- $user_manager
delegate ada $user_manager
scope=$user_manager/app.slice/run-r1.scope
mkdir -p $cgroups/$user_manager/init.scope $cgroups/$scope
chown -R ada:ada $cgroups/$user_manager/app.slice
echo '+cpu +memory +pids' >$cgroups/$user_manager/app.slice/cgroup.subtree_control
as ada $scope check 'limits hold in a scope of the user manager' limits_hold container but-cpuset
as ada $scope check 'a limit whose controller is not delegated is refused' \
  says 125 'hint: have them delegated too' run process --rm --cpuset 1 -- true

# --- Delegated by half: the folder and not its files.
mkdir -p $cgroups/site/half
chown ada:ada $cgroups/site/half
as ada site/half check 'a group that is delegated by half is left as it is' runs_unlimited
check 'no leaf is left in it' gives '' find $cgroups/site/half -mindepth 1 -type d

# --- Beside hierarchies of version 1 that limit nothing.
mkdir -p /net_cls
mount -t cgroup -o net_cls,net_prio none /net_cls
check 'version 2 is used beside net_cls of version 1' \
  gives 9 run container --rm --pids 9 -- cat /sys/fs/cgroup/pids.max
umount /net_cls

# --- None at all.
umount $cgroups
none() {
  limits_are_refused 'mount -t cgroup2'
  for level in $levels; do gives hello run $level --rm -- echo hello; done
  usage_comes_from_processes
  says 0 'no controller' hyperion doctor cgroups
}
check 'root without cgroups runs jobs and is refused limits' none
su ben -c '. /checks/lib.sh; cd; check "ben without cgroups is refused limits" limits_are_refused "mount -t cgroup2"'
check 'nothing is left without cgroups' nothing_is_left
