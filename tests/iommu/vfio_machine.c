/*
 * The host half of iommu/ against a real kernel and a device that is bound to
 * vfio-pci: mapping, every refusal the kernel knows, interrupts, reset. Not one
 * of the unit tests, because it needs that device: tests/vm runs it in a guest.
 *
 *     vfio_machine ADDRESS group|cdev
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "tests/core/test.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "iommu/iommu_internal.h"

#define PAGE 4096ul
#define BUFFER (64 * PAGE)
#define ENTRY_LIMIT "/sys/module/vfio_iommu_type1/parameters/dma_entry_limit"

static const char *address;
static enum iommu_backend backend;
static char err[IOMMU_ERR_LEN];

struct rig {
	struct iommu_space *space;
	struct iommu_dev *dev;
	uint8_t *buffer;
};

static void rig_open(struct rig *r, const struct iommu_sys *sys)
{
	const struct iommu_opts opts = { .backend = backend, .sys = sys };

	assert_int_equal(iommu_space_create(&opts, &r->space), 0);
	if (iommu_dev_open(r->space, address, NULL, &r->dev, err) < 0)
		fail_msg("%s", err);
	r->buffer = mmap(NULL, BUFFER, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_true(r->buffer != MAP_FAILED);
}

static void rig_close(struct rig *r)
{
	iommu_dev_close(r->dev);
	iommu_space_destroy(r->space);
	munmap(r->buffer, BUFFER);
}

static struct iommu_mapping piece(const struct rig *r, uint64_t at, uint64_t offset, uint64_t len)
{
	return (struct iommu_mapping){ .iova = iova(at),
				       .addr = r->buffer + offset,
				       .len = len,
				       .prot = IOMMU_READ | IOMMU_WRITE };
}

/* What a program sees that knows nothing of its limits: only the kernel does. */
static void no_limits_known(struct iommu_memlock *m)
{
	*m = (struct iommu_memlock){ .unlimited = true };
}

static struct iommu_sys sys_without_checks(void)
{
	struct iommu_sys sys = iommu_sys_kernel;

	sys.memlock = no_limits_known;
	return sys;
}

static void the_space_leaves_out_the_interrupt_window(void **state)
{
	const struct iommu_range *range;
	struct iommu_mapping m;
	unsigned int nr;
	struct rig r;

	rig_open(&r, NULL);
	assert_int_equal(iommu_space_backend(r.space), backend);
	nr = iommu_space_ranges(r.space, &range);
	assert_true(nr >= 2);
	for (unsigned int i = 0; i < nr; i++)
		assert_true(range[i].last.v < 0xfee00000 || range[i].first.v > 0xfeefffff);
	m = piece(&r, 0xfee00000, 0, PAGE);
	assert_int_equal(iommu_map(r.space, &m, err), -EINVAL);
	assert_non_null(strstr(err, "reserved"));
	rig_close(&r);
}

static void the_kernel_refuses_what_we_refuse(void **state)
{
	struct iommu_mapping m, again;
	struct rig r;

	rig_open(&r, NULL);
	m = piece(&r, 0xfee00000, 0, PAGE);
	assert_int_equal(r.space->ops->map(r.space, &m), -EINVAL);
	m = piece(&r, 1 << 20, 0, 16 * PAGE);
	assert_int_equal(iommu_map(r.space, &m, err), 0);
	again = piece(&r, (1 << 20) + PAGE, 0, PAGE);
	assert_int_equal(iommu_map(r.space, &again, err), -EEXIST);
	assert_int_equal(r.space->ops->map(r.space, &again), -EEXIST);
	/* Neither interface cuts a mapping. */
	assert_int_equal(iommu_unmap(r.space, again.iova, again.len, err), -ENOENT);
	assert_true(r.space->ops->unmap(r.space, again.iova, again.len) < 0);
	assert_int_equal(iommu_unmap(r.space, m.iova, m.len, err), 0);
	assert_int_equal(iommu_space_nr_mappings(r.space), 0);
	rig_close(&r);
}

static void memory_that_is_not_there_is_refused(void **state)
{
	struct iommu_mapping m;
	struct rig r;

	rig_open(&r, NULL);
	m = piece(&r, 1 << 20, 0, PAGE);
	assert_int_equal(munmap(r.buffer + PAGE, PAGE), 0);
	m.addr = r.buffer + PAGE;
	assert_int_equal(iommu_map(r.space, &m, err), -EFAULT);
	assert_int_equal(iommu_space_nr_mappings(r.space), 0);
	rig_close(&r);
}

static void all_or_none_are_mapped(void **state)
{
	struct iommu_mapping m[3];
	struct rig r;

	rig_open(&r, NULL);
	m[0] = piece(&r, 1 << 20, 0, PAGE);
	m[1] = piece(&r, 2 << 20, PAGE, PAGE);
	m[2] = piece(&r, 3 << 20, 2 * PAGE, PAGE);
	assert_int_equal(munmap(m[2].addr, PAGE), 0);
	assert_int_equal(iommu_map_all(r.space, m, 3, err), -EFAULT);
	assert_int_equal(iommu_space_nr_mappings(r.space), 0);
	/* The kernel has let go as well. */
	assert_int_equal(iommu_map_all(r.space, m, 2, err), 0);
	rig_close(&r);
}

static void drop_cap_ipc_lock(void)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2];
	const struct rlimit limit = { 64 << 10, 64 << 10 };

	assert_int_equal(syscall(SYS_capget, &head, data), 0);
	data[0].effective &= ~(1u << CAP_IPC_LOCK);
	assert_int_equal(syscall(SYS_capset, &head, data), 0);
	assert_int_equal(setrlimit(RLIMIT_MEMLOCK, &limit), 0);
}

/* In a child, as a limit cannot be given back. */
static void in_a_child(void (*run)(void))
{
	int status;
	pid_t pid = fork();

	if (!pid) {
		run();
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static void check_memlock(void)
{
	struct iommu_sys blind = sys_without_checks();
	struct iommu_mapping m;
	struct rig r;

	drop_cap_ipc_lock();
	rig_open(&r, NULL);
	m = piece(&r, 1 << 20, 0, 16 * PAGE);
	if (iommu_map(r.space, &m, err) < 0)
		fail_msg("%s", err);
	m = piece(&r, 2 << 20, 16 * PAGE, 16 * PAGE);
	assert_int_equal(iommu_map(r.space, &m, err), -ENOMEM);
	printf("explained: %s\n", err);
	assert_non_null(strstr(err, "RLIMIT_MEMLOCK is 64 KiB"));
	rig_close(&r);
	/* And when only the kernel knows. */
	rig_open(&r, &blind);
	m = piece(&r, 1 << 20, 0, 32 * PAGE);
	assert_int_equal(iommu_map(r.space, &m, err), -ENOMEM);
	assert_int_equal(iommu_space_nr_mappings(r.space), 0);
	rig_close(&r);
	fflush(stdout);
}

static void locked_memory_runs_out(void **state)
{
	in_a_child(check_memlock);
}

static void set_entry_limit(const char *text)
{
	int fd = open(ENTRY_LIMIT, O_WRONLY);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	close(fd);
}

static void entries_run_out(void **state)
{
	struct iommu_mapping m;
	struct rig r;

	if (backend != IOMMU_BACKEND_TYPE1)
		skip(); /* iommufd has no such limit */
	set_entry_limit("2");
	rig_open(&r, NULL);
	for (unsigned int i = 0; i < 2; i++) {
		m = piece(&r, (i + 1) << 20, i * PAGE, PAGE);
		assert_int_equal(iommu_map(r.space, &m, err), 0);
	}
	m = piece(&r, 8 << 20, 0, PAGE);
	assert_int_equal(iommu_map(r.space, &m, err), -ENOSPC);
	assert_non_null(strstr(err, "dma_entry_limit"));
	assert_int_equal(r.space->ops->map(r.space, &m), -ENOSPC);
	/* Room again. */
	assert_int_equal(iommu_unmap(r.space, iova(1 << 20), PAGE, err), 0);
	assert_int_equal(iommu_map(r.space, &m, err), 0);
	rig_close(&r);
	set_entry_limit("65535");
}

static void a_device_has_one_user(void **state)
{
	const struct iommu_opts opts = { .backend = backend };
	struct iommu_space *other;
	struct iommu_dev *dev;
	struct rig r;

	rig_open(&r, NULL);
	assert_int_equal(iommu_space_create(&opts, &other), 0);
	assert_int_equal(iommu_dev_open(other, address, NULL, &dev, err), -EBUSY);
	assert_non_null(strstr(err, "in use"));
	rig_close(&r);
	/* And is free again. */
	assert_int_equal(iommu_dev_open(other, address, NULL, &dev, err), 0);
	iommu_dev_close(dev);
	iommu_space_destroy(other);
}

static void every_vector_is_wired(void **state)
{
	uint64_t count;
	int nr, fds[64];
	struct rig r;

	rig_open(&r, NULL);
	nr = iommu_dev_nr_vectors(r.dev, IOMMU_IRQ_MSIX);
	assert_in_range(nr, 1, 64);
	for (int i = 0; i < nr; i++)
		fds[i] = eventfd(0, EFD_NONBLOCK);
	for (int round = 0; round < 2; round++) {
		if (iommu_dev_irqs(r.dev, IOMMU_IRQ_MSIX, fds, (unsigned int)(nr - round), err) < 0)
			fail_msg("%s", err);
		for (int i = 0; i < nr - round; i++) {
			assert_int_equal(
				iommu_dev_irq_trigger(r.dev, IOMMU_IRQ_MSIX, (unsigned int)i), 0);
			assert_int_equal(read(fds[i], &count, sizeof(count)), sizeof(count));
			assert_int_equal(count, 1);
		}
	}
	assert_int_equal(iommu_dev_irqs(r.dev, IOMMU_IRQ_MSIX, fds, (unsigned int)nr + 1, err),
			 -EINVAL);
	assert_int_equal(iommu_dev_irqs(r.dev, IOMMU_IRQ_REQ, fds, 1, err), 0);
	assert_int_equal(iommu_dev_irq_trigger(r.dev, IOMMU_IRQ_REQ, 0), 0);
	assert_int_equal(read(fds[0], &count, sizeof(count)), sizeof(count));
	rig_close(&r);
	for (int i = 0; i < nr; i++)
		close(fds[i]);
}

static void a_bar_reads_the_same_either_way(void **state)
{
	uint32_t by_file, by_mapping;
	struct iommu_region region;
	struct rig r;
	void *p;

	rig_open(&r, NULL);
	assert_int_equal(iommu_dev_region(r.dev, 0, &region), 0);
	assert_true(region.size > 0 && region.flags & IOMMU_REGION_MMAP);
	assert_int_equal(iommu_dev_map_bar(r.dev, 0, err), 0);
	p = iommu_dev_bar(r.dev, 0, 0, sizeof(by_mapping));
	assert_non_null(p);
	by_mapping = *(const uint32_t *)p;
	assert_int_equal(iommu_dev_read(r.dev, 0, 0, &by_file, sizeof(by_file)), 0);
	assert_int_equal(by_file, by_mapping);
	assert_null(iommu_dev_bar(r.dev, 0, region.size - 2, 4));
	assert_int_equal(iommu_dev_read(r.dev, 0, region.size, &by_file, 4), -ERANGE);
	rig_close(&r);
}

static void a_reset_turns_dma_off(void **state)
{
	uint8_t command[2];
	struct rig r;

	rig_open(&r, NULL);
	assert_int_equal(iommu_dev_bus_master(r.dev, true), 0);
	assert_int_equal(iommu_dev_read(r.dev, IOMMU_REGION_CONFIG, 4, command, 2), 0);
	assert_true(command[0] & 4);
	assert_true(iommu_dev_can_reset(r.dev));
	if (iommu_dev_reset(r.dev, err) < 0)
		fail_msg("%s", err);
	rig_close(&r);
	/* What the next user gets. */
	rig_open(&r, NULL);
	assert_int_equal(iommu_dev_read(r.dev, IOMMU_REGION_CONFIG, 4, command, 2), 0);
	assert_false(command[0] & 4);
	rig_close(&r);
}

static int order[4], nr_order;

static int fence(void *opaque, const struct iommu_memory *m)
{
	order[nr_order++] = 1;
	assert_int_equal(iommu_space_nr_mappings(opaque), 1);
	return 0;
}

static void removed(void *opaque, const struct iommu_memory *m)
{
	order[nr_order++] = 2;
	assert_int_equal(iommu_space_nr_mappings(opaque), 0);
}

static void memory_comes_and_goes(void **state)
{
	static const struct iommu_listener_ops ops = { .fence = fence, .removed = removed };
	struct iommu_listener *l;
	struct iommu_mapping m;
	struct rig r;

	nr_order = 0;
	rig_open(&r, NULL);
	assert_int_equal(iommu_listener_create(r.space, &ops, r.space, &l), 0);
	m = piece(&r, 1ull << 32, 0, BUFFER);
	assert_int_equal(iommu_listener_add(l, &m, NULL, err), 0);
	assert_int_equal(iommu_listener_remove(l, m.iova, err), 0);
	assert_int_equal(nr_order, 2);
	assert_int_equal(order[0], 1);
	assert_int_equal(order[1], 2);
	iommu_listener_destroy(l);
	rig_close(&r);
}

static void the_probe_passes(void **state)
{
	const struct iommu_opts opts = { .backend = backend };
	json_t *report = iommu_probe(&opts, address, NULL);

	assert_non_null(report);
	json_dumpf(report, stdout, JSON_INDENT(2));
	puts("");
	assert_true(json_is_true(json_object_get(report, "ok")));
	assert_string_equal(json_string_value(json_object_get(report, "backend")),
			    iommu_backend_name(backend));
	json_decref(report);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_probe_passes),
		cmocka_unit_test(the_space_leaves_out_the_interrupt_window),
		cmocka_unit_test(the_kernel_refuses_what_we_refuse),
		cmocka_unit_test(memory_that_is_not_there_is_refused),
		cmocka_unit_test(all_or_none_are_mapped),
		cmocka_unit_test(locked_memory_runs_out),
		cmocka_unit_test(entries_run_out),
		cmocka_unit_test(a_device_has_one_user),
		cmocka_unit_test(every_vector_is_wired),
		cmocka_unit_test(a_bar_reads_the_same_either_way),
		cmocka_unit_test(a_reset_turns_dma_off),
		cmocka_unit_test(memory_comes_and_goes),
	};
	int parsed = argc == 3 ? iommu_backend_parse(argv[2]) : -EINVAL;

	if (parsed < 0) {
		fprintf(stderr, "usage: vfio_machine ADDRESS group|cdev\n");
		return 2;
	}
	address = argv[1];
	backend = (enum iommu_backend)parsed;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
