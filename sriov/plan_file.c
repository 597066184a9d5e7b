/*
 * Reading a plan: YAML by libyaml, which keeps the line of every node, so that a
 * mistake can be told with its place. Called by programs and the fuzzer. Looks at
 * no device, but for sriov_plan_check().
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "core/base.h"
#include "sriov/internal.h"
#include "sriov/plan.h"

#define FILE_MAX (1 << 20)
#define VF_MAX 65535

/* Indexes are the order of pf_keys. */
enum pf_key {
	PF_PF,
	PF_VFS,
	PF_DRIVER,
	PF_OWNERS,
	PF_REPLACE,
	PF_VF
};

static const struct opt_desc top_keys[] = { { .key = "pfs", .help = "a list of PFs" }, { NULL } };
static const struct opt_desc pf_keys[] = {
	[PF_PF] = { .key = "pf", .required = true, .help = "an address or a network device" },
	[PF_VFS] = { .key = "vfs", .required = true, .help = "how many" },
	[PF_DRIVER] = { .key = "driver" },
	[PF_OWNERS] = { .key = "owners" },
	[PF_REPLACE] = { .key = "replace" },
	[PF_VF] = { .key = "vf" },
	{ NULL },
};

struct reader {
	struct sriov *s;
	struct sriov_plan *plan;
	yaml_document_t doc;
};

static int line_of(const yaml_node_t *node)
{
	return (int)node->start_mark.line + 1;
}

static int wrong(struct reader *r, const yaml_node_t *node, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

static int wrong(struct reader *r, const yaml_node_t *node, const char *fmt, ...)
{
	char text[SRIOV_ERR_LEN];
	va_list ap;

	va_start(ap, fmt);
	if (vsnprintf(text, sizeof(text), fmt, ap) < 0)
		text[0] = '\0';
	va_end(ap);
	return sriov_fail(r->s, -EINVAL, "%s:%d: %s", r->plan->name, node ? line_of(node) : 1,
			  text);
}

/* ---- Nodes ---- */

static const char *kind(const yaml_node_t *node)
{
	switch (node->type) {
	case YAML_SCALAR_NODE:
		return "a value";
	case YAML_SEQUENCE_NODE:
		return "a list";
	case YAML_MAPPING_NODE:
		return "keys with values";
	default:
		return "nothing";
	}
}

/* The text of a value; NULL and a sentence if it is none or has a zero in it. */
static const char *scalar(struct reader *r, const yaml_node_t *node, const char *key)
{
	const char *text = (const char *)node->data.scalar.value;

	if (node->type != YAML_SCALAR_NODE) {
		wrong(r, node, "%s: expected a value, found %s", key, kind(node));
		return NULL;
	}
	if (strlen(text) != node->data.scalar.length) {
		wrong(r, node, "%s: expected text, found a zero byte in it", key);
		return NULL;
	}
	return text;
}

static int typed_value(struct reader *r, const yaml_node_t *node, const char *key,
		       const struct opt_desc *desc, void *target)
{
	const char *text = scalar(r, node, key);
	char err[OPTS_ERR_LEN];

	if (!text)
		return -EINVAL;
	if (opts_parse_value(key, text, desc, target, err) < 0)
		return wrong(r, node, "%s", err);
	return 0;
}

static int short_text(struct reader *r, const yaml_node_t *node, const char *key, char *target,
		      size_t len)
{
	const char *text = scalar(r, node, key);

	if (!text)
		return -EINVAL;
	if (!*text || strlen(text) >= len)
		return wrong(r, node, "%s: '%.80s': expected 1 to %zu bytes", key, text, len - 1);
	sriov_text(target, len, "%s", text);
	return 0;
}

/* [a, b] to "a,b"; [] is anybody. */
static int owners(struct reader *r, const yaml_node_t *node, char *target)
{
	const yaml_node_t *item;
	const char *text;

	target[0] = '\0';
	if (node->type != YAML_SEQUENCE_NODE)
		return wrong(r, node, "owners: expected a list such as [vm1, vm2], found %s",
			     kind(node));
	for (yaml_node_item_t *i = node->data.sequence.items.start;
	     i < node->data.sequence.items.top; i++) {
		item = yaml_document_get_node(&r->doc, *i);
		text = scalar(r, item, "owners");
		if (!text)
			return -EINVAL;
		if (sriov_owner_check(r->s, text) < 0) {
			sriov_fail_more(r->s, "%s:%d: owners: ", r->plan->name, line_of(item));
			return -EINVAL;
		}
		if (strlen(target) + strlen(text) + 2 > SRIOV_TEXT_LEN)
			return wrong(r, item, "owners: expected less than %d bytes of them",
				     SRIOV_TEXT_LEN);
		sriov_text_add(target, SRIOV_TEXT_LEN, "%s%s", *target ? "," : "", text);
	}
	return 0;
}

static int driver(struct reader *r, const yaml_node_t *node, char *target)
{
	int res = short_text(r, node, "driver", target, SRIOV_NAME_LEN);

	if (!res && sriov_driver_check(r->s, target) < 0) {
		sriov_fail_more(r->s, "%s:%d: driver: ", r->plan->name, line_of(node));
		res = -EINVAL;
	}
	return res;
}

/* The index of a key in its table, or -EINVAL if it is none or came before. */
static int find_key(struct reader *r, const yaml_node_t *node, const struct opt_desc *table,
		    const char *what, uint64_t *seen)
{
	const char *text = scalar(r, node, what);
	char err[OPTS_ERR_LEN];
	int i;

	if (!text)
		return -EINVAL;
	i = opts_find(what, text, table, err);
	if (i < 0)
		return wrong(r, node, "%s", err);
	if (*seen & 1ull << i)
		return wrong(r, node, "%s: %s: the key is given twice", what, text);
	*seen |= 1ull << i;
	return i;
}

/* ---- VFs ---- */

/* "0" or "1-3" */
static int parse_range(struct reader *r, const yaml_node_t *node, struct sriov_plan_vf *vf)
{
	const char *text = scalar(r, node, "vf");
	unsigned long first, last;
	char *end;

	if (!text)
		return -EINVAL;
	first = last = strtoul(text, &end, 10);
	if (*end == '-' && isdigit((unsigned char)end[1]))
		last = strtoul(end + 1, &end, 10);
	if (!isdigit((unsigned char)*text) || *end || last > VF_MAX || first > last)
		return wrong(r, node,
			     "vf: '%.80s': expected an index such as 0, or a range such as "
			     "1-3",
			     text);
	vf->first = (unsigned int)first;
	vf->last = (unsigned int)last;
	vf->line = line_of(node);
	return 0;
}

static int vf_item(struct reader *r, const yaml_node_t *key, const yaml_node_t *value,
		   struct sriov_plan_vf *vf)
{
	const char *name = scalar(r, key, "vf"), *text;
	char err[OPTS_ERR_LEN];

	if (!name)
		return -EINVAL;
	if (!strcmp(name, "owners")) {
		if (vf->has_owners)
			return wrong(r, key, "vf: owners: the key is given twice");
		vf->has_owners = true;
		return owners(r, value, vf->owners);
	}
	if (!strcmp(name, "driver")) {
		if (*vf->driver)
			return wrong(r, key, "vf: driver: the key is given twice");
		return driver(r, value, vf->driver);
	}
	text = scalar(r, value, name);
	if (!text)
		return -EINVAL;
	if (sriov_conf_item("vf", name, text, &vf->conf, err) < 0)
		return wrong(r, key, "%s", err);
	return 0;
}

static int check_vf(struct reader *r, const yaml_node_t *node, const struct sriov_plan_pf *pf,
		    const struct sriov_plan_vf *vf)
{
	if (vf->conf.has & SRIOV_CONF_MAC && vf->first != vf->last)
		return wrong(r, node, "vf: mac: expected for one VF, not for a range of them");
	for (unsigned int i = 0; i < pf->nr; i++) {
		if (vf->first <= pf->vf[i].last && pf->vf[i].first <= vf->last)
			return wrong(r, node,
				     "vf: %u-%u: expected each index once, line %d has "
				     "it as well",
				     vf->first, vf->last, pf->vf[i].line);
	}
	return 0;
}

static int parse_vf(struct reader *r, const yaml_node_t *key, const yaml_node_t *value,
		    struct sriov_plan_pf *pf)
{
	struct sriov_plan_vf vf = { 0 }, *grown;
	int res;

	res = parse_range(r, key, &vf);
	if (res < 0)
		return res;
	if (value->type != YAML_MAPPING_NODE)
		return wrong(r, value, "vf: expected keys with values, found %s", kind(value));
	for (yaml_node_pair_t *p = value->data.mapping.pairs.start;
	     p < value->data.mapping.pairs.top && !res; p++)
		res = vf_item(r, yaml_document_get_node(&r->doc, p->key),
			      yaml_document_get_node(&r->doc, p->value), &vf);
	if (!res)
		res = check_vf(r, key, pf, &vf);
	if (res < 0)
		return res;
	grown = reallocarray(pf->vf, pf->nr + 1, sizeof(*grown));
	if (!grown)
		return sriov_fail(r->s, -ENOMEM, "out of memory");
	pf->vf = grown;
	grown[pf->nr++] = vf;
	return 0;
}

/* ---- PFs ---- */

static int parse_vfs(struct reader *r, const yaml_node_t *node, struct sriov_plan_pf *pf)
{
	int res = 0;

	if (node->type != YAML_MAPPING_NODE)
		return wrong(r, node, "vf: expected indexes with keys, found %s", kind(node));
	for (yaml_node_pair_t *p = node->data.mapping.pairs.start;
	     p < node->data.mapping.pairs.top && !res; p++)
		res = parse_vf(r, yaml_document_get_node(&r->doc, p->key),
			       yaml_document_get_node(&r->doc, p->value), pf);
	return res;
}

static int pf_item(struct reader *r, int key, const yaml_node_t *value, struct sriov_plan_pf *pf)
{
	static const struct opt_desc count = { .type = OPT_UINT, .max = VF_MAX };
	static const struct opt_desc onoff = { .type = OPT_BOOL };
	uint64_t number = 0;
	int res;

	switch (key) {
	case PF_PF:
		return short_text(r, value, "pf", pf->pf, sizeof(pf->pf));
	case PF_VFS:
		res = typed_value(r, value, "vfs", &count, &number);
		pf->vfs = (unsigned int)number;
		pf->vfs_line = line_of(value);
		return res;
	case PF_DRIVER:
		return driver(r, value, pf->driver);
	case PF_OWNERS:
		pf->has_owners = true;
		return owners(r, value, pf->owners);
	case PF_REPLACE:
		return typed_value(r, value, "replace", &onoff, &pf->replace);
	default:
		return parse_vfs(r, value, pf);
	}
}

/* Of another VF before it, in any PF: one network has an address once. */
static int check_macs(struct reader *r, const struct sriov_plan_vf *vf)
{
	const struct sriov_plan *plan = r->plan;

	for (unsigned int i = 0; i < plan->nr && vf->conf.has & SRIOV_CONF_MAC; i++) {
		const struct sriov_plan_pf *pf = &plan->pf[i];

		for (unsigned int j = 0; j < pf->nr && &pf->vf[j] != vf; j++) {
			if (pf->vf[j].conf.has & SRIOV_CONF_MAC &&
			    !memcmp(pf->vf[j].conf.mac, vf->conf.mac, sizeof(vf->conf.mac)))
				return sriov_fail(r->s, -EINVAL,
						  "%s:%d: vf: mac: expected an address for one "
						  "VF, line %d has it as well",
						  plan->name, vf->line, pf->vf[j].line);
		}
	}
	return 0;
}

static int check_pf(struct reader *r, const yaml_node_t *node, const struct sriov_plan_pf *pf)
{
	for (unsigned int i = 0; i < pf->nr; i++) {
		if (pf->vf[i].last >= pf->vfs)
			return sriov_fail(r->s, -EINVAL,
					  "%s:%d: vf: %u: expected an index less than vfs, which "
					  "is %u",
					  r->plan->name, pf->vf[i].line, pf->vf[i].last, pf->vfs);
	}
	for (unsigned int i = 0; i < pf->nr; i++) {
		if (check_macs(r, &pf->vf[i]) < 0)
			return -EINVAL;
	}
	for (unsigned int i = 0; i + 1 < r->plan->nr; i++) {
		if (!strcmp(r->plan->pf[i].pf, pf->pf))
			return wrong(r, node, "pf: %s: expected once, line %d has it as well",
				     pf->pf, r->plan->pf[i].line);
	}
	return 0;
}

static int parse_pf(struct reader *r, const yaml_node_t *node)
{
	struct sriov_plan *plan = r->plan;
	struct sriov_plan_pf *grown, *pf;
	char err[OPTS_ERR_LEN];
	uint64_t seen = 0;
	int key, res;

	if (node->type != YAML_MAPPING_NODE)
		return wrong(r, node, "pfs: expected a PF with its keys, found %s", kind(node));
	grown = reallocarray(plan->pf, plan->nr + 1, sizeof(*grown));
	if (!grown)
		return sriov_fail(r->s, -ENOMEM, "out of memory");
	plan->pf = grown;
	pf = &grown[plan->nr++];
	*pf = (struct sriov_plan_pf){ .line = line_of(node) };
	for (yaml_node_pair_t *p = node->data.mapping.pairs.start; p < node->data.mapping.pairs.top;
	     p++) {
		key = find_key(r, yaml_document_get_node(&r->doc, p->key), pf_keys, "pfs", &seen);
		if (key < 0)
			return key;
		res = pf_item(r, key, yaml_document_get_node(&r->doc, p->value), pf);
		if (res < 0)
			return res;
	}
	if (opts_check_required("pfs", pf_keys, seen, err) < 0)
		return wrong(r, node, "%s", err);
	return check_pf(r, node, pf);
}

static int parse_root(struct reader *r)
{
	const yaml_node_t *root = yaml_document_get_root_node(&r->doc), *list;
	uint64_t seen = 0;
	int res = 0;

	if (!root)
		return wrong(r, NULL, "expected pfs: and a list of PFs, found nothing");
	if (root->type != YAML_MAPPING_NODE)
		return wrong(r, root, "expected pfs: and a list of PFs, found %s", kind(root));
	for (yaml_node_pair_t *p = root->data.mapping.pairs.start;
	     p < root->data.mapping.pairs.top && !res; p++) {
		res = find_key(r, yaml_document_get_node(&r->doc, p->key), top_keys, "file", &seen);
		if (res < 0)
			return res;
		list = yaml_document_get_node(&r->doc, p->value);
		if (list->type != YAML_SEQUENCE_NODE)
			return wrong(r, list, "pfs: expected a list of PFs, found %s", kind(list));
		for (yaml_node_item_t *i = list->data.sequence.items.start;
		     i < list->data.sequence.items.top && !res; i++)
			res = parse_pf(r, yaml_document_get_node(&r->doc, *i));
	}
	if (!res && !seen)
		return wrong(r, root, "expected pfs: and a list of PFs, found no key");
	return res;
}

/* ---- The file ---- */

static int syntax_error(struct reader *r, const yaml_parser_t *p)
{
	return sriov_fail(r->s, -EINVAL, "%s:%d: %s%s%s", r->plan->name,
			  (int)p->problem_mark.line + 1, p->context ? p->context : "",
			  p->context ? ": " : "", p->problem ? p->problem : "not YAML");
}

static int parse_document(struct reader *r, yaml_parser_t *p)
{
	yaml_document_t more;
	int res;

	if (!yaml_parser_load(p, &r->doc))
		return syntax_error(r, p);
	res = parse_root(r);
	yaml_document_delete(&r->doc);
	if (res < 0)
		return res;
	if (!yaml_parser_load(p, &more))
		return syntax_error(r, p);
	if (yaml_document_get_root_node(&more))
		res = wrong(r, yaml_document_get_root_node(&more),
			    "expected one document, found another one");
	yaml_document_delete(&more);
	return res;
}

int sriov_plan_parse(struct sriov *s, const char *name, const char *text, size_t len,
		     struct sriov_plan **out)
{
	struct reader r = { .s = s };
	yaml_parser_t parser;
	int res;

	r.plan = calloc(1, sizeof(*r.plan));
	if (!r.plan || !yaml_parser_initialize(&parser)) {
		free(r.plan);
		return sriov_fail(s, -ENOMEM, "out of memory");
	}
	sriov_text(r.plan->name, sizeof(r.plan->name), "%s", name);
	yaml_parser_set_input_string(&parser, (const unsigned char *)text, len);
	res = parse_document(&r, &parser);
	yaml_parser_delete(&parser);
	if (res < 0) {
		sriov_plan_free(r.plan);
		return res;
	}
	*out = r.plan;
	return 0;
}

int sriov_plan_load(struct sriov *s, const char *path, struct sriov_plan **plan)
{
	FILE *file = fopen(path, "re");
	char *text;
	size_t len;
	int res;

	if (!file)
		return sriov_fail(s, -errno, "%s: %s", path, strerror(errno));
	text = malloc(FILE_MAX + 1);
	errno = 0;
	len = text ? fread(text, 1, FILE_MAX + 1, file) : 0;
	if (!text)
		res = sriov_fail(s, -ENOMEM, "out of memory");
	else if (ferror(file))
		res = sriov_fail(s, errno ? -errno : -EIO, "%s: %s", path, strerror(errno));
	else if (len > FILE_MAX)
		res = sriov_fail(s, -EFBIG, "%s: expected at most %d bytes", path, FILE_MAX);
	else
		res = sriov_plan_parse(s, path, text, len, plan);
	fclose(file);
	free(text);
	return res;
}

int sriov_plan_check(struct sriov *s, const struct sriov_plan *plan)
{
	char(*addr)[SRIOV_ADDR_LEN] = calloc(plan->nr + 1, sizeof(*addr));
	int res = addr ? 0 : sriov_fail(s, -ENOMEM, "out of memory");

	for (unsigned int i = 0; i < plan->nr && !res; i++) {
		/* What is not there is told when it is wanted. */
		if (sriov_resolve(s, plan->pf[i].pf, addr[i]) < 0)
			addr[i][0] = '\0';
		for (unsigned int j = 0; j < i && *addr[i] && !res; j++) {
			if (!strcmp(addr[i], addr[j]))
				res = sriov_fail(
					s, -EINVAL,
					"%s:%d: pf: %s: expected once, it is %s, which line "
					"%d has as %s",
					plan->name, plan->pf[i].line, plan->pf[i].pf, addr[i],
					plan->pf[j].line, plan->pf[j].pf);
		}
	}
	free(addr);
	return res;
}

void sriov_plan_free(struct sriov_plan *plan)
{
	if (!plan)
		return;
	for (unsigned int i = 0; i < plan->nr; i++)
		free(plan->pf[i].vf);
	free(plan->pf);
	free(plan);
}
