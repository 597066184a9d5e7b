/*
 * Telling what happens to functions. Called by programs that follow events.
 * Changes nothing but its own picture.
 *
 * Theory of operation: three sources, one poll(). The kernel tells of devices by
 * uevents (netlink, NETLINK_KOBJECT_UEVENT) and of links by rtnetlink; records
 * in the state directory are watched by inotify, and compared with what was
 * known of them, as one change of a record may be a claim, a reset, or neither.
 * Where a source overflows, an event says so, and what is remembered of it is read
 * again: links and records. Of devices nothing is. Links are read by a child with a
 * bound (survey.c), as a driver may keep the kernel from telling; then that is tried
 * again from time to time, and other events go on.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "sriov/watch.h"

#include <errno.h>
#include <linux/netlink.h>
#include <netlink/netlink.h>
#include <netlink/route/link.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base.h"
#include "core/fd.h"
#include "sriov/internal.h"
#include "sriov/netlink.h"

#define UEVENT_KERNEL 1 /* the multicast group of the kernel's own events */
#define UEVENT_LEN 8192 /* the kernel's limit is 2048 and some words before it */
#define RESETS_TOLD 16 /* since the last look: a record cannot make more of them */
#define UEVENT_BUFFER (4 << 20) /* creating hundreds of VFs is thousands of events */
#define LOOK_MS 2000 /* for all links to be told */
#define LOOK_AGAIN_MS 10000 /* after the kernel has not told them in that time */
#define LOOK_END "end" /* behind the last link */

const char *const sriov_event_names[] = { "appeared", "vanished", "driver", "link", "reset",
					  "claimed",  "released", "error",  "lost" };
static_assert(ARRAY_SIZE(sriov_event_names) == SRIOV_EVENT_CNT, "a word per kind");

/* What is known of a function that has a record. */
struct known {
	char addr[SRIOV_ADDR_LEN];
	char owner[SRIOV_NAME_LEN];
	int64_t resets;
	bool seen;
};

/* Of a network device that belongs to a function. */
struct link {
	int ifindex;
	bool up;
};

struct sriov_watch {
	struct sriov *s;
	int uevents, records; /* descriptors, -1: none */
	struct nl_sock *links;
	struct known *known;
	unsigned int nr_known;
	struct link *link;
	unsigned int nr_links;
	bool links_read; /* all of them, once at least */
	uint64_t look_at; /* links, at this time of sriov_now_ms(); 0: no need to */

	/* During one sriov_watch_wait(). */
	void (*told)(void *opaque, const struct sriov_event *event);
	void *opaque;
	int nr;
};

static void tell(struct sriov_watch *w, enum sriov_event_kind kind, const char *addr,
		 const char *netdev, const char *detail)
{
	struct sriov_event event = { .kind = kind };
	char path[SRIOV_PATH_LEN];

	if (!w->told)
		return;
	sriov_text(event.addr, sizeof(event.addr), "%s", addr);
	sriov_text(event.netdev, sizeof(event.netdev), "%s", netdev);
	sriov_text(event.detail, sizeof(event.detail), "%s", detail);
	if (*addr) {
		sriov_dev_path(w->s, path, addr, "physfn");
		sriov_file_link(path, event.pf, sizeof(event.pf));
	}
	w->nr++;
	w->told(w->opaque, &event);
}

/* ---- Devices ---- */

/* "KEY=value" of a uevent, whose lines end with zeroes; "" if not there. */
static const char *value_of(const char *event, size_t len, const char *key)
{
	size_t key_len = strlen(key);

	for (const char *p = event; p < event + len; p += strlen(p) + 1) {
		if (!strncmp(p, key, key_len) && p[key_len] == '=')
			return p + key_len + 1;
	}
	return "";
}

void sriov_watch_uevent(struct sriov_watch *w, const char *event, size_t len)
{
	const char *action = value_of(event, len, "ACTION");
	const char *slot = value_of(event, len, "PCI_SLOT_NAME");
	char addr[SRIOV_ADDR_LEN], driver[SRIOV_NAME_LEN];

	/* What udevadm trigger asks the kernel to say again has not happened. */
	if (strcmp(value_of(event, len, "SUBSYSTEM"), "pci") != 0 ||
	    *value_of(event, len, "SYNTH_UUID") || sriov_addr_parse(slot, addr) < 0)
		return;
	if (!strcmp(action, "add")) {
		tell(w, SRIOV_EVENT_APPEARED, addr, "", "");
	} else if (!strcmp(action, "remove")) {
		tell(w, SRIOV_EVENT_VANISHED, addr, "", "");
	} else if (!strcmp(action, "bind") || !strcmp(action, "unbind")) {
		/* As it was then: by now it may have another one. */
		sriov_text(driver, sizeof(driver), "%s",
			   *action == 'b' ? value_of(event, len, "DRIVER") : "");
		if (*action == 'b' && !*driver)
			sriov_driver_now(w->s, addr, driver);
		tell(w, SRIOV_EVENT_DRIVER, addr, "", driver);
	} else if (*value_of(event, len, "ERROR_EVENT")) {
		tell(w, SRIOV_EVENT_ERROR, addr, "", value_of(event, len, "ERROR_EVENT"));
	}
}

static void read_uevents(struct sriov_watch *w)
{
	char event[UEVENT_LEN + 1];
	struct sockaddr_nl from = { 0 };
	socklen_t from_len;
	ssize_t len;

	do {
		from_len = sizeof(from);
		len = recvfrom(w->uevents, event, UEVENT_LEN, MSG_DONTWAIT,
			       (struct sockaddr *)&from, &from_len);
		/* Only the kernel's: anybody with rights may send others. */
		if (len > 0 && !from.nl_pid) {
			event[len] = '\0';
			sriov_watch_uevent(w, event, (size_t)len);
		}
		if (len < 0 && errno == ENOBUFS)
			tell(w, SRIOV_EVENT_LOST, "", "", "devices");
	} while (len > 0 || (len < 0 && errno == ENOBUFS));
}

static int open_uevents(void)
{
	struct sockaddr_nl addr = { .nl_family = AF_NETLINK, .nl_groups = UEVENT_KERNEL };
	int size = UEVENT_BUFFER, fd, res;

	fd = socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_KOBJECT_UEVENT);
	if (fd < 0)
		return -errno;
	/* As much as this process may; without rights the limit of everybody. */
	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size)) < 0)
		setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
	if (bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0) {
		res = -errno;
		close(fd);
		return res;
	}
	return fd;
}

/* ---- Links ---- */

/* A link that is not in the list; NULL if there is no memory for it. */
static struct link *find_link(struct sriov_watch *w, int ifindex, bool *is_new)
{
	struct link *grown;

	for (unsigned int i = 0; i < w->nr_links; i++) {
		if (w->link[i].ifindex == ifindex) {
			*is_new = false;
			return &w->link[i];
		}
	}
	grown = reallocarray(w->link, w->nr_links + 1, sizeof(*grown));
	if (!grown)
		return NULL;
	w->link = grown;
	grown[w->nr_links] = (struct link){ .ifindex = ifindex };
	*is_new = true;
	return &grown[w->nr_links++];
}

/* As it is now. is_event: the kernel tells of it without being asked, for one of
 * many reasons; only its state is of interest. */
static void note_link(struct sriov_watch *w, int ifindex, const char *name, bool up, bool is_event)
{
	char addr[SRIOV_ADDR_LEN];
	struct link *known;
	bool is_new;

	if (sriov_netdev_function(w->s, name, addr) < 0)
		return;
	known = find_link(w, ifindex, &is_new);
	if (!known || (!is_new && known->up == up))
		return;
	known->up = up;
	/* What is there when all are read for the first time has not happened. */
	if (is_event || w->links_read)
		tell(w, SRIOV_EVENT_LINK, addr, name, up ? "up" : "down");
}

static void on_link(struct nl_object *obj, void *arg)
{
	struct rtnl_link *link = (struct rtnl_link *)obj;
	const char *name = rtnl_link_get_name(link);

	if (name)
		note_link(arg, rtnl_link_get_ifindex(link), name,
			  rtnl_link_get_flags(link) & SRIOV_NL_CARRIER, true);
}

static int on_link_msg(struct nl_msg *msg, void *arg)
{
	nl_msg_parse(msg, on_link, arg);
	return NL_OK;
}

/* In a child. */
static void tell_links(struct sriov *s, const void *what, FILE *out)
{
	if (!s->os->links(s, out))
		fputs(LOOK_END "\n", out);
}

/* As they are now; what has changed is told. */
static void look_at_links(struct sriov_watch *w)
{
	char *text, name[IFNAMSIZ], *line, *rest;
	bool is_whole = false;
	unsigned int up;
	int ifindex;

	w->look_at = sriov_now_ms() + LOOK_AGAIN_MS;
	if (sriov_survey_is_stuck(w->s))
		return;
	sriov_survey(w->s, tell_links, NULL, LOOK_MS, &text);
	rest = text;
	while (rest && strchr(rest, '\n')) {
		line = strsep(&rest, "\n");
		if (sscanf(line, "%d %u %15s", &ifindex, &up, name) == 3)
			note_link(w, ifindex, name, up, false);
		is_whole = !strcmp(line, LOOK_END);
	}
	free(text);
	if (is_whole) {
		w->links_read = true;
		w->look_at = 0;
	}
}

void sriov_watch_lost_links(struct sriov_watch *w)
{
	tell(w, SRIOV_EVENT_LOST, "", "", "links");
	/* What is remembered may be wrong, and would hide the next change. */
	look_at_links(w);
}

void sriov_watch_look(struct sriov_watch *w)
{
	if (w->look_at)
		look_at_links(w);
}

static void read_links(struct sriov_watch *w)
{
	int res = nl_recvmsgs_default(w->links);

	if (res == -NLE_NOMEM || res == -NLE_DUMP_INTR)
		sriov_watch_lost_links(w);
}

/* Nothing is told of what is there, as told is not set yet. What happens while
 * that is read waits in the socket. */
static int open_links(struct sriov_watch *w)
{
	int res;

	w->links = nl_socket_alloc();
	if (!w->links)
		return -ENOMEM;
	res = nl_connect(w->links, NETLINK_ROUTE);
	if (!res) {
		nl_socket_disable_seq_check(w->links);
		nl_socket_modify_cb(w->links, NL_CB_VALID, NL_CB_CUSTOM, on_link_msg, w);
		res = nl_socket_add_membership(w->links, RTNLGRP_LINK);
	}
	if (!res)
		res = nl_socket_set_nonblocking(w->links);
	if (!res)
		look_at_links(w);
	return res < 0 ? -EIO : 0;
}

/* ---- Records ---- */

static struct known *find_known(struct sriov_watch *w, const char *addr)
{
	struct known *grown;

	for (unsigned int i = 0; i < w->nr_known; i++) {
		if (!strcmp(w->known[i].addr, addr))
			return &w->known[i];
	}
	grown = reallocarray(w->known, w->nr_known + 1, sizeof(*grown));
	if (!grown)
		return NULL;
	w->known = grown;
	memset(&grown[w->nr_known], 0, sizeof(*grown));
	sriov_text(grown[w->nr_known].addr, SRIOV_ADDR_LEN, "%s", addr);
	return &grown[w->nr_known++];
}

/* Only what is finished counts: a claim that fails was none. */
static void compare(struct sriov_watch *w, struct known *k, const struct sriov_rec *rec)
{
	const char *owner = rec->claim.phase == SRIOV_PHASE_CLAIMED ? rec->claim.owner : "";

	for (int64_t i = k->resets; i < rec->resets && i < k->resets + RESETS_TOLD; i++)
		tell(w, SRIOV_EVENT_RESET, k->addr, "", "");
	k->resets = rec->resets;
	if (rec->claim.phase == SRIOV_PHASE_RELEASING || !strcmp(k->owner, owner))
		return;
	if (*k->owner)
		tell(w, SRIOV_EVENT_RELEASED, k->addr, "", k->owner);
	if (*owner)
		tell(w, SRIOV_EVENT_CLAIMED, k->addr, "", owner);
	sriov_text(k->owner, sizeof(k->owner), "%s", owner);
}

/* All of them: events of inotify may be many for one change, or be lost. */
static void look_at_records(struct sriov_watch *w)
{
	char(*addr)[SRIOV_ADDR_LEN];
	struct sriov_rec rec;
	struct known *k;
	int nr;

	nr = sriov_rec_list(w->s, &addr);
	if (nr < 0)
		return;
	for (unsigned int i = 0; i < w->nr_known; i++)
		w->known[i].seen = false;
	for (int i = 0; i < nr; i++) {
		k = find_known(w, addr[i]);
		if (!k)
			continue;
		k->seen = true;
		/* One that cannot be read says nothing. */
		if (!sriov_rec_load(w->s, addr[i], &rec))
			compare(w, k, &rec);
	}
	free(addr);
	memset(&rec, 0, sizeof(rec));
	for (unsigned int i = 0; i < w->nr_known; i++) {
		if (!w->known[i].seen)
			compare(w, &w->known[i], &rec);
	}
}

static void read_records(struct sriov_watch *w)
{
	char events[4096] __attribute__((aligned(8)));

	while (read(w->records, events, sizeof(events)) > 0)
		;
	look_at_records(w);
}

static int open_records(struct sriov_watch *w)
{
	int fd;

	fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	if (fd < 0)
		return -errno;
	/* Its parents are as sriov_lock() makes them; usually it is there. */
	mkdir(w->s->state_dir, 0755);
	if (inotify_add_watch(fd, w->s->state_dir, IN_MOVED_TO | IN_DELETE) < 0) {
		close(fd);
		return -1;
	}
	look_at_records(w);
	return fd;
}

/* ---- The whole ---- */

int sriov_watch_open(struct sriov *s, struct sriov_watch **out)
{
	struct sriov_watch *w = calloc(1, sizeof(*w));
	int res;

	if (!w)
		return sriov_fail(s, -ENOMEM, "out of memory");
	w->s = s;
	w->records = -1;
	w->uevents = open_uevents();
	if (w->uevents < 0) {
		res = sriov_fail(s, w->uevents, "events of devices: %s", strerror(-w->uevents));
		goto err_close;
	}
	res = open_links(w);
	if (res < 0) {
		sriov_fail(s, res, "events of links: %s", strerror(-res));
		goto err_close;
	}
	w->records = open_records(w);
	*out = w;
	return 0;

err_close:
	sriov_watch_close(w);
	return res;
}

void sriov_watch_close(struct sriov_watch *w)
{
	if (!w)
		return;
	fd_replace(&w->uevents, -1);
	fd_replace(&w->records, -1);
	if (w->links)
		nl_socket_free(w->links);
	free(w->known);
	free(w->link);
	free(w);
}

void sriov_watch_tell(struct sriov_watch *w,
		      void (*told)(void *opaque, const struct sriov_event *event), void *opaque)
{
	w->told = told;
	w->opaque = opaque;
	w->nr = 0;
}

/* Not beyond the time to look at links again. */
static int wait_ms(const struct sriov_watch *w, int timeout_ms)
{
	uint64_t now = sriov_now_ms(), left = w->look_at > now ? w->look_at - now : 0;

	if (!w->look_at || (timeout_ms >= 0 && (uint64_t)timeout_ms < left))
		return timeout_ms;
	return (int)left;
}

int sriov_watch_wait(struct sriov_watch *w, int timeout_ms,
		     void (*told)(void *opaque, const struct sriov_event *event), void *opaque)
{
	struct pollfd fds[3] = {
		{ .fd = w->uevents, .events = POLLIN },
		{ .fd = nl_socket_get_fd(w->links), .events = POLLIN },
		{ .fd = w->records, .events = POLLIN },
	};
	int n;

	n = poll(fds, ARRAY_SIZE(fds), wait_ms(w, timeout_ms));
	if (n < 0)
		return -errno;
	sriov_watch_tell(w, told, opaque);
	if (w->look_at && sriov_now_ms() >= w->look_at)
		sriov_watch_look(w);
	if (fds[0].revents)
		read_uevents(w);
	if (fds[1].revents)
		read_links(w);
	if (fds[2].revents)
		read_records(w);
	n = w->nr;
	sriov_watch_tell(w, NULL, NULL);
	return n;
}
