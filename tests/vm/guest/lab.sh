# A machine in which the host runs commands: what tests of real devices need.
#
# The host's file system is the guest's, read-only, so that all of the host's
# programs are there; /run, /tmp and /var/lib are the guest's own. The host
# leaves command n as /tmp/share/n.sh and says "n" on the second serial line. It
# is run beside the others, its output goes to n.out and n.err, and "@@DID n
# status" tells that it has ended. "n end" powers off.
#
# SPDX-License-Identifier: BSD-3-Clause
. /tests/lib.sh

nine_p() { # TAG DIRECTORY OPTIONS
    mkdir -p "$2"
    mount -t 9p -o "trans=virtio,version=9p2000.L,msize=512000,$3" "$1" "$2" ||
        fail "no 9p share $1"
}

nine_p host /host cache=loose,ro
for dir in tmp run var/lib; do mount -t tmpfs tmpfs /host/$dir; done
for dir in proc sys dev; do mount --bind /$dir /host/$dir; done
nine_p build /host/tmp/build cache=loose,ro
nine_p share /host/tmp/share cache=none
mkdir -p /host/dev/shm && mount -t tmpfs tmpfs /host/dev/shm

run() { # NUMBER
    files=/host/tmp/share/$1
    PATH=/usr/sbin:/usr/bin:/sbin:/bin chroot /host /bin/bash "/tmp/share/$1.sh" </dev/null >"$files.out" 2>"$files.err"
    mark DID "$1 $?" >/dev/console
}

last=0
exec 3</dev/ttyS1
mark READY
while read -r say number words <&3; do
    [ "$say" = say ] && [ "$number" -gt "$last" ] 2>/dev/null || continue
    last=$number
    mark HEARD "$number"
    [ "$words" = end ] && exit 0
    run "$number" &
done
