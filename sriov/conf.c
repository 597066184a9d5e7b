/*
 * The configuration of a VF as text, as JSON and on its device: keys, reading
 * back, MSI-X vectors. Called by programs and by the changes of sriov/. How the
 * kernel is asked is netlink.c's.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "sriov/conf.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base.h"
#include "core/log.h"
#include "sriov/internal.h"

#define VLAN_MAX 4094 /* IEEE 802.1Q: 0 is no VLAN here, 4095 is reserved */
#define MSIX_MAX 2048 /* PCI, "MSI-X Capability": table size */

const char *const sriov_proto_names[] = { "802.1Q", "802.1ad", NULL };
const char *const sriov_state_names[] = { "auto", "enable", "disable", NULL };

/* NOLINTNEXTLINE(bugprone-macro-parentheses): a field's name cannot have any */
#define KEY(name, field) .key = (name), .offset = offsetof(struct sriov_conf, field)

const struct opt_desc sriov_conf_keys[] = {
	{ KEY("mac", mac), .type = OPT_STRING, .help = "Ethernet address" },
	{ KEY("vlan", vlan), .type = OPT_UINT, .max = VLAN_MAX, .help = "VLAN, 0 for none" },
	{ KEY("qos", qos), .type = OPT_UINT, .max = 7, .help = "priority in the VLAN tag" },
	{ KEY("proto", proto), .type = OPT_ENUM, .names = sriov_proto_names,
	  .help = "protocol of the VLAN tag" },
	{ KEY("spoofchk", spoofchk), .type = OPT_BOOL, .help = "refuse other source addresses" },
	{ KEY("trust", trust), .type = OPT_BOOL,
	  .help = "allow promiscuous mode, other addresses" },
	{ KEY("state", state), .type = OPT_ENUM, .names = sriov_state_names,
	  .help = "link as the VF sees it" },
	{ KEY("min-rate", min_rate), .type = OPT_UINT, .max = UINT32_MAX,
	  .help = "Mbit/s that are its own, 0 for none" },
	{ KEY("max-rate", max_rate), .type = OPT_UINT, .max = UINT32_MAX,
	  .help = "Mbit/s at most, 0 for no limit" },
	{ KEY("query-rss", query_rss), .type = OPT_BOOL, .help = "let the VF read the RSS key" },
	{ KEY("msix", msix), .type = OPT_UINT, .max = MSIX_MAX,
	  .help = "MSI-X vectors; the VF must have no driver" },
	{ NULL },
};

/* Six pairs of digits; no group address, which no device may have. */
static bool parse_mac(const char *text, uint8_t mac[6])
{
	for (int i = 0; i < 17; i++) {
		/* A text that is too short ends at its zero here. */
		if (i % 3 == 2 ? text[i] != ':' : !isxdigit((unsigned char)text[i]))
			return false;
	}
	for (int i = 0; i < 6; i++)
		mac[i] = (uint8_t)strtoul(text + 3 * i, NULL, 16);
	return !text[17] && !(mac[0] & 1);
}

int sriov_conf_item(const char *option, const char *key, const char *text, struct sriov_conf *conf,
		    char *err)
{
	int i = opts_find(option, key, sriov_conf_keys, err);

	if (i < 0)
		return i;
	if (conf->has & 1u << i) {
		snprintf(err, OPTS_ERR_LEN, "%s: %s=%.80s: the key is given twice", option, key,
			 text);
		return -EINVAL;
	}
	conf->has |= 1u << i;
	if (1u << i != SRIOV_CONF_MAC)
		return opts_parse_value(option, text, &sriov_conf_keys[i],
					(char *)conf + sriov_conf_keys[i].offset, err);
	if (parse_mac(text, conf->mac))
		return 0;
	snprintf(err, OPTS_ERR_LEN,
		 "%s: mac=%.80s: expected an Ethernet address of one station, such as "
		 "02:00:00:00:00:01",
		 option, text);
	return -EINVAL;
}

static void mac_text(const uint8_t mac[6], char *text)
{
	sriov_text(text, 18, "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3],
		   mac[4], mac[5]);
}

/* One field as sriov_conf_item() takes it. */
static void field_text(const struct sriov_conf *conf, unsigned int bit, char *text, size_t len)
{
	uint64_t number = 0;
	char mac[18];

	switch (bit) {
	case SRIOV_CONF_MAC:
		mac_text(conf->mac, mac);
		sriov_text(text, len, "%s", mac);
		return;
	case SRIOV_CONF_PROTO:
		sriov_text(text, len, "%s", sriov_proto_names[conf->proto]);
		return;
	case SRIOV_CONF_STATE:
		sriov_text(text, len, "%s", sriov_state_names[conf->state]);
		return;
	case SRIOV_CONF_SPOOFCHK:
		sriov_text(text, len, "%s", conf->spoofchk ? "on" : "off");
		return;
	case SRIOV_CONF_TRUST:
		sriov_text(text, len, "%s", conf->trust ? "on" : "off");
		return;
	case SRIOV_CONF_QUERY_RSS:
		sriov_text(text, len, "%s", conf->query_rss ? "on" : "off");
		return;
	case SRIOV_CONF_VLAN:
		number = conf->vlan;
		break;
	case SRIOV_CONF_QOS:
		number = conf->qos;
		break;
	case SRIOV_CONF_MIN_RATE:
		number = conf->min_rate;
		break;
	case SRIOV_CONF_MAX_RATE:
		number = conf->max_rate;
		break;
	case SRIOV_CONF_MSIX:
		number = conf->msix;
		break;
	}
	sriov_text(text, len, "%llu", (unsigned long long)number);
}

void sriov_conf_text(const struct sriov_conf *conf, char *text)
{
	char value[SRIOV_NAME_LEN] = "";

	text[0] = '\0';
	for (int i = 0; sriov_conf_keys[i].key; i++) {
		if (!(conf->has & 1u << i))
			continue;
		field_text(conf, 1u << i, value, sizeof(value));
		sriov_text_add(text, SRIOV_TEXT_LEN, "%s%s=%s", *text ? " " : "",
			       sriov_conf_keys[i].key, value);
	}
}

json_t *sriov_conf_json(const struct sriov_conf *conf)
{
	json_t *root = json_object();
	char value[SRIOV_NAME_LEN];

	for (int i = 0; root && sriov_conf_keys[i].key; i++) {
		const struct opt_desc *d = &sriov_conf_keys[i];
		const void *field = (const char *)conf + d->offset;
		json_t *v;

		if (!(conf->has & 1u << i))
			continue;
		field_text(conf, 1u << i, value, sizeof(value));
		if (d->type == OPT_BOOL)
			v = json_boolean(*(const bool *)field);
		else if (d->type == OPT_UINT)
			v = json_integer((json_int_t) * (const uint64_t *)field);
		else
			v = json_string(value);
		json_object_set_new(root, d->key, v);
	}
	return root;
}

/* Which of the fields that count in want are different in have, or not told. */
static unsigned int differences(const struct sriov_conf *want, const struct sriov_conf *have)
{
	char a[SRIOV_NAME_LEN], b[SRIOV_NAME_LEN];
	unsigned int bits = 0;

	for (int i = 0; sriov_conf_keys[i].key; i++) {
		unsigned int bit = 1u << i;

		if (!(want->has & bit))
			continue;
		field_text(want, bit, a, sizeof(a));
		field_text(have, bit, b, sizeof(b));
		if (!(have->has & bit) || strcmp(a, b) != 0)
			bits |= bit;
	}
	return bits;
}

unsigned int sriov_conf_differs(const struct sriov_conf *want, const struct sriov_conf *have)
{
	return differences(want, have) & ~(unsigned int)SRIOV_CONF_MSIX;
}

int sriov_conf_read(struct sriov *s, const char *netdev, unsigned int vf, struct sriov_conf *conf)
{
	struct sriov_conf *all = calloc(vf + 1, sizeof(*all));
	int res;

	if (!all)
		return sriov_fail(s, -ENOMEM, "out of memory");
	res = sriov_ask_conf(s, netdev, all, vf + 1);
	*conf = all[vf];
	free(all);
	if (res < 0 && res != -ETIMEDOUT)
		return sriov_fail(s, res, "%s: VF %u: %s", netdev, vf, strerror(-res));
	return res;
}

static int read_back(struct sriov *s, const char *netdev, unsigned int vf,
		     const struct sriov_conf *want)
{
	struct sriov_conf rest = *want, have = { 0 };
	unsigned int bits;
	char a[SRIOV_NAME_LEN], b[SRIOV_NAME_LEN];
	int res;

	rest.has &= ~(unsigned int)SRIOV_CONF_MSIX;
	res = sriov_conf_read(s, netdev, vf, &have);
	if (res < 0)
		return res;
	bits = differences(&rest, &have);
	if (!bits)
		return 0;
	s->err[0] = '\0';
	for (int i = 0; sriov_conf_keys[i].key; i++) {
		if (!(bits & 1u << i))
			continue;
		field_text(want, 1u << i, a, sizeof(a));
		field_text(&have, 1u << i, b, sizeof(b));
		sriov_text_add(s->err, sizeof(s->err), "%s%s=%s was taken, but the driver tells %s",
			       *s->err ? "; " : "", sriov_conf_keys[i].key, a,
			       have.has & 1u << i ? b : "nothing");
	}
	sriov_fail_more(s, "%s: VF %u: ", netdev, vf);
	return -EIO;
}

/* What a PF's driver means by its errno. */
static const char *set_hint(int res)
{
	switch (-res) {
	case EOPNOTSUPP:
		return ": its driver does not support this";
	case EPROTONOSUPPORT:
		return ": its driver does not support this VLAN protocol";
	case EINVAL:
		return ": the driver refuses the value; some need the PF's link up for rates";
	case EPERM:
	case EACCES:
		return ": needs root";
	}
	return "";
}

/* One item at a time: the kernel does the items of one message one after the
 * other as well, but does not say which one failed. */
static int set_items(struct sriov *s, const char *netdev, unsigned int vf,
		     const struct sriov_conf *conf)
{
	static const unsigned int groups[] = {
		SRIOV_CONF_TRUST, /* before what only a trusted VF may have */
		SRIOV_CONF_MAC,
		SRIOV_CONF_VLAN | SRIOV_CONF_QOS | SRIOV_CONF_PROTO,
		SRIOV_CONF_MIN_RATE | SRIOV_CONF_MAX_RATE,
		SRIOV_CONF_SPOOFCHK,
		SRIOV_CONF_STATE,
		SRIOV_CONF_QUERY_RSS,
	};
	char text[SRIOV_TEXT_LEN];
	struct sriov_conf item = { 0 };
	int res;

	for (size_t i = 0; i < ARRAY_SIZE(groups); i++) {
		item = *conf;
		item.has &= groups[i];
		if (!item.has)
			continue;
		sriov_conf_text(&item, text);
		sriov_step(s, text);
		res = sriov_ask_conf_set(s, netdev, vf, &item);
		if (res < 0 && res != -ETIMEDOUT)
			return sriov_fail(s, sriov_kernel_errno(res), "%s: VF %u: %s: %s%s", netdev,
					  vf, text, strerror(-res), set_hint(res));
		if (res < 0)
			return res;
	}
	return 0;
}

/* VLAN, priority and protocol are one call of the driver, as are both rates:
 * what was not asked for stays as it is. */
static int complete(struct sriov *s, const char *netdev, unsigned int vf, struct sriov_conf *conf)
{
	const unsigned int vlan = SRIOV_CONF_VLAN | SRIOV_CONF_QOS | SRIOV_CONF_PROTO;
	const unsigned int rate = SRIOV_CONF_MIN_RATE | SRIOV_CONF_MAX_RATE;
	struct sriov_conf have = { 0 };
	int res;

	res = sriov_conf_read(s, netdev, vf, &have);
	if (res < 0)
		return res;
	if (!have.has)
		return sriov_fail(s, -EOPNOTSUPP,
				  "%s: its driver tells nothing of VF %u: it cannot be configured",
				  netdev, vf);
	if (conf->has & vlan) {
		if (!(conf->has & SRIOV_CONF_VLAN))
			conf->vlan = have.vlan;
		if (!(conf->has & SRIOV_CONF_QOS))
			conf->qos = conf->has & SRIOV_CONF_VLAN && !conf->vlan ? 0 : have.qos;
		if (!(conf->has & SRIOV_CONF_PROTO))
			conf->proto = conf->has & SRIOV_CONF_VLAN && !conf->vlan ? 0 : have.proto;
	}
	if (conf->has & rate) {
		if (!(conf->has & SRIOV_CONF_MIN_RATE))
			conf->min_rate = have.min_rate;
		if (!(conf->has & SRIOV_CONF_MAX_RATE))
			conf->max_rate = have.max_rate;
	}
	return 0;
}

int sriov_conf_write(struct sriov *s, const char *netdev, unsigned int vf,
		     const struct sriov_conf *want)
{
	struct sriov_conf conf = *want;
	int res;

	conf.has &= ~(unsigned int)SRIOV_CONF_MSIX;
	if (!conf.has)
		return 0;
	res = complete(s, netdev, vf, &conf);
	if (!res)
		res = set_items(s, netdev, vf, &conf);
	if (!res)
		res = read_back(s, netdev, vf, &conf);
	return res;
}

static int set_msix(struct sriov *s, const struct sriov_func *f, struct sriov_rec *rec,
		    uint64_t vectors)
{
	char path[SRIOV_PATH_LEN], text[32];
	unsigned int now;
	int res;

	if (*f->driver)
		return sriov_fail(s, -EBUSY,
				  "%s: msix: has driver %s; vectors can be given only while a VF "
				  "has no driver",
				  f->addr, f->driver);
	sriov_dev_path(s, path, f->addr, "sriov_vf_msix_count");
	if (!sriov_file_exists(path))
		return sriov_fail(s, -EOPNOTSUPP, "%s: msix: this kernel or function has no %s",
				  f->addr, path);
	sriov_text(text, sizeof(text), "%llu", (unsigned long long)vectors);
	res = sriov_guard_write(s, rec, path, text);
	if (res == -EOPNOTSUPP)
		return sriov_fail(s, res, "%s: msix: the driver of %s cannot move vectors", f->addr,
				  f->pf);
	/* 0 is as many as the device likes. */
	now = sriov_msix_vectors(s, f->addr);
	if (!res && vectors && now && now != vectors)
		return sriov_fail(s, -EIO, "%s: msix=%llu was taken, but its table has %u entries",
				  f->addr, (unsigned long long)vectors, now);
	return res;
}

int sriov_msix_give(struct sriov *s, struct sriov_rec *rec, uint64_t vectors)
{
	struct sriov_func f = { 0 };
	int res;

	res = sriov_func_read(s, rec->addr, 0, &f);
	if (!res)
		res = set_msix(s, &f, rec, vectors);
	if (!res)
		rec->msix = (struct sriov_msix_state){ .given = true, .nr = vectors };
	return res;
}

int sriov_msix_restore(struct sriov *s, struct sriov_rec *rec)
{
	struct sriov_conf *saved = &rec->claim.saved;
	unsigned int now = sriov_msix_vectors(s, rec->addr);
	int res = 0;

	if (!(saved->has & SRIOV_CONF_MSIX))
		return 0;
	if (!saved->msix || now != saved->msix) {
		res = sriov_bind_do(s, rec, SRIOV_DRIVER_NONE, 0);
		if (res >= 0)
			res = sriov_msix_give(s, rec, saved->msix);
	}
	if (res == -ETIMEDOUT)
		return res;
	if (res < 0)
		log_warn("%s", s->err);
	else
		rec->msix = rec->claim.msix;
	/* Not twice, if the release is continued later. */
	saved->has &= ~(unsigned int)SRIOV_CONF_MSIX;
	return sriov_rec_save(s, rec);
}

int sriov_configure(struct sriov *s, const char *vf, const struct sriov_conf *conf)
{
	char netdev[IFNAMSIZ];
	struct sriov_func f = { 0 };
	struct sriov_rec rec = { 0 };
	int res;

	res = sriov_func_read(s, vf, 0, &f);
	if (!res)
		res = sriov_rec_load(s, vf, &rec);
	if (!res)
		res = sriov_rec_check_writer(s, &rec);
	if (res < 0)
		return res;
	if (!f.is_vf || f.vf_index < 0)
		return sriov_fail(s, -ENOTSUP, "%s: is no VF", vf);
	if (conf->has & SRIOV_CONF_MSIX) {
		res = set_msix(s, &f, &rec, conf->msix);
		if (!res) {
			rec.msix.given = true;
			rec.msix.nr = conf->msix;
			res = sriov_rec_save(s, &rec);
		}
		if (res < 0)
			return res;
	}
	if (!(conf->has & ~(unsigned int)SRIOV_CONF_MSIX))
		return 0;
	sriov_netdev(s, f.pf, netdev);
	if (!*netdev)
		return sriov_fail(s, -ENOTSUP,
				  "%s: its PF %s has no network device (%s), which is what "
				  "configures VFs",
				  vf, f.pf,
				  f.class_code >> 16 == 2 ? "has it a driver?"
							  : "it is no network function");
	return sriov_conf_write(s, netdev, (unsigned int)f.vf_index, conf);
}
