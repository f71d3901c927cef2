#!/usr/bin/env bash
# Brings what the tests boot as another Linux host: Debian's kernel (its package
# too), the modules that it needs for a disk, for containers and for machines of
# its own, and a user space of busybox and newuidmap. All from Debian's packages;
# nothing is installed.
#
# Lies in ~/.cache/hyperion/guest, named by the packages' versions: made again
# when Debian has newer ones.
set -euo pipefail

cache=${XDG_CACHE_HOME:-$HOME/.cache}/hyperion/guest
say() { printf 'guest: %s\n' "$*"; }

if [ "$(uname -m)" != x86_64 ] || ! command -v apt-get >/dev/null; then
  say 'only from the packages of Debian on x86_64: the tests that boot a guest are skipped'
  exit 0
fi
PATH=$PATH:/usr/sbin:/sbin

version() { apt-cache show --no-all-versions "$1" | sed -n 's/^Version: //p'; }
kernel=$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/^ *Depends: \(linux-image-.*\)/\1/p' | head -1)
modules='virtio_pci virtio_blk overlay kvm_amd'
versions="$modules $kernel=$(version "$kernel") busybox-static=$(version busybox-static) uidmap=$(version uidmap)"
if [ -z "$kernel" ]; then
  say 'error: apt knows no kernel; as root run: apt-get update' >&2
  exit 1
fi
if [ "$(cat "$cache/versions" 2>/dev/null)" = "$versions" ] && [ -e "$cache/kernel.deb" ]; then
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
apt-get download -q -q -o APT::Sandbox::User=root "$kernel"
dpkg-deb -x ./*.deb kernel
mv ./*.deb new/kernel.deb
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
echo "$versions" >new/versions

rm -rf "$cache"
mv new "$cache"
say "$(du -sh "$cache" | cut -f1) in $cache"
