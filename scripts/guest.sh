#!/usr/bin/env bash
# Brings what the tests boot as another Linux host: Debian's kernel (its package
# too, and that of the kernel with all drivers, for 9p), the modules that it needs for a disk, for containers and for machines of
# its own, a user space of busybox and newuidmap, and one of Debian with systemd,
# as one EROFS file. All from Debian's packages; nothing is installed.
#
# Lies in ~/.cache/hyperion/guest, with the packages' versions and the digest of
# this recipe: made again when one of them changes.
set -euo pipefail

cache=${XDG_CACHE_HOME:-$HOME/.cache}/hyperion/guest
say() { printf 'guest: %s\n' "$*"; }

if [ "$(uname -m)" != x86_64 ] || ! command -v apt-get >/dev/null; then
  say 'only from the packages of Debian on x86_64: the tests that boot a guest are skipped'
  exit 0
fi
PATH=$PATH:/usr/sbin:/sbin

# PACKAGE=VERSION of each, in one go: apt takes a while to begin.
versions_of() {
  apt-cache show --no-all-versions "$@" |
    awk '$1 == "Package:" { name = $2 } $1 == "Version:" { printf " %s=%s", name, $2 }'
}
newest() { apt-cache depends "$1" | sed -n 's/^ *Depends: \(linux-image-.*\)/\1/p' | head -1; }
kernel=$(newest linux-image-cloud-amd64)
generic=$(newest linux-image-amd64)
modules='virtio_pci virtio_blk overlay erofs kvm_amd'
# What makes a host of it: a service manager, one for each user, and logins.
systemd=systemd,systemd-sysv,dbus,dbus-user-session,libpam-systemd,uidmap
if [ -z "$kernel" ] || [ -z "$generic" ]; then
  say 'error: apt knows no kernel; as root run: apt-get update' >&2
  exit 1
fi
# shellcheck disable=SC2086
versions="recipe=$(sha256sum <"$0" | cut -c-16)$(versions_of "$kernel" "$generic" busybox-static ${systemd//,/ })"
if [ "$(cat "$cache/versions" 2>/dev/null)" = "$versions" ] && [ -e "$cache/systemd.erofs" ]; then
  say "there already: $versions"
  exit 0
fi
say "bringing $versions"

# Beside the cache, so that it is put in place by a rename.
mkdir -p "${cache%/*}"
work=$(mktemp -d "$cache.XXXXXX")
trap 'rm -rf "$work"' EXIT
cd "$work"
mkdir new new/modules
apt-get download -q -q -o APT::Sandbox::User=root "$kernel" "$generic"
mv "$kernel"_*.deb new/kernel.deb
mv "$generic"_*.deb new/generic.deb
dpkg-deb -x new/kernel.deb kernel
release=${kernel#linux-image-}
mv "kernel/boot/vmlinuz-$release" new/vmlinuz

# Numbered in the order in which they must be loaded.
[ -d kernel/lib ] && base=$work/kernel || base=$work/kernel/usr
depmod -b "$base" "$release"
number=100
for module in $modules; do
  modprobe -d "$base" -S "$release" --show-depends "$module"
done | awk '$1 == "insmod" && !seen[$2]++ { print $2 }' | while read -r file; do
  cp "$file" "new/modules/$number-${file##*/}"
  number=$((number + 1))
done

# Unpacked and not installed: no script of a package runs.
codename=$(. /etc/os-release && echo "$VERSION_CODENAME")
mmdebstrap --quiet --variant=extract --include=busybox-static,uidmap "$codename" new/root.tar
tar -xOf new/root.tar ./bin/busybox >new/busybox
# The image is made where the files have their owners, which for users is a
# namespace of their own, and brought out from there.
mmdebstrap --quiet --variant=minbase --include="$systemd" \
  --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
  --dpkgopt='path-exclude=/usr/share/locale/*' \
  --customize-hook='chroot "$1" useradd --create-home --shell /bin/bash hyperion-test' \
  --customize-hook='mkfs.erofs --quiet -x-1 -zlz4 "$1/tmp/disk" "$1" \
    --exclude-regex="^(dev|proc|sys|tmp|var/cache/apt|var/lib/apt/lists)/"' \
  --customize-hook="download /tmp/disk $work/new/systemd.erofs" "$codename" /dev/null
echo "$versions" >new/versions

rm -rf "$cache"
mv new "$cache"
say "$(du -sh "$cache" | cut -f1) in $cache"
