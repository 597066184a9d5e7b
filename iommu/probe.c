/*
 * Proof that a function was handed over: one walk through everything a VMM will
 * do with it. Called by ringbolt-vf. Leaves the device reset and closed, and
 * changes no binding.
 *
 * The device is idle while this runs, so the register that is read and the
 * interrupt that is signalled disturb nobody; the interrupt is signalled by the
 * kernel in the device's place, because what makes a device send one differs
 * from device to device.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "iommu/iommu_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/atomic.h"

/* Two of them are what RLIMIT_MEMLOCK lets anybody have before Linux 5.16. */
#define BUFFER_LEN (32 << 10)

struct probe {
	const struct iommu_opts *opts;
	const char *address, *token;
	struct iommu_space *space;
	struct iommu_dev *dev;
	/* Of the step that runs: its values, and a sentence. */
	json_t *values;
	char text[IOMMU_ERR_LEN];
	bool skipped;
};

static int detail(struct probe *p, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* The sentence of a step that went well. */
static int detail(struct probe *p, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(p->text, sizeof(p->text), fmt, ap);
	va_end(ap);
	return 0;
}

static void value_hex(struct probe *p, const char *key, uint64_t value, int digits)
{
	char text[24];

	snprintf(text, sizeof(text), "0x%0*" PRIx64, digits, value);
	json_object_set_new(p->values, key, json_string(text));
}

static int step_group(struct probe *p)
{
	struct iommu_group *g;
	int ret;

	ret = iommu_group_read(p->opts->sysfs, p->address, &g, p->text);
	if (ret < 0)
		return ret;
	json_object_set_new(p->values, "group", json_integer(g->id));
	json_object_set_new(p->values, "members", json_integer(g->nr_members));
	iommu_group_explain(g, p->text);
	/* Opening will fail too; here is why. */
	ret = g->viable ? 0 : -EPERM;
	iommu_group_free(g);
	return ret;
}

static int step_open(struct probe *p)
{
	int ret;

	ret = iommu_space_create(p->opts, &p->space);
	if (ret < 0)
		return iommu_fail(p->text, ret, "out of memory");
	ret = iommu_dev_open(p->space, p->address, p->token, &p->dev, p->text);
	if (ret < 0)
		return ret;
	json_object_set_new(p->values, "path", json_string(iommu_dev_path(p->dev)));
	return detail(p, "opened %s", iommu_dev_path(p->dev));
}

static uint16_t id_of(const struct probe *p, const char *leaf)
{
	char path[PATH_MAX], text[32];

	if (iommu_sysfs_path(path, p->opts->sysfs, p->address, leaf) < 0 ||
	    iommu_sysfs_text(path, text, sizeof(text)) < 0)
		return 0;
	return (uint16_t)strtoul(text, NULL, 16);
}

static int step_config(struct probe *p)
{
	uint16_t vendor, device;
	uint8_t raw[64];
	int ret;

	ret = iommu_dev_read(p->dev, IOMMU_REGION_CONFIG, 0, raw, sizeof(raw));
	if (ret < 0)
		return iommu_fail(p->text, ret, "configuration space: %s", strerror(-ret));
	vendor = (uint16_t)(raw[0] | raw[1] << 8);
	device = (uint16_t)(raw[2] | raw[3] << 8);
	value_hex(p, "vendor", vendor, 4);
	value_hex(p, "device", device, 4);
	if (vendor != id_of(p, "vendor") || device != id_of(p, "device"))
		return iommu_fail(p->text, -EIO, "it says it is %04x:%04x, sysfs says %04x:%04x",
				  vendor, device, id_of(p, "vendor"), id_of(p, "device"));
	return detail(p, "it is %04x:%04x", vendor, device);
}

static int read_bar(struct probe *p, const struct iommu_region *r)
{
	uint32_t word;
	void *mapped;
	int ret;

	json_object_set_new(p->values, "bar", json_integer(r->index));
	json_object_set_new(p->values, "size", json_integer((json_int_t)r->size));
	ret = iommu_dev_read(p->dev, r->index, 0, &word, sizeof(word));
	if (ret < 0)
		return iommu_fail(p->text, ret, "BAR %u does not answer: %s", r->index,
				  strerror(-ret));
	value_hex(p, "word", word, 8);
	ret = r->flags & IOMMU_REGION_MMAP ? iommu_dev_map_bar(p->dev, r->index, p->text)
					   : -ENOTSUP;
	if (ret < 0 && ret != -ENOTSUP)
		return ret;
	mapped = iommu_dev_bar(p->dev, r->index, 0, sizeof(word));
	/* The access above answered, so memory decoding is on. */
	if (mapped)
		word = read_once((const uint32_t *)mapped);
	json_object_set_new(p->values, "mapped", json_boolean(mapped));
	return detail(p, "BAR %u has %" PRIu64 " bytes; first word 0x%08x, %s", r->index, r->size,
		      word, mapped ? "read through a mapping" : "not mapped");
}

static int step_bar(struct probe *p)
{
	struct iommu_region r;
	int ret;

	for (unsigned int i = 0; i < IOMMU_REGION_ROM; i++) {
		ret = iommu_dev_region(p->dev, i, &r);
		if (ret < 0)
			return iommu_fail(p->text, ret, "BAR %u: %s", i, strerror(-ret));
		if (r.size >= sizeof(uint32_t))
			return read_bar(p, &r);
	}
	p->skipped = true;
	return detail(p, "it has no BAR");
}

/* The device cannot reach it any more. */
static void buffer_removed(void *opaque, const struct iommu_memory *m)
{
	munmap(m->map.addr, m->map.len);
}

/* Memory comes. */
static int add_buffer(struct probe *p, struct iommu_listener *memory, iova_t *iova)
{
	struct iommu_mapping m = { .len = BUFFER_LEN, .prot = IOMMU_READ | IOMMU_WRITE };
	int ret;

	ret = iommu_space_find(p->space, m.len, m.len, &m.iova);
	if (ret < 0)
		return iommu_fail(p->text, ret, "no address is free");
	m.addr = mmap(NULL, m.len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (m.addr == MAP_FAILED)
		return iommu_fail(p->text, -ENOMEM, "out of memory");
	ret = iommu_listener_add(memory, &m, NULL, p->text);
	if (ret < 0)
		munmap(m.addr, m.len);
	*iova = m.iova;
	return ret;
}

/* What a VMM does with the regions of its guest: one goes, as memory that is
 * unplugged, while another stays. */
static int map_buffers(struct probe *p, struct iommu_listener *memory)
{
	iova_t iova[2] = { 0 };
	int ret = 0;

	for (unsigned int i = 0; i < ARRAY_SIZE(iova) && !ret; i++)
		ret = add_buffer(p, memory, &iova[i]);
	if (ret < 0)
		return ret;
	value_hex(p, "iova", iova[0].v, 1);
	json_object_set_new(p->values, "size", json_integer(BUFFER_LEN));
	json_object_set_new(p->values, "buffers", json_integer(ARRAY_SIZE(iova)));
	for (unsigned int i = 0; i < ARRAY_SIZE(iova); i++) {
		ret = iommu_listener_remove(memory, iova[i], p->text);
		if (ret < 0)
			return ret;
	}
	return detail(p, "mapped %d KiB at 0x%" PRIx64 " and at 0x%" PRIx64 ", took both back",
		      BUFFER_LEN >> 10, iova[0].v, iova[1].v);
}

static int step_dma(struct probe *p)
{
	static const struct iommu_listener_ops ops = { .removed = buffer_removed };
	const struct iommu_range *range;
	struct iommu_listener *memory;
	int ret;

	if (iommu_space_backend(p->space) == IOMMU_BACKEND_NOIOMMU) {
		p->skipped = true;
		return detail(p, "no IOMMU: the device reaches all memory of the host");
	}
	json_object_set_new(p->values, "ranges",
			    json_integer(iommu_space_ranges(p->space, &range)));
	ret = iommu_listener_create(p->space, &ops, NULL, &memory);
	if (ret < 0)
		return iommu_fail(p->text, ret, "out of memory");
	ret = map_buffers(p, memory);
	iommu_listener_destroy(memory);
	return ret;
}

/* What the device has, best first. */
static int pick_irq(struct probe *p, enum iommu_irq *irq)
{
	static const enum iommu_irq best[] = { IOMMU_IRQ_MSIX, IOMMU_IRQ_MSI, IOMMU_IRQ_INTX };
	int nr = 0;

	for (unsigned int i = 0; i < ARRAY_SIZE(best) && nr == 0; i++) {
		*irq = best[i];
		nr = iommu_dev_nr_vectors(p->dev, best[i]);
	}
	return nr;
}

static int signal_irq(struct probe *p, enum iommu_irq irq, int nr, int fd)
{
	static const char *const names[] = { "intx", "msi", "msix" };
	uint64_t count = 0;
	int ret;

	json_object_set_new(p->values, "kind", json_string(names[irq]));
	json_object_set_new(p->values, "vectors", json_integer(nr));
	ret = iommu_dev_irqs(p->dev, irq, &fd, 1, p->text);
	if (ret < 0)
		return ret;
	ret = iommu_dev_irq_trigger(p->dev, irq, 0);
	if (ret < 0)
		return iommu_fail(p->text, ret, "%s vector 0 cannot be signalled: %s", names[irq],
				  strerror(-ret));
	/* The kernel signals before it answers: no wait. */
	if (read(fd, &count, sizeof(count)) != sizeof(count) || count != 1)
		return iommu_fail(p->text, -EIO,
				  "%s vector 0 was signalled %" PRIu64 " times, not once",
				  names[irq], count);
	ret = iommu_dev_irqs(p->dev, irq, NULL, 0, p->text);
	if (ret < 0)
		return ret;
	return detail(p, "%d %s vectors; vector 0 was signalled and came", nr, names[irq]);
}

static int step_interrupt(struct probe *p)
{
	enum iommu_irq irq;
	int nr, fd, ret;

	nr = pick_irq(p, &irq);
	if (nr < 0)
		return iommu_fail(p->text, nr, "it does not tell of its interrupts: %s",
				  strerror(-nr));
	if (!nr) {
		p->skipped = true;
		return detail(p, "it has no interrupts");
	}
	fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (fd < 0)
		return iommu_fail(p->text, -errno, "eventfd: %s", strerror(errno));
	ret = signal_irq(p, irq, nr, fd);
	close(fd);
	return ret;
}

static int step_reset(struct probe *p)
{
	int ret;

	if (!iommu_dev_can_reset(p->dev)) {
		p->skipped = true;
		return detail(p, "it has no reset");
	}
	ret = iommu_dev_reset(p->dev, p->text);
	return ret < 0 ? ret : detail(p, "reset");
}

static int step_close(struct probe *p)
{
	iommu_dev_close(p->dev);
	iommu_space_destroy(p->space);
	p->dev = NULL;
	p->space = NULL;
	return detail(p, "closed");
}

static const struct {
	const char *name;
	int (*run)(struct probe *p);
} steps[] = {
	{ "group", step_group }, { "open", step_open },	  { "config", step_config },
	{ "bar", step_bar },	 { "dma", step_dma },	  { "interrupt", step_interrupt },
	{ "reset", step_reset }, { "close", step_close },
};

/* Run one step; its object goes to list. */
static int run_step(struct probe *p, unsigned int i, json_t *list)
{
	int ret;

	p->values = json_object();
	p->text[0] = '\0';
	p->skipped = false;
	if (!p->values)
		return -ENOMEM;
	json_object_set_new(p->values, "step", json_string(steps[i].name));
	ret = steps[i].run(p);
	json_object_set_new(p->values, "result",
			    json_string(ret < 0	     ? "failed"
					: p->skipped ? "skipped"
						     : "ok"));
	json_object_set_new(p->values, "detail", json_string(p->text));
	if (ret < 0)
		json_object_set_new(p->values, "error", json_string(strerrorname_np(-ret)));
	if (json_array_append_new(list, p->values) < 0)
		return -ENOMEM;
	return ret;
}

json_t *iommu_probe(const struct iommu_opts *opts, const char *address, const char *token)
{
	struct probe p = { .opts = opts, .address = address, .token = token };
	const char *backend = NULL;
	json_t *list = json_array();
	int ret = list ? 0 : -ENOMEM;

	for (unsigned int i = 0; i < ARRAY_SIZE(steps) && ret == 0; i++) {
		ret = run_step(&p, i, list);
		if (p.dev)
			backend = iommu_backend_name(iommu_space_backend(p.space));
	}
	iommu_dev_close(p.dev);
	iommu_space_destroy(p.space);
	if (ret == -ENOMEM && !list)
		return NULL;
	return json_pack("{s:s, s:s?, s:b, s:o}", "address", address ? address : "", "backend",
			 backend, "ok", ret == 0, "steps", list);
}
