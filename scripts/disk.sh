#!/usr/bin/env bash
# Makes the disk image that tests and measurements boot as others would: Debian
# with its own boot loader, kernel, systemd, cloud-init, OpenSSH's server and
# QEMU's agent, all from Debian's packages, and nothing set up in it.
#
# Lies in ~/.cache/hyperion/disk as debian.qcow2, with the packages' versions and
# the digest of this recipe: made again when one of them changes.
set -euo pipefail

cache=${XDG_CACHE_HOME:-$HOME/.cache}/hyperion/disk
say() { printf 'disk: %s\n' "$*"; }

if [ "$(uname -m)" != x86_64 ] || ! command -v apt-get >/dev/null; then
  say 'only from the packages of Debian on x86_64: the tests that boot a disk image are skipped'
  exit 0
fi
PATH=$PATH:/usr/sbin:/sbin

packages=linux-image-cloud-amd64,initramfs-tools,systemd,systemd-sysv,udev,dbus
packages+=,iproute2,openssh-server,sudo,cloud-init,qemu-guest-agent
# shellcheck disable=SC2086
versions="recipe=$(sha256sum <"$0" | cut -c-16)$(
  apt-cache show --no-all-versions ${packages//,/ } |
    awk '$1 == "Package:" { name = $2 } $1 == "Version:" { printf " %s=%s", name, $2 }'
)"
if [ "$(cat "$cache/versions" 2>/dev/null)" = "$versions" ]; then
  say "there already: $versions"
  exit 0
fi
say "making $versions"

# Beside the cache, so that it is put in place by a rename.
mkdir -p "${cache%/*}"
work=$(mktemp -d "$cache.XXXXXX")
trap 'rm -rf "$work"' EXIT
cd "$work"

# As the files have their owners, which for users is in a namespace of their own.
cat >root.sh <<'X'
set -e
cd "$1"
mkdir tmp/boot
mv boot/vmlinuz-* tmp/boot/vmlinuz
mv boot/initrd.img-* tmp/boot/initrd
rm -rf etc/ssh/ssh_host_* etc/hostname var/cache/apt/* var/lib/apt/lists/*
: >etc/machine-id
echo 'LABEL=debian / ext4 defaults 0 1' >etc/fstab
# The first boot would make this anew, one by one.
echo 'locale: C.UTF-8' >etc/cloud/cloud.cfg.d/90_locale.cfg
systemctl --quiet --root "$1" enable systemd-networkd
tar -cf "$1.boot" -C tmp/boot vmlinuz initrd
rm -r tmp/boot
# Without what is mounted in it now.
mkdir "$1.bare"
unshare --mount sh -c 'mount --bind "$1" "$1.bare" &&
  mke2fs -q -t ext4 -L debian -O ^has_journal -d "$1.bare" "$1.ext4" 900M' sh "$1" >/dev/null
rmdir "$1.bare"
mv "$1.boot" tmp/boot.tar
mv "$1.ext4" tmp/root.ext4
X
codename=$(. /etc/os-release && echo "$VERSION_CODENAME")
mmdebstrap --quiet --variant=minbase --include="$packages" \
  --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
  --dpkgopt='path-exclude=/usr/share/locale/*' \
  --customize-hook="sh $PWD/root.sh \"\$1\"" \
  --customize-hook="download /tmp/boot.tar $PWD/boot.tar" \
  --customize-hook="download /tmp/root.ext4 $PWD/root.ext4" "$codename" /dev/null

# 1 MiB with the table of partitions, 64 MiB that the boot loader reads, and the root.
tar -xf boot.tar
printf '%s\n' 'DEFAULT debian' 'LABEL debian' 'LINUX /vmlinuz' 'INITRD /initrd' \
  'APPEND root=LABEL=debian ro console=ttyS0 quiet' >syslinux.cfg
mkfs.vfat -F 16 -C boot.fat 65536 >/dev/null
mcopy -i boot.fat vmlinuz initrd syslinux.cfg ::
truncate -s 1M disk.raw
cat boot.fat root.ext4 >>disk.raw
printf 'label: dos\n2048,131072,e,*\n133120,,83\n' | sfdisk --quiet --no-reread --no-tell-kernel disk.raw >/dev/null
dd if=/usr/lib/syslinux/mbr/mbr.bin of=disk.raw conv=notrunc status=none
syslinux --install -t 1048576 disk.raw
mkdir new
qemu-img convert -O qcow2 -c disk.raw new/debian.qcow2
echo "$versions" >new/versions

rm -rf "$cache"
mv new "$cache"
say "$(du -sh "$cache" | cut -f1) in $cache"
