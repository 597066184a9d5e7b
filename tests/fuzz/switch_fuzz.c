/*
 * Fuzz target: any frames through the switch, between ports of every kind: access
 * and trunk, isolated, secured, with access lists, limits, mirrors and loopback.
 *
 * Must hold: a port gets frames of its VLANs only, tagged as it wants them and not
 * changed otherwise, in the order in which they came, and none of its own; and a
 * frame that nobody got is counted as dropped.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <stdlib.h>
#include <string.h>

#include "core/base.h"
#include "core/log.h"
#include "virtio-net/eal.h"
#include "virtio-net/net_bytes.h"
#include "virtio-net/vswitch.h"

#define PORTS 4
#define LEN_MAX 128

/* A port, from the first bytes of the input. */
struct port_input {
	uint8_t flags; /* bits below */
	uint8_t vlan; /* number: 1 .. 4 */
	uint8_t trunk; /* VLANs 1 .. 7 */
	uint8_t limits; /* bit per limit */
};
static_assert(sizeof(struct port_input) == 4, "no holes");

#define IS_ACCESS 1
#define IS_ISOLATED 2
#define IS_SECURED 4
#define HAS_LIST 8
#define HAS_MIRROR 16
#define IS_LOOPED 32
#define IS_DOWN 64
#define IS_QUIET 128 /* neither learns nor floods */

/* A frame, followed by its bytes. */
struct frame_input {
	uint8_t port;
	uint8_t last; /* of its burst */
	uint8_t len;
	uint8_t ms; /* that go by before it */
};
static_assert(sizeof(struct frame_input) == 4, "no holes");

struct fport {
	struct sw_port *port;
	bool carries[8];
	uint16_t untagged;
	unsigned int last; /* number of the last frame it got of this burst */
	bool mirrors; /* it is somebody's mirror */
};

/* For one direction, and one port of the four: compiling is what takes time. */
static const char rules[] = "[{\"action\": \"drop\", \"dir\": \"in\", \"proto\": \"udp\","
			    " \"dst-port\": \"0-52\", \"vlan\": \"1-2\"},"
			    " {\"action\": \"drop\", \"dir\": \"in\", \"fragment\": true}]";

static struct fport ports[PORTS];
static struct sw_port *source; /* of the burst under way */
static uint8_t sent[FRAME_BURST][LEN_MAX];
static unsigned int sent_len[FRAME_BURST], got[FRAME_BURST];
static json_t *list;

#define must(cond)                                                                                 \
	do {                                                                                       \
		if (!(cond))                                                                       \
			abort();                                                                   \
	} while (0)

/* --- what comes out ------------------------------------------------------------------ */

static bool is_tagged(const uint8_t *bytes, unsigned int len)
{
	return len >= ETH_HDR_LEN + VLAN_TAG_LEN && get_be16(bytes + 12) == ETH_TYPE_8021Q;
}

/* The same frame but for its tag. */
static void check_bytes(const struct frame *f)
{
	unsigned int n = f->queue, in_off = is_tagged(sent[n], sent_len[n]) ? 16 : 12;
	unsigned int off = f->tagged ? 16 : 12;
	uint8_t bytes[LEN_MAX + VLAN_TAG_LEN];

	must(f->len <= sizeof(bytes));
	frame_copy(f, bytes);
	must(!memcmp(bytes, sent[n], 12));
	must(f->len - off == sent_len[n] - in_off);
	must(!memcmp(bytes + off, sent[n] + in_off, f->len - off));
	must(!f->tagged || get_be16(bytes + 12) == ETH_TYPE_8021Q);
	must(!f->tagged || (get_be16(bytes + 14) & VLAN_VID_MASK) == f->vid);
}

static void deliver(struct sw_port *port, struct sw_lane *lane, const struct frame *const *frames,
		    unsigned int nr)
{
	struct fport *p = port->priv;

	must(nr && nr <= FRAME_BURST);
	must(port->conf->enabled);
	for (unsigned int i = 0; i < nr; i++) {
		const struct frame *f = frames[i];

		must(f->vid && f->vid < 8);
		check_bytes(f);
		got[f->queue]++;
		if (p->mirrors || source->conf->loopback)
			continue;
		must(port != source);
		must(p->carries[f->vid]);
		must(f->tagged == (f->vid != p->untagged));
		must(f->queue + 1u > p->last);
		p->last = f->queue + 1u;
	}
}

static const struct sw_port_ops ops = { .kind = "fuzz", .deliver = deliver };

/* --- what goes in -------------------------------------------------------------------- */

static void set_limits(struct sw_port_conf *conf, uint8_t bits)
{
	const struct sw_limit few = { 100, 3 }, bytes = { 10000, 300 };

	if (bits & 1)
		conf->in_frames = few;
	if (bits & 2)
		conf->in_bytes = bytes;
	if (bits & 4)
		conf->out_frames = few;
	if (bits & 8)
		conf->out_bytes = bytes;
	if (bits & 16)
		conf->broadcast = few;
	if (bits & 32)
		conf->multicast = few;
	if (bits & 64)
		conf->unknown = few;
}

static void add_port(struct vswitch *sw, unsigned int i, const struct port_input *in)
{
	struct fport *p = &ports[i];
	struct sw_port_conf conf;
	char name[2] = { (char)('a' + i) }, err[SW_ERR_LEN];

	*p = (struct fport){ 0 };
	sw_port_conf_init(&conf);
	memset(conf.trunk, 0, sizeof(conf.trunk));
	conf.vlan_mode = in->flags & IS_ACCESS ? SW_VLAN_ACCESS : SW_VLAN_TRUNK;
	conf.vlan = 1 + in->vlan % 4;
	conf.trunk[0] = in->trunk;
	conf.enabled = !(in->flags & IS_DOWN);
	conf.isolated = in->flags & IS_ISOLATED;
	conf.loopback = in->flags & IS_LOOPED;
	conf.learning = conf.flooding = !(in->flags & IS_QUIET);
	conf.anti_spoof = in->flags & IS_SECURED;
	conf.nr_macs = conf.anti_spoof;
	conf.macs[0][0] = 2;
	conf.macs[0][5] = (uint8_t)i;
	if (in->flags & HAS_MIRROR)
		conf.mirror[0] = (char)('a' + (i + 1) % PORTS);
	if (in->flags & HAS_LIST && list && !i)
		must(!sw_acl_create(list, 1, &conf.acl_in, &conf.acl_out, err));
	set_limits(&conf, in->limits);
	for (unsigned int vid = 1; vid < 8; vid++)
		p->carries[vid] =
			vid == conf.vlan || (!(in->flags & IS_ACCESS) && in->trunk >> vid & 1);
	p->untagged = conf.vlan;
	must(!sw_port_add(sw, name, &ops, p, &conf, &p->port, err));
}

static uint64_t drops(void)
{
	struct sw_port_stats sum;
	uint64_t nr = 0;

	for (unsigned int i = 0; i < PORTS; i++) {
		sw_port_stats_sum(ports[i].port, &sum);
		for (unsigned int r = 0; r < DROP_REASON_CNT; r++)
			nr += sum.drops[r];
	}
	return nr;
}

static void forward(struct sw_lane *lane, struct sw_port *src, unsigned int nr)
{
	struct iovec iov[FRAME_BURST];
	struct frame frames[FRAME_BURST];
	uint64_t before = drops();
	unsigned int lost = 0;
	uint8_t *room;

	room = malloc(FRAME_BURST * FRAME_ROOM);
	must(room);
	for (unsigned int i = 0; i < nr; i++) {
		iov[i] = (struct iovec){ malloc(sent_len[i]), sent_len[i] };
		must(iov[i].iov_base);
		memcpy(iov[i].iov_base, sent[i], sent_len[i]);
		frame_init(&frames[i], room + i * FRAME_ROOM, &iov[i], 1, 0, sent_len[i]);
		frames[i].queue = (uint16_t)i;
		got[i] = 0;
	}
	for (unsigned int i = 0; i < PORTS; i++)
		ports[i].last = 0;
	source = src;
	vswitch_forward(lane, src, frames, nr);
	for (unsigned int i = 0; i < nr; i++) {
		lost += !got[i];
		free(iov[i].iov_base);
	}
	must(drops() - before >= lost);
	free(room);
}

static void run(struct vswitch *sw, const uint8_t *data, size_t size)
{
	struct sw_lane *lane = vswitch_lane(sw, 0);
	struct frame_input in;
	unsigned int nr = 0, len;

	while (size >= sizeof(in)) {
		memcpy(&in, data, sizeof(in));
		data += sizeof(in);
		size -= sizeof(in);
		len = ETH_HDR_LEN + in.len % (LEN_MAX - ETH_HDR_LEN + 1);
		memset(sent[nr], 0, LEN_MAX);
		memcpy(sent[nr], data, min_u64(len, size));
		data += min_u64(len, size);
		size -= min_u64(len, size);
		sent_len[nr++] = len;
		lane->now_ns += in.ms * 1000000ull;
		if (in.last & 1 || nr == FRAME_BURST) {
			forward(lane, ports[in.port % PORTS].port, nr);
			nr = 0;
		}
	}
}

/* --- the world ----------------------------------------------------------------------- */

static void settle(struct evloop *ev, struct loop *loop)
{
	while (loop_turn(loop) | (unsigned int)evloop_run_once(ev, 0))
		;
}

static void once(void)
{
	static bool done;
	char err[EAL_ERR_LEN];

	if (done)
		return;
	done = true;
	log_set_level(LOG_LEVEL_ERROR);
	/* Without DPDK's memory the rest is fuzzed all the same. */
	if (!eal_start(err))
		list = json_loads(rules, 0, NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct loop_conf loop_conf = { .mode = LOOP_BUSY, .cpu = -1, .manual = true };
	struct vswitch_conf conf = { .nr_loops = 1, .mac_table_size = 8 };
	struct port_input in[PORTS];
	struct loop *loop;
	struct vswitch *sw;

	if (size < sizeof(in))
		return 0;
	once();
	memcpy(in, data, sizeof(in));
	conf.ev = loop_conf.ev = evloop_create();
	must(conf.ev);
	must(!loop_create(&loop_conf, &loop));
	conf.loops = &loop;
	must(!vswitch_create(&conf, &sw));
	for (unsigned int i = 0; i < PORTS; i++)
		add_port(sw, i, &in[i]);
	for (unsigned int i = 0; i < PORTS; i++)
		ports[(i + 1) % PORTS].mirrors |= in[i].flags & HAS_MIRROR;
	settle(conf.ev, loop);
	run(sw, data + sizeof(in), size - sizeof(in));
	for (unsigned int i = 0; i < PORTS; i++)
		sw_port_remove(ports[i].port, NULL, NULL);
	settle(conf.ev, loop);
	vswitch_destroy(sw);
	loop_destroy(loop);
	evloop_destroy(conf.ev);
	return 0;
}
