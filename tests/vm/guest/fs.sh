# File systems on a disk that is served from outside, over a reboot.
#
# First boot: ext4 and xfs are made and filled; space given up by deleting, by
# fstrim and by blkdiscard must come back to the host, which looks at its image
# file while this waits; fio verifies the raw part. Second boot: everything is
# still there and both file systems are clean.
#
# SPDX-License-Identifier: BSD-3-Clause
. /tests/lib.sh
disk=$(disk_of "$(argument disk)") || exit 1
megabytes=$(argument megabytes)

fill() { # DIRECTORY
    mkdir -p "$1/many" || fail "mkdir in $1"
    dd if=/dev/urandom of="$1/large" bs=1M count="$megabytes" 2>/dev/null || fail "write $1/large"
    for i in $(seq 100); do
        dd if="$1/large" of="$1/many/$i" bs=1000 skip="$i" count=1 2>/dev/null
    done
    (cd "$1" && md5sum large many/* >sums) || fail "md5sum in $1"
}

verify() { # DIRECTORY
    drop_caches
    (cd "$1" && md5sum -c -s sums) || fail "contents of $1 changed"
    [ "$(ls "$1/many" | wc -l)" = 100 ] || fail "files of $1 are missing"
}

first_boot() {
    mark_disk "$disk"
    printf 'label: gpt\nsize=320MiB\nsize=320MiB\nsize=64MiB\n' |
        sfdisk -q "$disk" >/dev/null || fail "sfdisk"
    mdev -s
    mke2fs -q -F -t ext4 "${disk}1" || fail mke2fs
    mkfs.xfs -q -f "${disk}2" || fail mkfs.xfs
    mkdir -p /ext4 /xfs
    mount -t ext4 "${disk}1" /ext4 || fail "mount ext4"
    mount -t xfs "${disk}2" /xfs || fail "mount xfs"
    for fs in ext4 xfs; do
        fill /$fs
        verify /$fs
        mark FILLED $fs
    done
    trim
    umount /ext4 /xfs || fail umount
    discard
    run_fio
    mark REBOOT
    reboot -f
    sleep 60
}

trim() {
    for fs in ext4 xfs; do
        dd if=/dev/urandom of=/$fs/victim bs=1M count=16 2>/dev/null
        sync
        mark TRIM_BEFORE $fs
        wait_host $fs-seen
        rm /$fs/victim
        # xfs gives the space back later, and fstrim leaves out what is on its way.
        fsfreeze --freeze /$fs || fail "fsfreeze --freeze $fs"
        fsfreeze --unfreeze /$fs || fail "fsfreeze --unfreeze $fs"
        fstrim /$fs || fail "fstrim $fs"
        mark TRIM_AFTER $fs
        wait_host $fs-seen-again
    done
}

discard() {
    dd if=/dev/urandom of="${disk}3" bs=1M count=16 oflag=direct 2>/dev/null ||
        fail "write ${disk}3"
    mark DISCARD_BEFORE
    wait_host discard-seen
    blkdiscard -l 8M "${disk}3" || fail blkdiscard
    blkdiscard -z -o 8M -l 8M "${disk}3" || fail "blkdiscard -z"
    [ "$(dd if="${disk}3" bs=1M count=16 iflag=direct 2>/dev/null | tr -d '\000' | wc -c)" = 0 ] ||
        fail "blkdiscard left data"
    mark DISCARD_AFTER
    wait_host discard-seen-again
}

run_fio() {
    options=trans=virtio,version=9p2000.L,msize=512000,cache=loose,ro
    mount -t 9p -o $options host /host 2>/dev/null || {
        mark NOFIO
        return
    }
    mount -t tmpfs tmpfs /host/tmp
    for dir in proc sys dev; do mount --bind /$dir /host/$dir; done
    chroot /host /usr/bin/fio --name=verify --filename="${disk}3" --size=24M --direct=1 \
        --rw=randwrite --bsrange=4k-64k --blockalign=4k --ioengine=libaio --iodepth=16 \
        --verify=crc32c --verify_fatal=1 --do_verify=1 --thread --minimal >/tmp/fio 2>&1 ||
        fail "fio: $(tail -n 2 /tmp/fio)"
    mark FIO
    umount /host/tmp /host/proc /host/sys /host/dev /host
}

second_boot() {
    mkdir -p /ext4 /xfs
    mount -t ext4 "${disk}1" /ext4 || fail "mount ext4 after reboot"
    mount -t xfs "${disk}2" /xfs || fail "mount xfs after reboot"
    for fs in ext4 xfs; do
        verify /$fs
        mark VERIFIED $fs
    done
    umount /ext4 /xfs || fail "umount after reboot"
    e2fsck -f -n "${disk}1" >/dev/null 2>&1 || fail "e2fsck found damage"
    xfs_repair -n "${disk}2" >/dev/null 2>&1 || fail "xfs_repair found damage"
    mark CLEAN
}

if [ -b "${disk}1" ]; then second_boot; else first_boot; fi
