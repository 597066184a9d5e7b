/*
 * The message path, stateful: a front-end made from fuzz bytes talks over a
 * socket to a device on a manual loop. It sends requests right and wrong with
 * memory files, notification descriptors and nothing, cuts messages to pieces,
 * writes into the memory it shares, truncates it, leaves and comes back.
 *
 * Must hold: whatever was said, the device comes to rest within a bounded
 * number of turns, memory of chains in flight stays mapped until they end, and
 * after each input not one descriptor or mapping is left over.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/log.h"
#include "core/sigbus.h"
#include "tests/fuzz/fuzz_front.h"
#include "tests/vhost/skeleton.h"
#include "vhost/loop.h"

#define STEPS_MAX 400
#define TURNS_MAX 10000
#define HELD_MAX 64

struct world;

/* The device's half of one ring: it may keep chains. */
struct holder {
	struct world *w;
	uint16_t id[HELD_MAX];
	struct iovec last[HELD_MAX]; /* of each chain, to be written when it ends */
	unsigned int nr;
};

struct world {
	struct skel skel; /* first: vu_dev_priv() */
	struct evloop *ev;
	struct loop *loop;
	bool gone, hold;
	unsigned int budget; /* chains a turn */
	uint8_t mac[6]; /* of the last RARP */
	struct fuzz_front front;
};

/* --- the device ------------------------------------------------------------------- */

static int holder_setup(struct vu_dev *dev, struct virtq *vq, unsigned int index)
{
	struct holder *h = calloc(1, sizeof(*h));

	if (!h)
		return -ENOMEM;
	h->w = vu_dev_priv(dev);
	vq->priv = h;
	return 0;
}

static void holder_release(struct vu_dev *dev, struct virtq *vq, unsigned int index)
{
	struct holder *h = vq->priv;

	assert(!h->nr);
	free(h);
	vq->priv = NULL;
}

static unsigned int holder_poll(struct virtq *vq)
{
	struct holder *h = vq->priv;
	struct virtq_chain c;
	unsigned int nr = 0;

	/* What another process left is popped before the ring stops. */
	while ((nr < h->w->budget || vq->state == VIRTQ_DRAINING) && h->nr < HELD_MAX &&
	       virtq_pop(vq, &c)) {
		h->id[h->nr] = c.id;
		h->last[h->nr] = c.in_cnt ? c.iov[c.out_cnt + c.in_cnt - 1] : (struct iovec){ 0 };
		h->nr++;
		nr++;
	}
	if (h->w->hold && vq->state != VIRTQ_DRAINING)
		return nr;
	while (h->nr) {
		const struct iovec *v = &h->last[--h->nr];

		if (v->iov_len) {
			memset(v->iov_base, 0x5a, v->iov_len);
			virtq_log_write(vq, v->iov_base, v->iov_len);
		}
		virtq_push(vq, h->id[h->nr], v->iov_len > 0);
	}
	virtq_flush(vq);
	return nr;
}

/* --- what must not be left over ----------------------------------------------------- */

static unsigned int nr_fds(void)
{
	unsigned int nr = 0;

	for (int fd = 0; fd < 128; fd++)
		nr += fcntl(fd, F_GETFD) >= 0;
	return nr;
}

/* Mappings of the front-end's files. */
static unsigned int nr_maps(void)
{
	FILE *maps = fopen("/proc/self/maps", "re");
	unsigned int nr = 0;
	char line[512];

	assert(maps);
	while (fgets(line, sizeof(line), maps))
		nr += strstr(line, "memfd:" FUZZ_MEM_NAME) != NULL;
	fclose(maps);
	return nr;
}

/* --- one turn of everything ---------------------------------------------------------- */

static void turn(struct fuzz_front *f)
{
	struct world *w = container_of(f, struct world, front);

	evloop_run_once(w->ev, 0);
	loop_turn(w->loop);
	fuzz_front_read(f);
}

static void turns(struct world *w, unsigned int nr)
{
	while (nr--)
		turn(&w->front);
}

/* --- one input ----------------------------------------------------------------------------- */

static void step(struct world *w, struct fuzz_input *in)
{
	uint8_t kind = fuzz_u8(in);

	switch (kind % 16) {
	case 0:
		fuzz_front_bring_up(&w->front, in);
		break;
	case 1:
	case 2:
		fuzz_front_chain(&w->front, in);
		break;
	case 3:
		fuzz_front_poke(&w->front, in);
		break;
	case 4:
		if (fuzz_u8(in) < 64)
			fuzz_front_truncate(&w->front, in);
		break;
	case 5:
		fuzz_front_leave(&w->front);
		turns(w, fuzz_u8(in) % 4);
		fuzz_front_arrive(&w->front);
		break;
	case 6:
		w->hold = fuzz_u8(in) & 1;
		w->budget = fuzz_u8(in) % HELD_MAX;
		break;
	case 7:
		turns(w, 1 + fuzz_u8(in) % 4);
		break;
	case 8:
		vu_dev_config_changed(w->skel.dev);
		break;
	case 9:
		fuzz_front_iotlb(&w->front, in);
		turns(w, 1);
		break;
	case 10:
	case 11:
		fuzz_front_answer(&w->front, in);
		turns(w, 1);
		break;
	default:
		fuzz_front_message(&w->front, in);
		if (kind & 0x80)
			turns(w, 1);
		break;
	}
}

static int listen_anywhere(struct world *w)
{
	struct sockaddr_un any = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	/* The kernel picks a name that is in no file system. */
	assert(fd >= 0 && !bind(fd, (struct sockaddr *)&any, sizeof(sa_family_t)));
	w->front.addr_len = sizeof(w->front.addr);
	assert(!getsockname(fd, (struct sockaddr *)&w->front.addr, &w->front.addr_len));
	assert(!listen(fd, 16));
	return fd;
}

/* What a network port is asked, which reads all six bytes. */
static int hear_rarp(struct vu_dev *dev, const uint8_t mac[6])
{
	struct world *w = vu_dev_priv(dev);

	memcpy(w->mac, mac, sizeof(w->mac));
	return w->mac[0] & 1 ? -EINVAL : 0;
}

static int take_mtu(struct vu_dev *dev, uint64_t mtu)
{
	return mtu < 68 || mtu > UINT16_MAX ? -EINVAL : 0;
}

static void open_world(struct world *w)
{
	struct loop_conf lc = { .cpu = -1, .manual = true };
	static struct vu_ops ops;
	struct vu_conf conf;

	ops = skel_ops;
	ops.vq_setup = holder_setup;
	ops.vq_release = holder_release;
	ops.vq_poll = holder_poll;
	ops.send_rarp = hear_rarp;
	ops.set_mtu = take_mtu;
	w->budget = HELD_MAX;
	w->front.turn = turn;
	fuzz_front_open(&w->front);
	w->ev = evloop_create();
	assert(w->ev);
	lc.ev = w->ev;
	assert(!loop_create(&lc, &w->loop));
	skel_conf_init(&conf, &w->skel);
	conf.name = "fuzz";
	conf.ops = &ops;
	conf.queues = FUZZ_QUEUES;
	conf.fd = listen_anywhere(w);
	conf.ev = w->ev;
	conf.loops = &w->loop;
	conf.nr_loops = 1;
	assert(!vu_dev_create(&conf, &w->skel.dev));
	fuzz_front_arrive(&w->front);
}

static void on_gone(void *opaque)
{
	((struct world *)opaque)->gone = true;
}

static void close_world(struct world *w)
{
	unsigned int left = TURNS_MAX;

	w->hold = false;
	vu_dev_destroy(w->skel.dev, on_gone, w);
	while (!w->gone) {
		assert(left--);
		turns(w, 1);
	}
	loop_destroy(w->loop);
	evloop_destroy(w->ev);
	fuzz_front_close(&w->front);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = { data, size };
	struct world w = { 0 };
	static bool is_set_up;
	unsigned int fds;

	if (!is_set_up) {
		/* After libFuzzer has installed its own handlers. */
		assert(!sigbus_init());
		/* As programs do: a call descriptor may be a broken pipe. */
		signal(SIGPIPE, SIG_IGN);
		log_set_level(LOG_LEVEL_ERROR);
		is_set_up = true;
	}
	/* Each time: libFuzzer opens some of its own between two inputs. */
	fds = nr_fds();
	open_world(&w);
	for (unsigned int i = 0; i < STEPS_MAX && in.left; i++)
		step(&w, &in);
	close_world(&w);
	/* Another thread closes what was put aside. */
	for (int i = 0; nr_fds() != fds && i < 5000; i++)
		usleep(1000);
	assert(nr_fds() == fds);
	assert(!nr_maps());
	return 0;
}
