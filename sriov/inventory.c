/*
 * The inventory: which functions there are, in order, and what a user's word for
 * one of them means. Called by programs. Takes no lock, and looks at no file
 * that waits for a change that is under way.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "sriov/inventory.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base.h"
#include "sriov/internal.h"

/* ---- Facts that need rtnetlink or devlink ---- */

static void read_total_msix(struct sriov *s, struct sriov_func *pf)
{
	char path[SRIOV_PATH_LEN], text[1][SRIOV_NAME_LEN] = { "" };
	const char *paths[1] = { path };
	int res[1] = { 0 };

	sriov_dev_path(s, path, pf->addr, "sriov_vf_total_msix");
	if (!sriov_file_exists(path))
		return;
	sriov_guard_read(s, paths, 1, text, res);
	pf->vf_total_msix = (unsigned int)strtoul(text[0], NULL, 10);
}

static void pf_confs(struct sriov *s, struct sriov_func *pf, struct sriov_func *vfs,
		     unsigned int nr)
{
	struct sriov_conf *conf;
	int max = 0;

	/* A VF that is just being removed has no number any more. */
	for (unsigned int i = 0; i < nr; i++)
		max = vfs[i].vf_index >= max ? vfs[i].vf_index + 1 : max;
	read_total_msix(s, pf);
	if (sriov_ask_eswitch(s, pf->addr, pf->eswitch) < 0)
		pf->eswitch[0] = '\0';
	if (!*pf->netdev || !max)
		return;
	conf = calloc((size_t)max, sizeof(*conf));
	/* A driver without configuration of VFs is no error: they have none. */
	if (conf && !sriov_ask_conf(s, pf->netdev, conf, (unsigned int)max)) {
		for (unsigned int i = 0; i < nr; i++) {
			if (vfs[i].vf_index >= 0)
				vfs[i].conf = conf[vfs[i].vf_index];
		}
	}
	free(conf);
}

/*
 * The VF of this PF that a port of its switch stands for, -1 if for none. A
 * representor is called pf0vf3 (by the function number of the PF: ports of one
 * card may share a switch) or just 3, and is no VF itself. One of another
 * controller, c1pf0vf3, stands for a VF of the machine that the card is in. Linux,
 * Documentation/networking/switchdev.rst, "Port Netdev Naming", and
 * devlink-port.rst.
 */
static int port_vf(const struct sriov_func *pf, const char *port)
{
	unsigned int number, vf;
	char end, function = pf->addr[strlen(pf->addr) - 1];

	if (sscanf(port, "pf%uvf%u%c", &number, &vf, &end) == 2)
		return number == (unsigned int)(function - '0') && vf < SRIOV_VFS_MAX ? (int)vf
										      : -1;
	return sscanf(port, "%u%c", &vf, &end) == 1 && vf < SRIOV_VFS_MAX ? (int)vf : -1;
}

/* All network devices of this namespace; their number, *netdev is to be freed. */
static unsigned int all_netdevs(struct sriov *s, char (**netdev)[IFNAMSIZ])
{
	char path[SRIOV_PATH_LEN];
	char(*grown)[IFNAMSIZ];
	unsigned int nr = 0;
	struct dirent *e;
	DIR *dir;

	*netdev = NULL;
	sriov_path(s, path, "/sys/class/net");
	dir = opendir(path);
	while (dir && (e = readdir(dir))) {
		if (e->d_name[0] == '.' || strlen(e->d_name) >= IFNAMSIZ)
			continue;
		grown = reallocarray(*netdev, nr + 1, sizeof(*grown));
		if (!grown)
			break;
		*netdev = grown;
		sriov_text(grown[nr++], IFNAMSIZ, "%s", e->d_name);
	}
	if (dir)
		closedir(dir);
	return nr;
}

static void find_representors(struct sriov *s, struct sriov_func *pf, struct sriov_func *vfs,
			      unsigned int nr_vfs)
{
	char(*netdev)[IFNAMSIZ] = NULL;
	struct sriov_port *port;
	unsigned int nr;
	int vf;

	if (!*pf->switch_id)
		return;
	nr = all_netdevs(s, &netdev);
	port = nr ? calloc(nr, sizeof(*port)) : NULL;
	if (port)
		sriov_port_names(s, netdev, nr, port);
	for (unsigned int i = 0; port && i < nr; i++) {
		if (!strcmp(netdev[i], pf->netdev) || strcmp(port[i].switch_id, pf->switch_id) != 0)
			continue;
		vf = port_vf(pf, port[i].name);
		for (unsigned int j = 0; j < nr_vfs && vf >= 0; j++) {
			if (vfs[j].vf_index == vf)
				sriov_text(vfs[j].representor, IFNAMSIZ, "%s", netdev[i]);
		}
	}
	free(port);
	free(netdev);
}

/* ---- The list ---- */

struct addrs {
	char (*addr)[SRIOV_ADDR_LEN];
	unsigned int nr;
};

/* Domains of more than four digits come last; otherwise text order is bus order. */
static int by_addr(const void *a, const void *b)
{
	size_t a_len = strlen(a), b_len = strlen(b);

	return a_len != b_len ? (a_len > b_len) - (a_len < b_len) : strcmp(a, b);
}

static int add_addr(struct addrs *list, const char *addr)
{
	char(*grown)[SRIOV_ADDR_LEN];

	grown = reallocarray(list->addr, list->nr + 1, sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	list->addr = grown;
	sriov_text(grown[list->nr++], SRIOV_ADDR_LEN, "%s", addr);
	return 0;
}

static int all_addrs(struct sriov *s, struct addrs *list)
{
	char path[SRIOV_PATH_LEN], addr[SRIOV_ADDR_LEN];
	struct dirent *e;
	int res = 0;
	DIR *dir;

	sriov_path(s, path, "/sys/bus/pci/devices");
	dir = opendir(path);
	if (!dir)
		return sriov_fail(s, -errno, "%s: %s", path, strerror(errno));
	while (!res && (e = readdir(dir))) {
		if (!sriov_addr_parse(e->d_name, addr))
			res = add_addr(list, addr);
	}
	closedir(dir);
	if (list->nr)
		qsort(list->addr, list->nr, sizeof(*list->addr), by_addr);
	return res < 0 ? sriov_fail(s, res, "out of memory") : 0;
}

static void add_func(struct sriov *s, struct sriov_list *list, const char *addr)
{
	struct sriov_func *grown = reallocarray(list->func, list->nr + 1, sizeof(*grown));

	if (!grown)
		return;
	list->func = grown;
	/* One that vanished meanwhile is not there any more: no error. */
	if (!sriov_func_facts(s, addr, &list->func[list->nr]))
		list->nr++;
	s->err[0] = '\0';
}

/* A PF, and behind it its VFs. */
static void add_pf(struct sriov *s, struct sriov_list *list, const char *addr, unsigned int flags)
{
	unsigned int first = list->nr;
	char(*vf)[SRIOV_ADDR_LEN];
	struct sriov_func *pf;
	int nr;

	add_func(s, list, addr);
	if (list->nr == first)
		return;
	nr = sriov_vf_addrs(s, addr, &vf);
	for (int i = 0; i < nr; i++) {
		if (*vf[i])
			add_func(s, list, vf[i]);
	}
	if (nr >= 0)
		free(vf);
	/* Not before: the list has moved as it grew. */
	pf = &list->func[first];
	pf->nr_vfs = list->nr - first - 1;
	for (unsigned int i = first; i < list->nr && flags & SRIOV_LIST_CONF; i++)
		sriov_func_port(s, &list->func[i]);
	if (flags & SRIOV_LIST_CONF && !sriov_is_stuck(s, addr)) {
		pf_confs(s, pf, pf + 1, pf->nr_vfs);
		find_representors(s, pf, pf + 1, pf->nr_vfs);
	}
}

static bool has_file(struct sriov *s, const char *addr, const char *file)
{
	char path[SRIOV_PATH_LEN];

	sriov_dev_path(s, path, addr, file);
	return sriov_file_exists(path);
}

int sriov_list(struct sriov *s, unsigned int flags, struct sriov_list **out)
{
	struct sriov_list *list = calloc(1, sizeof(*list));
	struct addrs addrs = { NULL };
	int res;

	if (!list)
		return sriov_fail(s, -ENOMEM, "out of memory");
	res = all_addrs(s, &addrs);
	if (res < 0)
		goto err_free;
	for (unsigned int i = 0; i < addrs.nr; i++) {
		if (has_file(s, addrs.addr[i], "physfn"))
			continue;
		if (has_file(s, addrs.addr[i], "sriov_totalvfs"))
			add_pf(s, list, addrs.addr[i], flags);
		else if (flags & SRIOV_LIST_ALL)
			add_func(s, list, addrs.addr[i]);
	}
	if (list->nr)
		sriov_func_overrides(s, list->func, list->nr);
	for (unsigned int i = 0; i < list->nr && flags & SRIOV_LIST_NAMES; i++)
		sriov_func_names(s, &list->func[i]);
	free(addrs.addr);
	*out = list;
	return 0;

err_free:
	free(addrs.addr);
	sriov_list_free(list);
	return res;
}

void sriov_list_free(struct sriov_list *list)
{
	if (!list)
		return;
	free(list->func);
	free(list);
}

int sriov_func_read(struct sriov *s, const char *addr, unsigned int flags, struct sriov_func *f)
{
	struct sriov_func pf;
	int res;

	res = sriov_func_facts(s, addr, f);
	if (res < 0)
		return res;
	sriov_func_overrides(s, f, 1);
	if (flags & SRIOV_LIST_NAMES)
		sriov_func_names(s, f);
	if (flags & SRIOV_LIST_CONF)
		sriov_func_port(s, f);
	if (!(flags & SRIOV_LIST_CONF) || sriov_is_stuck(s, f->is_vf ? f->pf : addr))
		return 0;
	if (f->is_pf) {
		pf_confs(s, f, NULL, 0);
	} else if (f->is_vf && f->vf_index >= 0 && !sriov_func_facts(s, f->pf, &pf)) {
		sriov_func_port(s, &pf);
		pf_confs(s, &pf, f, 1);
		find_representors(s, &pf, f, 1);
	}
	return 0;
}

/* ---- What a user wrote ---- */

/* The function behind a network device; netdevsim and others have none. */
static int resolve_netdev(struct sriov *s, const char *name, char addr[SRIOV_ADDR_LEN])
{
	char path[SRIOV_PATH_LEN];

	if (strchr(name, '/') || *name == '.' || strlen(name) >= IFNAMSIZ)
		return -EINVAL;
	sriov_path(s, path, "/sys/class/net/%s", name);
	if (!*name || !sriov_file_exists(path))
		return sriov_fail(s, -ENODEV,
				  "'%s': expected the address of a PCI function such as "
				  "0000:3b:00.0, a network device, or PF/INDEX",
				  name);
	if (sriov_netdev_function(s, name, addr) < 0)
		return sriov_fail(s, -ENODEV, "%s: the network device has no PCI function", name);
	return 0;
}

static int resolve_plain(struct sriov *s, const char *text, char addr[SRIOV_ADDR_LEN])
{
	int res;

	if (!sriov_addr_parse(text, addr))
		return sriov_dev_exists(s, addr)
			       ? 0
			       : sriov_fail(s, -ENODEV, "%s: no such PCI function", addr);
	res = resolve_netdev(s, text, addr);
	if (res == -EINVAL)
		return sriov_fail(s, res,
				  "'%.80s': expected the address of a PCI function such as "
				  "0000:3b:00.0, a network device, or PF/INDEX",
				  text);
	return res;
}

int sriov_resolve(struct sriov *s, const char *text, char addr[SRIOV_ADDR_LEN])
{
	const char *slash = strchr(text, '/');
	char(*vf)[SRIOV_ADDR_LEN];
	char pf[SRIOV_ADDR_LEN + IFNAMSIZ], *end;
	unsigned long index;
	int res, nr;

	if (!slash || (size_t)(slash - text) >= sizeof(pf) || !isdigit((unsigned char)slash[1]))
		return resolve_plain(s, text, addr);
	index = strtoul(slash + 1, &end, 10);
	if (*end)
		return resolve_plain(s, text, addr);
	sriov_text(pf, sizeof(pf), "%.*s", (int)(slash - text), text);
	res = resolve_plain(s, pf, addr);
	if (res < 0)
		return res;
	nr = sriov_vf_addrs(s, addr, &vf);
	if (nr < 0)
		return sriov_fail(s, nr, "%s: %s", addr, strerror(-nr));
	if (index >= (unsigned long)nr || !*vf[index])
		res = sriov_fail(s, -ENODEV, "%s: %s has no VF %lu%s", text, addr, index,
				 nr ? "" : ", it has none at all");
	else
		sriov_text(addr, SRIOV_ADDR_LEN, "%s", vf[index]);
	free(vf);
	return res;
}
