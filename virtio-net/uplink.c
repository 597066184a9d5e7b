/*
 * Uplinks: a DPDK port becomes a port of the switch. Called by the program on the
 * control thread; the loops' part is in uplink_rx.c and uplink_tx.c. Never waits
 * for a loop.
 *
 * Theory of operation
 *
 * The device is opened and started, the port joins the switch, and each receive
 * queue is placed on a loop. What a queue is about to do is in its state and what
 * it is to do is its target; settle() takes the next step whenever a loop has
 * answered, so that a queue may be told to move, or the uplink to leave, at any
 * time. The end goes the other way round: queues leave their loops, the port
 * leaves the switch, and with that the last loop that might send, then the device
 * is closed.
 *
 * The link is looked at when its interrupt says so (an EAL thread calls, which
 * only posts), and by a timer, as not every driver has one.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "virtio-net/uplink.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/atomic.h"
#include "core/log.h"
#include "virtio-net/eal.h"
#include "virtio-net/uplink_internal.h"

#define LINK_PERIOD_NS 1000000000ull
#define TEAM_PERIOD_NS 100000000ull

const char *const uplink_offloads_names[UPLINK_OFFLOADS_CNT + 1] = { "auto", "on", "off", NULL };

/*
 * off: on no loop, to be added or given up.
 * adding, leaving: a loop has been asked and will answer.
 * placed: served by its loop.
 */
enum queue_state {
	QUEUE_OFF,
	QUEUE_ADDING,
	QUEUE_PLACED,
	QUEUE_LEAVING,
};

struct queue {
	struct uplink *up;
	struct uplink_rxq *rxq;
	enum queue_state state;
	unsigned int target; /* index of the loop it is to be on */
	unsigned int at; /* and of the one it is on or going to */
};

struct uplink {
	struct uplink_dev dev;
	struct uplink_tx tx;
	char name[SW_NAME_MAX];
	char *devargs[UPLINK_DEVICES_MAX];
	unsigned int nr_devargs;
	struct sw_port *port; /* NULL: not in the switch */
	struct vswitch *sw;
	struct evloop *ev;
	struct loop *const *loops;
	unsigned int nr_loops;
	struct queue *queue; /* dev.nr_rxq of them */
	unsigned int nr_queues;
	struct uplink_announcer *announcer;
	struct ev_timer timer;
	uint64_t period_ns;

	/* From an EAL thread. */
	bool has_callback;
	bool link_posted; /* link_work is on its way */
	struct ev_work link_work;

	bool leaving;
	bool closing; /* all is done but for link_work */
	void (*gone)(void *opaque);
	void *opaque;
};

/* --- link --------------------------------------------------------------------------- */

static void look_at_link(struct uplink *up)
{
	struct rte_eth_link link;
	bool is_up = uplink_dev_link(&up->dev, &link);
	bool moved = up->dev.team && team_has_moved(up->dev.team);

	if (moved && is_up) {
		log_info("%s: another member of the team is in use", up->name);
		uplink_announce(up->announcer);
	}
	if (is_up == up->tx.link_up)
		return;
	write_once(&up->tx.link_up, is_up);
	if (is_up) {
		log_info("%s: link up, %u Mbit/s", up->name, link.link_speed);
		uplink_announce(up->announcer);
		return;
	}
	log_info("%s: link down", up->name);
	/* Who was there may come back by another way. */
	vswitch_mac_flush(up->sw, up->port);
}

static void timer_expired(struct ev_timer *t)
{
	struct uplink *up = container_of(t, struct uplink, timer);

	look_at_link(up);
	ev_timer_arm(up->ev, t, up->period_ns);
}

/* An EAL thread. */
static int link_changed(uint16_t port, enum rte_eth_event_type event, void *arg, void *ret)
{
	struct uplink *up = arg;

	/* Pairs with the exchange in link_posted(): one post at a time. */
	if (!__atomic_exchange_n(&up->link_posted, true, __ATOMIC_ACQ_REL))
		ev_post(up->ev, &up->link_work);
	return 0;
}

static void close_device(struct uplink *up);

static void link_posted(struct ev_work *w)
{
	struct uplink *up = container_of(w, struct uplink, link_work);

	/* Before the look: a change after it posts again. */
	(void)__atomic_exchange_n(&up->link_posted, false, __ATOMIC_ACQ_REL);
	if (up->closing)
		close_device(up);
	else if (!up->leaving)
		look_at_link(up);
}

static void watch_link(struct uplink *up)
{
	up->period_ns = up->dev.team ? TEAM_PERIOD_NS : LINK_PERIOD_NS;
	up->timer.expired = timer_expired;
	up->link_work.run = link_posted;
	up->has_callback = !rte_eth_dev_callback_register(up->dev.port, RTE_ETH_EVENT_INTR_LSC,
							  link_changed, up);
	look_at_link(up);
	ev_timer_arm(up->ev, &up->timer, up->period_ns);
}

static void unwatch_link(struct uplink *up)
{
	ev_timer_cancel(up->ev, &up->timer);
	/* -EAGAIN: it runs at this moment, and it is short. */
	while (up->has_callback &&
	       rte_eth_dev_callback_unregister(up->dev.port, RTE_ETH_EVENT_INTR_LSC, link_changed,
					       up) == -EAGAIN)
		sched_yield();
	up->has_callback = false;
}

/* --- the end ------------------------------------------------------------------------- */

static void free_uplink(struct uplink *up)
{
	uplink_announcer_destroy(up->announcer);
	for (unsigned int i = 0; up->queue && i < up->nr_queues; i++)
		uplink_rxq_destroy(up->queue[i].rxq);
	free(up->queue);
	free(up->tx.queue);
	for (unsigned int i = 0; i < up->nr_devargs; i++)
		free(up->devargs[i]);
	free(up);
}

/* No loop knows it any more. */
static void close_device(struct uplink *up)
{
	void (*gone)(void *) = up->gone;
	void *opaque = up->opaque;

	unwatch_link(up);
	up->closing = true;
	if (read_once(&up->link_posted))
		return; /* link_posted() comes back here */
	uplink_dev_close(&up->dev);
	free_uplink(up);
	if (gone)
		gone(opaque);
}

static void left_switch(void *opaque)
{
	close_device(opaque);
}

/* --- queues on loops ------------------------------------------------------------------ */

static void settle(struct queue *q);

static void queue_answered(void *opaque)
{
	struct queue *q = opaque;

	q->state = q->state == QUEUE_ADDING ? QUEUE_PLACED : QUEUE_OFF;
	settle(q);
}

static void leave_switch(void *opaque)
{
	struct uplink *up = opaque;

	sw_port_remove(up->port, left_switch, up);
	up->port = NULL;
}

static void leave_if_off(struct uplink *up)
{
	for (unsigned int i = 0; i < up->nr_queues; i++) {
		if (up->queue[i].state != QUEUE_OFF)
			return;
	}
	if (up->announcer)
		uplink_announcer_stop(up->announcer, leave_switch, up);
	else
		leave_switch(up);
}

/* The next step of a queue that waits for no answer. */
static void settle(struct queue *q)
{
	struct uplink *up = q->up;

	if (q->state == QUEUE_PLACED && (up->leaving || q->at != q->target)) {
		q->state = QUEUE_LEAVING;
		uplink_rxq_remove(q->rxq, queue_answered, q);
	} else if (q->state == QUEUE_OFF && !up->leaving) {
		q->state = QUEUE_ADDING;
		q->at = q->target;
		uplink_rxq_add(q->rxq, up->loops[q->at], vswitch_lane(up->sw, q->at),
			       queue_answered, q);
	} else if (q->state == QUEUE_OFF) {
		leave_if_off(up);
	}
}

int uplink_move(struct uplink *up, int queue, unsigned int loop_index)
{
	if (loop_index >= up->nr_loops || queue >= (int)up->nr_queues)
		return -ENOENT;
	for (unsigned int i = 0; i < up->nr_queues; i++) {
		if (queue >= 0 && i != (unsigned int)queue)
			continue;
		up->queue[i].target = loop_index;
		if (up->queue[i].state == QUEUE_PLACED)
			settle(&up->queue[i]);
	}
	return 0;
}

void uplink_destroy(struct uplink *up, void (*gone)(void *opaque), void *opaque)
{
	assert(!up->leaving);
	up->leaving = true;
	up->gone = gone;
	up->opaque = opaque;
	write_once(&up->tx.link_up, false);
	for (unsigned int i = 0; i < up->nr_queues; i++) {
		if (up->queue[i].state == QUEUE_PLACED)
			settle(&up->queue[i]);
	}
	/* One whose creation failed has no queue that would answer. */
	leave_if_off(up);
}

/* --- the beginning ---------------------------------------------------------------------- */

/* Where the queues of the next uplink begin: they are spread over the loops. */
static unsigned int next_loop;

static int create_queues(struct uplink *up)
{
	struct uplink_rxq_conf conf = {
		.dev = &up->dev,
		.port = up->port,
		.ev = up->ev,
		.poke = up->dev.team && team_speaks(up->dev.team),
	};

	up->queue = calloc(up->dev.nr_rxq, sizeof(*up->queue));
	if (!up->queue)
		return -ENOMEM;
	up->nr_queues = up->dev.nr_rxq;
	for (unsigned int i = 0; i < up->nr_queues; i++) {
		struct queue *q = &up->queue[i];

		q->up = up;
		q->target = next_loop++ % up->nr_loops;
		conf.queue = (uint16_t)i;
		conf.node = loop_node(up->loops[q->target]);
		q->rxq = uplink_rxq_create(&conf);
		if (!q->rxq)
			return -ENOMEM;
	}
	return 0;
}

static int create_tx(struct uplink *up)
{
	up->tx.dev = &up->dev;
	up->tx.queue = aligned_alloc(CACHE_LINE, up->dev.nr_txq * sizeof(*up->tx.queue));
	if (!up->tx.queue)
		return -ENOMEM;
	for (uint16_t i = 0; i < up->dev.nr_txq; i++) {
		up->tx.queue[i] = (struct uplink_txq){
			.queue = i,
			.shared = up->dev.nr_txq < up->nr_loops,
		};
		rte_spinlock_init(&up->tx.queue[i].lock);
	}
	return 0;
}

static struct uplink *alloc_uplink(const struct uplink_conf *conf)
{
	struct uplink *up = calloc(1, sizeof(*up));

	if (!up)
		return NULL;
	snprintf(up->name, sizeof(up->name), "%s", conf->name);
	up->sw = conf->sw;
	up->ev = conf->ev;
	up->loops = conf->loops;
	up->nr_loops = conf->nr_loops;
	for (; up->nr_devargs < conf->nr_dev; up->nr_devargs++) {
		up->devargs[up->nr_devargs] = strdup(conf->dev[up->nr_devargs]);
		if (!up->devargs[up->nr_devargs]) {
			free_uplink(up);
			return NULL;
		}
	}
	return up;
}

/* The device, started, with what sending to it needs. */
static int open_device(struct uplink *up, const struct uplink_conf *conf, char *err)
{
	struct uplink_conf own = *conf;
	int res;

	own.name = up->name;
	res = uplink_dev_open(&up->dev, &own, err);
	if (res < 0)
		return res;
	res = create_tx(up);
	if (res < 0)
		snprintf(err, SW_ERR_LEN, "%s: out of memory", up->name);
	else
		res = uplink_dev_start(&up->dev, err);
	if (res < 0)
		uplink_dev_close(&up->dev);
	return res;
}

int uplink_create(const struct uplink_conf *conf, struct uplink **out, char *err)
{
	struct uplink *up = alloc_uplink(conf);
	int res;

	*out = NULL;
	if (!up) {
		snprintf(err, SW_ERR_LEN, "%s: out of memory", conf->name);
		sw_port_conf_release(&conf->port);
		return -ENOMEM;
	}
	res = open_device(up, conf, err);
	if (res < 0) {
		sw_port_conf_release(&conf->port);
		goto err_free;
	}
	res = sw_port_add(conf->sw, up->name, &uplink_port_ops, &up->tx, &conf->port, &up->port,
			  err);
	if (res < 0) {
		uplink_dev_close(&up->dev);
		goto err_free;
	}
	/* From now on only uplink_destroy() can take it back. */
	*out = up;
	up->announcer = uplink_announcer_create(up->port, up->ev);
	res = up->announcer ? create_queues(up) : -ENOMEM;
	if (res < 0) {
		snprintf(err, SW_ERR_LEN, "%s: out of memory", up->name);
		return res;
	}
	watch_link(up);
	for (unsigned int i = 0; i < up->nr_queues; i++)
		settle(&up->queue[i]);
	return 0;

err_free:
	free_uplink(up);
	return res;
}

struct sw_port *uplink_port(const struct uplink *up)
{
	return up->port;
}

const char *uplink_name(const struct uplink *up)
{
	return up->name;
}

/* --- status ------------------------------------------------------------------------------ */

static void add(json_t *obj, const char *key, json_t *value)
{
	json_object_set_new(obj, key, value);
}

static json_t *link_status(const struct uplink *up)
{
	struct rte_eth_link link;
	bool is_up = uplink_dev_link(&up->dev, &link);

	if (!is_up)
		return json_pack("{s:s}", "state", "down");
	return json_pack("{s:s, s:I, s:s}", "state", "up", "speed", (json_int_t)link.link_speed,
			 "duplex", link.link_duplex ? "full" : "half");
}

static json_t *offload_status(const struct uplink_dev *dev)
{
	json_t *list = json_array();

	if (dev->rx_offloads & RTE_ETH_RX_OFFLOAD_CHECKSUM)
		json_array_append_new(list, json_string("rx-checksum"));
	if (dev->caps.csum)
		json_array_append_new(list, json_string("tx-checksum"));
	if (dev->caps.tso4)
		json_array_append_new(list, json_string("tso"));
	if (dev->caps.uso4)
		json_array_append_new(list, json_string("uso"));
	return list;
}

/* What the driver counts itself, by its own names; what is zero is left out. */
static json_t *driver_counters(uint16_t port)
{
	int nr = rte_eth_xstats_get_names(port, NULL, 0);
	struct rte_eth_xstat_name *names;
	struct rte_eth_xstat *values;
	json_t *obj = json_object();

	if (nr <= 0)
		return obj;
	names = calloc((size_t)nr, sizeof(*names));
	values = calloc((size_t)nr, sizeof(*values));
	if (names && values && rte_eth_xstats_get_names(port, names, (unsigned int)nr) == nr &&
	    rte_eth_xstats_get(port, values, (unsigned int)nr) == nr) {
		for (int i = 0; i < nr; i++) {
			if (values[i].value && values[i].id < (uint64_t)nr)
				add(obj, names[values[i].id].name,
				    json_integer((json_int_t)values[i].value));
		}
	}
	free(names);
	free(values);
	return obj;
}

static void add_device(json_t *obj, const struct uplink *up)
{
	char mac[RTE_ETHER_ADDR_FMT_SIZE] = "";
	struct rte_eth_dev_info info;
	struct rte_ether_addr addr;
	json_t *devices = json_array();

	for (unsigned int i = 0; i < up->nr_devargs; i++)
		json_array_append_new(devices, json_string(up->devargs[i]));
	add(obj, "devices", devices);
	if (!rte_eth_dev_info_get(up->dev.port, &info))
		add(obj, "driver", json_string(info.driver_name));
	if (!rte_eth_macaddr_get(up->dev.port, &addr))
		rte_ether_format_addr(mac, sizeof(mac), &addr);
	add(obj, "mac", json_string(mac));
	add(obj, "mtu", json_integer(up->dev.mtu));
	add(obj, "link", link_status(up));
	add(obj, "offloads", offload_status(&up->dev));
	add(obj, "tx-queues", json_integer(up->dev.nr_txq));
	add(obj, "memory", json_string(eal_pages_used()));
	add(obj, "buffers-free", json_integer(rte_mempool_avail_count(up->dev.pool)));
}

json_t *uplink_status(struct uplink *up)
{
	json_t *obj = json_object(), *queues = json_array();

	add(obj, "name", json_string(up->name));
	add(obj, "type", json_string("uplink"));
	add_device(obj, up);
	if (up->dev.team)
		add(obj, "team", team_status(up->dev.team));
	for (unsigned int i = 0; i < up->nr_queues; i++)
		json_array_append_new(queues, uplink_rxq_status(up->queue[i].rxq));
	add(obj, "queues", queues);
	add(obj, "driver-counters", driver_counters(up->dev.port));
	return obj;
}
