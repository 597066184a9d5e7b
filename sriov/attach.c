/*
 * What to tell a VMM or DPDK so that it takes claimed VFs. Called by programs.
 * Changes nothing.
 *
 * Theory of operation: a group's file can be given to a user, and so can a
 * function's own (cdev); /dev/iommu, which the latter needs as well, is for all
 * functions and not given to anybody. A user without rights to it takes the
 * group, or has the files opened by who starts the program.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "sriov/attach.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base.h"
#include "core/fd.h"
#include "core/log.h"
#include "sriov/claim.h"

const char *const sriov_attach_names[] = { "qemu", "libvirt", "cloud-hypervisor", "dpdk", NULL };
static_assert(ARRAY_SIZE(sriov_attach_names) == SRIOV_ATTACH_CNT + 1, "a word per format");

/* ---- Lists of texts ---- */

/* One more, whose text is the caller's to write; NULL without memory. */
static char *grow(char (**list)[SRIOV_TEXT_LEN], unsigned int *nr)
{
	char(*grown)[SRIOV_TEXT_LEN] = reallocarray(*list, *nr + 1, sizeof(*grown));

	if (!grown)
		return NULL;
	*list = grown;
	return grown[(*nr)++];
}

static int add(struct sriov_attachment *a, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

static int add(struct sriov_attachment *a, const char *fmt, ...)
{
	char *text = grow(&a->arg, &a->nr);
	va_list ap;

	if (!text)
		return -ENOMEM;
	va_start(ap, fmt);
	if (vsnprintf(text, SRIOV_TEXT_LEN, fmt, ap) < 0)
		text[0] = '\0';
	va_end(ap);
	return 0;
}

/* Once: VFs of one group share its file. */
static int add_node(struct sriov_attachment *a, const char *node)
{
	char *text;

	for (unsigned int i = 0; i < a->nr_nodes; i++) {
		if (!strcmp(a->node[i], node))
			return 0;
	}
	text = grow(&a->node, &a->nr_nodes);
	if (!text)
		return -ENOMEM;
	sriov_text(text, SRIOV_TEXT_LEN, "%s", node);
	return 0;
}

/* ---- The words of each program ---- */

struct attach {
	struct sriov *s;
	const char (*vf)[SRIOV_ADDR_LEN];
	unsigned int nr;
	const struct sriov_attach_opts *opts;
	bool by_cdev, by_fd;
};

/* By the first VF, so that what is printed for two of them can stand on one
 * command line. QEMU, id_wellformed(): no colon. */
static void iommufd_id(const struct attach *t, char *id, size_t len)
{
	sriov_text(id, len, "iommufd-%s", t->vf[0]);
	for (char *p = id; *p; p++) {
		if (*p == ':')
			*p = '-';
	}
}

/* QEMU, docs/devel/vfio-iommufd.rst. One iommufd for all: guest memory is mapped
 * and counted once. */
static int for_qemu(const struct attach *t, struct sriov_attachment *a)
{
	char id[SRIOV_ADDR_LEN + 16];
	int res = 0;

	iommufd_id(t, id, sizeof(id));
	if (t->by_cdev) {
		res |= add(a, "-object");
		res |= t->by_fd ? add(a, "iommufd,id=%s,fd=%d", id, a->fd[0])
				: add(a, "iommufd,id=%s", id);
	}
	for (unsigned int i = 0; i < t->nr; i++) {
		res |= add(a, "-device");
		res |= t->by_fd ? add(a, "vfio-pci,iommufd=%s,fd=%d", id, a->fd[1 + i])
				: add(a, "vfio-pci,host=%s%s%s", t->vf[i],
				      t->by_cdev ? ",iommufd=" : "", t->by_cdev ? id : "");
	}
	return res;
}

/* libvirt, "Domain XML format", "Host device assignment". managed='no': the
 * driver is not libvirt's to change. */
static int for_libvirt(const struct attach *t, struct sriov_attachment *a)
{
	unsigned int domain = 0, bus = 0, device = 0, function = 0;
	int res = 0;

	for (unsigned int i = 0; i < t->nr; i++) {
		if (sscanf(t->vf[i], "%x:%x:%x.%x", &domain, &bus, &device, &function) != 4)
			return -EINVAL;
		res |= add(a, "<hostdev mode='subsystem' type='pci' managed='no'>");
		if (t->by_cdev)
			res |= add(a, "  <driver iommufd='yes'/>");
		res |= add(a, "  <source>");
		res |= add(a,
			   "    <address domain='0x%04x' bus='0x%02x' slot='0x%02x' "
			   "function='0x%x'/>",
			   domain, bus, device, function);
		res |= add(a, "  </source>");
		res |= add(a, "</hostdev>");
	}
	return res;
}

/* cloud-hypervisor, docs/vfio.md. It takes each option once, with many values. */
static int for_cloud_hypervisor(const struct attach *t, struct sriov_attachment *a)
{
	int res = 0;

	if (t->by_cdev) {
		res |= add(a, "--platform");
		res |= add(a, "iommufd=on");
	}
	res |= add(a, "--device");
	for (unsigned int i = 0; i < t->nr; i++)
		res |= add(a, "path=/sys/bus/pci/devices/%s/", t->vf[i]);
	return res;
}

/* DPDK, "EAL parameters". */
static int for_dpdk(const struct attach *t, struct sriov_attachment *a)
{
	int res = 0;

	for (unsigned int i = 0; i < t->nr; i++)
		res |= add(a, "--allow=%s", t->vf[i]);
	return res;
}

static int words(const struct attach *t, struct sriov_attachment *a)
{
	switch (t->opts->format) {
	case SRIOV_ATTACH_QEMU:
		return for_qemu(t, a);
	case SRIOV_ATTACH_LIBVIRT:
		return for_libvirt(t, a);
	case SRIOV_ATTACH_CLOUD_HYPERVISOR:
		return for_cloud_hypervisor(t, a);
	default:
		return for_dpdk(t, a);
	}
}

/* ---- Who may have them, and how ---- */

static int check_claim(struct sriov *s, const struct sriov_func *f, const char *owner)
{
	if (f->claim == SRIOV_CLAIM_NONE)
		return sriov_fail(s, -ENOENT, "%s: is not claimed: claim it first", f->addr);
	if (strcmp(owner, f->owner) != 0)
		return sriov_fail(s, -EPERM, "%s: is claimed by %s, not by %s", f->addr, f->owner,
				  owner);
	if (f->claim == SRIOV_CLAIM_MOVING)
		return sriov_fail(s, -EBUSY, "%s: is just being claimed or released by %s", f->addr,
				  f->owner);
	if (!sriov_driver_is_vfio(f->driver))
		return sriov_fail(s, -ENOTSUP,
				  "%s: has driver %s: a VM takes it from a VFIO driver only",
				  f->addr, *f->driver ? f->driver : "none");
	return 0;
}

/* Of one VF. */
struct files {
	char group[SRIOV_TEXT_LEN], cdev[SRIOV_TEXT_LEN];
};

static int look_at(struct attach *t, struct files *files)
{
	const char *owner = t->opts->owner;
	struct sriov_func f = { 0 };
	char first[SRIOV_NAME_LEN];
	int res;

	for (unsigned int i = 0; i < t->nr; i++) {
		for (unsigned int j = 0; j < i; j++) {
			if (!strcmp(t->vf[i], t->vf[j]))
				return sriov_fail(t->s, -EINVAL, "%s: expected once, given twice",
						  t->vf[i]);
		}
		res = sriov_func_read(t->s, t->vf[i], 0, &f);
		if (res < 0)
			return res;
		if (!i)
			sriov_text(first, sizeof(first), "%s", f.owner);
		res = check_claim(t->s, &f, owner ? owner : first);
		if (res < 0)
			return res;
		sriov_vfio_nodes(t->s, t->vf[i], f.iommu_group, files[i].group, files[i].cdev);
	}
	return 0;
}

/* The user that shall open the files: if nobody said, the one that has them. */
static void find_user(const struct attach *t, const struct files *files, uid_t *uid, gid_t *gid)
{
	char path[SRIOV_PATH_LEN];
	struct stat st;

	*uid = t->opts->uid;
	*gid = t->opts->gid;
	if (t->opts->has_user)
		return;
	sriov_path(t->s, path, "%s", files[0].group);
	if (!lstat(path, &st)) {
		*uid = st.st_uid;
		*gid = st.st_gid;
	}
}

static int choose_way(struct attach *t, const struct files *files)
{
	const struct sriov_attach_opts *o = t->opts;
	const char *without = NULL;
	char path[SRIOV_PATH_LEN];
	bool can;
	uid_t uid;
	gid_t gid;

	sriov_path(t->s, path, "/dev/iommu");
	for (unsigned int i = 0; i < t->nr && !without; i++) {
		if (!*files[i].cdev || !sriov_file_exists(path))
			without = t->vf[i];
	}
	find_user(t, files, &uid, &gid);
	t->by_fd = o->open && o->format == SRIOV_ATTACH_QEMU && !without &&
		   o->backend != IOMMU_BACKEND_TYPE1;
	can = !without && o->format != SRIOV_ATTACH_DPDK &&
	      (t->by_fd || sriov_node_may_open(t->s, "/dev/iommu", uid, gid));
	t->by_cdev =
		o->backend == IOMMU_BACKEND_IOMMUFD || (o->backend == IOMMU_BACKEND_AUTO && can);
	if (!t->by_cdev || can)
		return 0;
	if (o->format == SRIOV_ATTACH_DPDK)
		return sriov_fail(t->s, -ENOTSUP, "%s: DPDK takes a device by its group only",
				  t->vf[0]);
	if (without)
		return sriov_fail(t->s, -ENOTSUP,
				  "%s: has no character device of its own: this kernel has no "
				  "CONFIG_VFIO_DEVICE_CDEV, or an IOMMU is missing",
				  without);
	return 0; /* can_use() tells of it */
}

/* Known to be of no use if the user was named; else there may be another one. */
static int can_use(struct attach *t, const struct sriov_attachment *a, const struct files *files)
{
	const char *hint;
	uid_t uid;
	gid_t gid;

	find_user(t, files, &uid, &gid);
	for (unsigned int i = 0; i < a->nr_nodes && !t->by_fd; i++) {
		if (sriov_node_may_open(t->s, a->node[i], uid, gid))
			continue;
		hint = i	    ? "claim the VF with --user"
		       : t->by_cdev ? "take it by its group, or have attach start a QEMU"
				    : "it is everybody's by default";
		if (t->opts->has_user)
			return sriov_fail(t->s, -EACCES, "%s: user %u cannot open it: %s",
					  a->node[i], (unsigned int)uid, hint);
		log_warn("%s: user %u, who has the VF's files, cannot open it: %s", a->node[i],
			 (unsigned int)uid, hint);
	}
	return 0;
}

static int open_nodes(struct attach *t, struct sriov_attachment *a)
{
	char path[SRIOV_PATH_LEN];

	a->fd = calloc(a->nr_nodes, sizeof(*a->fd));
	if (!a->fd)
		return sriov_fail(t->s, -ENOMEM, "out of memory");
	for (unsigned int i = 0; i < a->nr_nodes; i++) {
		sriov_path(t->s, path, "%s", a->node[i]);
		a->fd[i] = open(path, O_RDWR | O_CLOEXEC);
		if (a->fd[i] < 0)
			return sriov_fail(t->s, -errno, "%s: %s", path, strerror(errno));
		a->nr_fds++;
	}
	return 0;
}

static int list_nodes(struct attach *t, const struct files *files, struct sriov_attachment *a)
{
	int res;

	res = add_node(a, t->by_cdev ? "/dev/iommu" : "/dev/vfio/vfio");
	for (unsigned int i = 0; i < t->nr && !res; i++)
		res = add_node(a, t->by_cdev ? files[i].cdev : files[i].group);
	return res < 0 ? sriov_fail(t->s, res, "out of memory") : 0;
}

int sriov_attach(struct sriov *s, const char (*vf)[SRIOV_ADDR_LEN], unsigned int nr,
		 const struct sriov_attach_opts *opts, struct sriov_attachment *a)
{
	struct attach t = { .s = s, .vf = vf, .nr = nr, .opts = opts };
	struct files *files = calloc(nr, sizeof(*files));
	int res;

	memset(a, 0, sizeof(*a));
	if (!files)
		return sriov_fail(s, -ENOMEM, "out of memory");
	res = look_at(&t, files);
	if (!res)
		res = choose_way(&t, files);
	if (!res)
		res = list_nodes(&t, files, a);
	if (!res)
		res = can_use(&t, a, files);
	if (!res && t.by_fd)
		res = open_nodes(&t, a);
	if (!res && words(&t, a) < 0)
		res = sriov_fail(s, -ENOMEM, "out of memory");
	free(files);
	return res;
}

void sriov_attachment_free(struct sriov_attachment *a)
{
	for (unsigned int i = 0; i < a->nr_fds; i++)
		fd_replace(&a->fd[i], -1);
	free(a->fd);
	free(a->arg);
	free(a->node);
	memset(a, 0, sizeof(*a));
}
