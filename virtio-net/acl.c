/*
 * Access lists: from rules to rte_acl, and what it says of a burst. Compiled on the
 * control thread when a port is configured; loops ask through sw_acl_filter() from
 * sw_filter.c. It keeps no state of any flow, and never changes a list in use.
 *
 * Theory of operation
 *
 * A list becomes one classifier for IPv4, one for IPv6 and one for the rest, each
 * with those rules only that can match there, so that few fields are looked at. Of
 * the fields, only those words of a key are given to rte_acl that some rule asks
 * for: an index in memory is walked byte by byte, and a byte that says nothing
 * costs as much as one that decides.
 *
 * The key of a frame is worked out once a burst and serves every list of every port
 * the frame passes. It comes from the private head, and it is the head that leaves.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "virtio-net/acl.h"

#include <errno.h>
#include <fcntl.h>
#include <rte_acl.h>
#include <rte_errno.h>
#include <rte_memory.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/atomic.h"
#include "core/base.h"
#include "virtio-net/acl_rule.h"
#include "virtio-net/eal.h"
#include "virtio-net/net_bytes.h"
#include "virtio-net/vswitch.h"

static_assert(SW_ERR_LEN >= EAL_ERR_LEN, "its sentences fit");

/* The largest index of one classifier; behind that it is cut into several, which
 * are walked one after the other. */
#define INDEX_SIZE_MAX (8u << 20)
#define HITS_STRIDE (CACHE_LINE / sizeof(uint64_t))

struct sw_acl {
	struct rte_acl_ctx *ctx[ACL_KIND_CNT]; /* NULL: no rule can match */
	bool wants_l3[ACL_KIND_CNT], wants_ports[ACL_KIND_CNT];
	unsigned int nr_rules;
	bool *drops; /* by rule */
	json_t *json; /* the rules as they were given */
	unsigned int nr_lanes;
	size_t hits_stride; /* counters of a lane */
	uint64_t *hits; /* by lane and rule; each lane writes its own */
};

/* --- what rte_acl looks at ------------------------------------------------------- */

enum {
	FIELD_PROTO,
	FIELD_VID,
	FIELD_ETHERTYPE,
	FIELD_DST_MAC,
	FIELD_DST_MAC_END,
	FIELD_SRC_MAC,
	FIELD_SRC_MAC_END,
	FIELD_SRC,
	FIELD_DST = FIELD_SRC + 4,
	FIELD_SRC_PORT = FIELD_DST + 4,
	FIELD_DST_PORT,
	FIELD_FRAGMENT,
	FIELD_CNT,
};

/* Part of a key. Those of one group share a word, which is given as a whole. */
struct field {
	uint8_t offset, size, type, group;
};

#define MASK RTE_ACL_FIELD_TYPE_MASK
#define RANGE RTE_ACL_FIELD_TYPE_RANGE
#define AT(member, by) (offsetof(struct acl_key, member) + (by))

static const struct field fields[FIELD_CNT] = {
	/* rte_acl begins with one byte, and goes on in words. */
	[FIELD_PROTO] = { AT(proto, 0), 1, MASK, 0 },
	[FIELD_VID] = { AT(vid, 0), 2, RANGE, 1 },
	[FIELD_ETHERTYPE] = { AT(ethertype, 0), 2, MASK, 1 },
	[FIELD_DST_MAC] = { AT(dst_mac, 0), 4, MASK, 2 },
	[FIELD_DST_MAC_END] = { AT(dst_mac, 4), 2, MASK, 3 },
	[FIELD_SRC_MAC] = { AT(src_mac, 0), 2, MASK, 3 },
	[FIELD_SRC_MAC_END] = { AT(src_mac, 2), 4, MASK, 4 },
	[FIELD_SRC] = { AT(src, 0), 4, MASK, 5 },
	[FIELD_SRC + 1] = { AT(src, 4), 4, MASK, 6 },
	[FIELD_SRC + 2] = { AT(src, 8), 4, MASK, 7 },
	[FIELD_SRC + 3] = { AT(src, 12), 4, MASK, 8 },
	[FIELD_DST] = { AT(dst, 0), 4, MASK, 9 },
	[FIELD_DST + 1] = { AT(dst, 4), 4, MASK, 10 },
	[FIELD_DST + 2] = { AT(dst, 8), 4, MASK, 11 },
	[FIELD_DST + 3] = { AT(dst, 12), 4, MASK, 12 },
	[FIELD_SRC_PORT] = { AT(src_port, 0), 2, RANGE, 13 },
	[FIELD_DST_PORT] = { AT(dst_port, 0), 2, RANGE, 13 },
	[FIELD_FRAGMENT] = { AT(fragment, 0), 4, MASK, 14 },
};
#define GROUP_CNT 15

/* One rule with all fields. */
struct row {
	struct rte_acl_field field[FIELD_CNT];
	uint32_t number; /* from 1: what rte_acl answers with */
};

/* Does it matter what is there? */
static bool is_wild(unsigned int i, const struct rte_acl_field *f)
{
	if (fields[i].type == RANGE)
		return !f->value.u16 && f->mask_range.u16 == UINT16_MAX;
	return !f->mask_range.u32;
}

static void put_range(struct rte_acl_field *f, const struct acl_range *r)
{
	f->value.u16 = r->min;
	f->mask_range.u16 = r->max;
}

/* The part of a prefix that is in this field, whose first byte is number at. */
static void put_prefix(struct row *row, unsigned int i, const struct acl_prefix *p, unsigned int at)
{
	unsigned int size = fields[i].size;
	struct rte_acl_field *f = &row->field[i];
	int bits = (int)p->bits - (int)at * 8;

	f->value.u32 = 0;
	for (unsigned int k = 0; k < size; k++)
		f->value.u32 = f->value.u32 << 8 | p->addr[at + k];
	f->mask_range.u32 = bits <= 0 ? 0 : (uint32_t)min_u64((uint64_t)bits, size * 8);
}

static void fill_row(const struct acl_rule *r, enum acl_kind kind, struct row *row)
{
	struct rte_acl_field *f = row->field;

	memset(row, 0, sizeof(*row));
	put_range(&f[FIELD_VID], &r->vlan);
	put_range(&f[FIELD_SRC_PORT], &r->src_port);
	put_range(&f[FIELD_DST_PORT], &r->dst_port);
	put_prefix(row, FIELD_DST_MAC, &r->dst_mac, 0);
	put_prefix(row, FIELD_DST_MAC_END, &r->dst_mac, 4);
	put_prefix(row, FIELD_SRC_MAC, &r->src_mac, 0);
	put_prefix(row, FIELD_SRC_MAC_END, &r->src_mac, 2);
	if (kind == ACL_KIND_OTHER) {
		if (r->has_ethertype) {
			f[FIELD_ETHERTYPE].value.u16 = r->ethertype;
			f[FIELD_ETHERTYPE].mask_range.u16 = 16;
		}
		return;
	}
	for (unsigned int i = 0; i < 4; i++) {
		put_prefix(row, FIELD_SRC + i, &r->src, 4 * i);
		put_prefix(row, FIELD_DST + i, &r->dst, 4 * i);
	}
	if (r->has_proto) {
		f[FIELD_PROTO].value.u8 = r->proto;
		f[FIELD_PROTO].mask_range.u8 = 8;
	}
	if (r->has_fragment) {
		f[FIELD_FRAGMENT].value.u32 = r->fragment;
		f[FIELD_FRAGMENT].mask_range.u32 = 32;
	}
}

/* Can this rule match a frame of that kind? */
static bool is_of_kind(const struct acl_rule *r, enum acl_kind kind)
{
	bool ip = r->has_ethertype &&
		  (r->ethertype == ETH_TYPE_IPV4 || r->ethertype == ETH_TYPE_IPV6);

	switch (kind) {
	case ACL_KIND_IPV4:
		return r->family != ACL_IPV6 && (!r->has_ethertype || ip);
	case ACL_KIND_IPV6:
		return r->family != ACL_IPV4 && (!r->has_ethertype || ip);
	default:
		return !ip && r->family == ACL_ANY && !acl_rule_wants_l3(r);
	}
}

/* --- compiling ------------------------------------------------------------------- */

/* A classifier under construction. */
struct build {
	struct row *row;
	unsigned int nr;
	uint8_t map[FIELD_CNT]; /* fields that are given, in order */
	unsigned int nr_map;
};

/* The fields of every word that some rule asks for, and of the first word, so that
 * there is always one behind the byte. */
static void choose_fields(struct build *b)
{
	bool used[GROUP_CNT] = { true, true };

	for (unsigned int n = 0; n < b->nr; n++)
		for (unsigned int i = 0; i < FIELD_CNT; i++)
			used[fields[i].group] |= !is_wild(i, &b->row[n].field[i]);
	for (unsigned int i = 0; i < FIELD_CNT; i++)
		if (used[fields[i].group])
			b->map[b->nr_map++] = (uint8_t)i;
}

static void fill_config(const struct build *b, struct rte_acl_config *cfg)
{
	uint8_t input = 0;

	*cfg = (struct rte_acl_config){
		.num_categories = 1,
		.num_fields = b->nr_map,
		.max_size = INDEX_SIZE_MAX,
	};
	for (unsigned int n = 0; n < b->nr_map; n++) {
		const struct field *f = &fields[b->map[n]];

		if (n && f->group != fields[b->map[n - 1]].group)
			input++;
		cfg->defs[n] = (struct rte_acl_field_def){
			.type = f->type,
			.size = f->size,
			.field_index = (uint8_t)n,
			.input_index = input,
			.offset = f->offset,
		};
	}
}

static int add_rules(struct rte_acl_ctx *ctx, const struct build *b)
{
	struct rte_acl_rule *rule = calloc(1, RTE_ACL_RULE_SZ(b->nr_map));
	int ret = rule ? 0 : -ENOMEM;

	for (unsigned int n = 0; n < b->nr && !ret; n++) {
		/* The first that matches decides. */
		rule->data = (struct rte_acl_rule_data){
			.category_mask = 1,
			.priority = (int32_t)(RTE_ACL_MAX_PRIORITY - b->row[n].number),
			.userdata = b->row[n].number,
		};
		for (unsigned int i = 0; i < b->nr_map; i++)
			rule->field[i] = b->row[n].field[b->map[i]];
		ret = rte_acl_add_rules(ctx, rule, 1);
	}
	free(rule);
	return ret;
}

static int compile(struct build *b, struct rte_acl_ctx **ctx)
{
	static unsigned int serial;
	struct rte_acl_config cfg;
	char name[RTE_ACL_NAMESIZE];
	struct rte_acl_param param = {
		.name = name,
		.socket_id = SOCKET_ID_ANY,
		.max_rule_num = b->nr,
	};
	int ret;

	choose_fields(b);
	fill_config(b, &cfg);
	snprintf(name, sizeof(name), "ringbolt-%u", serial++);
	param.rule_size = RTE_ACL_RULE_SZ(b->nr_map);
	*ctx = rte_acl_create(&param);
	if (!*ctx)
		return rte_errno ? -rte_errno : -ENOMEM;
	ret = add_rules(*ctx, b);
	return ret ? ret : rte_acl_build(*ctx, &cfg);
}

static int compile_kind(struct sw_acl *acl, const struct acl_rule *rules, enum acl_kind kind)
{
	struct build b = { 0 };
	int ret = 0;

	assert(acl->nr_rules);
	b.row = calloc(acl->nr_rules, sizeof(struct row));
	if (!b.row)
		return -ENOMEM;
	for (unsigned int n = 0; n < acl->nr_rules; n++) {
		if (!is_of_kind(&rules[n], kind))
			continue;
		acl->wants_l3[kind] |= acl_rule_wants_l3(&rules[n]);
		acl->wants_ports[kind] |= acl_rule_wants_l4(&rules[n]);
		fill_row(&rules[n], kind, &b.row[b.nr]);
		b.row[b.nr++].number = n + 1;
	}
	if (b.nr)
		ret = compile(&b, &acl->ctx[kind]);
	free(b.row);
	return ret;
}

void sw_acl_destroy(struct sw_acl *acl)
{
	if (!acl)
		return;
	for (int kind = 0; kind < ACL_KIND_CNT; kind++)
		rte_acl_free(acl->ctx[kind]);
	json_decref(acl->json);
	free(acl->drops);
	free(acl->hits);
	free(acl);
}

/* Room for the rules of one direction, and the rules as they were given. */
static struct sw_acl *acl_alloc(const json_t *json, const struct acl_rule *rules, bool in,
				unsigned int nr, unsigned int nr_lanes)
{
	struct sw_acl *acl = calloc(1, sizeof(*acl));
	json_t *one;

	if (!acl)
		return NULL;
	acl->nr_lanes = nr_lanes;
	acl->hits_stride = round_up(nr, HITS_STRIDE);
	acl->drops = calloc(nr, sizeof(*acl->drops));
	acl->hits = aligned_alloc(CACHE_LINE, nr_lanes * acl->hits_stride * sizeof(*acl->hits));
	acl->json = json_array();
	if (!acl->drops || !acl->hits || !acl->json)
		goto err;
	memset(acl->hits, 0, nr_lanes * acl->hits_stride * sizeof(*acl->hits));
	for (unsigned int i = 0; i < json_array_size(json); i++) {
		if (!(in ? rules[i].in : rules[i].out))
			continue;
		one = json_deep_copy(json_array_get(json, i));
		json_object_set_new(one, "rule", json_integer(i + 1));
		if (json_array_append_new(acl->json, one) < 0)
			goto err;
		acl->drops[acl->nr_rules++] = rules[i].drop;
	}
	return acl;
err:
	sw_acl_destroy(acl);
	return NULL;
}

static int create_one(const json_t *json, const struct acl_rule *rules, bool in,
		      unsigned int nr_lanes, struct sw_acl **out, char *err)
{
	unsigned int nr_all = (unsigned int)json_array_size(json), nr = 0;
	struct acl_rule *mine = calloc(nr_all, sizeof(*mine));
	struct sw_acl *acl = NULL;
	int ret = -ENOMEM;

	*out = NULL;
	for (unsigned int i = 0; mine && i < nr_all; i++)
		if (in ? rules[i].in : rules[i].out)
			mine[nr++] = rules[i];
	if (mine && !nr) {
		free(mine);
		return 0;
	}
	if (mine)
		acl = acl_alloc(json, rules, in, nr, nr_lanes);
	for (int kind = 0; acl && kind < ACL_KIND_CNT; kind++) {
		ret = compile_kind(acl, mine, (enum acl_kind)kind);
		if (ret < 0)
			break;
	}
	free(mine);
	if (!ret) {
		*out = acl;
		return 0;
	}
	sw_acl_destroy(acl);
	snprintf(err, SW_ERR_LEN, "access list of %u rules: too much for the classifier: %s", nr,
		 strerror(-ret));
	return ret;
}

static int parse_all(const json_t *json, struct acl_rule **rules, char *err)
{
	size_t nr = json_array_size(json);
	int ret;

	if (!json_is_array(json)) {
		snprintf(err, SW_ERR_LEN, "access list: expected an array of rules");
		return -EINVAL;
	}
	if (nr > ACL_RULES_MAX) {
		snprintf(err, SW_ERR_LEN, "access list: %zu rules, expected at most %d", nr,
			 ACL_RULES_MAX);
		return -E2BIG;
	}
	*rules = calloc(nr + 1, sizeof(**rules));
	if (!*rules) {
		snprintf(err, SW_ERR_LEN, "access list: out of memory");
		return -ENOMEM;
	}
	for (size_t i = 0; i < nr; i++) {
		ret = acl_rule_parse(json_array_get(json, i), (unsigned int)i + 1, &(*rules)[i],
				     err);
		if (ret < 0) {
			free(*rules);
			return ret;
		}
	}
	return 0;
}

int sw_acl_create(const json_t *json, unsigned int nr_lanes, struct sw_acl **in,
		  struct sw_acl **out, char *err)
{
	struct acl_rule *rules;
	int ret;

	*in = NULL;
	*out = NULL;
	ret = parse_all(json, &rules, err);
	if (ret < 0)
		return ret;
	if (json_array_size(json))
		ret = eal_start(err);
	if (!ret && json_array_size(json))
		ret = create_one(json, rules, true, nr_lanes, in, err);
	if (!ret && json_array_size(json))
		ret = create_one(json, rules, false, nr_lanes, out, err);
	free(rules);
	if (ret < 0) {
		sw_acl_destroy(*in);
		*in = NULL;
	}
	return ret;
}

int sw_acl_load(const char *path, json_t **rules, char *err)
{
	/* Not blocking: it may be a pipe that nobody writes to. */
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	json_error_t where;
	struct stat st;
	int ret;

	if (fd < 0 || fstat(fd, &st) < 0) {
		ret = -errno;
		snprintf(err, SW_ERR_LEN, "access list %.128s: %s", path, strerror(-ret));
		goto out;
	}
	ret = -EINVAL;
	if (!S_ISREG(st.st_mode) || st.st_size > ACL_FILE_MAX) {
		snprintf(err, SW_ERR_LEN, "access list %.128s: expected a file of at most %u bytes",
			 path, ACL_FILE_MAX);
		goto out;
	}
	*rules = json_loadfd(fd, JSON_REJECT_DUPLICATES, &where);
	if (*rules)
		ret = 0;
	else
		snprintf(err, SW_ERR_LEN, "access list %.100s, line %d: %.100s", path, where.line,
			 where.text);
out:
	if (fd >= 0)
		close(fd);
	return ret;
}

unsigned int sw_acl_nr_rules(const struct sw_acl *acl)
{
	return acl->nr_rules;
}

json_t *sw_acl_status(const struct sw_acl *acl)
{
	json_t *array = json_array(), *one;

	for (unsigned int n = 0; n < acl->nr_rules; n++) {
		uint64_t hits = 0;

		for (unsigned int lane = 0; lane < acl->nr_lanes; lane++)
			hits += counter_read(&acl->hits[lane * acl->hits_stride + n]);
		one = json_copy(json_array_get(acl->json, n));
		json_object_set_new(one, "hits", json_integer((json_int_t)hits));
		json_array_append_new(array, one);
	}
	return array;
}

/* --- a loop's thread ------------------------------------------------------------- */

/* IPv6 extension headers: the protocol behind them could not be found. RFC 8200,
 * "IPv6 Extension Headers". */
static bool is_hidden(uint8_t proto)
{
	return proto == IP_PROTO_HOPOPTS || proto == IP_PROTO_ROUTING ||
	       proto == IP_PROTO_FRAGMENT || proto == IP_PROTO_DSTOPTS || proto == IP_PROTO_AH;
}

static enum acl_kind fill_ip(struct acl_key *k, const struct frame *f, const struct frame_layers *l)
{
	const uint8_t *ip = f->head + l->l3;
	bool v6 = l->ethertype == ETH_TYPE_IPV6;

	if (l->l3 && v6) {
		memcpy(k->src, ip + IPV6_SADDR, IPV6_ADDR_LEN);
		memcpy(k->dst, ip + IPV6_DADDR, IPV6_ADDR_LEN);
	} else if (l->l3) {
		memcpy(k->src, ip + IPV4_SADDR, 4);
		memcpy(k->dst, ip + IPV4_SADDR + 4, 4);
	}
	k->proto = l->ip_proto;
	k->fragment = htobe32(l->later_fragment);
	if (l->l4 && acl_proto_has_ports(l->ip_proto)) {
		memcpy(&k->src_port, f->head + l->l4, 2);
		memcpy(&k->dst_port, f->head + l->l4 + 2, 2);
	}
	return v6 ? ACL_KIND_IPV6 : ACL_KIND_IPV4;
}

static void fill_key(struct acl_burst *b, struct frame *f, unsigned int i)
{
	enum acl_kind kind = ACL_KIND_OTHER;
	struct acl_key *k = &b->key[i];
	struct frame_layers l;
	bool ports;

	frame_layers(f, &l);
	memset(k, 0, sizeof(*k));
	memcpy(k->dst_mac, f->head, 6);
	memcpy(k->src_mac, f->head + 6, 6);
	k->vid = htobe16(f->vid);
	k->ethertype = htobe16(l.ethertype);
	if (l.ethertype == ETH_TYPE_IPV4 || l.ethertype == ETH_TYPE_IPV6) {
		kind = fill_ip(k, f, &l);
		ports = acl_proto_has_ports(l.ip_proto) && !l.later_fragment;
		/* IPv4 has no extension headers, and AH is a protocol there. */
		if (!l.l3 || (kind == ACL_KIND_IPV6 && is_hidden(l.ip_proto) && !l.later_fragment))
			b->no_l3 |= 1u << i;
		if (ports && !l.l4)
			b->no_ports |= 1u << i;
	}
	b->kind[kind] |= 1u << i;
	b->done |= 1u << i;
}

static void fill_keys(struct acl_burst *b, struct frame *frames, uint32_t mask)
{
	if (!b->done) {
		memset(b->kind, 0, sizeof(b->kind));
		b->no_l3 = 0;
		b->no_ports = 0;
	}
	for (mask &= ~b->done; mask; mask &= mask - 1) {
		unsigned int i = (unsigned int)__builtin_ctz(mask);

		fill_key(b, &frames[i], i);
	}
}

/* Those of a kind that are dropped. */
static uint32_t classify(struct sw_acl *acl, uint64_t *hits, const struct acl_burst *b,
			 enum acl_kind kind, uint32_t mask)
{
	uint32_t result[FRAME_BURST], drop = 0, left = mask;
	const uint8_t *data[FRAME_BURST];
	unsigned int nr = 0;

	for (; left; left &= left - 1)
		data[nr++] = (const uint8_t *)&b->key[__builtin_ctz(left)];
	/* Cannot fail: the context is complete, and there is one category. */
	rte_acl_classify(acl->ctx[kind], data, result, nr, 1);
	nr = 0;
	for (left = mask; left; left &= left - 1) {
		uint32_t number = result[nr++];

		if (!number)
			continue;
		counter_add(&hits[number - 1], 1);
		if (acl->drops[number - 1])
			drop |= left & -left;
	}
	return drop;
}

uint32_t sw_acl_filter(struct sw_acl *acl, unsigned int lane, struct acl_burst *b,
		       struct frame *frames, uint32_t mask)
{
	uint64_t *hits = acl->hits + lane * acl->hits_stride;

	fill_keys(b, frames, mask);
	for (int kind = 0; kind < ACL_KIND_CNT; kind++) {
		uint32_t here = mask & b->kind[kind], unclear = 0;

		if (!here || !acl->ctx[kind])
			continue;
		if (acl->wants_l3[kind])
			unclear |= here & b->no_l3;
		if (acl->wants_ports[kind])
			unclear |= here & b->no_ports;
		mask &= ~unclear;
		here &= ~unclear;
		if (here)
			mask &= ~classify(acl, hits, b, (enum acl_kind)kind, here);
	}
	return mask;
}
