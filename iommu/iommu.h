/*
 * Real devices behind the host's IOMMU: groups and whether they can be handed
 * over, a space of I/O addresses that devices share, what is mapped in it, and
 * the devices themselves, through VFIO. The public header of the host half of
 * this folder.
 *
 * A space is served by one of the kernel's two interfaces, chosen when its
 * first device is opened: a VFIO container with its groups (type1), or iommufd
 * with a character device per VFIO device. Callers see one interface.
 *
 * Nothing here logs. A function that takes err (IOMMU_ERR_LEN bytes, may be
 * NULL) leaves a sentence there when it fails: what was wanted, what stood in
 * the way and what to do about it. Functions return 0 or a positive count, or
 * -errno.
 *
 * One thread at a time may use a space, its devices and its listeners.
 *
 * Linux, Documentation/driver-api/vfio.rst and Documentation/userspace-api/
 * iommufd.rst.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef RINGBOLT_IOMMU_IOMMU_H
#define RINGBOLT_IOMMU_IOMMU_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "iommu/iova.h"

#define IOMMU_ERR_LEN 512
/* "0000:01:10.0" and NUL; a domain may have up to eight digits. */
#define IOMMU_ADDRESS_LEN 24
#define IOMMU_NAME_LEN 64
#define IOMMU_TOKEN_LEN 36 /* a UUID as text, without NUL */

/* ---- Groups: what sysfs says, without opening anything ---- */

/* Why a member of a group lets the group be handed over, or not. */
enum iommu_member_state {
	IOMMU_MEMBER_VFIO, /* bound to a VFIO driver */
	IOMMU_MEMBER_UNBOUND, /* no driver */
	IOMMU_MEMBER_HARMLESS, /* a driver that does no DMA of its own: pcieport, pci-stub */
	IOMMU_MEMBER_BLOCKS, /* a host driver owns it: the group is not viable */
	IOMMU_MEMBER_STATE_CNT,
};

struct iommu_member {
	char address[IOMMU_NAME_LEN]; /* the name in sysfs; not always a PCI address */
	char driver[IOMMU_NAME_LEN]; /* "" if there is none */
	uint32_t class_code; /* PCI class, subclass, interface; 0 if unknown */
	bool is_bridge;
	enum iommu_member_state state;
};

enum iommu_reserved_type {
	IOMMU_RESERVED_DIRECT, /* firmware wants it mapped one to one */
	IOMMU_RESERVED_RELAXABLE, /* the same, but may be ignored for VFIO */
	IOMMU_RESERVED_PLAIN, /* not translated, never to be used */
	IOMMU_RESERVED_MSI, /* writes here are interrupts */
	IOMMU_RESERVED_UNKNOWN,
	IOMMU_RESERVED_CNT,
};

/* [first, last]: a range that ends at 2^64 has a last, but no end. */
struct iommu_range {
	iova_t first, last;
};

struct iommu_reserved {
	struct iommu_range range;
	enum iommu_reserved_type type;
};

struct iommu_group {
	int id;
	char type[IOMMU_NAME_LEN]; /* "DMA", "DMA-FQ", "identity"; "" if not told */
	bool noiommu; /* a group of VFIO's own, without an IOMMU behind it */
	bool viable; /* no member blocks */
	unsigned int nr_members;
	struct iommu_member *member;
	unsigned int nr_reserved;
	struct iommu_reserved *reserved; /* sorted as the kernel prints them */
};

/*
 * The group of a PCI function, read below sysfs (NULL: "/sys"). A member that
 * disappears while this reads is left out. The caller frees *group.
 * -ENODEV: no such device; -ENOENT: it is in no group, which is said with its
 * usual reasons; -EINVAL: address is none. Any thread.
 */
int iommu_group_read(const char *sysfs, const char *address, struct iommu_group **group, char *err);
/* Accepts NULL. */
void iommu_group_free(struct iommu_group *group);
/* One sentence on one member: what it is bound to and what that means. */
void iommu_member_explain(const struct iommu_member *m, char *text);
/* Viable, or each member that blocks and what to do; text has IOMMU_ERR_LEN. */
void iommu_group_explain(const struct iommu_group *group, char *text);
/* {id, type, viable, noiommu, members: [{address, driver, class, state,
 * explained}], reserved: [{first, last, type}]}; NULL if out of memory. */
json_t *iommu_group_json(const struct iommu_group *group);

const char *iommu_member_state_name(enum iommu_member_state state);
const char *iommu_reserved_type_name(enum iommu_reserved_type type);

/*
 * Access control services of a function and of the ports between it and its root
 * complex, the function first. A port that redirects what its children send each
 * other keeps them in groups of their own; one that does not is why they share
 * one. PCI Express Base Specification, "Access Control Services".
 */
struct iommu_acs_hop {
	char address[IOMMU_ADDRESS_LEN];
	bool readable; /* the capabilities could be read: needs root */
	bool present; /* has the capability */
	bool isolates; /* validation and redirection are on, or nobody is beside it */
	uint16_t capability, control;
};

/* The number of hops (1: directly on the root complex), in *hops for the caller
 * to free(). -ENODEV, -EINVAL, -ENOMEM. Any thread. */
int iommu_acs_path(const char *sysfs, const char *address, struct iommu_acs_hop **hops, char *err);
/* [{address, readable, present, isolates, enabled: ["source-validation"...]}] */
json_t *iommu_acs_json(const struct iommu_acs_hop *hops, unsigned int nr);

/* ---- A space of I/O addresses ---- */

enum iommu_backend {
	IOMMU_BACKEND_AUTO, /* iommufd where it and the device's cdev can be opened */
	IOMMU_BACKEND_TYPE1, /* VFIO container and groups */
	IOMMU_BACKEND_IOMMUFD,
	IOMMU_BACKEND_NOIOMMU, /* as a result only: see allow_noiommu */
	IOMMU_BACKEND_CNT,
};

const char *iommu_backend_name(enum iommu_backend backend);
/* "auto", "group" or "type1", "cdev" or "iommufd"; -EINVAL otherwise. */
int iommu_backend_parse(const char *name);

struct iommu_sys;
struct iommu_space;
struct iommu_dev;

/* All zero is a good default. */
struct iommu_opts {
	const char *sysfs; /* NULL: "/sys" */
	const char *devfs; /* NULL: "/dev" */
	enum iommu_backend backend;
	/* Take a device that no IOMMU confines: whoever drives it can read and
	 * write all of the host's memory. Never the default. */
	bool allow_noiommu;
	const struct iommu_sys *sys; /* NULL: the kernel; tests answer themselves */
};

/* Nothing is opened yet. opts is copied, its strings too. -ENOMEM. */
int iommu_space_create(const struct iommu_opts *opts, struct iommu_space **space);
/* Its devices must have been closed; unmaps the rest. Accepts NULL. */
void iommu_space_destroy(struct iommu_space *space);

/* AUTO until the first device has been opened. */
enum iommu_backend iommu_space_backend(const struct iommu_space *space);
/* Where mappings may be, sorted: what all its devices can address, without what
 * is reserved. Valid until a device is opened or closed. */
unsigned int iommu_space_ranges(const struct iommu_space *space, const struct iommu_range **ranges);
/* Smallest page of the IOMMU in bytes: iova, address and length of a mapping
 * are multiples of it. */
uint64_t iommu_space_page_size(const struct iommu_space *space);

enum {
	IOMMU_READ = 1 << 0, /* the device may read memory */
	IOMMU_WRITE = 1 << 1,
};

struct iommu_mapping {
	iova_t iova;
	void *addr;
	uint64_t len;
	unsigned int prot; /* IOMMU_READ | IOMMU_WRITE */
};

/*
 * Let the space's devices reach len bytes at addr by iova. The memory is locked
 * until it is unmapped, and must stay mapped in this process until then. Checked
 * before the kernel is asked, so that err can say what is in the way:
 *   -EINVAL  not aligned, empty, wraps, or in no usable range (names the
 *            reserved region)
 *   -EEXIST  overlaps a mapping (names it)
 *   -ENOSPC  no entry left (dma_entry_limit)
 *   -ENOMEM  RLIMIT_MEMLOCK: what it needs, has and how to raise it
 *   -ENODEV  no device has been opened;  -EOPNOTSUPP without an IOMMU
 */
int iommu_map(struct iommu_space *space, const struct iommu_mapping *m, char *err);
/* All of them or, with the same errors, none. */
int iommu_map_all(struct iommu_space *space, const struct iommu_mapping *maps, unsigned int nr,
		  char *err);
/*
 * Take a mapping back. When this returns, the IOMMU refuses the device's
 * accesses; what the device still has queued for it must have been stopped
 * before. -ENOENT if [iova, iova + len) is not exactly one mapping: neither
 * interface can cut one.
 */
int iommu_unmap(struct iommu_space *space, iova_t iova, uint64_t len, char *err);
unsigned int iommu_space_nr_mappings(const struct iommu_space *space);
uint64_t iommu_space_mapped_bytes(const struct iommu_space *space);
/* The lowest usable address but 0 for len bytes, aligned to align (a power of
 * two, 0: the page size), that overlaps no mapping. -ENOSPC. */
int iommu_space_find(const struct iommu_space *space, uint64_t len, uint64_t align, iova_t *iova);

/* ---- Devices ---- */

/*
 * Open a function that a VFIO driver is bound to. token: the UUID that a PF on
 * vfio-pci wants for its VFs, or NULL. err tells a group that is not viable
 * member by member (-EPERM), a device in use (-EBUSY), missing permissions
 * (-EACCES) and what opens them. The caller closes *dev before the space goes.
 */
int iommu_dev_open(struct iommu_space *space, const char *address, const char *token,
		   struct iommu_dev **dev, char *err);
/* Unmaps its BARs, turns its interrupts off. Accepts NULL. With the last device
 * of a type1 space the mappings go: the IOMMU's own rule. */
void iommu_dev_close(struct iommu_dev *dev);
const char *iommu_dev_address(const struct iommu_dev *dev);
/* The group's, cdev's or device's path that was opened, for messages. */
const char *iommu_dev_path(const struct iommu_dev *dev);
/* Function level reset or what the kernel has in its place. -ENOTTY if the
 * device has none. Its registers are then as after power on. */
int iommu_dev_reset(struct iommu_dev *dev, char *err);
bool iommu_dev_can_reset(const struct iommu_dev *dev);

/* Region numbers of a PCI device, VFIO's: BARs are 0 to 5. */
enum {
	IOMMU_REGION_ROM = 6,
	IOMMU_REGION_CONFIG = 7,
	IOMMU_REGION_PCI_CNT = 9,
};

enum {
	IOMMU_REGION_READ = 1 << 0,
	IOMMU_REGION_WRITE = 1 << 1,
	IOMMU_REGION_MMAP = 1 << 2,
};

struct iommu_region {
	unsigned int index;
	unsigned int flags;
	uint64_t size; /* 0: the device does not have it */
};

/* -EINVAL if there is no such region. */
int iommu_dev_region(struct iommu_dev *dev, unsigned int index, struct iommu_region *region);
/* All of len, or -errno: -ERANGE past the region's end, -EIO if cut short. */
int iommu_dev_read(struct iommu_dev *dev, unsigned int index, uint64_t offset, void *buf,
		   size_t len);
int iommu_dev_write(struct iommu_dev *dev, unsigned int index, uint64_t offset, const void *buf,
		    size_t len);
/* DMA is off when a device is opened. Read-modify-write of the command register. */
int iommu_dev_bus_master(struct iommu_dev *dev, bool on);

/*
 * Map a BAR. What the kernel does not let be mapped (it may keep the page of the
 * interrupt table) leaves a hole. The pages go while the device is being reset
 * or has memory decoding off; touching them then is SIGBUS. Unmapped when the
 * device is closed. -ENOTSUP if no part of it can be mapped.
 */
int iommu_dev_map_bar(struct iommu_dev *dev, unsigned int index, char *err);
/* [offset, offset + len) of a mapped BAR, or NULL if it is not all mapped. */
void *iommu_dev_bar(struct iommu_dev *dev, unsigned int index, uint64_t offset, size_t len);

/* Interrupt numbers of a PCI device, VFIO's. */
enum iommu_irq {
	IOMMU_IRQ_INTX,
	IOMMU_IRQ_MSI,
	IOMMU_IRQ_MSIX,
	IOMMU_IRQ_ERR, /* the device reported an error that cannot be recovered */
	IOMMU_IRQ_REQ, /* the kernel wants the device back: close it soon */
	IOMMU_IRQ_CNT,
};

/* How many vectors the device has; 0 if none of that kind. */
int iommu_dev_nr_vectors(struct iommu_dev *dev, enum iommu_irq irq);
/*
 * Wire vectors 0 to nr - 1 to event file descriptors, which the caller keeps;
 * -1 leaves a vector off. Replaces what was wired. nr 0 turns all off.
 * -EINVAL for more than the device has.
 */
int iommu_dev_irqs(struct iommu_dev *dev, enum iommu_irq irq, const int *fds, unsigned int nr,
		   char *err);
/* Signal a wired vector as if the device had: a test of the way up. */
int iommu_dev_irq_trigger(struct iommu_dev *dev, enum iommu_irq irq, unsigned int vector);

/* ---- Memory that comes and goes ---- */

struct iommu_listener;

/* A region of a guest's memory as the listener keeps it. */
struct iommu_memory {
	struct iommu_mapping map;
	void *cookie; /* the caller's, from iommu_listener_add() */
};

struct iommu_listener_ops {
	/*
	 * Stop the devices' accesses to this region: it is about to be unmapped.
	 * 0 when there is none left, or -EINPROGRESS: iommu_listener_fenced()
	 * follows. NULL: no device is ever using it at that time.
	 */
	int (*fence)(void *opaque, const struct iommu_memory *m);
	/* It is unmapped, and the listener forgets it: drop the reference that
	 * kept the memory. NULL ok. */
	void (*removed)(void *opaque, const struct iommu_memory *m);
};

/* Borrowed: space and ops. -ENOMEM. */
int iommu_listener_create(struct iommu_space *space, const struct iommu_listener_ops *ops,
			  void *opaque, struct iommu_listener **listener);
/* Unmaps what is left, without asking fence: devices must be quiet. removed() is
 * called for each. Accepts NULL. */
void iommu_listener_destroy(struct iommu_listener *listener);
/* Map a region as it comes. Errors of iommu_map(): it is then not kept, and the
 * devices cannot reach it. */
int iommu_listener_add(struct iommu_listener *listener, const struct iommu_mapping *m, void *cookie,
		       char *err);
/* A region goes: fence, unmap, removed(), in this order. 0 when all that is
 * done, -EINPROGRESS if the fence is still up, -ENOENT if it is none of ours. */
int iommu_listener_remove(struct iommu_listener *listener, iova_t iova, char *err);
/* Accesses to this region have ended. Does nothing if no fence is up for it. */
void iommu_listener_fenced(struct iommu_listener *listener, iova_t iova);
unsigned int iommu_listener_nr(const struct iommu_listener *listener);

/* ---- Proof of a hand-over ---- */

/*
 * Open the function through VFIO, read its configuration and a BAR, map buffers
 * for DMA, wire an interrupt and signal it, reset, close; unless a step fails,
 * which ends it. The device must be bound to a VFIO driver and idle.
 *
 *   {"address", "backend", "ok": bool, "steps": [{"step": "open"...,
 *    "result": "ok" | "failed" | "skipped", "detail": text, ...values}]}
 *
 * The caller owns the object; NULL if out of memory.
 */
json_t *iommu_probe(const struct iommu_opts *opts, const char *address, const char *token);

#endif
