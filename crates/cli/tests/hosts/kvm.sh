#!/bin/sh
# Checks where KVM works: QEMU emulates AMD-V, and the kernel's own kvm_amd
# runs the probe's guest by it.
. /checks/lib.sh
export HOME=/root
printf 'root:x:0:0::/root:/bin/sh\nben:x:1001:1001::/home/ben:/bin/sh\nada:x:1002:1002::/home/ada:/bin/sh\n' >/etc/passwd
printf 'root:x:0:\nkvm:x:107:ada\nben:x:1001:\nada:x:1002:\n' >/etc/group
mkdir -p /home/ben /home/ada
chown 1001:1001 /home/ben
chown 1002:1002 /home/ada
chgrp kvm /dev/kvm
chmod 660 /dev/kvm

kvm() { hyperion --output json doctor "$@" kvm; }
check 'a guest boots' says 0 '"verdict": "ok"' kvm
check 'it is remembered' says 0 'found since the last boot' kvm
again() {
  says 0 'ring 3 and came back' kvm --fresh
  case $(kvm --fresh) in *since*) fail 'it was not tried' ;; esac
}
check 'it is tried again when asked' again
check 'ben without the right is told how to get it' says 0 'usermod -aG kvm ben' \
  su ben -c 'HOME=/home/ben hyperion --output json doctor kvm'
check 'ada in the group may' says 0 '"verdict": "ok"' \
  su ada -c 'HOME=/home/ada hyperion --output json doctor kvm'
gone() {
  rmmod kvm_amd || fail 'the module stays'
  says 0 '"verdict": "missing"' kvm
}
check 'without the module there is no kvm' gone
