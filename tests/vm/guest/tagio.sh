# A fixed number of verified operations on one disk, with nobody to talk to.
#
# SPDX-License-Identifier: BSD-3-Clause
. /tests/lib.sh
disk=$(disk_of "$(argument disk)") || exit 1
mark_disk "$disk"
tagio tagio "$disk" 2 2000 16 3000
