/*
 * Configuration of VFs by their PF (rtnetlink) and the mode of its switch
 * (devlink). Called through struct sriov_os, by children of ask.c: there is no
 * bound on how long it takes. Decides nothing.
 *
 * The list of VFs is asked for without their statistics and taken apart here,
 * over libnl's messages: one attribute has at most 64 KiB, which is 220 VFs with
 * statistics, and struct rtnl_link always asks for them. The socket looks how
 * long an answer is before it takes it, so none is cut.
 *
 * Linux, include/uapi/linux/if_link.h, IFLA_VFINFO_LIST, and devlink.h.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "sriov/netlink.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/devlink.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netlink/attr.h>
#include <netlink/genl/ctrl.h>
#include <netlink/genl/genl.h>
#include <netlink/msg.h>
#include <netlink/netlink.h>
#include <netlink/route/link.h>
#include <string.h>

#include "core/base.h"
#include "sriov/internal.h"

#define PROTO_8021Q 0x8100
#define PROTO_8021AD 0x88a8
#define NOT_TOLD 0xffffffffu /* what a driver without the setting has */

int sriov_nl_errno(int nl_error)
{
	switch (nl_error < 0 ? -nl_error : nl_error) {
	case NLE_SUCCESS:
		return 0;
	case NLE_NOMEM:
		return -ENOMEM;
	case NLE_PERM:
	case NLE_NOACCESS:
		return -EPERM;
	case NLE_OPNOTSUPP:
		return -EOPNOTSUPP;
	case NLE_OBJ_NOTFOUND:
	case NLE_NODEV:
		return -ENODEV;
	case NLE_AGAIN:
		return -EAGAIN;
	case NLE_MSG_TRUNC:
	case NLE_MSGSIZE:
		return -EMSGSIZE;
	}
	return -EIO;
}

/* One question and its answer. libnl keeps its own error numbers; the kernel's
 * are what users know, so they are caught on their way. */
struct question {
	struct nl_sock *sock;
	struct nl_cb *cb;
	int (*valid)(struct nl_msg *msg, void *arg);
	void *arg;
	int error; /* -errno by the kernel */
	bool done;
};

static int on_error(struct sockaddr_nl *who, struct nlmsgerr *e, void *arg)
{
	struct question *q = arg;

	q->error = e->error;
	q->done = true;
	return NL_STOP;
}

static int on_ack(struct nl_msg *msg, void *arg)
{
	struct question *q = arg;

	q->done = true;
	return NL_STOP;
}

static int question_open(struct question *q, int protocol)
{
	int res;

	q->sock = nl_socket_alloc();
	q->cb = nl_cb_alloc(NL_CB_DEFAULT);
	if (!q->sock || !q->cb)
		return -ENOMEM;
	res = protocol == NETLINK_GENERIC ? genl_connect(q->sock) : nl_connect(q->sock, protocol);
	if (res < 0)
		return sriov_nl_errno(res);
	nl_socket_enable_msg_peek(q->sock);
	nl_cb_err(q->cb, NL_CB_CUSTOM, on_error, q);
	nl_cb_set(q->cb, NL_CB_ACK, NL_CB_CUSTOM, on_ack, q);
	return 0;
}

static void question_close(struct question *q)
{
	if (q->cb)
		nl_cb_put(q->cb);
	if (q->sock)
		nl_socket_free(q->sock);
}

/* Takes msg. Every question asks for an acknowledgement, which ends it. */
static int ask(struct question *q, struct nl_msg *msg)
{
	int res;

	nlmsg_hdr(msg)->nlmsg_flags |= NLM_F_REQUEST | NLM_F_ACK;
	if (q->valid)
		nl_cb_set(q->cb, NL_CB_VALID, NL_CB_CUSTOM, q->valid, q->arg);
	res = nl_send_auto(q->sock, msg);
	nlmsg_free(msg);
	while (res >= 0 && !q->done)
		res = nl_recvmsgs(q->sock, q->cb);
	if (q->error)
		return q->error;
	return res < 0 ? sriov_nl_errno(res) : 0;
}

static struct nl_msg *link_msg(int type, const char *netdev, unsigned int flags,
			       unsigned int change)
{
	struct ifinfomsg info = { .ifi_family = AF_UNSPEC,
				  .ifi_index = (int)if_nametoindex(netdev),
				  .ifi_flags = flags,
				  .ifi_change = change };
	struct nl_msg *msg;

	if (!info.ifi_index)
		return NULL;
	msg = nlmsg_alloc_simple(type, 0);
	if (msg && nlmsg_append(msg, &info, sizeof(info), NLMSG_ALIGNTO) < 0) {
		nlmsg_free(msg);
		return NULL;
	}
	return msg;
}

/* ---- Reading ---- */

struct vf_list {
	struct sriov_conf *conf;
	unsigned int nr, nr_kernel, nr_seen;
};

static void get_vlan(struct nlattr **tb, struct sriov_conf *conf)
{
	struct ifla_vf_vlan_info *info;
	struct ifla_vf_vlan *vlan;
	struct nlattr *item;
	int rest;

	if (tb[IFLA_VF_VLAN] && nla_len(tb[IFLA_VF_VLAN]) >= (int)sizeof(*vlan)) {
		vlan = nla_data(tb[IFLA_VF_VLAN]);
		conf->vlan = vlan->vlan;
		conf->qos = vlan->qos;
		conf->has |= SRIOV_CONF_VLAN | SRIOV_CONF_QOS;
	}
	if (!tb[IFLA_VF_VLAN_LIST])
		return;
	nla_for_each_nested(item, tb[IFLA_VF_VLAN_LIST], rest)
	{
		if (nla_type(item) != IFLA_VF_VLAN_INFO || nla_len(item) < (int)sizeof(*info))
			continue;
		info = nla_data(item);
		conf->proto = ntohs(info->vlan_proto) == PROTO_8021AD;
		conf->has |= SRIOV_CONF_PROTO;
		/* One tag is all that can be set; drivers have no second one. */
		break;
	}
}

/* All of them begin with two numbers: the VF and the setting. */
static bool get_setting(struct nlattr *attr, uint32_t *v)
{
	uint32_t two[2];

	if (!attr || nla_len(attr) < (int)sizeof(two))
		return false;
	memcpy(two, nla_data(attr), sizeof(two));
	*v = two[1];
	return *v != NOT_TOLD;
}

static void get_vf(struct nlattr *nest, struct vf_list *list)
{
	struct nlattr *tb[IFLA_VF_MAX + 1];
	struct sriov_conf conf = { 0 };
	struct ifla_vf_rate rate;
	struct ifla_vf_mac mac;
	uint32_t v;

	if (nla_parse_nested(tb, IFLA_VF_MAX, nest, NULL) < 0 || !tb[IFLA_VF_MAC] ||
	    nla_len(tb[IFLA_VF_MAC]) < (int)sizeof(mac))
		return;
	memcpy(&mac, nla_data(tb[IFLA_VF_MAC]), sizeof(mac));
	list->nr_seen++;
	if (mac.vf >= list->nr)
		return;
	memcpy(conf.mac, mac.mac, sizeof(conf.mac));
	conf.has = SRIOV_CONF_MAC;
	get_vlan(tb, &conf);
	if (tb[IFLA_VF_RATE] && nla_len(tb[IFLA_VF_RATE]) >= (int)sizeof(rate)) {
		memcpy(&rate, nla_data(tb[IFLA_VF_RATE]), sizeof(rate));
		conf.min_rate = rate.min_tx_rate;
		conf.max_rate = rate.max_tx_rate;
		conf.has |= SRIOV_CONF_MIN_RATE | SRIOV_CONF_MAX_RATE;
	}
	if (get_setting(tb[IFLA_VF_SPOOFCHK], &v)) {
		conf.spoofchk = v;
		conf.has |= SRIOV_CONF_SPOOFCHK;
	}
	if (get_setting(tb[IFLA_VF_TRUST], &v)) {
		conf.trust = v;
		conf.has |= SRIOV_CONF_TRUST;
	}
	if (get_setting(tb[IFLA_VF_LINK_STATE], &v) && v <= IFLA_VF_LINK_STATE_DISABLE) {
		conf.state = (int)v;
		conf.has |= SRIOV_CONF_STATE;
	}
	if (get_setting(tb[IFLA_VF_RSS_QUERY_EN], &v)) {
		conf.query_rss = v;
		conf.has |= SRIOV_CONF_QUERY_RSS;
	}
	list->conf[mac.vf] = conf;
}

static int on_link(struct nl_msg *msg, void *arg)
{
	struct nlattr *tb[IFLA_MAX + 1], *nest;
	struct vf_list *list = arg;
	int rest;

	if (nlmsg_parse(nlmsg_hdr(msg), sizeof(struct ifinfomsg), tb, IFLA_MAX, NULL) < 0)
		return NL_SKIP;
	if (tb[IFLA_NUM_VF])
		list->nr_kernel = nla_get_u32(tb[IFLA_NUM_VF]);
	if (!tb[IFLA_VFINFO_LIST])
		return NL_OK;
	nla_for_each_nested(nest, tb[IFLA_VFINFO_LIST], rest) get_vf(nest, list);
	return NL_OK;
}

int sriov_nl_conf_get(struct sriov *s, const char *netdev, struct sriov_conf *conf, unsigned int nr)
{
	struct vf_list list = { .conf = conf, .nr = nr };
	struct question q = { .valid = on_link, .arg = &list };
	struct nl_msg *msg;
	int res;

	res = question_open(&q, NETLINK_ROUTE);
	if (!res) {
		msg = link_msg(RTM_GETLINK, netdev, 0, 0);
		res = -ENODEV;
		if (msg &&
		    nla_put_u32(msg, IFLA_EXT_MASK, RTEXT_FILTER_VF | RTEXT_FILTER_SKIP_STATS) < 0)
			nlmsg_free(msg);
		else if (msg)
			res = ask(&q, msg);
	}
	question_close(&q);
	return res < 0 || list.nr_seen >= list.nr_kernel ? res
							 : (int)(list.nr_kernel - list.nr_seen);
}

/* ---- Writing ---- */

static int put_vlan(struct nl_msg *msg, unsigned int vf, const struct sriov_conf *conf)
{
	struct ifla_vf_vlan_info info = { .vf = vf,
					  .vlan = (uint32_t)conf->vlan,
					  .qos = (uint32_t)conf->qos,
					  .vlan_proto =
						  htons(conf->proto ? PROTO_8021AD : PROTO_8021Q) };
	struct ifla_vf_vlan plain = { .vf = vf, .vlan = info.vlan, .qos = info.qos };
	struct nlattr *nest;

	/* Drivers older than the list know the plain form only. */
	if (!conf->proto)
		return nla_put(msg, IFLA_VF_VLAN, sizeof(plain), &plain);
	nest = nla_nest_start(msg, IFLA_VF_VLAN_LIST);
	if (!nest || nla_put(msg, IFLA_VF_VLAN_INFO, sizeof(info), &info) < 0)
		return -NLE_MSGSIZE;
	return nla_nest_end(msg, nest);
}

static int put_items(struct nl_msg *msg, unsigned int vf, const struct sriov_conf *conf)
{
	struct ifla_vf_rate rate = { .vf = vf,
				     .min_tx_rate = (uint32_t)conf->min_rate,
				     .max_tx_rate = (uint32_t)conf->max_rate };
	struct ifla_vf_rss_query_en rss = { .vf = vf, .setting = conf->query_rss };
	struct ifla_vf_link_state state = { .vf = vf, .link_state = (uint32_t)conf->state };
	struct ifla_vf_spoofchk spoofchk = { .vf = vf, .setting = conf->spoofchk };
	struct ifla_vf_trust trust = { .vf = vf, .setting = conf->trust };
	struct ifla_vf_mac mac = { .vf = vf };
	int res = 0;

	memcpy(mac.mac, conf->mac, sizeof(conf->mac));
	if (conf->has & SRIOV_CONF_TRUST)
		res |= nla_put(msg, IFLA_VF_TRUST, sizeof(trust), &trust);
	if (conf->has & SRIOV_CONF_MAC)
		res |= nla_put(msg, IFLA_VF_MAC, sizeof(mac), &mac);
	if (conf->has & (SRIOV_CONF_VLAN | SRIOV_CONF_QOS | SRIOV_CONF_PROTO))
		res |= put_vlan(msg, vf, conf);
	if (conf->has & (SRIOV_CONF_MIN_RATE | SRIOV_CONF_MAX_RATE))
		res |= nla_put(msg, IFLA_VF_RATE, sizeof(rate), &rate);
	if (conf->has & SRIOV_CONF_SPOOFCHK)
		res |= nla_put(msg, IFLA_VF_SPOOFCHK, sizeof(spoofchk), &spoofchk);
	if (conf->has & SRIOV_CONF_STATE)
		res |= nla_put(msg, IFLA_VF_LINK_STATE, sizeof(state), &state);
	if (conf->has & SRIOV_CONF_QUERY_RSS)
		res |= nla_put(msg, IFLA_VF_RSS_QUERY_EN, sizeof(rss), &rss);
	return res;
}

int sriov_nl_conf_set(struct sriov *s, const char *netdev, unsigned int vf,
		      const struct sriov_conf *conf)
{
	struct question q = { 0 };
	struct nlattr *list, *one;
	struct nl_msg *msg;
	int res;

	res = question_open(&q, NETLINK_ROUTE);
	if (!res) {
		msg = link_msg(RTM_SETLINK, netdev, 0, 0);
		list = msg ? nla_nest_start(msg, IFLA_VFINFO_LIST) : NULL;
		one = list ? nla_nest_start(msg, IFLA_VF_INFO) : NULL;
		res = msg ? -ENOMEM : -ENODEV;
		if (one && !put_items(msg, vf, conf)) {
			nla_nest_end(msg, one);
			nla_nest_end(msg, list);
			res = ask(&q, msg);
		} else if (msg) {
			nlmsg_free(msg);
		}
	}
	question_close(&q);
	return res;
}

int sriov_nl_link_set(struct sriov *s, const char *netdev, bool up)
{
	struct question q = { 0 };
	struct nl_msg *msg;
	int res;

	res = question_open(&q, NETLINK_ROUTE);
	if (!res) {
		msg = link_msg(RTM_NEWLINK, netdev, up ? IFF_UP : 0, IFF_UP);
		res = msg ? ask(&q, msg) : -ENODEV;
	}
	question_close(&q);
	return res;
}

int sriov_nl_links(struct sriov *s, FILE *out)
{
	struct nl_sock *sock = nl_socket_alloc();
	struct nl_cache *cache;
	struct nl_object *obj;
	int res;

	if (!sock)
		return -ENOMEM;
	res = nl_connect(sock, NETLINK_ROUTE);
	if (!res)
		res = rtnl_link_alloc_cache(sock, AF_UNSPEC, &cache);
	if (!res) {
		for (obj = nl_cache_get_first(cache); obj; obj = nl_cache_get_next(obj)) {
			struct rtnl_link *link = (struct rtnl_link *)obj;

			fprintf(out, "%d %d %s\n", rtnl_link_get_ifindex(link),
				!!(rtnl_link_get_flags(link) & SRIOV_NL_CARRIER),
				rtnl_link_get_name(link));
		}
		nl_cache_free(cache);
	}
	nl_socket_free(sock);
	return sriov_nl_errno(res);
}

/* ---- devlink ---- */

static int on_eswitch(struct nl_msg *msg, void *arg)
{
	struct nlattr *tb[DEVLINK_ATTR_MAX + 1];
	char *mode = arg;
	uint16_t v;

	if (genlmsg_parse(nlmsg_hdr(msg), 0, tb, DEVLINK_ATTR_MAX, NULL) < 0 ||
	    !tb[DEVLINK_ATTR_ESWITCH_MODE])
		return NL_SKIP;
	v = nla_get_u16(tb[DEVLINK_ATTR_ESWITCH_MODE]);
	sriov_text(mode, SRIOV_NAME_LEN, "%s",
		   v == DEVLINK_ESWITCH_MODE_SWITCHDEV ? "switchdev"
		   : v == DEVLINK_ESWITCH_MODE_LEGACY  ? "legacy"
						       : "unknown");
	return NL_OK;
}

int sriov_nl_eswitch(struct sriov *s, const char *bus, const char *name, char *mode)
{
	struct question q = { .valid = on_eswitch, .arg = mode };
	struct nl_msg *msg = NULL;
	int res, family;

	mode[0] = '\0';
	res = question_open(&q, NETLINK_GENERIC);
	if (res < 0)
		goto out;
	family = genl_ctrl_resolve(q.sock, DEVLINK_GENL_NAME);
	res = family < 0 ? -EOPNOTSUPP : 0;
	if (res < 0)
		goto out;
	msg = nlmsg_alloc();
	if (!msg ||
	    !genlmsg_put(msg, NL_AUTO_PORT, NL_AUTO_SEQ, family, 0, 0, DEVLINK_CMD_ESWITCH_GET,
			 DEVLINK_GENL_VERSION) ||
	    nla_put_string(msg, DEVLINK_ATTR_BUS_NAME, bus) < 0 ||
	    nla_put_string(msg, DEVLINK_ATTR_DEV_NAME, name) < 0) {
		res = -ENOMEM;
		nlmsg_free(msg);
		goto out;
	}
	res = ask(&q, msg);
	if (!res && !*mode)
		res = -EOPNOTSUPP;
out:
	question_close(&q);
	return res;
}
