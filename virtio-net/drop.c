/*
 * The names of the reasons for which frames are dropped, as status and metrics
 * show them. Data only.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "virtio-net/drop.h"

#include "core/base.h"

const char *const drop_reason_names[] = {
	[DROP_NONE] = "none",
	[DROP_BAD_CHAIN] = "bad-chain",
	[DROP_BAD_HEADER] = "bad-header",
	[DROP_TOO_LONG] = "too-long",
	[DROP_VLAN_IN] = "vlan-in",
	[DROP_SPOOFED] = "spoofed",
	[DROP_ACL_IN] = "acl-in",
	[DROP_LIMIT_IN] = "limit-in",
	[DROP_STORM] = "storm",
	[DROP_PINNED] = "pinned",
	[DROP_RESERVED] = "reserved",
	[DROP_LOOP] = "loop",
	[DROP_NO_PORT] = "no-port",
	[DROP_DISABLED_IN] = "disabled-in",
	[DROP_ISOLATED] = "isolated",
	[DROP_ACL_OUT] = "acl-out",
	[DROP_LIMIT_OUT] = "limit-out",
	[DROP_FILTERED] = "filtered",
	[DROP_LINK_DOWN] = "link-down",
	[DROP_NO_BUFFER] = "no-buffer",
	[DROP_BUFFER_SMALL] = "buffer-small",
	[DROP_BAD_BUFFER] = "bad-buffer",
	[DROP_MTU_OUT] = "mtu-out",
	[DROP_NO_MEMORY] = "no-memory",
	[DROP_OFFLOAD] = "offload",
};
static_assert(ARRAY_SIZE(drop_reason_names) == DROP_REASON_CNT, "a name for every reason");
