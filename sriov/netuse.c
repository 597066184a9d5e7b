/*
 * Why the host needs a network device: addresses, routes, what stands on it, XDP
 * programs, sockets that send and receive its frames by rings (AF_XDP; AF_PACKET,
 * as net_af_packet of DPDK). Called by children of ask.c. Nothing else that has a
 * socket on it counts: whoever looks for a lease or for neighbours, or captures,
 * does so on whatever there is.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <dirent.h>
#include <errno.h>
#include <linux/if_link.h>
#include <linux/packet_diag.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <linux/xdp_diag.h>
#include <net/if.h>
#include <netlink/attr.h>
#include <netlink/msg.h>
#include <netlink/netlink.h>
#include <netlink/route/addr.h>
#include <netlink/route/nexthop.h>
#include <netlink/route/route.h>
#include <string.h>
#include <sys/socket.h>

#include "core/base.h"
#include "sriov/internal.h"
#include "sriov/netlink.h"

struct use {
	struct sriov_blockers *b;
	const char *netdev;
	int ifindex;
	int res;
};

static void add(struct use *u, const char *what, const char *value)
{
	if (!u->res)
		u->res = sriov_blocker_add(u->b, SRIOV_BLOCK_NET, "%s %s%s%s", u->netdev, what,
					   *value ? " " : "", value);
}

/* Every link that is up has such addresses and routes: nobody chose them. */
static bool is_automatic(struct nl_addr *addr)
{
	const uint8_t *bytes = nl_addr_get_binary_addr(addr);

	if (nl_addr_get_family(addr) != AF_INET6 || nl_addr_get_len(addr) < 2)
		return false;
	return bytes[0] == 0xff || (bytes[0] == 0xfe && (bytes[1] & 0xc0) == 0x80);
}

static void on_addr(struct nl_object *obj, void *arg)
{
	struct rtnl_addr *addr = (struct rtnl_addr *)obj;
	struct nl_addr *local = rtnl_addr_get_local(addr);
	struct use *u = arg;
	char text[64];

	if (rtnl_addr_get_ifindex(addr) != u->ifindex || !local || is_automatic(local))
		return;
	add(u, "has the address", nl_addr2str(local, text, sizeof(text)));
}

static void on_route(struct nl_object *obj, void *arg)
{
	struct rtnl_route *route = (struct rtnl_route *)obj;
	struct nl_addr *dst = rtnl_route_get_dst(route);
	struct rtnl_nexthop *hop;
	struct use *u = arg;
	char text[64];

	if (rtnl_route_get_type(route) != RTN_UNICAST ||
	    rtnl_route_get_table(route) == RT_TABLE_LOCAL || (dst && is_automatic(dst)))
		return;
	for (int i = 0; i < rtnl_route_get_nnexthops(route); i++) {
		hop = rtnl_route_nexthop_n(route, i);
		if (rtnl_route_nh_get_ifindex(hop) == u->ifindex) {
			add(u, "carries the route",
			    dst && nl_addr_get_len(dst) ? nl_addr2str(dst, text, sizeof(text))
							: "default");
			return;
		}
	}
}

static int look_at_routes(struct use *u)
{
	struct nl_sock *sock = nl_socket_alloc();
	struct nl_cache *cache;
	int res;

	if (!sock)
		return -ENOMEM;
	res = nl_connect(sock, NETLINK_ROUTE);
	if (!res) {
		nl_socket_enable_msg_peek(sock);
		res = rtnl_addr_alloc_cache(sock, &cache);
		if (!res) {
			nl_cache_foreach(cache, on_addr, u);
			nl_cache_free(cache);
			res = rtnl_route_alloc_cache(sock, AF_UNSPEC, 0, &cache);
		}
		if (!res) {
			nl_cache_foreach(cache, on_route, u);
			nl_cache_free(cache);
		}
	}
	nl_socket_free(sock);
	return sriov_nl_errno(res);
}

/* ---- XDP, AF_XDP, AF_PACKET: Linux, include/uapi/linux/if_link.h, xdp_diag.h and
 * packet_diag.h ---- */

/* Send a request, and give each answer to on_answer. A kernel that does not know
 * the question has nobody to tell of: no error. */
static void ask(struct use *u, int protocol, int type, int flags, void *body, size_t len,
		int (*on_answer)(struct nl_msg *msg, void *arg))
{
	struct nl_sock *sock = nl_socket_alloc();

	if (!sock)
		return;
	if (!nl_connect(sock, protocol)) {
		nl_socket_enable_msg_peek(sock);
		nl_socket_disable_seq_check(sock);
		nl_socket_modify_cb(sock, NL_CB_VALID, NL_CB_CUSTOM, on_answer, u);
		if (nl_send_simple(sock, type, flags, body, len) >= 0)
			nl_recvmsgs_default(sock);
	}
	nl_socket_free(sock);
}

static int on_link(struct nl_msg *msg, void *arg)
{
	struct nlattr *link[IFLA_MAX + 1], *xdp[IFLA_XDP_MAX + 1];
	struct use *u = arg;

	if (nlmsg_parse(nlmsg_hdr(msg), sizeof(struct ifinfomsg), link, IFLA_MAX, NULL) < 0 ||
	    !link[IFLA_XDP] || nla_parse_nested(xdp, IFLA_XDP_MAX, link[IFLA_XDP], NULL) < 0)
		return NL_SKIP;
	if (xdp[IFLA_XDP_ATTACHED] && nla_get_u8(xdp[IFLA_XDP_ATTACHED]) != XDP_ATTACHED_NONE)
		add(u, "has an XDP program", "");
	return NL_OK;
}

static int on_xdp_socket(struct nl_msg *msg, void *arg)
{
	struct xdp_diag_info info;
	struct use *u = arg;
	struct nlattr *attr;

	attr = nlmsg_find_attr(nlmsg_hdr(msg), sizeof(struct xdp_diag_msg), XDP_DIAG_INFO);
	if (attr && nla_len(attr) >= (int)sizeof(info)) {
		memcpy(&info, nla_data(attr), sizeof(info));
		if ((int)info.ifindex == u->ifindex)
			add(u, "is used by an AF_XDP socket", "");
	}
	return NL_OK;
}

static int on_packet_socket(struct nl_msg *msg, void *arg)
{
	struct packet_diag_info info;
	struct use *u = arg;
	struct nlattr *attr;

	attr = nlmsg_find_attr(nlmsg_hdr(msg), sizeof(struct packet_diag_msg), PACKET_DIAG_INFO);
	if (!attr || nla_len(attr) < (int)sizeof(info))
		return NL_SKIP;
	memcpy(&info, nla_data(attr), sizeof(info));
	/* One that only captures has no ring to send by. */
	if ((int)info.pdi_index == u->ifindex &&
	    nlmsg_find_attr(nlmsg_hdr(msg), sizeof(struct packet_diag_msg), PACKET_DIAG_TX_RING))
		add(u, "is used by an AF_PACKET socket with a ring", "");
	return NL_OK;
}

static void look_at_programs_and_sockets(struct use *u)
{
	struct ifinfomsg link = { .ifi_family = AF_UNSPEC, .ifi_index = u->ifindex };
	struct xdp_diag_req xdp = { .sdiag_family = AF_XDP, .xdiag_show = XDP_SHOW_INFO };
	struct packet_diag_req packet = { .sdiag_family = AF_PACKET,
					  .pdiag_show = PACKET_SHOW_INFO | PACKET_SHOW_RING_CFG };

	ask(u, NETLINK_ROUTE, RTM_GETLINK, 0, &link, sizeof(link), on_link);
	ask(u, NETLINK_SOCK_DIAG, SOCK_DIAG_BY_FAMILY, NLM_F_DUMP, &xdp, sizeof(xdp),
	    on_xdp_socket);
	ask(u, NETLINK_SOCK_DIAG, SOCK_DIAG_BY_FAMILY, NLM_F_DUMP, &packet, sizeof(packet),
	    on_packet_socket);
}

/* Bridges, bonds, VLANs and the like: "master" and "upper_NAME". */
static void look_at_uppers(struct sriov *s, struct use *u)
{
	char path[SRIOV_PATH_LEN];
	struct dirent *e;
	DIR *dir;

	sriov_path(s, path, "/sys/class/net/%s", u->netdev);
	dir = opendir(path);
	while (dir && (e = readdir(dir))) {
		if (!strncmp(e->d_name, "upper_", 6))
			add(u, "is part of", e->d_name + 6);
	}
	if (dir)
		closedir(dir);
}

int sriov_nl_net_use(struct sriov *s, const char *netdev, struct sriov_blockers *b)
{
	struct use u = { .b = b, .netdev = netdev, .ifindex = (int)if_nametoindex(netdev) };
	int res;

	if (!u.ifindex)
		return -ENODEV;
	look_at_uppers(s, &u);
	res = look_at_routes(&u);
	look_at_programs_and_sockets(&u);
	return u.res ? u.res : res;
}
