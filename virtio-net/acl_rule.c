/*
 * Rules of access lists as JSON objects. Called by acl.c on the control thread with
 * what a control client or a file says; it trusts none of it, and compiles nothing.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "virtio-net/acl_rule.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base.h"
#include "core/opts.h"
#include "virtio-net/net_spec.h"
#include "virtio-net/vswitch.h"

#define IP_PROTO_ICMP 1
#define IP_PROTO_DCCP 33
#define IP_PROTO_ICMPV6 58
#define IP_PROTO_SCTP 132
#define IP_PROTO_UDPLITE 136
#define ETH_TYPE_ARP 0x0806
#define TEXT_MAX 64

struct word {
	const char *name;
	uint16_t value;
};

static const struct word protos[] = {
	{ "icmp", IP_PROTO_ICMP },	 { "tcp", IP_PROTO_TCP },
	{ "udp", IP_PROTO_UDP },	 { "dccp", IP_PROTO_DCCP },
	{ "icmpv6", IP_PROTO_ICMPV6 },	 { "sctp", IP_PROTO_SCTP },
	{ "udplite", IP_PROTO_UDPLITE }, { NULL },
};

static const struct word ethertypes[] = {
	{ "ipv4", ETH_TYPE_IPV4 },
	{ "arp", ETH_TYPE_ARP },
	{ "ipv6", ETH_TYPE_IPV6 },
	{ NULL },
};

bool acl_proto_has_ports(uint8_t proto)
{
	return proto == IP_PROTO_TCP || proto == IP_PROTO_UDP || proto == IP_PROTO_DCCP ||
	       proto == IP_PROTO_SCTP || proto == IP_PROTO_UDPLITE;
}

static bool is_any(const struct acl_range *r)
{
	return !r->min && r->max == UINT16_MAX;
}

bool acl_rule_wants_l4(const struct acl_rule *r)
{
	return !is_any(&r->src_port) || !is_any(&r->dst_port);
}

bool acl_rule_wants_l3(const struct acl_rule *r)
{
	return r->src.bits || r->dst.bits || r->has_proto || r->has_fragment ||
	       acl_rule_wants_l4(r);
}

/* --- values ---------------------------------------------------------------------- */

/* Where a value stands, for messages. */
struct where {
	unsigned int nr;
	const char *key;
	char *err;
};

static int complain(const struct where *w, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

static int complain(const struct where *w, const char *fmt, ...)
{
	char what[SW_ERR_LEN];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(what, sizeof(what), fmt, ap);
	va_end(ap);
	snprintf(w->err, SW_ERR_LEN, "access list, rule %u: '%s': %.200s", w->nr, w->key, what);
	return -EINVAL;
}

/* A string or a number as text, in buf; NULL if it is neither. */
static const char *text_of(const json_t *v, char buf[TEXT_MAX])
{
	if (json_is_integer(v)) {
		snprintf(buf, TEXT_MAX, "%lld", (long long)json_integer_value(v));
		return buf;
	}
	if (!json_is_string(v) || strlen(json_string_value(v)) >= TEXT_MAX)
		return NULL;
	return strcpy(buf, json_string_value(v));
}

/* Decimal or 0x, all of text, at most max. */
static bool parse_number(const char *text, unsigned long max, unsigned long *n)
{
	char *end;

	if (*text < '0' || *text > '9')
		return false;
	errno = 0;
	*n = strtoul(text, &end, 0);
	return !errno && !*end && *n <= max;
}

static int parse_word(const struct where *w, const json_t *v, const struct word *words,
		      unsigned long max, uint16_t *value)
{
	const char *names[16], *text, *near;
	char buf[TEXT_MAX], list[128] = "";
	unsigned int nr = 0;
	unsigned long n;

	text = text_of(v, buf);
	for (; words[nr].name; nr++) {
		if (text && !strcmp(text, words[nr].name)) {
			*value = words[nr].value;
			return 0;
		}
		names[nr] = words[nr].name;
		strcat(strcat(list, words[nr].name), ", ");
	}
	names[nr] = NULL;
	if (text && parse_number(text, max, &n)) {
		*value = (uint16_t)n;
		return 0;
	}
	near = text ? opts_nearest(text, names) : NULL;
	return complain(w, "'%s', expected %sor a number up to %lu%s%s%s", text ? text : "?", list,
			max, near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
}

static int parse_range(const struct where *w, const json_t *v, uint16_t min, uint16_t max,
		       struct acl_range *r)
{
	unsigned long first, last;
	char buf[TEXT_MAX], *dash;
	const char *text = text_of(v, buf);

	if (!text)
		goto bad;
	dash = strchr(buf, '-');
	if (dash)
		*dash = '\0';
	if (!parse_number(buf, max, &first) || first < min)
		goto bad;
	last = first;
	if (dash && (!parse_number(dash + 1, max, &last) || last < first))
		goto bad;
	*r = (struct acl_range){ (uint16_t)first, (uint16_t)last };
	return 0;
bad:
	text = text_of(v, buf);
	return complain(w, "'%s', expected a number from %u to %u or a range as in 10-19",
			text ? text : "?", min, max);
}

/* Cut "/bits" off text. */
static bool cut_bits(char *text, unsigned long max, uint8_t *bits)
{
	char *slash = strchr(text, '/');
	unsigned long n = max;

	if (slash) {
		*slash = '\0';
		if (!parse_number(slash + 1, max, &n))
			return false;
	}
	*bits = (uint8_t)n;
	return true;
}

/* Nothing is set behind the first bits: a mistake, more likely than not. */
static bool is_clean(const struct acl_prefix *p, unsigned int len)
{
	for (unsigned int bit = p->bits; bit < len * 8; bit++)
		if (p->addr[bit / 8] & 0x80 >> bit % 8)
			return false;
	return true;
}

static bool parse_mac_text(char *text, struct acl_prefix *p)
{
	char *at = text, *end;

	if (!cut_bits(text, 48, &p->bits))
		return false;
	for (int i = 0; i < ETH_ADDR_LEN; i++) {
		unsigned long byte = strtoul(at, &end, 16);

		if (end != at + 2 || *at == '+' || *at == '-' || *at == ' ')
			return false;
		if (*end != (i < ETH_ADDR_LEN - 1 ? ':' : '\0'))
			return false;
		p->addr[i] = (uint8_t)byte;
		at = end + 1;
	}
	return true;
}

static int parse_mac(const struct where *w, const json_t *v, struct acl_prefix *p)
{
	char buf[TEXT_MAX], shown[TEXT_MAX];
	const char *text = json_is_string(v) ? text_of(v, buf) : NULL;

	if (text)
		strcpy(shown, text);
	if (!text || !parse_mac_text(buf, p))
		return complain(w,
				"'%s', expected a MAC address, or the first bits of one as in "
				"52:54:00:00:00:00/24",
				text ? shown : "?");
	if (!is_clean(p, ETH_ADDR_LEN))
		return complain(w, "'%s' has bits set behind its first %u", shown, p->bits);
	return 0;
}

static bool parse_ip_text(char *text, struct acl_prefix *p, enum acl_family *family)
{
	bool v6 = strchr(text, ':');

	*family = v6 ? ACL_IPV6 : ACL_IPV4;
	return cut_bits(text, v6 ? 128 : 32, &p->bits) &&
	       inet_pton(v6 ? AF_INET6 : AF_INET, text, p->addr) == 1;
}

static int parse_ip(const struct where *w, const json_t *v, struct acl_prefix *p,
		    enum acl_family *family)
{
	char buf[TEXT_MAX], shown[TEXT_MAX];
	const char *text = json_is_string(v) ? text_of(v, buf) : NULL;
	enum acl_family is = ACL_ANY;

	if (text)
		strcpy(shown, text);
	if (!text || !parse_ip_text(buf, p, &is))
		return complain(w,
				"'%s', expected an address or prefix, as in 10.0.0.0/8 or "
				"2001:db8::/32",
				text ? shown : "?");
	if (!is_clean(p, is == ACL_IPV6 ? 16 : 4))
		return complain(w, "'%s' has bits set behind its first %u", shown, p->bits);
	if (*family != ACL_ANY && *family != is)
		return complain(w, "'%s' is not of the family of the other address", shown);
	*family = is;
	return 0;
}

static int parse_choice(const struct where *w, const json_t *v, const char *const *names)
{
	char buf[TEXT_MAX], list[TEXT_MAX] = "";
	const char *text = text_of(v, buf);
	int i;

	for (i = 0; names[i]; i++) {
		if (text && !strcmp(text, names[i]))
			return i;
		strcat(strcat(list, i ? ", " : ""), names[i]);
	}
	return complain(w, "'%s', expected one of %s", text ? text : "?", list);
}

/* --- keys ------------------------------------------------------------------------ */

enum key {
	KEY_ACTION,
	KEY_DIR,
	KEY_SRC_MAC,
	KEY_DST_MAC,
	KEY_VLAN,
	KEY_ETHERTYPE,
	KEY_SRC,
	KEY_DST,
	KEY_PROTO,
	KEY_SRC_PORT,
	KEY_DST_PORT,
	KEY_FRAGMENT,
	KEY_CNT,
};

static const char *const keys[] = {
	[KEY_ACTION] = "action",
	[KEY_DIR] = "dir",
	[KEY_SRC_MAC] = "src-mac",
	[KEY_DST_MAC] = "dst-mac",
	[KEY_VLAN] = "vlan",
	[KEY_ETHERTYPE] = "ethertype",
	[KEY_SRC] = "src",
	[KEY_DST] = "dst",
	[KEY_PROTO] = "proto",
	[KEY_SRC_PORT] = "src-port",
	[KEY_DST_PORT] = "dst-port",
	[KEY_FRAGMENT] = "fragment",
	[KEY_CNT] = NULL,
};
static_assert(ARRAY_SIZE(keys) == KEY_CNT + 1, "a name for every key");

static int parse_action(const struct where *w, const json_t *v, struct acl_rule *r)
{
	static const char *const names[] = { "allow", "drop", NULL };
	int i = parse_choice(w, v, names);

	r->drop = i == 1;
	return i < 0 ? i : 0;
}

static int parse_dir(const struct where *w, const json_t *v, struct acl_rule *r)
{
	static const char *const names[] = { "both", "in", "out", NULL };
	int i = parse_choice(w, v, names);

	r->in = i != 2;
	r->out = i != 1;
	return i < 0 ? i : 0;
}

static int parse_proto(const struct where *w, const json_t *v, struct acl_rule *r)
{
	uint16_t value = 0;
	int ret = parse_word(w, v, protos, UINT8_MAX, &value);

	r->has_proto = true;
	r->proto = (uint8_t)value;
	return ret;
}

static int parse_fragment(const struct where *w, const json_t *v, struct acl_rule *r)
{
	if (!json_is_boolean(v))
		return complain(w, "expected true or false");
	r->has_fragment = true;
	r->fragment = json_is_true(v);
	return 0;
}

static int parse_key(const struct where *w, enum key key, const json_t *v, struct acl_rule *r)
{
	switch (key) {
	case KEY_ACTION:
		return parse_action(w, v, r);
	case KEY_DIR:
		return parse_dir(w, v, r);
	case KEY_SRC_MAC:
		return parse_mac(w, v, &r->src_mac);
	case KEY_DST_MAC:
		return parse_mac(w, v, &r->dst_mac);
	case KEY_VLAN:
		return parse_range(w, v, 1, FRAME_VLAN_MAX, &r->vlan);
	case KEY_ETHERTYPE:
		r->has_ethertype = true;
		return parse_word(w, v, ethertypes, UINT16_MAX, &r->ethertype);
	case KEY_SRC:
		return parse_ip(w, v, &r->src, &r->family);
	case KEY_DST:
		return parse_ip(w, v, &r->dst, &r->family);
	case KEY_PROTO:
		return parse_proto(w, v, r);
	case KEY_SRC_PORT:
		return parse_range(w, v, 0, UINT16_MAX, &r->src_port);
	case KEY_DST_PORT:
		return parse_range(w, v, 0, UINT16_MAX, &r->dst_port);
	case KEY_FRAGMENT:
		return parse_fragment(w, v, r);
	case KEY_CNT:
		break;
	}
	return -EINVAL;
}

/* Do the parts of a rule go together? */
static int check(unsigned int nr, struct acl_rule *r, char *err)
{
	struct where w = { nr, "ethertype", err };
	uint16_t type = r->ethertype;
	bool ip = type == ETH_TYPE_IPV4 || type == ETH_TYPE_IPV6;

	if (r->has_ethertype && acl_rule_wants_l3(r) && !ip)
		return complain(&w, "addresses, protocols and ports need ipv4, ipv6 or nothing");
	if (r->has_ethertype && ip) {
		enum acl_family is = type == ETH_TYPE_IPV4 ? ACL_IPV4 : ACL_IPV6;

		if (r->family != ACL_ANY && r->family != is)
			return complain(&w, "is not of the family of the addresses");
		r->family = is;
	}
	w.key = is_any(&r->dst_port) ? "src-port" : "dst-port";
	if (acl_rule_wants_l4(r) && !(r->has_proto && acl_proto_has_ports(r->proto)))
		return complain(&w, "needs a protocol that has ports, as in 'proto': 'tcp'");
	w.key = "fragment";
	if (acl_rule_wants_l4(r) && r->has_fragment && r->fragment)
		return complain(&w, "later fragments have no ports");
	return 0;
}

int acl_rule_parse(const json_t *json, unsigned int nr, struct acl_rule *r, char *err)
{
	struct where w = { nr, "", err };
	const char *key, *near;
	json_t *value;
	int i, ret;

	*r = (struct acl_rule){
		.in = true,
		.out = true,
		.vlan = { 0, UINT16_MAX },
		.src_port = { 0, UINT16_MAX },
		.dst_port = { 0, UINT16_MAX },
	};
	if (!json_is_object(json)) {
		snprintf(err, SW_ERR_LEN, "access list, rule %u: expected an object", nr);
		return -EINVAL;
	}
	json_object_foreach((json_t *)json, key, value)
	{
		for (i = 0; keys[i] && strcmp(keys[i], key); i++)
			;
		if (!keys[i]) {
			near = opts_nearest(key, keys);
			snprintf(err, SW_ERR_LEN, "access list, rule %u: unknown key '%.64s'%s%s%s",
				 nr, key, near ? ", did you mean '" : "", near ? near : "",
				 near ? "'?" : "");
			return -EINVAL;
		}
		w.key = keys[i];
		ret = parse_key(&w, (enum key)i, value, r);
		if (ret < 0)
			return ret;
	}
	w.key = keys[KEY_ACTION];
	if (!json_object_get(json, w.key))
		return complain(&w, "is missing, expected allow or drop");
	return check(nr, r, err);
}
