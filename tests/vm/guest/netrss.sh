# A guest whose driver has two queue pairs: it steers by hash, then it is unloaded
# and loaded again, and has to be served as a new one. me= and peer= are numbers,
# from which addresses follow as in net.sh. share= is a folder of the host: at each
# @@AT the guest waits there for a file of that name.
#
# SPDX-License-Identifier: BSD-3-Clause
. /tests/lib.sh
me=$(argument me)
peer=$(argument peer)

ip() { /usr/bin/ip "$@"; }
ethtool() { /usr/bin/ethtool "$@"; }

set_up() {
    ip link set eth0 up || fail "no eth0"
    ip addr add "10.0.0.$((me + 1))/24" dev eth0
    wait_true "carrier" grep -q 1 /sys/class/net/eth0/carrier
}

check() {
    mark NET "kind=tcp" "$(netcheck tcp "10.0.0.$((peer + 1))" 7 1000000)"
}

at() { # WHERE
    mark AT "$1"
    wait_true "the host to see $1" test -e "/share/$1"
}

mkdir -p /share
mount -t hostfs none /share -o "$(argument share)" || fail "no hostfs"
set_up
at start
ethtool -L eth0 combined 2 || fail "two queues"
ethtool -X eth0 equal 2 || fail "an indirection table"
ethtool -K eth0 rxhash on || fail "hashes"
ip link set eth0 address 02:52:42:00:00:77 || fail "another address"
ip maddr add 01:00:5e:01:02:03 dev eth0 || fail "a multicast address"
check
at steering
rmmod virtio_net || fail "the driver stays"
insmod /modules/virtio_net.ko || fail "the driver does not come back"
wait_true "eth0" test -e /sys/class/net/eth0
set_up
check
at again
