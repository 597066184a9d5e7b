/*
 * The machine of fake.h. Its rules are those of Linux, drivers/pci/iov.c and
 * drivers/pci/pci-driver.c, as far as tests need them.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "tests/core/test.h"

#include "tests/sriov/fake.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base.h"

#define DEVICES "/sys/devices/pci0000:00"

static unsigned int kill_at;

/* ---- Files ---- */

static void path_of(const char *root, const char *path, char *full)
{
	sriov_text(full, PATH_MAX, "%s%s%s", root, *path == '/' ? "" : "/", path);
}

static void make_parents(char *full)
{
	for (char *slash = full + 1; (slash = strchr(slash, '/')); slash++) {
		*slash = '\0';
		mkdir(full, 0755);
		*slash = '/';
	}
}

static void put(const char *root, const char *path, const char *text)
{
	char full[PATH_MAX];
	FILE *file;

	path_of(root, path, full);
	make_parents(full);
	file = fopen(full, "we");
	if (!file)
		return;
	fputs(text, file);
	fclose(file);
}

static void put_link(const char *root, const char *path, const char *target)
{
	char full[PATH_MAX], to[PATH_MAX];

	path_of(root, path, full);
	make_parents(full);
	/* Absolute links lead back below the root. */
	if (*target == '/')
		path_of(root, target, to);
	else
		sriov_text(to, sizeof(to), "%s", target);
	unlink(full);
	if (symlink(to, full) < 0)
		abort();
}

static bool has(const char *root, const char *path)
{
	char full[PATH_MAX];
	struct stat st;

	path_of(root, path, full);
	return !lstat(full, &st);
}

static void get(const char *root, const char *path, char *text, size_t len)
{
	char full[PATH_MAX];

	path_of(root, path, full);
	if (sriov_file_read(full, text, len) < 0)
		text[0] = '\0';
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	return remove(path);
}

static void drop(const char *root, const char *path)
{
	char full[PATH_MAX];

	path_of(root, path, full);
	nftw(full, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static void say(char *path, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void say(char *path, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(path, PATH_MAX, fmt, ap);
	va_end(ap);
}

/* ---- Functions ---- */

struct function {
	const char *addr, *vendor, *device, *class_code, *node, *driver, *netdev;
	unsigned int total, offset, stride;
	int group;
};

static void put_attr(const char *root, const char *addr, const char *file, const char *text)
{
	char path[PATH_MAX];

	say(path, DEVICES "/%s/%s", addr, file);
	put(root, path, text);
}

static void put_number(const char *root, const char *addr, const char *file, unsigned int v)
{
	char text[32];

	snprintf(text, sizeof(text), "%u\n", v);
	put_attr(root, addr, file, text);
}

static void put_group(const char *root, const char *addr, int group)
{
	char path[PATH_MAX], target[PATH_MAX];

	if (group < 0)
		return;
	say(path, "/sys/kernel/iommu_groups/%d/devices/%s", group, addr);
	say(target, DEVICES "/%s", addr);
	put_link(root, path, target);
	say(path, "/sys/kernel/iommu_groups/%d/type", group);
	put(root, path, "DMA-FQ\n");
	say(path, "/sys/kernel/iommu_groups/%d/reserved_regions", group);
	put(root, path, "0x00000000fee00000 0x00000000feefffff msi\n");
	say(path, DEVICES "/%s/iommu_group", addr);
	say(target, "/sys/kernel/iommu_groups/%d", group);
	put_link(root, path, target);
}

static void put_netdev(const char *root, const char *addr, const char *netdev, const char *mac)
{
	char path[PATH_MAX], target[PATH_MAX];

	say(path, "net/%s/address", netdev);
	put_attr(root, addr, path, mac);
	say(path, "net/%s/operstate", netdev);
	put_attr(root, addr, path, "up\n");
	say(path, "net/%s/flags", netdev);
	put_attr(root, addr, path, "0x1003\n");
	say(path, DEVICES "/%s/net/%s/device", addr, netdev);
	say(target, DEVICES "/%s", addr);
	put_link(root, path, target);
	say(path, "/sys/class/net/%s", netdev);
	say(target, DEVICES "/%s/net/%s", addr, netdev);
	put_link(root, path, target);
}

static void put_driver(const char *root, const char *name)
{
	char path[PATH_MAX];

	say(path, "/sys/bus/pci/drivers/%s/unbind", name);
	put(root, path, "");
	say(path, "/sys/bus/pci/drivers/%s/bind", name);
	put(root, path, "");
	say(path, "/sys/bus/pci/drivers/%s/new_id", name);
	put(root, path, "");
}

static void set_driver(const char *root, const char *addr, const char *driver)
{
	char path[PATH_MAX], target[PATH_MAX];

	say(path, DEVICES "/%s/driver", addr);
	say(target, "/sys/bus/pci/drivers/%s", driver);
	put_link(root, path, target);
}

static void put_function(const char *root, const struct function *fn)
{
	char path[PATH_MAX], target[PATH_MAX];

	put_attr(root, fn->addr, "vendor", fn->vendor);
	put_attr(root, fn->addr, "device", fn->device);
	put_attr(root, fn->addr, "class", fn->class_code);
	put_attr(root, fn->addr, "numa_node", fn->node);
	put_attr(root, fn->addr, "driver_override", "(null)\n");
	put_attr(root, fn->addr, "reset", "");
	put_attr(root, fn->addr, "reset_method", "flr\n");
	put_attr(root, fn->addr, "resource",
		 "0x00000000fea00000 0x00000000fea1ffff 0x0000000000040200\n");
	put_group(root, fn->addr, fn->group);
	say(path, "/sys/bus/pci/devices/%s", fn->addr);
	say(target, DEVICES "/%s", fn->addr);
	put_link(root, path, target);
	if (*fn->driver)
		set_driver(root, fn->addr, fn->driver);
	if (*fn->netdev)
		put_netdev(root, fn->addr, fn->netdev, "52:54:00:aa:00:01\n");
	if (!fn->total)
		return;
	put_number(root, fn->addr, "sriov_totalvfs", fn->total);
	put_number(root, fn->addr, "sriov_numvfs", 0);
	put_number(root, fn->addr, "sriov_offset", fn->offset);
	put_number(root, fn->addr, "sriov_stride", fn->stride);
	put_number(root, fn->addr, "sriov_drivers_autoprobe", 1);
	put_attr(root, fn->addr, "sriov_vf_device", "10ca\n");
	put_number(root, fn->addr, "sriov_vf_total_msix", 64);
}

static void vf_addr(const char *root, const char *pf, unsigned int i, char *addr)
{
	unsigned int domain, bus, device, function, rid;
	char path[PATH_MAX], offset[16], stride[16];

	say(path, DEVICES "/%s/sriov_offset", pf);
	get(root, path, offset, sizeof(offset));
	say(path, DEVICES "/%s/sriov_stride", pf);
	get(root, path, stride, sizeof(stride));
	sscanf(pf, "%x:%x:%x.%x", &domain, &bus, &device, &function);
	rid = (bus << 8 | device << 3 | function) + (unsigned int)atoi(offset) +
	      i * (unsigned int)atoi(stride);
	snprintf(addr, SRIOV_ADDR_LEN, "%04x:%02x:%02x.%x", domain, rid >> 8, rid >> 3 & 31,
		 rid & 7);
}

static void pf_netdev(const char *root, const char *pf, char *netdev)
{
	char path[PATH_MAX];
	struct dirent *e;
	DIR *dir;

	netdev[0] = '\0';
	say(path, "%s" DEVICES "/%s/net", root, pf);
	dir = opendir(path);
	while (dir && (e = readdir(dir))) {
		if (e->d_name[0] != '.')
			snprintf(netdev, IFNAMSIZ, "%.15s", e->d_name);
	}
	if (dir)
		closedir(dir);
}

static void driver_of(const char *root, const char *addr, char *driver)
{
	char path[PATH_MAX];

	say(path, "%s" DEVICES "/%s/driver", root, addr);
	sriov_file_link(path, driver, SRIOV_NAME_LEN);
}

/* ---- The kernel ---- */

static void wait_while_held(const char *root, const char *addr)
{
	char path[PATH_MAX];

	say(path, "/fake/held/%s", addr);
	while (has(root, path))
		usleep(1000);
}

static void conf_path(const char *netdev, unsigned int vf, char *path)
{
	say(path, "/fake/conf/%s.%u", netdev, vf);
}

static void store_conf(const char *root, const char *netdev, unsigned int vf,
		       const struct sriov_conf *conf)
{
	char path[PATH_MAX], full[PATH_MAX];
	FILE *file;

	conf_path(netdev, vf, path);
	path_of(root, path, full);
	make_parents(full);
	file = fopen(full, "we");
	if (file && fwrite(conf, sizeof(*conf), 1, file) == 1)
		fclose(file);
}

static struct sriov_conf load_conf(const char *root, const char *netdev, unsigned int vf)
{
	char path[PATH_MAX], full[PATH_MAX];
	struct sriov_conf conf = { 0 };
	FILE *file;

	conf_path(netdev, vf, path);
	path_of(root, path, full);
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

	say(path, "%s" DEVICES "/%s/physfn", root, addr);
	if (sriov_file_link(path, pf, SRIOV_ADDR_LEN) < 0)
		return -1;
	for (unsigned int i = 0; i < 64; i++) {
		vf_addr(root, pf, i, vf);
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

	pf_netdev(root, pf, netdev);
	snprintf(name, sizeof(name), "%sv%d", netdev, i);
	conf = load_conf(root, netdev, (unsigned int)i);
	snprintf(mac, sizeof(mac), "%02x:%02x:%02x:%02x:%02x:%02x\n", conf.mac[0], conf.mac[1],
		 conf.mac[2], conf.mac[3], conf.mac[4], conf.mac[5]);
	put_netdev(root, addr, name, mac);
}

static void bind_vfio(const char *root, const char *addr)
{
	char path[PATH_MAX], group[16];
	unsigned int number;

	say(path, "%s" DEVICES "/%s/iommu_group", root, addr);
	sriov_file_link(path, group, sizeof(group));
	say(path, "/dev/vfio/%s", group);
	put(root, path, "");
	number = (unsigned int)atoi(group) + 100;
	say(path, "vfio-dev/vfio%u/dev", number);
	put_attr(root, addr, path, "511:0\n");
	say(path, "/dev/vfio/devices/vfio%u", number);
	put(root, path, "");
}

static int bind_to(const char *root, const char *addr, const char *driver)
{
	char path[PATH_MAX], pf[SRIOV_ADDR_LEN], netdev[IFNAMSIZ];
	struct sriov_conf conf;
	int i;

	say(path, "/fake/refuse/%s", driver);
	if (has(root, path))
		return 0;
	say(path, "/sys/bus/pci/drivers/%s", driver);
	if (!has(root, path))
		return 0;
	set_driver(root, addr, driver);
	if (!strcmp(driver, "igbvf"))
		bind_net(root, addr);
	if (!strcmp(driver, "vfio-pci"))
		bind_vfio(root, addr);
	i = index_of_vf(root, addr, pf);
	if (i >= 0 && has(root, "/fake/lose")) {
		pf_netdev(root, pf, netdev);
		conf = load_conf(root, netdev, (unsigned int)i);
		memset(conf.mac, 0, sizeof(conf.mac));
		store_conf(root, netdev, (unsigned int)i, &conf);
		drop(root, "/fake/lose");
	}
	return 0;
}

static void unbind_from(const char *root, const char *addr)
{
	char path[PATH_MAX], netdev[IFNAMSIZ], node[PATH_MAX], driver[SRIOV_NAME_LEN], group[16];

	driver_of(root, addr, driver);
	if (!strcmp(driver, "vfio-pci")) {
		wait_while_held(root, addr);
		say(path, "%s" DEVICES "/%s/iommu_group", root, addr);
		sriov_file_link(path, group, sizeof(group));
		say(node, "/dev/vfio/%s", group);
		drop(root, node);
		say(node, "/dev/vfio/devices/vfio%d", atoi(group) + 100);
		drop(root, node);
		say(path, DEVICES "/%s/vfio-dev", addr);
		drop(root, path);
	}
	pf_netdev(root, addr, netdev);
	if (*netdev) {
		say(path, "/sys/class/net/%s", netdev);
		drop(root, path);
		say(path, DEVICES "/%s/net", addr);
		drop(root, path);
	}
	say(path, DEVICES "/%s/driver", addr);
	drop(root, path);
}

static int probe(const char *root, const char *addr)
{
	char path[PATH_MAX], pf[SRIOV_ADDR_LEN], override[SRIOV_NAME_LEN], autoprobe[8] = "1";
	char driver[SRIOV_NAME_LEN], class_code[16];

	say(path, DEVICES "/%s", addr);
	if (!has(root, path))
		return -ENODEV;
	driver_of(root, addr, driver);
	if (*driver)
		return 0;
	say(path, DEVICES "/%s/driver_override", addr);
	get(root, path, override, sizeof(override));
	if (strcmp(override, "(null)") != 0)
		return bind_to(root, addr, override);
	if (index_of_vf(root, addr, pf) >= 0) {
		say(path, DEVICES "/%s/sriov_drivers_autoprobe", pf);
		get(root, path, autoprobe, sizeof(autoprobe));
	}
	if (*autoprobe == '0')
		return 0;
	say(path, DEVICES "/%s/class", addr);
	get(root, path, class_code, sizeof(class_code));
	return bind_to(root, addr, !strcmp(class_code, "0x020000") ? "igbvf" : "nvme");
}

static void create_vf(const char *root, const char *pf, unsigned int i, unsigned int nr)
{
	struct function fn = { .vendor = "0x8086\n",
			       .device = "0x10ca\n",
			       .driver = "",
			       .netdev = "",
			       .group = 20 + (int)i };
	char addr[SRIOV_ADDR_LEN], path[PATH_MAX], class_code[16], node[16], target[PATH_MAX];
	struct sriov_conf conf = { .has = 0x1ff, .spoofchk = true };
	char netdev[IFNAMSIZ];

	vf_addr(root, pf, i, addr);
	say(path, DEVICES "/%s/class", pf);
	get(root, path, class_code, sizeof(class_code));
	say(path, DEVICES "/%s/numa_node", pf);
	get(root, path, node, sizeof(node));
	fn.addr = addr;
	fn.class_code = class_code;
	fn.node = node;
	fn.group += !strcmp(pf, FAKE_NVME) ? 20 : 0;
	put_function(root, &fn);
	put_attr(root, addr, "sriov_vf_msix_count", "");
	say(path, DEVICES "/%s/physfn", addr);
	say(target, "../%s", pf);
	put_link(root, path, target);
	say(path, DEVICES "/%s/virtfn%u", pf, i);
	say(target, "../%s", addr);
	put_link(root, path, target);
	pf_netdev(root, pf, netdev);
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

	say(path, "/fake/graves/%d-%u", (int)getpid(), number++);
	path_of(root, path, to);
	make_parents(to);
	say(path, DEVICES "/%s", addr);
	path_of(root, path, from);
	if (rename(from, to) < 0 && errno != ENOENT)
		abort();
}

static void destroy_vf(const char *root, const char *pf, unsigned int i)
{
	char addr[SRIOV_ADDR_LEN], path[PATH_MAX], netdev[IFNAMSIZ], group[16];

	vf_addr(root, pf, i, addr);
	/* Its link goes first, while the function may wait for its user. */
	say(path, DEVICES "/%s/virtfn%u", pf, i);
	drop(root, path);
	unbind_from(root, addr);
	say(path, "%s" DEVICES "/%s/iommu_group", root, addr);
	if (!sriov_file_link(path, group, sizeof(group))) {
		say(path, "/sys/kernel/iommu_groups/%s", group);
		drop(root, path);
	}
	say(path, "/sys/bus/pci/devices/%s", addr);
	drop(root, path);
	bury(root, addr);
	pf_netdev(root, pf, netdev);
	conf_path(netdev, i, path);
	drop(root, path);
}

static int write_numvfs(const char *root, const char *pf, const char *text)
{
	char path[PATH_MAX], number[16];
	unsigned int now, total, made, want = (unsigned int)atoi(text);

	say(path, DEVICES "/%s/sriov_totalvfs", pf);
	get(root, path, number, sizeof(number));
	total = (unsigned int)atoi(number);
	say(path, DEVICES "/%s/sriov_numvfs", pf);
	get(root, path, number, sizeof(number));
	now = (unsigned int)atoi(number);
	if (want > total)
		return -ERANGE;
	if (want == now)
		return 0;
	if (want && now)
		return -EBUSY;
	say(path, "/fake/make/%s", pf);
	get(root, path, number, sizeof(number));
	made = *number && want ? (unsigned int)atoi(number) : want;
	for (unsigned int i = 0; i < made; i++)
		create_vf(root, pf, i, made);
	for (unsigned int i = 0; i < now && !want; i++)
		destroy_vf(root, pf, i);
	put_number(root, pf, "sriov_numvfs", want);
	return 0;
}

static int write_dev(const char *root, const char *addr, const char *file, const char *text)
{
	char path[PATH_MAX], driver[SRIOV_NAME_LEN], number[16];

	say(path, DEVICES "/%s/%s", addr, file);
	if (!has(root, path))
		return -ENOENT;
	if (!strcmp(file, "sriov_numvfs"))
		return write_numvfs(root, addr, text);
	if (!strcmp(file, "driver_override")) {
		put(root, path, *text == '\n' ? "(null)\n" : text);
		return 0;
	}
	if (!strcmp(file, "sriov_drivers_autoprobe")) {
		put(root, path, text);
		return 0;
	}
	if (!strcmp(file, "sriov_vf_msix_count")) {
		driver_of(root, addr, driver);
		if (*driver)
			return -EBUSY;
		put(root, path, text);
		return 0;
	}
	if (!strcmp(file, "reset")) {
		wait_while_held(root, addr);
		say(path, "/fake/resets/%s", addr);
		get(root, path, number, sizeof(number));
		snprintf(number, sizeof(number), "%d", atoi(number) + 1);
		put(root, path, number);
		return 0;
	}
	return -EACCES;
}

static int fake_write(struct sriov *s, const char *path, const char *text)
{
	const char *root = s->root, *below = path + strlen(root), *file = strrchr(path, '/') + 1;
	char fail[PATH_MAX], number[16], addr[SRIOV_ADDR_LEN], driver[SRIOV_NAME_LEN];

	say(fail, "/fake/fail/%s", file);
	get(root, fail, number, sizeof(number));
	if (*number)
		return -atoi(number);
	if (sscanf(below, "/sys/bus/pci/devices/%23[^/]", addr) == 1)
		return write_dev(root, addr, file, text);
	if (!strcmp(below, "/sys/bus/pci/drivers_probe"))
		return probe(root, text);
	if (sscanf(below, "/sys/bus/pci/drivers/%63[^/]/", driver) == 1 &&
	    !strcmp(file, "unbind")) {
		char now[SRIOV_NAME_LEN];

		driver_of(root, text, now);
		if (strcmp(now, driver) != 0)
			return -ENODEV;
		unbind_from(root, text);
		return 0;
	}
	/* new_id above all: it takes siblings along. */
	abort();
}

static int fake_conf_get(struct sriov *s, const char *netdev, struct sriov_conf *conf,
			 unsigned int nr)
{
	for (unsigned int i = 0; i < nr; i++)
		conf[i] = load_conf(s->root, netdev, i);
	return 0;
}

static int fake_conf_set(struct sriov *s, const char *netdev, unsigned int vf,
			 const struct sriov_conf *want)
{
	struct sriov_conf conf = load_conf(s->root, netdev, vf);
	static const uint8_t no_mac[6];
	unsigned int bits = want->has;
	char number[16];

	if (!conf.has)
		return -EINVAL;
	if (bits & SRIOV_CONF_QUERY_RSS)
		return -EOPNOTSUPP;
	get(s->root, "/fake/ignore", number, sizeof(number));
	bits &= ~(unsigned int)atoi(number);
	if (bits & SRIOV_CONF_MAC && !memcmp(want->mac, no_mac, 6) &&
	    has(s->root, "/fake/zero-mac"))
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

	say(path, "/fake/netuse/%s", netdev);
	get(s->root, path, text, sizeof(text));
	return *text ? sriov_blocker_add(b, SRIOV_BLOCK_NET, "%s %s", netdev, text) : 0;
}

static int fake_link_set(struct sriov *s, const char *netdev, bool up)
{
	char path[PATH_MAX];

	say(path, "/sys/class/net/%s/flags", netdev);
	put(s->root, path, up ? "0x1003\n" : "0x1002\n");
	return 0;
}

static int fake_eswitch(struct sriov *s, const char *addr, char *mode)
{
	char path[PATH_MAX];

	say(path, "/fake/eswitch/%s", addr);
	get(s->root, path, mode, SRIOV_NAME_LEN);
	return *mode ? 0 : -EOPNOTSUPP;
}

static int fake_load_module(struct sriov *s, const char *name)
{
	char path[PATH_MAX];

	say(path, "/fake/modules/%s", name);
	if (!has(s->root, path))
		return -ENOENT;
	put_driver(s->root, name);
	return 0;
}

static void fake_before_change(struct sriov *s, const char *what)
{
	if (kill_at && !--kill_at)
		kill(getpid(), SIGKILL);
}

const struct sriov_os fake_os = {
	.write = fake_write,
	.conf_get = fake_conf_get,
	.conf_set = fake_conf_set,
	.net_use = fake_net_use,
	.link_set = fake_link_set,
	.eswitch = fake_eswitch,
	.load_module = fake_load_module,
	.before_change = fake_before_change,
};

void fake_kill_at(unsigned int n)
{
	kill_at = n;
}

/* ---- For tests ---- */

void fake_fill(const struct fake *f)
{
	static const struct function functions[] = {
		{ FAKE_PF, "0x8086\n", "0x10c9\n", "0x020000\n", "0\n", "igb", "eth0", 7, 128, 2,
		  10 },
		{ FAKE_NVME, "0x1b36\n", "0x0010\n", "0x010802\n", "1\n", "nvme", "", 2, 1, 1, 11 },
		{ FAKE_PLAIN, "0x1af4\n", "0x1000\n", "0x020000\n", "-1\n", "virtio-pci", "", 0, 0,
		  0, 12 },
	};
	static const char *const drivers[] = { "igb", "igbvf", "nvme", "virtio-pci" };

	for (size_t i = 0; i < ARRAY_SIZE(drivers); i++)
		put_driver(f->root, drivers[i]);
	for (size_t i = 0; i < ARRAY_SIZE(functions); i++)
		put_function(f->root, &functions[i]);
	fake_file(f, "/sys/bus/pci/drivers_probe", "");
	fake_file(f, "/fake/modules/vfio-pci", "");
	fake_file(f, "/proc/sys/kernel/random/boot_id", "b0071d00-0000-0000-0000-000000000001\n");
	fake_file(f, "/proc/self/mountinfo", "1 1 253:0 / / rw - ext4 /dev/vda rw\n");
	fake_file(f, "/proc/swaps", "Filename Type Size Used Priority\n");
	fake_file(f, "/sys/devices/system/node/node0/cpulist", "0-3\n");
	fake_file(f, "/sys/devices/system/node/node1/cpulist", "4-7\n");
	fake_file(f, DEVICES "/" FAKE_NVME "/nvme/nvme0/nvme0n1/dev", "259:0\n");
	fake_file(f, DEVICES "/" FAKE_NVME "/nvme/nvme0/nvme0n1/uevent", "DEVNAME=nvme0n1\n");
	fake_link(f, "/sys/block/nvme0n1", DEVICES "/" FAKE_NVME "/nvme/nvme0/nvme0n1");
}

void fake_create(struct fake *f)
{
	/* Records are synced to their disk: memory is a faster one. */
	const char *dir = getenv("TMPDIR");

	if (!dir)
		dir = access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm";
	snprintf(f->root, sizeof(f->root), "%s/ringbolt-sriov-XXXXXX", dir);
	assert_non_null(mkdtemp(f->root));
	fake_fill(f);
}

void fake_destroy(struct fake *f)
{
	nftw(f->root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

struct sriov *fake_open(struct fake *f, bool lock)
{
	struct sriov_opts opts = { .root = f->root, .os = &fake_os };
	struct sriov *s;
	int res;

	assert_int_equal(sriov_open(&opts, &s), 0);
	if (lock) {
		res = sriov_lock(s);
		if (res < 0)
			fail_msg("%s", sriov_error(s));
	}
	return s;
}

void fake_says(struct sriov *s, const char *text)
{
	if (!strstr(sriov_error(s), text))
		fail_msg("'%s' is not in: %s", text, sriov_error(s));
}

void fake_file(const struct fake *f, const char *path, const char *text)
{
	put(f->root, path, text);
}

void fake_link(const struct fake *f, const char *path, const char *target)
{
	put_link(f->root, path, target);
}

void fake_remove(const struct fake *f, const char *path)
{
	drop(f->root, path);
}

bool fake_exists(const struct fake *f, const char *path)
{
	return has(f->root, path);
}

const char *fake_read(const struct fake *f, const char *path)
{
	static char text[256];

	get(f->root, path, text, sizeof(text));
	return text;
}

const char *fake_driver(const struct fake *f, const char *addr)
{
	static char driver[SRIOV_NAME_LEN];

	driver_of(f->root, addr, driver);
	return driver;
}

unsigned int fake_nr_vfs(const struct fake *f, const char *pf)
{
	char path[PATH_MAX];
	unsigned int nr = 0;

	for (unsigned int i = 0; i < 64; i++) {
		say(path, DEVICES "/%s/virtfn%u", pf, i);
		nr += has(f->root, path);
	}
	return nr;
}

struct sriov_conf fake_conf(const struct fake *f, const char *netdev, unsigned int vf)
{
	return load_conf(f->root, netdev, vf);
}

void fake_process(const struct fake *f, int pid, const char *comm, const char *cmdline,
		  size_t cmdline_len, int fd, const char *target)
{
	char path[PATH_MAX], full[PATH_MAX], text[512];
	FILE *file;

	say(path, "/proc/%d/comm", pid);
	snprintf(text, sizeof(text), "%s\n", comm);
	put(f->root, path, text);
	say(path, "/proc/%d/stat", pid);
	snprintf(text, sizeof(text), "%d (%s) S 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 %d 0 0 0\n",
		 pid, comm, pid * 10);
	put(f->root, path, text);
	say(path, "/proc/%d/cmdline", pid);
	put(f->root, path, "");
	path_of(f->root, path, full);
	file = fopen(full, "we");
	assert_non_null(file);
	assert_int_equal(fwrite(cmdline, 1, cmdline_len, file), cmdline_len);
	fclose(file);
	if (!fd)
		return;
	say(path, "/proc/%d/fd/%d", pid, fd);
	path_of(f->root, path, full);
	make_parents(full);
	unlink(full);
	assert_int_equal(symlink(target, full), 0);
}

void fake_fail(const struct fake *f, const char *file, int error)
{
	char path[PATH_MAX], text[16];

	say(path, "/fake/fail/%s", file);
	snprintf(text, sizeof(text), "%d", error);
	put(f->root, path, text);
}
