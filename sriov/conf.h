/*
 * How a VF is configured: keys, values, their text. Part of sriov/sriov.h.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef RINGBOLT_SRIOV_CONF_H
#define RINGBOLT_SRIOV_CONF_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/opts.h"

#define SRIOV_TEXT_LEN 256 /* a configuration, names of vendors, sentences of one cause */

/* How a VF is configured by its PF, over rtnetlink. The order is that of
 * sriov_conf_keys. */
enum sriov_conf_bit {
	SRIOV_CONF_MAC = 1 << 0,
	SRIOV_CONF_VLAN = 1 << 1,
	SRIOV_CONF_QOS = 1 << 2,
	SRIOV_CONF_PROTO = 1 << 3,
	SRIOV_CONF_SPOOFCHK = 1 << 4,
	SRIOV_CONF_TRUST = 1 << 5,
	SRIOV_CONF_STATE = 1 << 6,
	SRIOV_CONF_MIN_RATE = 1 << 7,
	SRIOV_CONF_MAX_RATE = 1 << 8,
	SRIOV_CONF_QUERY_RSS = 1 << 9,
	SRIOV_CONF_MSIX = 1 << 10, /* sysfs and the function's configuration space */
};

struct sriov_conf {
	unsigned int has; /* which fields count */
	uint8_t mac[6];
	uint64_t vlan; /* 0: none */
	uint64_t qos; /* 0 to 7 */
	int proto; /* index in sriov_proto_names */
	bool spoofchk, trust, query_rss;
	int state; /* index in sriov_state_names, IFLA_VF_LINK_STATE_* */
	uint64_t min_rate, max_rate; /* Mbit/s, 0: no limit */
	uint64_t msix; /* vectors */
};

extern const char *const sriov_proto_names[]; /* 802.1Q, 802.1ad */
extern const char *const sriov_state_names[]; /* auto, enable, disable */
/* Offsets are into struct sriov_conf; mac is told by sriov_conf_item() only. */
extern const struct opt_desc sriov_conf_keys[];

/* One key and its text. option begins the sentence in err (OPTS_ERR_LEN):
 * -EINVAL if key or text are wrong, or the key was given before. */
int sriov_conf_item(const char *option, const char *key, const char *text, struct sriov_conf *conf,
		    char *err);
/* "key=value key=value" of what counts; text has SRIOV_TEXT_LEN. */
void sriov_conf_text(const struct sriov_conf *conf, char *text);
/* What counts, as an object: {"mac": text, "vlan": number...}. */
json_t *sriov_conf_json(const struct sriov_conf *conf);

#endif
