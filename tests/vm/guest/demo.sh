# The demonstration: what a user does first with a new disk.
#
# SPDX-License-Identifier: BSD-3-Clause
. /tests/lib.sh
disk=$(disk_of "$(argument disk)") || exit 1
megabytes=$(argument megabytes)

mark_disk "$disk"
mke2fs -q -F -t ext4 -L ringbolt "$disk" || fail "mke2fs"
mount -t ext4 "$disk" /mnt || fail "mount"
mark FORMATTED

mkdir /mnt/small
dd if=/dev/urandom of=/mnt/large bs=1M count="$megabytes" 2>/dev/null || fail "write"
for i in $(seq 200); do
    dd if=/mnt/large of="/mnt/small/$i" bs=1000 skip="$i" count=1 2>/dev/null || fail "write $i"
done
(cd /mnt && md5sum large small/*) >/tmp/sums
sync
mark WRITTEN "files=$(wc -l </tmp/sums)" "kib=$(du -sk /mnt | cut -f 1)"

umount /mnt || fail "umount"
drop_caches
mount -t ext4 "$disk" /mnt || fail "mount again"
(cd /mnt && md5sum -c -s /tmp/sums) || fail "a checksum differs after the caches were dropped"
mark VERIFIED "files=$(wc -l </tmp/sums)"

rm /mnt/large
sync
trimmed=$(fstrim -v /mnt | sed 's/.*(\([0-9]*\) bytes).*/\1/')
[ "${trimmed:-0}" -gt 0 ] || fail "fstrim gave nothing back"
mark TRIMMED "bytes=$trimmed"

umount /mnt || fail "umount"
e2fsck -f -n "$disk" >/dev/null 2>&1 || fail "e2fsck found damage"
mark CHECKED
[ "$(argument host)" = none ] || wait_host bye
