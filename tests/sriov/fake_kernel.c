/*
 * The kernel of the machine of fake.h. Its rules are those of Linux,
 * drivers/pci/iov.c and drivers/pci/pci-driver.c, as far as tests need them. All
 * it remembers is in the tree, as it runs in several processes.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "tests/core/test.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base.h"
#include "tests/sriov/fake_tree.h"

static unsigned int kill_at, unplug_at;
static char unplug_addr[SRIOV_ADDR_LEN];

/* ---- The kernel ---- */

static void wait_while_held(const char *root, const char *addr)
{
	char path[PATH_MAX];

	tree_say(path, "/fake/held/%s", addr);
	while (tree_has(root, path))
		usleep(1000);
}

static void conf_path(const char *netdev, unsigned int vf, char *path)
{
	tree_say(path, "/fake/conf/%s.%u", netdev, vf);
}

static void store_conf(const char *root, const char *netdev, unsigned int vf,
		       const struct sriov_conf *conf)
{
	char path[PATH_MAX], full[PATH_MAX];
	FILE *file;

	conf_path(netdev, vf, path);
	tree_path(root, path, full);
	tree_make_parents(full);
	file = fopen(full, "we");
	if (file && fwrite(conf, sizeof(*conf), 1, file) == 1)
		fclose(file);
}

struct sriov_conf kernel_load_conf(const char *root, const char *netdev, unsigned int vf)
{
	char path[PATH_MAX], full[PATH_MAX];
	struct sriov_conf conf = { 0 };
	FILE *file;

	conf_path(netdev, vf, path);
	tree_path(root, path, full);
	file = fopen(full, "re");
	if (file) {
		if (fread(&conf, sizeof(conf), 1, file) != 1)
			conf.has = 0;
		fclose(file);
	}
	return conf;
}

static int index_of_vf(const char *root, const char *addr, char *pf)
{
	char path[PATH_MAX], vf[SRIOV_ADDR_LEN];

	tree_say(path, "%s" DEVICES "/%s/physfn", root, addr);
	if (sriov_file_link(path, pf, SRIOV_ADDR_LEN) < 0)
		return -1;
	for (unsigned int i = 0; i < 64; i++) {
		tree_vf_addr(root, pf, i, vf);
		if (!strcmp(vf, addr))
			return (int)i;
	}
	return -1;
}

static void bind_net(const char *root, const char *addr)
{
	char pf[SRIOV_ADDR_LEN], netdev[IFNAMSIZ], name[IFNAMSIZ + 8], mac[24];
	int i = index_of_vf(root, addr, pf);
	struct sriov_conf conf;

	tree_pf_netdev(root, pf, netdev);
	snprintf(name, sizeof(name), "%sv%d", netdev, i);
	conf = kernel_load_conf(root, netdev, (unsigned int)i);
	snprintf(mac, sizeof(mac), "%02x:%02x:%02x:%02x:%02x:%02x\n", conf.mac[0], conf.mac[1],
		 conf.mac[2], conf.mac[3], conf.mac[4], conf.mac[5]);
	tree_netdev(root, addr, name, mac);
}

static void bind_vfio(const char *root, const char *addr)
{
	char path[PATH_MAX], group[16];
	unsigned int number;

	tree_say(path, "%s" DEVICES "/%s/iommu_group", root, addr);
	sriov_file_link(path, group, sizeof(group));
	tree_say(path, "/dev/vfio/%s", group);
	tree_put(root, path, "");
	number = (unsigned int)atoi(group) + 100;
	tree_say(path, "vfio-dev/vfio%u/dev", number);
	tree_attr(root, addr, path, "511:0\n");
	tree_say(path, "/dev/vfio/devices/vfio%u", number);
	tree_put(root, path, "");
}

static int bind_to(const char *root, const char *addr, const char *driver)
{
	char path[PATH_MAX], pf[SRIOV_ADDR_LEN], netdev[IFNAMSIZ];
	struct sriov_conf conf;
	int i;

	tree_say(path, "/fake/refuse/%s", driver);
	if (tree_has(root, path))
		return 0;
	tree_say(path, "/sys/bus/pci/drivers/%s", driver);
	if (!tree_has(root, path))
		return 0;
	tree_set_driver(root, addr, driver);
	if (!strcmp(driver, "igbvf"))
		bind_net(root, addr);
	if (!strcmp(driver, "vfio-pci"))
		bind_vfio(root, addr);
	i = index_of_vf(root, addr, pf);
	if (i >= 0 && tree_has(root, "/fake/lose")) {
		tree_pf_netdev(root, pf, netdev);
		conf = kernel_load_conf(root, netdev, (unsigned int)i);
		memset(conf.mac, 0, sizeof(conf.mac));
		store_conf(root, netdev, (unsigned int)i, &conf);
		tree_drop(root, "/fake/lose");
	}
	return 0;
}

static void unbind_from(const char *root, const char *addr)
{
	char path[PATH_MAX], netdev[IFNAMSIZ], node[PATH_MAX], driver[SRIOV_NAME_LEN], group[16];

	tree_driver_of(root, addr, driver);
	if (!strcmp(driver, "vfio-pci")) {
		wait_while_held(root, addr);
		tree_say(path, "%s" DEVICES "/%s/iommu_group", root, addr);
		sriov_file_link(path, group, sizeof(group));
		tree_say(node, "/dev/vfio/%s", group);
		tree_drop(root, node);
		tree_say(node, "/dev/vfio/devices/vfio%d", atoi(group) + 100);
		tree_drop(root, node);
		tree_say(path, DEVICES "/%s/vfio-dev", addr);
		tree_drop(root, path);
	}
	tree_pf_netdev(root, addr, netdev);
	if (*netdev) {
		tree_say(path, "/sys/class/net/%s", netdev);
		tree_drop(root, path);
		tree_say(path, DEVICES "/%s/net", addr);
		tree_drop(root, path);
	}
	tree_say(path, DEVICES "/%s/driver", addr);
	tree_drop(root, path);
}

static int probe(const char *root, const char *addr)
{
	char path[PATH_MAX], pf[SRIOV_ADDR_LEN], override[SRIOV_NAME_LEN], autoprobe[8] = "1";
	char driver[SRIOV_NAME_LEN], class_code[16];

	tree_say(path, DEVICES "/%s", addr);
	if (!tree_has(root, path))
		return -ENODEV;
	tree_driver_of(root, addr, driver);
	if (*driver)
		return 0;
	tree_say(path, DEVICES "/%s/driver_override", addr);
	tree_get(root, path, override, sizeof(override));
	if (strcmp(override, "(null)") != 0)
		return bind_to(root, addr, override);
	if (index_of_vf(root, addr, pf) >= 0) {
		tree_say(path, DEVICES "/%s/sriov_drivers_autoprobe", pf);
		tree_get(root, path, autoprobe, sizeof(autoprobe));
	}
	if (*autoprobe == '0')
		return 0;
	tree_say(path, DEVICES "/%s/class", addr);
	tree_get(root, path, class_code, sizeof(class_code));
	return bind_to(root, addr, !strcmp(class_code, "0x020000") ? "igbvf" : "nvme");
}

static void create_vf(const char *root, const char *pf, unsigned int i, unsigned int nr)
{
	struct tree_function fn = { .vendor = "0x8086\n",
				    .device = "0x10ca\n",
				    .driver = "",
				    .netdev = "",
				    .group = 20 + (int)i };
	char addr[SRIOV_ADDR_LEN], path[PATH_MAX], class_code[16], node[16], target[PATH_MAX];
	struct sriov_conf conf = { .has = 0x1ff, .spoofchk = true };
	char netdev[IFNAMSIZ];

	tree_vf_addr(root, pf, i, addr);
	tree_say(path, DEVICES "/%s/class", pf);
	tree_get(root, path, class_code, sizeof(class_code));
	tree_say(path, DEVICES "/%s/numa_node", pf);
	tree_get(root, path, node, sizeof(node));
	fn.addr = addr;
	fn.class_code = class_code;
	fn.node = node;
	fn.group += !strcmp(pf, FAKE_NVME) ? 20 : 0;
	tree_function(root, &fn);
	tree_attr(root, addr, "sriov_vf_msix_count", "");
	if (tree_has(root, "/fake/pool"))
		tree_make_msix(root, addr);
	tree_say(path, DEVICES "/%s/physfn", addr);
	tree_say(target, "../%s", pf);
	tree_link(root, path, target);
	tree_say(path, DEVICES "/%s/virtfn%u", pf, i);
	tree_say(target, "../%s", addr);
	tree_link(root, path, target);
	tree_pf_netdev(root, pf, netdev);
	if (*netdev)
		store_conf(root, netdev, i, &conf);
	probe(root, addr);
}

/* sysfs uses no inode twice, the file system of tests does: what is gone keeps
 * its own. */
static void bury(const char *root, const char *addr)
{
	char path[PATH_MAX], from[PATH_MAX], to[PATH_MAX];
	static unsigned int number;

	tree_say(path, "/fake/graves/%d-%u", (int)getpid(), number++);
	tree_path(root, path, to);
	tree_make_parents(to);
	tree_say(path, DEVICES "/%s", addr);
	tree_path(root, path, from);
	if (rename(from, to) < 0 && errno != ENOENT)
		abort();
}

static void destroy_vf(const char *root, const char *pf, unsigned int i)
{
	char addr[SRIOV_ADDR_LEN], path[PATH_MAX], netdev[IFNAMSIZ], group[16];

	tree_vf_addr(root, pf, i, addr);
	/* Its link goes first, while the function may wait for its user. */
	tree_say(path, DEVICES "/%s/virtfn%u", pf, i);
	tree_drop(root, path);
	unbind_from(root, addr);
	tree_say(path, "%s" DEVICES "/%s/iommu_group", root, addr);
	if (!sriov_file_link(path, group, sizeof(group))) {
		tree_say(path, "/sys/kernel/iommu_groups/%s", group);
		tree_drop(root, path);
	}
	tree_say(path, "/sys/bus/pci/devices/%s", addr);
	tree_drop(root, path);
	bury(root, addr);
	tree_pf_netdev(root, pf, netdev);
	conf_path(netdev, i, path);
	tree_drop(root, path);
}

static void unplug(const char *root, const char *addr)
{
	char path[PATH_MAX], pf[SRIOV_ADDR_LEN], netdev[IFNAMSIZ];
	int i = index_of_vf(root, addr, pf);

	if (i >= 0) {
		destroy_vf(root, pf, (unsigned int)i);
		return;
	}
	for (unsigned int vf = 0; vf < 64; vf++) {
		tree_say(path, DEVICES "/%s/virtfn%u", addr, vf);
		if (tree_has(root, path))
			destroy_vf(root, addr, vf);
	}
	tree_pf_netdev(root, addr, netdev);
	tree_say(path, "/sys/class/net/%s", netdev);
	if (*netdev)
		tree_drop(root, path);
	tree_say(path, "/sys/bus/pci/devices/%s", addr);
	tree_drop(root, path);
	bury(root, addr);
}

static int write_numvfs(const char *root, const char *pf, const char *text)
{
	char path[PATH_MAX], number[16];
	unsigned int now, total, made, want = (unsigned int)atoi(text);

	tree_say(path, DEVICES "/%s/sriov_totalvfs", pf);
	tree_get(root, path, number, sizeof(number));
	total = (unsigned int)atoi(number);
	tree_say(path, DEVICES "/%s/sriov_numvfs", pf);
	tree_get(root, path, number, sizeof(number));
	now = (unsigned int)atoi(number);
	if (want > total)
		return -ERANGE;
	if (want == now)
		return 0;
	if (want && now)
		return -EBUSY;
	tree_say(path, "/fake/make/%s", pf);
	tree_get(root, path, number, sizeof(number));
	made = *number && want ? (unsigned int)atoi(number) : want;
	for (unsigned int i = 0; i < made; i++)
		create_vf(root, pf, i, made);
	for (unsigned int i = 0; i < now && !want; i++)
		destroy_vf(root, pf, i);
	tree_number(root, pf, "sriov_numvfs", want);
	return 0;
}

/* Vectors that all VFs of a PF may have in sum, if that is written down. */
static bool pool_allows(const char *root, const char *addr, unsigned int want)
{
	char path[PATH_MAX], pf[SRIOV_ADDR_LEN], text[16], vf[SRIOV_ADDR_LEN];
	unsigned int sum = 0;

	tree_get(root, "/fake/pool", text, sizeof(text));
	if (!*text || index_of_vf(root, addr, pf) < 0)
		return true;
	for (unsigned int i = 0; i < 64; i++) {
		tree_say(path, DEVICES "/%s/virtfn%u", pf, i);
		tree_vf_addr(root, pf, i, vf);
		if (tree_has(root, path))
			sum += !strcmp(vf, addr) && want ? want : tree_msix(root, vf);
	}
	return sum <= (unsigned int)atoi(text);
}

static int write_dev(const char *root, const char *addr, const char *file, const char *text)
{
	char path[PATH_MAX], driver[SRIOV_NAME_LEN], number[16];

	tree_say(path, DEVICES "/%s/%s", addr, file);
	if (!tree_has(root, path))
		return -ENOENT;
	if (!strcmp(file, "sriov_numvfs"))
		return write_numvfs(root, addr, text);
	if (!strcmp(file, "driver_override")) {
		tree_put(root, path, *text == '\n' ? "(null)\n" : text);
		return 0;
	}
	if (!strcmp(file, "sriov_drivers_autoprobe")) {
		tree_put(root, path, text);
		return 0;
	}
	if (!strcmp(file, "sriov_vf_msix_count")) {
		tree_driver_of(root, addr, driver);
		if (*driver)
			return -EBUSY;
		if (!pool_allows(root, addr, (unsigned int)atoi(text)))
			return -EOVERFLOW;
		tree_put(root, path, text);
		tree_get(root, "/fake/ignore", number, sizeof(number));
		if (!(atoi(number) & SRIOV_CONF_MSIX))
			tree_set_msix(root, addr, (unsigned int)atoi(text));
		return 0;
	}
	if (!strcmp(file, "reset")) {
		wait_while_held(root, addr);
		tree_say(path, "/fake/resets/%s", addr);
		tree_get(root, path, number, sizeof(number));
		snprintf(number, sizeof(number), "%d", atoi(number) + 1);
		tree_put(root, path, number);
		return 0;
	}
	return -EACCES;
}

static int fake_write(struct sriov *s, const char *path, const char *text)
{
	const char *root = s->root, *below = path + strlen(root), *file = strrchr(path, '/') + 1;
	char fail[PATH_MAX], number[16], addr[SRIOV_ADDR_LEN], driver[SRIOV_NAME_LEN];

	tree_say(fail, "/fake/fail/%s", file);
	tree_get(root, fail, number, sizeof(number));
	if (*number)
		return -atoi(number);
	if (sscanf(below, "/sys/bus/pci/devices/%23[^/]", addr) == 1)
		return write_dev(root, addr, file, text);
	if (!strcmp(below, "/sys/bus/pci/drivers_probe"))
		return probe(root, text);
	if (sscanf(below, "/sys/bus/pci/drivers/%63[^/]/", driver) == 1 &&
	    !strcmp(file, "unbind")) {
		char now[SRIOV_NAME_LEN];

		tree_driver_of(root, text, now);
		if (strcmp(now, driver) != 0)
			return -ENODEV;
		unbind_from(root, text);
		return 0;
	}
	/* new_id above all: it takes siblings along. */
	abort();
}

/* As a driver that waits for its card with the lock of all network devices. */
static void wait_for_network(const char *root, const char *file)
{
	while (tree_has(root, file))
		usleep(1000);
}

static int fake_conf_get(struct sriov *s, const char *netdev, struct sriov_conf *conf,
			 unsigned int nr)
{
	char number[16];

	wait_for_network(s->root, "/fake/hang-ask");
	tree_get(s->root, "/fake/fail/conf", number, sizeof(number));
	if (*number)
		return -atoi(number);
	for (unsigned int i = 0; i < nr; i++)
		conf[i] = kernel_load_conf(s->root, netdev, i);
	return 0;
}

static int fake_conf_set(struct sriov *s, const char *netdev, unsigned int vf,
			 const struct sriov_conf *want)
{
	struct sriov_conf conf = kernel_load_conf(s->root, netdev, vf);
	static const uint8_t no_mac[6];
	unsigned int bits = want->has;
	char number[16];

	wait_for_network(s->root, "/fake/hang-set");
	if (!conf.has)
		return -EINVAL;
	if (bits & SRIOV_CONF_QUERY_RSS)
		return -EOPNOTSUPP;
	tree_get(s->root, "/fake/ignore", number, sizeof(number));
	bits &= ~(unsigned int)atoi(number);
	if (bits & SRIOV_CONF_MAC && !memcmp(want->mac, no_mac, 6) &&
	    tree_has(s->root, "/fake/zero-mac"))
		return -EINVAL;
	if (bits & SRIOV_CONF_MAC)
		memcpy(conf.mac, want->mac, sizeof(conf.mac));
	if (bits & (SRIOV_CONF_VLAN | SRIOV_CONF_QOS | SRIOV_CONF_PROTO)) {
		conf.vlan = want->vlan;
		conf.qos = want->qos;
		conf.proto = want->proto;
	}
	if (bits & SRIOV_CONF_SPOOFCHK)
		conf.spoofchk = want->spoofchk;
	if (bits & SRIOV_CONF_TRUST)
		conf.trust = want->trust;
	if (bits & SRIOV_CONF_STATE)
		conf.state = want->state;
	if (bits & (SRIOV_CONF_MIN_RATE | SRIOV_CONF_MAX_RATE)) {
		conf.min_rate = want->min_rate;
		conf.max_rate = want->max_rate;
	}
	store_conf(s->root, netdev, vf, &conf);
	return 0;
}

static int fake_net_use(struct sriov *s, const char *netdev, struct sriov_blockers *b)
{
	char path[PATH_MAX], text[SRIOV_TEXT_LEN];

	wait_for_network(s->root, "/fake/hang-ask");
	tree_say(path, "/fake/netuse/%s", netdev);
	tree_get(s->root, path, text, sizeof(text));
	return *text ? sriov_blocker_add(b, SRIOV_BLOCK_NET, "%s %s", netdev, text) : 0;
}

static int fake_link_set(struct sriov *s, const char *netdev, bool up)
{
	char path[PATH_MAX];

	wait_for_network(s->root, "/fake/hang-set");
	tree_say(path, "/sys/class/net/%s/flags", netdev);
	tree_put(s->root, path, up ? "0x1003\n" : "0x1002\n");
	return 0;
}

/* The machine's own loopback device, and what is written down. */
static int fake_links(struct sriov *s, FILE *out)
{
	char text[SRIOV_TEXT_LEN];

	wait_for_network(s->root, "/fake/hang-links");
	tree_get(s->root, "/fake/links", text, sizeof(text));
	fprintf(out, "1 1 lo\n");
	if (*text)
		fprintf(out, "%s\n", text);
	return 0;
}

static int fake_eswitch(struct sriov *s, const char *bus, const char *addr, char *mode)
{
	char path[PATH_MAX];

	tree_say(path, "/fake/eswitch/%s", addr);
	tree_get(s->root, path, mode, SRIOV_NAME_LEN);
	return *mode ? 0 : -EOPNOTSUPP;
}

static int fake_load_module(struct sriov *s, const char *name)
{
	char path[PATH_MAX];

	tree_say(path, "/fake/modules/%s", name);
	if (!tree_has(s->root, path))
		return -ENOENT;
	tree_driver(s->root, name);
	return 0;
}

static int fake_find_module(struct sriov *s, const char *name)
{
	char path[PATH_MAX];

	tree_say(path, "/fake/modules/%s", name);
	return tree_has(s->root, path) ? 0 : -ENOENT;
}

static int fake_disk_take(struct sriov *s, const char *path)
{
	char busy[PATH_MAX];

	tree_say(busy, "/fake/busy/%s", strrchr(path, '/') + 1);
	return tree_has(s->root, busy) ? -EBUSY : 0;
}

static int fake_settle(struct sriov *s, unsigned int timeout_ms)
{
	return 0;
}

static void fake_before_change(struct sriov *s, const char *what)
{
	if (kill_at && !--kill_at)
		kill(getpid(), SIGKILL);
	/* This kernel does one thing at a time. */
	if (strcmp(what, "while the child writes") != 0 && unplug_at && !--unplug_at)
		unplug(s->root, unplug_addr);
}

const struct sriov_os fake_os = {
	.write = fake_write,
	.conf_get = fake_conf_get,
	.conf_set = fake_conf_set,
	.net_use = fake_net_use,
	.link_set = fake_link_set,
	.links = fake_links,
	.eswitch = fake_eswitch,
	.load_module = fake_load_module,
	.find_module = fake_find_module,
	.disk_take = fake_disk_take,
	.settle = fake_settle,
	.before_change = fake_before_change,
};

void fake_unplug_at(unsigned int n, const char *addr)
{
	unplug_at = n;
	snprintf(unplug_addr, sizeof(unplug_addr), "%s", addr);
}

void fake_kill_at(unsigned int n)
{
	kill_at = n;
}
