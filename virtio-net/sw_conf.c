/*
 * Configurations of ports: defaults, what makes no sense, sets of VLANs as text.
 * Called by sw_port.c and by those who parse options, on the control thread.
 * Changes no port.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "virtio-net/vswitch.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "virtio-net/sw_internal.h"

/* Of buckets whose size nobody chose: a burst of full frames, or some large
 * segments. */
#define BURST_MIN_FRAMES FRAME_BURST
#define BURST_MIN_BYTES (2ull * FRAME_LEN_MAX)

void sw_port_conf_init(struct sw_port_conf *conf)
{
	*conf = (struct sw_port_conf){
		.vlan_mode = SW_VLAN_TRUNK,
		.vlan = 1,
		.enabled = true,
		.learning = true,
		.flooding = true,
	};
	memset(conf->trunk, 0xff, sizeof(conf->trunk));
}

/* The number of VLANs carried, and which (as many as there is room for). */
static unsigned int list_vlans(const struct sw_port_conf *conf, uint16_t list[SW_NARROW_MAX])
{
	unsigned int nr = 0;

	for (uint16_t vid = 1; vid <= FRAME_VLAN_MAX; vid++) {
		if (!conf_carries(conf, vid))
			continue;
		if (nr < SW_NARROW_MAX)
			list[nr] = vid;
		nr++;
	}
	return nr;
}

static int complain(const char *name, const char *what, char *err)
{
	snprintf(err, SW_ERR_LEN, "port '%s': %s", name, what);
	return -EINVAL;
}

static int check_macs(const char *name, const struct sw_port_conf *conf, char *err)
{
	static const uint8_t zero[6];

	if (conf->nr_macs > ARRAY_SIZE(conf->macs))
		return complain(name, "too many MAC addresses, expected at most 16", err);
	if (conf->anti_spoof && !conf->nr_macs)
		return complain(name, "anti-spoofing needs the MAC addresses that may send", err);
	for (unsigned int i = 0; i < conf->nr_macs; i++)
		if (conf->macs[i][0] & 1 || !memcmp(conf->macs[i], zero, 6))
			return complain(name, "a MAC address that is not unicast", err);
	return 0;
}

static int check_statics(const char *name, const struct sw_port_conf *conf, char *err)
{
	static const uint8_t zero[6];

	if (conf->nr_statics > ARRAY_SIZE(conf->statics))
		return complain(name, "too many static MAC addresses, expected at most 16", err);
	for (unsigned int i = 0; i < conf->nr_statics; i++) {
		const struct sw_static_mac *s = &conf->statics[i];
		uint16_t vid = s->vid ? s->vid : conf->vlan;

		if (s->mac[0] & 1 || !memcmp(s->mac, zero, 6))
			return complain(name, "a static MAC address that is not unicast", err);
		if (!vid || vid > FRAME_VLAN_MAX || !conf_carries(conf, vid))
			return complain(name, "a static MAC address in a VLAN it does not carry",
					err);
	}
	return 0;
}

const struct sw_limit *sw_conf_limit(const struct sw_port_conf *conf, enum sw_limit_kind kind)
{
	const struct sw_limit *const limits[SW_LIMIT_CNT] = {
		[SW_LIMIT_IN_BYTES] = &conf->in_bytes,	 [SW_LIMIT_IN_FRAMES] = &conf->in_frames,
		[SW_LIMIT_OUT_BYTES] = &conf->out_bytes, [SW_LIMIT_OUT_FRAMES] = &conf->out_frames,
		[SW_LIMIT_BROADCAST] = &conf->broadcast, [SW_LIMIT_MULTICAST] = &conf->multicast,
		[SW_LIMIT_UNKNOWN] = &conf->unknown,
	};

	return limits[kind];
}

void sw_limits_set(struct sw_port_limits *limits, const struct sw_port_conf *conf)
{
	for (int kind = 0; kind < SW_LIMIT_CNT; kind++) {
		const struct sw_limit *l = sw_conf_limit(conf, (enum sw_limit_kind)kind);
		bool bytes = kind == SW_LIMIT_IN_BYTES || kind == SW_LIMIT_OUT_BYTES;

		limit_set(&limits->limit[kind], l->rate, l->burst,
			  bytes ? BURST_MIN_BYTES : BURST_MIN_FRAMES);
	}
}

static int check_limits(const char *name, const struct sw_port_conf *conf, char *err)
{
	for (int kind = 0; kind < SW_LIMIT_CNT; kind++) {
		const struct sw_limit *l = sw_conf_limit(conf, (enum sw_limit_kind)kind);

		if (l->rate > LIMIT_RATE_MAX || l->burst > LIMIT_BURST_MAX)
			return complain(name, "a limit above 10^12 a second", err);
		if (l->burst && !l->rate)
			return complain(name, "a limit with a burst but no rate", err);
	}
	return 0;
}

int sw_conf_check(const char *name, const struct sw_port_conf *conf, char *err)
{
	uint16_t list[SW_NARROW_MAX];

	if (conf->vlan > FRAME_VLAN_MAX)
		return complain(name, "a VLAN above 4094", err);
	if (conf->vlan_mode == SW_VLAN_ACCESS && !conf->vlan)
		return complain(name, "an access port needs a VLAN, expected 1 to 4094", err);
	if (!list_vlans(conf, list))
		return complain(name, "a trunk that carries no VLAN", err);
	if (!memchr(conf->mirror, 0, sizeof(conf->mirror)))
		return complain(name, "the name of its mirror port is too long", err);
	if (!strcmp(conf->mirror, name))
		return complain(name, "it cannot be its own mirror port", err);
	if (check_limits(name, conf, err) < 0)
		return -EINVAL;
	if (check_statics(name, conf, err) < 0)
		return -EINVAL;
	return check_macs(name, conf, err);
}

struct sw_live *sw_live_create(const struct sw_port_conf *conf)
{
	struct sw_live *live = calloc(1, sizeof(*live));

	if (!live)
		return NULL;
	live->conf = *conf;
	live->untagged_vid = conf->vlan;
	live->nr_vlans = (uint16_t)list_vlans(conf, live->vlan);
	if (!conf->enabled) {
		live->in_checks |= SW_CHECK_DISABLED;
		live->out_checks |= SW_CHECK_DISABLED;
	}
	if (conf->mirror[0]) {
		live->in_checks |= SW_CHECK_MIRROR;
		live->out_checks |= SW_CHECK_MIRROR;
	}
	if (conf->anti_spoof)
		live->in_checks |= SW_CHECK_SPOOF;
	if (conf->loopback)
		live->in_checks |= SW_CHECK_LOOPBACK;
	if (conf->acl_in)
		live->in_checks |= SW_CHECK_ACL;
	if (conf->acl_out)
		live->out_checks |= SW_CHECK_ACL;
	if (conf->in_bytes.rate || conf->in_frames.rate)
		live->in_checks |= SW_CHECK_LIMIT;
	if (conf->out_bytes.rate || conf->out_frames.rate)
		live->out_checks |= SW_CHECK_LIMIT;
	if (conf->broadcast.rate || conf->multicast.rate || conf->unknown.rate)
		live->in_checks |= SW_CHECK_STORM;
	if (conf->isolated)
		live->out_checks |= SW_CHECK_ISOLATED;
	return live;
}

/* --- sets of VLANs --------------------------------------------------------------- */

/* A number from 1 to 4094 at *text, which goes on; 0 if there is none. */
static unsigned long vlan_number(const char **text)
{
	unsigned long n = 0;

	for (; **text >= '0' && **text <= '9' && n <= FRAME_VLAN_MAX; (*text)++)
		n = n * 10 + (unsigned long)(**text - '0');
	return n <= FRAME_VLAN_MAX ? n : 0;
}

int sw_vlans_parse(const char *text, uint8_t set[512], char *err)
{
	const char *at = text;
	unsigned long first, last;

	if (!strcmp(text, "all")) {
		memset(set, 0xff, 512);
		return 0;
	}
	memset(set, 0, 512);
	for (;;) {
		first = vlan_number(&at);
		last = first;
		if (*at == '-') {
			at++;
			last = vlan_number(&at);
		}
		if (!first || last < first)
			break;
		for (unsigned long vid = first; vid <= last; vid++)
			set[vid / 8] |= (uint8_t)(1u << vid % 8);
		if (!*at)
			return 0;
		/* Options are separated by commas, so lists may do with a colon. */
		if (*at != ',' && *at != ':')
			break;
		at++;
	}
	snprintf(err, SW_ERR_LEN,
		 "'%.64s' is no set of VLANs, expected 'all' or numbers and ranges from 1 to "
		 "4094, as in 10:20-29",
		 text);
	return -EINVAL;
}

static bool has_vlan(const uint8_t set[512], unsigned int vid)
{
	return vid <= FRAME_VLAN_MAX && set[vid / 8] >> vid % 8 & 1;
}

char *sw_vlans_format(const uint8_t set[512])
{
	/* "4093-4094," at most for every second VLAN. */
	size_t size = FRAME_VLAN_MAX * 5 + 1, pos = 0;
	char *text = malloc(size);
	unsigned int last;

	if (!text)
		return NULL;
	text[0] = '\0';
	for (unsigned int vid = 1; vid <= FRAME_VLAN_MAX; vid = last + 1) {
		last = vid;
		if (!has_vlan(set, vid))
			continue;
		while (has_vlan(set, last + 1))
			last++;
		pos += (size_t)snprintf(text + pos, size - pos, "%s%u", pos ? "," : "", vid);
		if (last > vid)
			pos += (size_t)snprintf(text + pos, size - pos, "-%u", last);
	}
	if (!strcmp(text, "1-4094"))
		strcpy(text, "all");
	return text;
}
