# A guest that hears nothing from the host: it has one interface, serves, asks its
# peer if the kernel command line names one, and tries what needs the control
# queue. me= and peer= are numbers, from which addresses follow as in net.sh.
#
# SPDX-License-Identifier: BSD-3-Clause
. /tests/lib.sh
me=$(argument me)
peer=$(argument peer)

ip() { /usr/bin/ip "$@"; }

check() { # KIND ADDRESS BYTES
    mark NET "kind=$1" "$(netcheck "$1" "$2" 7 "$3")"
}

ip link set lo up
ip link set eth0 up || fail "no eth0"
ip addr add "10.0.0.$((me + 1))/24" dev eth0
ip addr add "fd00::$((me + 1))/64" dev eth0 nodad
wait_true "carrier" grep -q 1 /sys/class/net/eth0/carrier
mark NIC "address=$(cat /sys/class/net/eth0/address)" "mtu=$(cat /sys/class/net/eth0/mtu)" \
    "features=$(cat /sys/class/net/eth0/device/features)"
netcheck serve 7 &
if [ -z "$peer" ]; then
    mark SERVING
    while :; do sleep 1000; done
fi

check tcp "10.0.0.$((peer + 1))" 1000000
check tcp "fd00::$((peer + 1))" 1000000
check udp "10.0.0.$((peer + 1))" 8000

# Each of these is a command on the control queue, and the driver says so when
# the device refuses it.
ip link set eth0 promisc on && ip link set eth0 promisc off || fail "promiscuous mode"
ip link set eth0 allmulticast on && ip link set eth0 allmulticast off || fail "all multicast"
ip maddr add 01:00:5e:01:02:03 dev eth0 || fail "a multicast address"
ip link set eth0 address 02:52:42:00:00:77 || fail "another address"
ip link add link eth0 name eth0.5 type vlan id 5 || fail "a VLAN"
ip link set eth0.5 up
ip link del eth0.5 || fail "one VLAN less"
/usr/bin/ethtool -K eth0 lro off 2>/dev/null
dmesg | grep -i virtio_net | grep -i fail && fail "the driver complains"
check tcp "10.0.0.$((peer + 1))" 1000000
mark NIC "address=$(cat /sys/class/net/eth0/address)"
