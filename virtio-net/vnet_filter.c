/*
 * Which frames a driver wants: receive modes, MAC tables, VLANs. Made by the
 * control queue's commands (vnet_cmd.c), asked for every frame by the receive
 * path (vnet_rx.c). Never refuses more than the driver asked for: where it did
 * not say, or said more than fits, the frame passes.
 *
 * VIRTIO 1.3, "Packet Receive Filtering": the tables are sorted numbers, so that
 * a multicast frame costs seven comparisons with a full table.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "virtio-net/vnet_internal.h"

#define BROADCAST 0xffffffffffffull

struct vnet_filter {
	bool allmulti, alluni, nomulti, nouni, nobcast, vlan_filter;
	uint64_t mac;
	unsigned int nr_uni, nr_multi;
	uint64_t uni[VNET_MACS_MAX], multi[VNET_MACS_MAX];
	uint8_t vlans[512];
};

static uint64_t mac_number(const uint8_t mac[6])
{
	uint64_t v = 0;

	for (int i = 0; i < 6; i++)
		v = v << 8 | mac[i];
	return v;
}

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static void fill_table(uint64_t *table, const uint8_t (*macs)[6], unsigned int nr)
{
	for (unsigned int i = 0; i < nr; i++)
		table[i] = mac_number(macs[i]);
	qsort(table, nr, sizeof(*table), compare);
}

int vnet_filter_create(const struct vnet_rx_mode *rx, struct vnet_filter **out)
{
	struct vnet_filter *filter;

	*out = NULL;
	if (rx->promisc)
		return 0;
	filter = calloc(1, sizeof(*filter));
	if (!filter)
		return -ENOMEM;
	filter->nomulti = rx->nomulti;
	filter->nouni = rx->nouni;
	filter->nobcast = rx->nobcast;
	filter->allmulti = rx->allmulti || rx->multi_overflow;
	/* A driver without an address of its own that we know. */
	filter->alluni = rx->alluni || rx->uni_overflow || !rx->has_mac;
	filter->mac = mac_number(rx->mac);
	filter->nr_uni = rx->nr_uni;
	filter->nr_multi = rx->nr_multi;
	fill_table(filter->uni, rx->uni, rx->nr_uni);
	fill_table(filter->multi, rx->multi, rx->nr_multi);
	filter->vlan_filter = rx->vlan_filter;
	memcpy(filter->vlans, rx->vlans, sizeof(filter->vlans));
	*out = filter;
	return 0;
}

void vnet_filter_destroy(struct vnet_filter *filter)
{
	free(filter);
}

static bool is_in(const uint64_t *table, unsigned int nr, uint64_t mac)
{
	unsigned int low = 0, high = nr;

	while (low < high) {
		unsigned int mid = (low + high) / 2;

		if (table[mid] == mac)
			return true;
		if (table[mid] < mac)
			low = mid + 1;
		else
			high = mid;
	}
	return false;
}

/* Frames without a tag, and those with only a priority, are in no VLAN that the
 * driver could have added. */
static bool vlan_passes(const struct vnet_filter *filter, const struct frame *f)
{
	uint16_t vid;

	if (!f->tagged)
		return true;
	vid = (uint16_t)(f->head[14] << 8 | f->head[15]) & 0xfff;
	return !vid || filter->vlans[vid / 8] >> vid % 8 & 1;
}

bool vnet_filter_passes(const struct vnet_filter *filter, const struct frame *f)
{
	uint64_t mac;

	if (!filter)
		return true;
	if (filter->vlan_filter && !vlan_passes(filter, f))
		return false;
	mac = mac_number(f->head);
	if (mac == BROADCAST)
		return !filter->nobcast;
	/* The "no" modes go before the "all" modes. */
	if (f->head[0] & 1)
		return !filter->nomulti &&
		       (filter->allmulti || is_in(filter->multi, filter->nr_multi, mac));
	return !filter->nouni &&
	       (filter->alluni || mac == filter->mac || is_in(filter->uni, filter->nr_uni, mac));
}
