# Do what the host says, one line at a time, with network interfaces. Each has a
# number, from which its addresses follow, and a network namespace of its own,
# so that frames between two interfaces of one guest go over the wire as well.
#
#   nic N MTU             the interface with MAC address number N: set it up
#   mtu N MTU             give it another one
#   vlan N VID            a VLAN interface on top of it, with an address of its own
#   tune N ethtool-words  ethtool -K
#   nics                  describe all interfaces
#   sweep KIND BYTES FROM,... TO,... [VID]  from own interfaces to others' addresses:
#                         KIND is tcp4, tcp6, udp4, udp6, uso4 or uso6
#   ping N TO             five times
#   rate KIND N TO S      pour4, soak4, pour6 or soak6 for some seconds
#   flow KIND N TO        tcp over and over, in the background, until "still"
#   still                 end that; fails if it ever failed
#   end                   power off; fails if anything did
#
# SPDX-License-Identifier: BSD-3-Clause
. /tests/lib.sh

result=0
port=7

# Debian's busybox has an applet of this name that knows less.
ip() { /usr/bin/ip "$@"; }

address() { # KIND N [VID]
    case $1 in
    *6) echo "fd00:${3:-0}::$(($2 + 1))" ;;
    *) echo "10.$((${3:-0} / 256)).$((${3:-0} % 256)).$(($2 + 1))" ;;
    esac
}

interface_of() { # N
    mac=$(printf '02:52:42:00:%02x:%02x' $(($1 >> 8)) $(($1 & 255)))
    for dir in /sys/class/net/*; do
        [ "$(cat "$dir/address")" = "$mac" ] && echo "${dir##*/}" && return
    done
    fail "no interface with address $mac"
}

give_addresses() { # NAMESPACE INTERFACE N [VID]
    ip -n "$1" addr add "$(address 4 "$3" "$4")/24" dev "$2" || fail "IPv4 address"
    ip -n "$1" addr add "$(address 6 "$3" "$4")/64" dev "$2" nodad || fail "IPv6 address"
}

set_up() { # N MTU
    interface=$(interface_of "$1") || exit 1
    ip netns add "n$1"
    ip link set "$interface" netns "n$1" name eth0 || fail "namespace of $1"
    ip -n "n$1" link set lo up
    ip -n "n$1" link set eth0 mtu "$2" up || fail "mtu $2 of $1"
    give_addresses "n$1" eth0 "$1"
    netcheck serve $port "/run/netns/n$1" &
    wait_true "carrier of $1" has_carrier "n$1"
}

has_carrier() { [ "$(ip netns exec "$1" cat /sys/class/net/eth0/carrier 2>/dev/null)" = 1 ]; }

# What the driver has negotiated, as a string of bits, and how many queues. The
# namespace's own view of /sys has its interfaces.
describe() { # N
    # shellcheck disable=SC2016 # for the other shell
    mark NIC "number=$1" "$(ip netns exec "n$1" sh -c '
        cd /sys/class/net/eth0
        echo "features=$(cat device/features)" "queues=$(ls -d queues/rx-* | wc -l)" \
            "mtu=$(cat mtu)"')"
}

check() { # KIND BYTES FROM TO [VID]
    said=$(netcheck "${1%[46]}" "$(address "$1" "$4" "$5")" $port "$2" "/run/netns/n$3") ||
        result=1
    mark NET "kind=$1" "from=$3" "to=$4" "vlan=${5:-0}" "$said"
}

sweep() { # KIND BYTES FROM,... TO,... [VID]
    for from in $(echo "$3" | tr , ' '); do
        for to in $(echo "$4" | tr , ' '); do
            check "$1" "$2" "$from" "$to" "$5"
        done
    done
}

flow() { # KIND N TO
    while [ ! -e /run/still ]; do
        check "$1" 300000 "$2" "$3"
    done
    exit $result
}

do_line() { # WORD ARGUMENTS...
    word=$1
    shift
    case $word in
    nic) set_up "$@" ;;
    mtu) ip -n "n$1" link set eth0 mtu "$2" || fail "mtu $2 of $1" ;;
    vlan)
        ip -n "n$1" link add link eth0 name "eth0.$2" type vlan id "$2" || fail "VLAN $2"
        ip -n "n$1" link set "eth0.$2" up
        give_addresses "n$1" "eth0.$2" "$1" "$2"
        ;;
    tune)
        number=$1
        shift
        ip netns exec "n$number" /usr/bin/ethtool -K eth0 "$@" || fail "ethtool -K $*"
        ;;
    nics)
        for space in $(ip netns list | cut -d ' ' -f 1); do
            describe "${space#n}"
        done
        ;;
    sweep) sweep "$@" ;;
    ping)
        said=$(ip netns exec "n$1" ping -c 5 -i 0.2 -W 5 "$(address 4 "$2")" | tail -n 2) ||
            fail "ping from $1 to $2: $said"
        mark PING "from=$1" "to=$2" "ms=$(echo "$said" | sed -n 's,.*= [0-9.]*/\([0-9.]*\)/.*,\1,p')"
        ;;
    rate)
        said=$(netcheck "${1%[46]}" "$(address "$1" "$3")" $port "$4" "/run/netns/n$2") ||
            result=1
        mark RATE "kind=$1" "$said"
        ;;
    flow)
        rm -f /run/still
        flow "$@" &
        flow=$!
        ;;
    still)
        touch /run/still
        wait $flow || result=1
        ;;
    *) fail "what is '$word'?" ;;
    esac
}

mkdir -p /run/netns
obey
exit $result
