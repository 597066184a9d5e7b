# A guest inside the machine of lab.sh, with a VF that was handed over to it: the
# function's own driver must find the address its administrator set, and frames
# must go both ways. Arguments: ping=ADDRESS, address=ADDRESS/BITS.
#
# SPDX-License-Identifier: BSD-3-Clause
. /tests/lib.sh
tries=0
until [ -e /sys/class/net/eth0 ]; do
    tries=$((tries + 1))
    [ $tries -lt 100 ] || fail "no network device"
    sleep 0.2
done
mark MAC "$(cat /sys/class/net/eth0/address)"
ip link set eth0 up
ip address add "$(argument address)" dev eth0
tries=0
until ping -c 1 -W 2 "$(argument ping)" >/dev/null; do
    tries=$((tries + 1))
    [ $tries -lt 20 ] || fail "no answer from $(argument ping)"
done
mark PINGED
grep eth0 /proc/interrupts | awk '{ for (i = 2; i <= 3; i++) n += $i } END { print "@@INTERRUPTS " n + 0 }'
