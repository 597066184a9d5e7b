# Do what the host says, one line at a time, while I/O goes on.
#
#   start DISK THREADS BLOCKS MIB   run tagio on a disk in the background
#   stop DISK                       end it; every block is verified
#   disk DISK                       wait for a disk and describe it
#   gone DISK                       wait until a disk has left
#   sized DISK BYTES                wait until a disk has this size
#   refuses DISK                    a write to a disk must fail
#   cache DISK through|back         set the disk's cache mode
#   memory MIB                      wait until there is at least this much memory
#   end                             power off; fails if any verification did
#
# SPDX-License-Identifier: BSD-3-Clause
. /tests/lib.sh

result=0

has_size() { [ "$(($(cat "/sys/block/${1##*/}/size") * 512))" = "$2" ]; }

has_memory() { [ "$(awk '/^MemTotal/ { print int($2 / 1024) }' /proc/meminfo)" -ge "$1" ]; }

is_gone() { ! grep -qsx "$1" /sys/block/vd*/serial; }

do_line() { # WORD ARGUMENTS...
    word=$1
    shift
    case $word in
    start)
        disk=$(disk_of "$1") || exit 1
        tagio "$1" "$disk" "$2" "$3" "$4" &
        echo $! >"/run/tagio.$1"
        ;;
    stop)
        pid=$(cat "/run/tagio.$1")
        kill -TERM "$pid"
        wait "$pid" || result=1
        ;;
    disk) disk=$(disk_of "$1") && mark_disk "$disk" ;;
    gone) wait_true "$1 to leave" is_gone "$1" ;;
    sized) wait_true "$1 to have $2 bytes" has_size "$(disk_of "$1")" "$2" ;;
    refuses)
        disk=$(disk_of "$1") || exit 1
        dd if=/dev/zero of="$disk" bs=4k count=1 oflag=direct 2>/dev/null && fail "$1 was written"
        ;;
    cache)
        disk=$(disk_of "$1") || exit 1
        echo "write $2" >"/sys/block/${disk##*/}/cache_type" || fail "cache_type of $1"
        ;;
    memory) wait_true "$1 MiB of memory" has_memory "$1" ;;
    *) fail "what is '$word'?" ;;
    esac
}

obey
exit $result
