/*
 * What the tests of whole network devices share: a switch with a few devices in
 * one process, and a driver behind a front-end for each. Everything runs on one
 * thread: the front-ends' pump turns the event loop and the poll loops.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef RINGBOLT_TESTS_VIRTIO_NET_NETRIG_H
#define RINGBOLT_TESTS_VIRTIO_NET_NETRIG_H

#include "tests/core/test.h"
#include "tests/frontend/netdrv.h"
#include "virtio-net/vnet.h"

#define RIG_PORTS 3
#define RIG_LOOPS 2

struct rig_port {
	struct vnet_conf conf; /* of the device: change it before rig_serve() */
	struct vnet *vn;
	struct net_conf drv_conf; /* of the driver: before rig_connect() */
	struct net drv;
	bool connected;
	char name[8], path[108];
	bool gone;
};

struct rig {
	struct evloop *ev;
	struct loop *loops[RIG_LOOPS];
	bool threads;
	struct vswitch *sw;
	struct rig_port port[RIG_PORTS];
	struct net_frame frame; /* the last one received */
	char dir[64], err[SW_ERR_LEN];
};

/* cmocka's setup and teardown; *state is a struct rig with a switch and no device.
 * Teardown asserts that all can end and nothing is left. */
int rig_setup(void **state);
/* The same with loops that have threads. */
int rig_setup_threads(void **state);
int rig_teardown(void **state);

/* One turn of everything. opaque: struct rig. */
void rig_pump(void *opaque);
/* So many turns that whatever was going on has ended; not with threads. */
void rig_settle(struct rig *r);

/* Create the device of port i, by its conf; connect its driver. */
void rig_serve(struct rig *r, unsigned int i);
void rig_connect(struct rig *r, unsigned int i);
/* Both for ports 0 and 1. */
void rig_pair(struct rig *r);
/* Stop the rings in order and close; or die. Until the device listens again. */
void rig_disconnect(struct rig *r, unsigned int i);
void rig_abandon(struct rig *r, unsigned int i);
/* Destroy the device and wait until it is gone. */
void rig_remove(struct rig *r, unsigned int i);

/* Addresses of the stations behind the ports, by index. */
#define RIG_MAC(i) ((const uint8_t[6]){ 2, 0, 0, 0, 0, (uint8_t)(0x10 + (i)) })
#define RIG_BROADCAST ((const uint8_t[6]){ 0xff, 0xff, 0xff, 0xff, 0xff, 0xff })
#define RIG_MULTICAST(i) ((const uint8_t[6]){ 1, 0, 0x5e, 0, 0, (uint8_t)(i) })

/* A frame of len bytes: addresses, an experimental type, a pattern from seed. */
void rig_frame(uint8_t *p, const uint8_t *dst, const uint8_t *src, uint32_t len, uint32_t seed);
/* Send one from port i's driver; it has left when this returns. */
void rig_send(struct rig *r, unsigned int i, const uint8_t *dst, const uint8_t *src, uint32_t len,
	      uint32_t seed);
/* It arrives at port i on that pair, or any, byte by byte; it does not at all. */
#define RIG_ANY_PAIR UINT32_MAX
void rig_expect(struct rig *r, unsigned int i, unsigned int pair, const uint8_t *dst,
		const uint8_t *src, uint32_t len, uint32_t seed);
void rig_expect_nothing(struct rig *r, unsigned int i);
/* Frames go from one port to the other and back. */
void rig_talk(struct rig *r, unsigned int a, unsigned int b);

/* Ports 0 and 1; the driver of port 0 has an address, several pairs, and all that
 * its control queue can be offered. */
#define RIG_PAIRS 4
void rig_pair_for_commands(struct rig *r);
/* A command of port 0's driver is carried out; is refused. */
#define RIG_CTRL(r, class, command, data, len)                                                     \
	net_ctrl(&(r)->port[0].drv, VIRTIO_NET_CTRL_##class, VIRTIO_NET_CTRL_##class##_##command,  \
		 data, len)
#define RIG_OK(...) assert_int_equal(RIG_CTRL(__VA_ARGS__), VIRTIO_NET_OK)
#define RIG_NO(...) assert_int_equal(RIG_CTRL(__VA_ARGS__), VIRTIO_NET_ERR)
/* One of VIRTIO_NET_CTRL_RX_ is switched. */
void rig_mode(struct rig *r, uint8_t command, bool on);
/* Does a frame to this address, from port 1, reach port 0, or does the filter of
 * its driver drop it? */
bool rig_reaches(struct rig *r, const uint8_t *dst);
/* MAC_TABLE_SET's data: RIG_MAC(first + i) and RIG_MULTICAST(first + i). Its length. */
uint32_t rig_mac_table(uint8_t *p, uint32_t nr_uni, uint32_t nr_multi, unsigned int first);

/* Log what is written to the memory of port i's driver from now on, in a map that
 * the caller unmaps; has all of this been? */
#define RIG_LOG_LEN (1u << 20)
uint8_t *rig_log(struct rig *r, unsigned int i);
bool rig_logged(const uint8_t *bits, uint64_t gpa, uint64_t len);

/* Frames of port i dropped for this reason. */
uint64_t rig_dropped(struct rig *r, unsigned int i, enum drop_reason reason);
/* From vnet_status() of port i, as JSON text of the caller's to free. */
char *rig_status(struct rig *r, unsigned int i, const char *key);
#define rig_assert_status(r, i, key, expected)                                                     \
	do {                                                                                       \
		char *text_ = rig_status(r, i, key);                                               \
		assert_non_null(text_);                                                            \
		assert_string_equal(text_, expected);                                              \
		free(text_);                                                                       \
	} while (0)

#endif
