#!/bin/bash
# Installs the packages of packages.txt. Called by `make deps`; does nothing,
# and asks for no privilege, when all of them are there.
#
# Debian 12's own QEMU is 7.2. The tests want a current one as well, so the
# backports suite is added as one more source, derived from the machine's own
# sources: whatever mirror it uses is the mirror used here.
#
# SPDX-License-Identifier: BSD-3-Clause
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
source_file=/etc/apt/sources.list.d/ringbolt-backports.sources
keyring=/usr/share/keyrings/debian-archive-keyring.gpg

die() { echo "deps: $*" >&2; exit 1; }

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        die "packages are missing; run 'make deps' as root or install sudo"
    fi
}

apt_update() { as_root apt-get update -qq -o Acquire::Retries=3; }

installed() { dpkg-query -W -f '${Status}' "$1" 2>/dev/null | grep -q ' installed$'; }

# The URI this machine fetches the given suite of the main archive from.
archive_uri() {
    apt-get indextargets --format '$(CODENAME) $(COMPONENT) $(REPO_URI)' 'Identifier: Packages' |
        awk -v suite="$1" '$1 == suite && $2 == "main" { print $3; exit }'
}

known_suite() { [ -n "$(archive_uri "$1")" ]; }

add_backports() {
    local codename=$1 uri signed=
    uri=$(archive_uri "$codename")
    [ -n "$uri" ] || return 1
    [ -f "$keyring" ] && signed="Signed-By: $keyring"
    printf 'Types: deb\nURIs: %s\nSuites: %s\nComponents: main\n%s\n' \
        "$uri" "$codename-backports" "$signed" | as_root tee "$source_file" >/dev/null
    if ! apt_update || ! known_suite "$codename-backports"; then
        as_root rm -f "$source_file"
        apt_update
        return 1
    fi
}

command -v apt-get >/dev/null || die "this needs a Debian machine (apt-get not found)"
. /etc/os-release
[ "${VERSION_CODENAME:-}" = bookworm ] ||
    echo "deps: made for Debian 12 (bookworm); this is ${PRETTY_NAME:-unknown}, going on" >&2

missing=()
backports=()
while read -r name where; do
    installed "$name" && continue
    if [ "$where" = @backports ]; then backports+=("$name"); else missing+=("$name"); fi
done < <(grep -v -e '^#' -e '^$' "$here/packages.txt")

[ ${#missing[@]} != 0 ] || [ ${#backports[@]} != 0 ] || exit 0

echo "deps: apt-get update"
apt_update || die "apt-get update failed"
# Through env, because sudo passes no variables on.
install=(env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq
    --no-install-recommends -o Dpkg::Use-Pty=0)
known_suite "$VERSION_CODENAME-backports" || add_backports "$VERSION_CODENAME" ||
    echo "deps: $VERSION_CODENAME-backports cannot be had here; tests that need it will be skipped" >&2
if [ ${#missing[@]} != 0 ]; then
    echo "deps: installing ${missing[*]}"
    as_root "${install[@]}" "${missing[@]}" >/dev/null
fi
if [ ${#backports[@]} != 0 ]; then
    echo "deps: installing ${backports[*]} from backports"
    from=()
    known_suite "$VERSION_CODENAME-backports" && from=(-t "$VERSION_CODENAME-backports")
    as_root "${install[@]}" "${from[@]}" "${backports[@]}" >/dev/null
fi
echo "deps: done"
