/*
 * Fuzz target: rules of access lists and sets of VLANs, which come from control
 * clients, the command line and files. Whatever the text, the answer is 0 and a rule
 * that makes sense, or -EINVAL and a sentence of bounded length that says where.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/base.h"
#include "virtio-net/acl_rule.h"
#include "virtio-net/vswitch.h"

#define must(cond)                                                                                 \
	do {                                                                                       \
		if (!(cond))                                                                       \
			abort();                                                                   \
	} while (0)

static void check_rule(const json_t *json, unsigned int nr)
{
	char err[SW_ERR_LEN];
	struct acl_rule r;
	int ret;

	memset(err, '#', sizeof(err));
	ret = acl_rule_parse(json, nr, &r, err);
	if (ret) {
		must(ret == -EINVAL);
		must(strnlen(err, sizeof(err)) < sizeof(err));
		must(!strncmp(err, "access list, rule ", 18));
		return;
	}
	must(r.in || r.out);
	must(r.src_mac.bits <= 48 && r.dst_mac.bits <= 48);
	must(r.src.bits <= (r.family == ACL_IPV6 ? 128 : 32));
	must(r.dst.bits <= (r.family == ACL_IPV6 ? 128 : 32));
	must(r.family != ACL_ANY || !(r.src.bits | r.dst.bits));
	must(r.vlan.min <= r.vlan.max);
	must(r.src_port.min <= r.src_port.max && r.dst_port.min <= r.dst_port.max);
	must(!acl_rule_wants_l4(&r) || (r.has_proto && acl_proto_has_ports(r.proto)));
}

static void check_vlans(const char *text)
{
	uint8_t set[512], again[512];
	char err[SW_ERR_LEN], *shown;

	memset(err, '#', sizeof(err));
	if (sw_vlans_parse(text, set, err)) {
		must(strnlen(err, sizeof(err)) < sizeof(err));
		return;
	}
	shown = sw_vlans_format(set);
	must(shown && *shown);
	must(!sw_vlans_parse(shown, again, err));
	/* "all" is more than the VLANs there are. */
	must(!strcmp(shown, "all") || !memcmp(set, again, sizeof(set)));
	free(shown);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	json_t *json = json_loadb((const char *)data, size, 0, NULL);
	char *text = malloc(size + 1);

	must(text);
	memcpy(text, data, size);
	text[size] = '\0';
	check_vlans(text);
	free(text);
	for (size_t i = 0; i < json_array_size(json); i++)
		check_rule(json_array_get(json, i), (unsigned int)i + 1);
	json_decref(json);
	return 0;
}
