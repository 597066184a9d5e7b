# Shell functions of the test guests. Sourced by init and by every test script.
#
# SPDX-License-Identifier: BSD-3-Clause

# One line for the host: @@NAME words...
mark() { echo "@@$*"; }

# Give up with a reason. Past standard output, which a $(...) may have taken.
fail() {
    mark FAIL "$*" >/dev/console
    exit 1
}

# Value of name= on the kernel command line, or nothing.
argument() { sed -n "s/.*\b$1=\([^ ]*\).*/\1/p" /proc/cmdline; }

# Wait until the host says the word, on the second serial line. The host
# repeats its line, "say NUMBER WORD", until it sees the answer, because a serial
# line drops what arrives before it is opened. That may be half a line: what does
# not begin with "say" is one, and its number would be wrong.
wait_host() {
    while read -r say number word; do
        [ "$say" = say ] && [ "$word" = "$1" ] && break
    done </dev/ttyS1
    mark HEARD "$number"
}

# Do what the host says, a line at a time, with do_line, until it says "end". The
# host repeats a line until it is heard: the number tells. Each is answered by
# "@@HEARD number" at once, and "@@DID number" when it is done.
obey() {
    last_line=0
    exec 3</dev/ttyS1
    mark READY
    while read -r say this_line words <&3; do
        [ "$say" = say ] && [ "$this_line" -gt "$last_line" ] 2>/dev/null || continue
        last_line=$this_line
        mark HEARD "$this_line"
        [ "$words" = end ] && return
        # shellcheck disable=SC2086 # the line is words
        do_line $words
        mark DID "$last_line"
    done
}

# Ask for 30 seconds whether a command succeeds.
wait_true() { # WHAT COMMAND...
    what=$1
    shift
    tries=0
    until "$@"; do
        tries=$((tries + 1))
        [ $tries -lt 300 ] || fail "waited for $what"
        sleep 0.1
    done
}

# The path of the virtio disk with this serial number, once it is there.
disk_of() {
    tries=0
    while [ $tries -lt 200 ]; do
        for dir in /sys/block/vd*; do
            [ -e "$dir/serial" ] || continue
            case $(cat "$dir/serial") in
            "$1")
                echo "/dev/${dir##*/}"
                return
                ;;
            vhost_user_blk)
                # qemu-storage-daemon calls all its disks so: the number at the
                # end of the name asked for tells which.
                case $1 in *2) echo /dev/vdb ;; *) echo /dev/vda ;; esac
                return
                ;;
            esac
        done
        tries=$((tries + 1))
        sleep 0.1
    done
    fail "no disk with serial $1; there are: $(ls /sys/block)"
}

# Say what the driver of a disk sees.
mark_disk() {
    dir=/sys/block/${1##*/}
    # "features" is a string of bits; VIRTIO_F_RING_PACKED is bit 34.
    mark DISK "bytes=$(($(cat $dir/size) * 512))" "queues=$(ls $dir/mq | wc -l)" \
        "packed=$(cut -c 35 $dir/device/features)" \
        "block=$(cat $dir/queue/logical_block_size)" "ro=$(cat $dir/ro)" \
        "cache=$(tr -d ' ' <$dir/queue/write_cache)"
}

drop_caches() {
    sync
    echo 3 >/proc/sys/vm/drop_caches
}

# Debian's busybox runs its own applet before any program of that name, and
# some of its applets know only a few options.
mke2fs() { /usr/bin/mke2fs "$@"; }
fstrim() { /usr/bin/fstrim "$@"; }
blkdiscard() { /usr/bin/blkdiscard "$@"; }
