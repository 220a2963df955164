#!/usr/bin/env bash
# Runs a command in another release of Debian, on a copy of what is committed here.
#
#   sudo scripts/in_debian.sh trixie make demo
#   sudo ARCH=arm64 scripts/in_debian.sh bookworm make demo     # emulated by qemu, many times slower
#
# Needs root and debootstrap, and for ARCH also qemu-user-static and binfmt-support. Packages come from
# DEBIAN_MIRROR, by default the mirror of this machine. A release is installed once, into DISTROS
# (default /var/tmp/in-debian), and used again; remove it with `rm -r`. KEEP names files and folders of this
# tree that are not committed and are copied, too. Mounts are in a namespace of their own, so none is left.
set -euo pipefail

fail() { printf 'in_debian: %s\n' "$*" >&2; exit 1; }

if [ $# -lt 2 ]; then
    echo "usage: scripts/in_debian.sh RELEASE COMMAND..." >&2
    exit 2
fi
cd "$(dirname "${BASH_SOURCE[0]}")/.."
[ "$(id -u)" = 0 ] || fail "needs root; run \`sudo scripts/in_debian.sh $*\`"
for tool in debootstrap git unshare; do
    command -v "$tool" >/dev/null || fail "needs $tool; run \`apt-get install debootstrap git util-linux\`"
done
if [ "${IN_DEBIAN_NAMESPACE:-}" != own ]; then
    IN_DEBIAN_NAMESPACE=own exec unshare --mount --propagation private bash scripts/in_debian.sh "$@"
fi

release=$1
shift
native=$(dpkg --print-architecture)
arch=${ARCH:-$native}
distros=${DISTROS:-/var/tmp/in-debian}
root=$distros/$release-$arch
project=$root/root/project

emulate() {
    command -v update-binfmts >/dev/null && compgen -G '/usr/bin/qemu-*-static' >/dev/null ||
        fail "needs qemu for $arch; run \`apt-get install qemu-user-static binfmt-support\`"
    [ -e /proc/sys/fs/binfmt_misc/register ] || mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc
    update-binfmts --enable >/dev/null 2>&1 || true
}

mirror() {
    # The label leaves out the security archive, which debootstrap cannot start from.
    apt-get indextargets --format '$(LABEL) $(REPO_URI)' 2>/dev/null | sed -n 's/^Debian //p' | sed -n 1p
}

install_release() {
    local log=$distros/$release-$arch.log
    echo "in_debian: installing $release ($arch) into $root (about a minute)"
    rm -rf "$root"
    debootstrap --arch="$arch" --variant=minbase --include=ca-certificates,make,python3 \
        "$release" "$root" ${mirror_url:+"$mirror_url"} >"$log" 2>&1 || fail "debootstrap failed; see $log"
    touch "$root/.installed"
}

mkdir -p "$distros"
[ "$arch" = "$native" ] || emulate
mirror_url=${DEBIAN_MIRROR:-$(mirror)}
[ -e "$root/.installed" ] || install_release

# What this machine needs to reach its mirrors, and itself as localhost.
for file in /etc/hosts /etc/resolv.conf /etc/pip.conf /etc/ssl/certs/ca-certificates.crt; do
    if [ -e "$file" ]; then install -D -m 0644 "$file" "$root$file"; fi
done

# safe.directory: with sudo, the repository belongs to somebody else.
git_here() { git -c safe.directory="$PWD" "$@"; }
if [ -n "$(git_here status --porcelain --untracked-files=no)" ]; then
    echo "in_debian: changes that are not committed are left out" >&2
fi
rm -rf "$project"
mkdir -p "$project"
git_here archive HEAD | tar -x -C "$project"
for path in ${KEEP:-}; do cp -r --parents "$path" "$project"; done

mount -t proc proc "$root/proc"
mount -t sysfs sys "$root/sys"
mount --rbind /dev "$root/dev"
keep_env=()
for name in http_proxy https_proxy no_proxy PIP_INDEX_URL PIP_EXTRA_INDEX_URL; do
    if [ -n "${!name:-}" ]; then keep_env+=("$name=${!name}"); fi
done
exec env -i "${keep_env[@]}" CI=true HOME=/root TERM="${TERM:-dumb}" LC_ALL=C.UTF-8 \
    PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    chroot "$root" bash -c 'cd /root/project && exec "$@"' in_debian "$@"
