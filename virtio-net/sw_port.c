/*
 * Ports of the switch: adding, configuring, removing, and the list of who carries
 * which VLAN. Control thread. It never forwards; what loops read it publishes
 * whole and takes away in two steps, with a grace period in between.
 *
 * Theory of operation
 *
 * A port is in sw->all from its creation to its end, and in sw->ports, where loops
 * look, from the moment it is complete to the beginning of its removal. Removing
 * takes no memory and cannot fail: the port vanishes from sw->ports, no lane looks
 * at it after the grace period, then its addresses are forgotten (which lanes may
 * have learned until then), then it is freed and its number may be used again.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "virtio-net/vswitch.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/log.h"
#include "virtio-net/sw_internal.h"

/* --- who carries which VLAN ------------------------------------------------------ */

static const struct sw_live *live_at(const struct vswitch *sw, unsigned int i)
{
	return sw->ports[i] ? port_live(sw->ports[i]) : NULL;
}

/* Every VLAN of every narrow port: without m to count, with it to fill. */
static void list_narrow(const struct vswitch *sw, struct sw_members *m, uint32_t *pos)
{
	for (unsigned int i = 0; i < SW_PORTS_MAX; i++) {
		const struct sw_live *live = live_at(sw, i);

		if (!live || live_is_wide(live))
			continue;
		for (unsigned int n = 0; n < live->nr_vlans; n++) {
			uint32_t at = pos[live->vlan[n]]++;

			if (m)
				m->port[at] = (uint16_t)i;
		}
	}
}

/* As ports are now. NULL if out of memory. */
static struct sw_members *members_create(const struct vswitch *sw)
{
	uint32_t pos[FRAME_VLAN_MAX + 2] = { 0 }, nr_wide = 0, nr;
	struct sw_members *m;

	for (unsigned int i = 0; i < SW_PORTS_MAX; i++)
		nr_wide += live_at(sw, i) && live_is_wide(live_at(sw, i));
	list_narrow(sw, NULL, pos);
	nr = nr_wide;
	for (unsigned int vid = 0; vid < ARRAY_SIZE(pos); vid++)
		nr += pos[vid];
	m = malloc(sizeof(*m) + nr * sizeof(m->port[0]));
	if (!m)
		return NULL;
	m->nr_wide = nr_wide;
	nr = 0;
	for (unsigned int i = 0; i < SW_PORTS_MAX; i++)
		if (live_at(sw, i) && live_is_wide(live_at(sw, i)))
			m->port[nr++] = (uint16_t)i;
	for (unsigned int vid = 0; vid < ARRAY_SIZE(pos); vid++) {
		uint32_t n = pos[vid];

		m->first[vid] = nr;
		pos[vid] = nr;
		nr += n;
	}
	list_narrow(sw, m, pos);
	return m;
}

static struct sw_members *members_publish(struct vswitch *sw, struct sw_members *m)
{
	struct sw_members *old = (struct sw_members *)sw->members;

	/* Release: pairs with the acquire in flood(). */
	store_release(&sw->members, m);
	return old;
}

/* --- what has been replaced ------------------------------------------------------ */

struct retired {
	struct vswitch *sw;
	struct sw_live *live;
	struct sw_acl *acl_in, *acl_out;
	struct sw_members *members;
	int forget; /* number of a port, -1: none */
};

static void retired_free(void *opaque)
{
	struct retired *r = opaque;

	/* Lanes may have learned under the old configuration until now. */
	if (r->forget >= 0)
		sw_forget_port(r->sw, (unsigned int)r->forget, false);
	free(r->live);
	sw_acl_destroy(r->acl_in);
	sw_acl_destroy(r->acl_out);
	free(r->members);
	free(r);
}

/* Room to retire things with, so that publishing cannot fail behind it. */
struct retiree {
	struct retired *r;
	struct sw_grace *g;
};

static int retiree_alloc(struct vswitch *sw, struct retiree *t)
{
	t->r = calloc(1, sizeof(*t->r));
	t->g = grace_alloc(sw);
	if (t->r && t->g) {
		t->r->sw = sw;
		t->r->forget = -1;
		return 0;
	}
	free(t->r);
	free(t->g);
	return -ENOMEM;
}

static void retiree_start(struct retiree *t)
{
	grace_start(t->g, retired_free, t->r);
}

static void retiree_free(struct retiree *t)
{
	free(t->r);
	free(t->g);
}

/* --- mirrors --------------------------------------------------------------------- */

/* Ports came or went: let every mirror= point to the port of that name. */
static void resolve_mirrors(struct vswitch *sw)
{
	for (unsigned int i = 0; i < SW_PORTS_MAX; i++) {
		struct sw_port *port = sw->ports[i];

		if (!port)
			continue;
		/* Release: pairs with the acquire in sw_mirror(). */
		store_release(&port_of(port)->mirror,
			      port->conf->mirror[0] ? sw_port_find(sw, port->conf->mirror) : NULL);
	}
}

/* --- access lists ---------------------------------------------------------------- */

/* A configuration is not taken after all: its lists, but for those in use. */
static void release_but(const struct sw_port_conf *conf, const struct sw_port_conf *used)
{
	if (conf->acl_in != used->acl_in)
		sw_acl_destroy(conf->acl_in);
	if (conf->acl_out != used->acl_out)
		sw_acl_destroy(conf->acl_out);
}

void sw_port_conf_release(const struct sw_port_conf *conf)
{
	sw_acl_destroy(conf->acl_in);
	sw_acl_destroy(conf->acl_out);
}

/* --- ports ----------------------------------------------------------------------- */

static void port_free(struct port *p)
{
	if (!p)
		return;
	free(p->grace);
	if (p->pub.conf) {
		sw_port_conf_release(p->pub.conf);
		free(port_live(&p->pub));
	}
	free(p->pub.stats);
	free(p->pub.limits);
	free(p->lanes);
	free(p);
}

static void *zalloc_lines(size_t size)
{
	void *p = aligned_alloc(CACHE_LINE, round_up(size, CACHE_LINE));

	if (p)
		memset(p, 0, size);
	return p;
}

static struct port *port_alloc(struct vswitch *sw, const char *name,
			       const struct sw_port_conf *conf)
{
	struct port *p = zalloc_lines(sizeof(*p));
	struct sw_live *live;

	if (!p)
		return NULL;
	live = sw_live_create(conf);
	if (live)
		p->pub.conf = &live->conf;
	p->pub.sw = sw;
	strcpy(p->pub.name, name); /* its length was checked */
	p->pub.stats = zalloc_lines(sw->nr_lanes * sizeof(struct sw_port_stats));
	p->lanes = zalloc_lines(sw->nr_lanes * sizeof(struct sw_port_lane));
	p->pub.limits = zalloc_lines(sizeof(struct sw_port_limits));
	p->grace = grace_alloc(sw);
	if (live && p->pub.stats && p->lanes && p->pub.limits && p->grace) {
		sw_limits_set(p->pub.limits, conf);
		return p;
	}
	if (live) {
		/* Still the caller's. */
		live->conf.acl_in = NULL;
		live->conf.acl_out = NULL;
	}
	port_free(p);
	return NULL;
}

static int free_index(const struct vswitch *sw)
{
	for (int i = 0; i < SW_PORTS_MAX; i++)
		if (!sw->all[i])
			return i;
	return -ENOSPC;
}

static int check_name(struct vswitch *sw, const char *name, char *err)
{
	if (!name[0] || strlen(name) >= SW_NAME_MAX) {
		snprintf(err, SW_ERR_LEN, "'%.64s' is no name for a port, expected 1 to %d bytes",
			 name, SW_NAME_MAX - 1);
		return -EINVAL;
	}
	if (sw_port_find(sw, name)) {
		snprintf(err, SW_ERR_LEN, "port '%s' exists already", name);
		return -EEXIST;
	}
	return 0;
}

static int no_room(const char *name, char *err)
{
	snprintf(err, SW_ERR_LEN, "port '%s': the MAC table has no room for its static addresses",
		 name);
	return -ENOSPC;
}

static int no_memory(const char *name, char *err)
{
	snprintf(err, SW_ERR_LEN, "port '%s': out of memory", name);
	return -ENOMEM;
}

static int check_new(struct vswitch *sw, const char *name, const struct sw_port_conf *conf,
		     char *err)
{
	int ret = check_name(sw, name, err);

	if (!ret)
		ret = sw_conf_check(name, conf, err);
	if (!ret && free_index(sw) < 0) {
		snprintf(err, SW_ERR_LEN, "port '%s': the switch has %d ports already", name,
			 SW_PORTS_MAX);
		ret = -ENOSPC;
	}
	return ret;
}

/* Let loops see a port that is complete. */
static int port_publish(struct vswitch *sw, struct port *p)
{
	unsigned int index = p->pub.index;
	struct sw_members *m;
	struct retiree old;

	if (retiree_alloc(sw, &old) < 0)
		return -ENOMEM;
	/* Release: pairs with the acquire in port_at(). */
	store_release(&sw->ports[index], &p->pub);
	m = members_create(sw);
	if (!m) {
		/* No list names it, so no lane has looked. */
		store_release(&sw->ports[index], NULL);
		retiree_free(&old);
		return -ENOMEM;
	}
	sw->all[index] = p;
	old.r->members = members_publish(sw, m);
	resolve_mirrors(sw);
	retiree_start(&old);
	return 0;
}

int sw_port_add(struct vswitch *sw, const char *name, const struct sw_port_ops *ops, void *priv,
		const struct sw_port_conf *conf, struct sw_port **port, char *err)
{
	int ret = check_new(sw, name, conf, err);
	struct port *p;

	*port = NULL;
	if (ret < 0)
		goto err_lists;
	ret = no_memory(name, err);
	p = port_alloc(sw, name, conf);
	if (!p)
		goto err_lists;
	p->pub.ops = ops;
	p->pub.priv = priv;
	p->pub.index = (uint16_t)free_index(sw);
	if (sw_change_statics(sw, p->pub.index, NULL, conf) < 0) {
		port_free(p); /* with its lists */
		return no_room(name, err);
	}
	/* Its owner must know it before a frame comes. */
	*port = &p->pub;
	if (port_publish(sw, p) < 0) {
		*port = NULL;
		sw_forget_port(sw, p->pub.index, true);
		port_free(p);
		return ret;
	}
	log_info("port '%s': added", name);
	return 0;

err_lists:
	sw_port_conf_release(conf);
	return ret;
}

static bool same_vlans(const struct sw_port_conf *a, const struct sw_port_conf *b)
{
	return a->vlan_mode == b->vlan_mode && a->vlan == b->vlan &&
	       !memcmp(a->trunk, b->trunk, sizeof(a->trunk));
}

/* May what was learned from a port stay under another configuration? Whether an
 * address may move depends on anti-spoofing. */
static bool keeps_macs(const struct sw_port_conf *a, const struct sw_port_conf *b)
{
	return same_vlans(a, b) && a->anti_spoof == b->anti_spoof && a->nr_macs == b->nr_macs &&
	       !memcmp(a->macs, b->macs, sizeof(a->macs));
}

/* With the lists that the configuration in use does not have. */
static void retire_live(struct retired *r, struct sw_live *live, const struct sw_port_conf *used)
{
	r->live = live;
	if (live->conf.acl_in != used->acl_in)
		r->acl_in = live->conf.acl_in;
	if (live->conf.acl_out != used->acl_out)
		r->acl_out = live->conf.acl_out;
}

int sw_port_set(struct sw_port *port, const struct sw_port_conf *conf, char *err)
{
	struct vswitch *sw = port->sw;
	struct sw_live *live, *was = port_live(port);
	struct sw_members *m;
	struct retiree old;
	int ret;

	ret = sw_conf_check(port->name, conf, err);
	if (ret < 0) {
		release_but(conf, &was->conf);
		return ret;
	}
	live = sw_live_create(conf);
	if (!live || retiree_alloc(sw, &old) < 0) {
		free(live);
		release_but(conf, &was->conf);
		return no_memory(port->name, err);
	}
	if (sw_change_statics(sw, port->index, &was->conf, conf) < 0) {
		retire_live(old.r, live, &was->conf);
		retiree_start(&old);
		return no_room(port->name, err);
	}
	/* Release: pairs with the acquire in port_live(). */
	store_release(&port->conf, &live->conf);
	m = members_create(sw);
	if (!m) {
		store_release(&port->conf, &was->conf);
		sw_change_statics(sw, port->index, conf, &was->conf);
		retire_live(old.r, live, &was->conf);
		retiree_start(&old);
		return no_memory(port->name, err);
	}
	retire_live(old.r, was, conf);
	old.r->members = members_publish(sw, m);
	sw_limits_set(port->limits, conf);
	resolve_mirrors(sw);
	if (!keeps_macs(&was->conf, conf)) {
		sw_forget_port(sw, port->index, false);
		old.r->forget = port->index;
	}
	retiree_start(&old);
	return 0;
}

static void port_gone(void *opaque)
{
	struct port *p = opaque;
	struct vswitch *sw = p->pub.sw;

	sw_forget_port(sw, p->pub.index, true);
	sw->all[p->pub.index] = NULL;
	log_info("port '%s': removed", p->pub.name);
	if (p->gone)
		p->gone(p->gone_opaque);
	port_free(p);
}

void sw_port_remove(struct sw_port *port, void (*gone)(void *opaque), void *opaque)
{
	struct port *p = port_of(port);
	struct vswitch *sw = port->sw;
	struct sw_live *live = port_live(port);
	struct sw_grace *g = p->grace;
	struct retiree old;
	struct sw_members *m;

	assert(!p->removing);
	p->removing = true;
	p->gone = gone;
	p->gone_opaque = opaque;
	p->grace = NULL;
	write_once(&live->in_checks, live->in_checks | SW_CHECK_DISABLED);
	write_once(&live->out_checks, live->out_checks | SW_CHECK_DISABLED);
	store_release(&sw->ports[port->index], NULL);
	resolve_mirrors(sw);
	/* For speed only: the old list names a number that nobody has. */
	if (!retiree_alloc(sw, &old)) {
		m = members_create(sw);
		if (m)
			old.r->members = members_publish(sw, m);
		retiree_start(&old);
	}
	grace_start(g, port_gone, p);
}

struct sw_port *sw_port_find(struct vswitch *sw, const char *name)
{
	for (unsigned int i = 0; i < SW_PORTS_MAX; i++)
		if (sw->ports[i] && !strcmp(sw->ports[i]->name, name))
			return sw->ports[i];
	return NULL;
}

struct sw_port *sw_port_next(struct vswitch *sw, const struct sw_port *after)
{
	for (unsigned int i = after ? after->index + 1u : 0; i < SW_PORTS_MAX; i++)
		if (sw->ports[i])
			return sw->ports[i];
	return NULL;
}
