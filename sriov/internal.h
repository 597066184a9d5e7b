/*
 * What the files of sriov/ share and nobody else sees: the machine, its files,
 * the record kept of each function, and the kernel's part that tests replace.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef RINGBOLT_SRIOV_INTERNAL_H
#define RINGBOLT_SRIOV_INTERNAL_H

#include <stdarg.h>
#include <stdio.h>

#include "sriov/sriov.h"

#define SRIOV_PATH_LEN 768
#define SRIOV_VFS_MAX 65536 /* NumVFs has 16 bits */

struct pci_access;
struct sriov_rec;

/*
 * What is asked of the kernel by other means than reading files. Everything
 * returns 0 or -errno. All but those of modules, settle() and before_change() run
 * in a child process, with nobody to read what it prints: called by guard.c,
 * ask.c, disks.c and watch.c only.
 */
struct sriov_os {
	int (*write)(struct sriov *s, const char *path, const char *text);
	/* Configuration of VFs 0 to nr - 1 by their PF's network device. A positive
	 * number: of so many VFs the kernel has not told. */
	int (*conf_get)(struct sriov *s, const char *netdev, struct sriov_conf *conf,
			unsigned int nr);
	int (*conf_set)(struct sriov *s, const char *netdev, unsigned int vf,
			const struct sriov_conf *conf);
	/* Each reason why the host needs this network device. */
	int (*net_use)(struct sriov *s, const char *netdev, struct sriov_blockers *b);
	int (*link_set)(struct sriov *s, const char *netdev, bool up);
	/* Each network device as a line: its index, 1 if it has a carrier or 0, its
	 * name. */
	int (*links)(struct sriov *s, FILE *out);
	/* -EOPNOTSUPP without devlink. mode has SRIOV_NAME_LEN. */
	int (*eswitch)(struct sriov *s, const char *bus, const char *name, char *mode);
	int (*load_module)(struct sriov *s, const char *name);
	/* -ENOENT if load_module() would not find it. */
	int (*find_module)(struct sriov *s, const char *name);
	/* Open this block device as if to keep it, and let go. -EBUSY if the kernel
	 * uses it. */
	int (*disk_take)(struct sriov *s, const char *path);
	/* Until udev has done what the kernel has told it. 0 without udev. */
	int (*settle)(struct sriov *s, unsigned int timeout_ms);
	/* Called before each change that outlives this process. May be NULL. */
	void (*before_change)(struct sriov *s, const char *what);
};

extern const struct sriov_os sriov_kernel;

struct sriov_held; /* an open file of a process, users.c */
struct sriov_devfile; /* a device file of a function, devfiles.c */

struct sriov {
	char root[256], state_dir[256];
	char boot_id[40];
	unsigned int timeout_ms; /* 0: by what is written */
	unsigned int lock_wait_ms;
	const struct sriov_os *os;
	void *os_opaque;
	int lock_fd; /* -1: not locked */
	bool asks_hang; /* netlink has not answered once: no use to wait long again */
	pid_t stuck; /* a child of survey.c that has not answered, 0: none */
	struct pci_access *names; /* NULL until the first look-up */
	struct sriov_held *held; /* what users.c has seen last */
	unsigned int nr_held;
	struct sriov_devfile *devfile; /* of the same moment */
	unsigned int nr_devfiles;
	char err[SRIOV_ERR_LEN];
};

/* Leave the sentence, return code. */
int sriov_fail(struct sriov *s, int code, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* What the kernel or a driver answered, so that -EINVAL is always the caller's:
 * theirs becomes -EREMOTEIO. */
int sriov_kernel_errno(int res);
/* Put a beginning before the sentence that is there. */
void sriov_fail_more(struct sriov *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* snprintf() for where being cut is fine; whole characters stay whole. */
void sriov_text_v(char *buf, size_t len, const char *fmt, va_list ap)
	__attribute__((format(printf, 3, 0)));
void sriov_text(char *buf, size_t len, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* Text that does not fit is appended as far as it does. */
void sriov_text_add(char *buf, size_t len, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* A path below the root, SRIOV_PATH_LEN. */
void sriov_path(const struct sriov *s, char *path, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* ROOT/sys/bus/pci/devices/ADDR/file. */
void sriov_dev_path(const struct sriov *s, char *path, const char *addr, const char *file);
void sriov_step(struct sriov *s, const char *what);

/* ---- Files: file.c ---- */

/* The first line without its end; the length or -errno. Not for what blocks. */
int sriov_file_read(const char *path, char *buf, size_t len);
/* A number in the kernel's spelling, or -errno. */
int sriov_file_number(const char *path, uint64_t *v);
/* Attributes of a function. Text: "" and numbers: missing if there is none. */
void sriov_attr_text(const struct sriov *s, const char *addr, const char *file, char *buf,
		     size_t len);
uint64_t sriov_attr_number(const struct sriov *s, const char *addr, const char *file,
			   uint64_t missing);
/* The last part of where a link points; "" and -errno if there is none. */
int sriov_file_link(const char *path, char *buf, size_t len);
bool sriov_file_exists(const char *path);
bool sriov_dev_exists(const struct sriov *s, const char *addr);
/* When a process started (proc/PID/stat, field 22), 0 if there is none. */
uint64_t sriov_proc_start(const char *proc, pid_t pid);
/* The kernel's spelling of an address, with or without its domain. -EINVAL. */
int sriov_addr_parse(const char *text, char addr[SRIOV_ADDR_LEN]);
/* The addresses behind virtfnN by index, in *addr for the caller to free(). A
 * gap in the numbers is "". */
int sriov_vf_addrs(const struct sriov *s, const char *pf, char (**addr)[SRIOV_ADDR_LEN]);
void sriov_sleep_ms(unsigned int ms);
uint64_t sriov_now_ms(void);

/* ---- Records: state.c ---- */

enum sriov_bind_phase {
	SRIOV_BIND_NONE,
	SRIOV_BIND_BINDING,
	SRIOV_BIND_BOUND,
	SRIOV_BIND_BACK
};
enum sriov_claim_phase {
	SRIOV_PHASE_NONE,
	SRIOV_PHASE_CLAIMING,
	SRIOV_PHASE_CLAIMED,
	SRIOV_PHASE_RELEASING,
};

/* A device file that was given to a user. */
struct sriov_node {
	char path[SRIOV_TEXT_LEN]; /* without the root; "": none */
	uint64_t rdev;
	uid_t uid;
	gid_t gid;
	unsigned int mode; /* as it was */
};
#define SRIOV_NODES_MAX 2

/* Who gave it which driver, and what is to be given back. */
struct sriov_bind_state {
	enum sriov_bind_phase phase;
	char from[SRIOV_NAME_LEN], override_from[SRIOV_NAME_LEN], to[SRIOV_NAME_LEN];
};

/* MSI-X vectors that we gave it, 0 for as many as it has by itself. */
struct sriov_msix_state {
	bool given;
	uint64_t nr;
};

/*
 * What is known of one function beyond the kernel's own. A record without
 * anything in it has no file. Not of this boot, or of a device that was removed
 * since (device_ino): worth nothing.
 */
struct sriov_rec {
	char addr[SRIOV_ADDR_LEN];
	uint64_t device_ino; /* of its directory in sysfs: new with each device */
	char owners[SRIOV_TEXT_LEN];

	/* A child that writes to sysfs, while it lives. */
	struct {
		pid_t pid;
		uint64_t start;
		char path[SRIOV_TEXT_LEN], text[SRIOV_NAME_LEN];
	} writer;

	/* A PF whose VFs are being changed. */
	struct {
		bool active, autoprobe, link_down;
		bool made; /* all exist and are configured: only drivers are left */
		unsigned int from, to;
		char driver[SRIOV_NAME_LEN];
	} resize;

	struct sriov_bind_state bind;

	struct {
		enum sriov_claim_phase phase;
		char owner[SRIOV_NAME_LEN];
		pid_t pid;
		uint64_t start; /* of that process */
		int64_t time; /* seconds since 1970 */
		char driver[SRIOV_NAME_LEN]; /* when it was claimed, "" for none, */
		struct sriov_bind_state bind; /* and what was known of that */
		bool used; /* it was handed over: reset it before anybody else has it */
		/* What was before; has 0: not touched. Of msix 0 is the device's own. */
		struct sriov_conf saved;
		struct sriov_msix_state msix; /* before; if saved has msix */
		struct sriov_node node[SRIOV_NODES_MAX];
	} claim;

	int64_t resets; /* that we have done: each of them is told, however fast */
	struct sriov_msix_state msix;
};

/* An empty record if there is no file or it is worth nothing. -errno if the file
 * cannot be read; one that cannot be understood is an error too. */
int sriov_rec_load(struct sriov *s, const char *addr, struct sriov_rec *rec);
/* All or nothing, on disk when it returns. An empty record removes its file. */
int sriov_rec_save(struct sriov *s, struct sriov_rec *rec);
/* Remove the file whatever it says. */
int sriov_rec_drop(struct sriov *s, const char *addr);
/* Parts of records, and any file of the state directory: all or nothing, on disk
 * when it returns. root is taken; NULL is no memory. */
json_t *sriov_conf_pack(const struct sriov_conf *conf);
int sriov_conf_unpack(json_t *from, struct sriov_conf *conf);
json_t *sriov_bind_pack(const struct sriov_bind_state *bind);
int sriov_bind_unpack(json_t *root, struct sriov_bind_state *bind);
int sriov_state_save(struct sriov *s, const char *file, json_t *root);
/* The inode of a function's directory in sysfs, 0 if there is none. */
uint64_t sriov_device_ino(const struct sriov *s, const char *addr);
/* The addresses that have a file, sorted; the number, *addr is to be freed. */
int sriov_rec_list(struct sriov *s, char (**addr)[SRIOV_ADDR_LEN]);
bool sriov_rec_is_empty(const struct sriov_rec *rec);
bool sriov_rec_writer_alive(const struct sriov_rec *rec);
/* -EBUSY with its sentence if a child of anybody is still writing. */
int sriov_rec_check_writer(struct sriov *s, const struct sriov_rec *rec);
enum sriov_claim_state sriov_rec_claim_state(const struct sriov *s, const struct sriov_rec *rec);
/* Finish or restore what dead processes left. Under the lock. */
int sriov_recover(struct sriov *s);

/* ---- VFs that go and may come back: kept.c ---- */

/* Write down what all VFs of a PF are: configuration, vectors, driver, owners. */
int sriov_kept_save(struct sriov *s, const char *pf);
/* Make new VFs what the old ones of the same number were; others are left. 1, or
 * 0 if nothing was written down. What a driver refuses is told only. */
int sriov_kept_put_back(struct sriov *s, const char *pf);
/* It is not needed any more, or no change of the PF is under way that needs it:
 * pf NULL. */
void sriov_kept_drop(struct sriov *s, const char *pf);

/* ---- Blocking reads and writes: guard.c ---- */

/* Write text to a file of sysfs; the record says so while it lasts. -ETIMEDOUT
 * if it is still in the kernel, and then nothing else must touch rec's device. */
int sriov_guard_write(struct sriov *s, struct sriov_rec *rec, const char *path, const char *text);
/* Read files that wait for the device's lock. res[i] is a length or -errno,
 * -ETIMEDOUT for the ones that do not answer. buf[i] has SRIOV_NAME_LEN. */
void sriov_guard_read(struct sriov *s, const char *const *paths, unsigned int nr,
		      char (*buf)[SRIOV_NAME_LEN], int *res);
/* The same for files that wait for the lock of all network devices. */
void sriov_guard_read_net(struct sriov *s, const char *const *paths, unsigned int nr,
			  char (*buf)[SRIOV_NAME_LEN], int *res);

/* What is asked in another way than by a file. */
struct sriov_call {
	const char *where, *text; /* what is done to whom, for sentences and the record */
	int (*run)(struct sriov *s, void *arg); /* in a child, on a copy of arg */
	void *arg;
	size_t len;
};
/* With rec it changes rec's function, and is recorded as a write; without, it only
 * asks. What run() returned; -ETIMEDOUT with its sentence if it does not answer. */
int sriov_guard_call(struct sriov *s, struct sriov_rec *rec, const struct sriov_call *call);

/* ---- Netlink with a bound: ask.c ---- */

/* As in struct sriov_os. -ETIMEDOUT has its sentence, other errors have none. */
int sriov_ask_conf(struct sriov *s, const char *netdev, struct sriov_conf *conf, unsigned int nr);
int sriov_ask_conf_set(struct sriov *s, const char *netdev, unsigned int vf,
		       const struct sriov_conf *conf);
int sriov_ask_net_use(struct sriov *s, const char *netdev, struct sriov_blockers *b);
int sriov_ask_link_set(struct sriov *s, const char *netdev, bool up);
int sriov_ask_eswitch(struct sriov *s, const char *addr, char *mode);

/* ---- Questions: survey.c ---- */

/* Have a child call answer(); what it wrote is in *text for the caller to
 * free(), also with -ETIMEDOUT as far as it came; NULL: nothing. */
int sriov_survey(struct sriov *s, void (*answer)(struct sriov *s, const void *what, FILE *out),
		 const void *what, unsigned int timeout_ms, char **text);
/* The last child that did not answer in time is still in the kernel: for those who
 * ask again and again. */
bool sriov_survey_is_stuck(struct sriov *s);

/* ---- Device files of functions: devfiles.c ---- */

/* As they are now. -ENOMEM; sriov_users_forget() forgets them as well. */
int sriov_devfiles_load(struct sriov *s);
void sriov_devfiles_forget(struct sriov *s);
/* Is this file the function's? By number; rdev 0: by name. */
bool sriov_devfile_is_of(struct sriov *s, uint64_t rdev, bool is_block, const char *path,
			 const char *addr);
/* Is this function a controller of the subsystem of that name? */
bool sriov_nvme_serves(struct sriov *s, const char *addr, const char *subsystem);

/* ---- Parts of changes, without the checks of the public functions ---- */

int sriov_resize_recover(struct sriov *s, struct sriov_rec *rec);
/* 0: it has that driver already, 1: it was given. The record is saved. */
int sriov_bind_do(struct sriov *s, struct sriov_rec *rec, const char *driver, unsigned int flags);
/* 1: a binding that was interrupted had been done but for its record; 0: not. */
int sriov_bind_finish(struct sriov *s, struct sriov_rec *rec);
/* The same as sriov_bind_do() without a memory of what was there: for VFs that are
 * new. */
int sriov_bind_new(struct sriov *s, struct sriov_rec *rec, const char *driver);
/* Write down that a new VF has no driver because that is wanted: what gives new
 * VFs their drivers leaves it. */
int sriov_bind_to_none(struct sriov *s, const char *addr);
/* The driver a function has, "" if none; SRIOV_NAME_LEN. */
void sriov_driver_now(const struct sriov *s, const char *addr, char *driver);
/* Until udev has nothing to do any more; a bound on that is no failure. */
void sriov_wait_udev(struct sriov *s);
int sriov_bind_undo(struct sriov *s, struct sriov_rec *rec);
/* What sriov_bind() would refuse before it changes anything. */
int sriov_bind_check(struct sriov *s, const char *addr, const char *driver, unsigned int flags);
/* Give a VF vectors, for which it has no driver meanwhile. */
int sriov_bind_vectors(struct sriov *s, const char *addr, uint64_t vectors);
/* As it was when it was claimed. The record may be left for the caller to save. */
int sriov_bind_return(struct sriov *s, struct sriov_rec *rec);
/* -EINVAL if it cannot be the name of a driver. */
int sriov_driver_check(struct sriov *s, const char *driver);
/* -EINVAL if it is no name of an owner. */
int sriov_owner_check(struct sriov *s, const char *owner);
/* What sriov_resize() would refuse before it changes anything. */
int sriov_resize_check(struct sriov *s, const struct sriov_func *f,
		       const struct sriov_resize *want);
int sriov_release_do(struct sriov *s, struct sriov_rec *rec, unsigned int flags);
/* -EBUSY and all of them in one sentence, leaving out those of kinds (bits). What
 * processes have open is what was seen since sriov_users_forget(). */
int sriov_check_free(struct sriov *s, const struct sriov_func *f, unsigned int but_kinds,
		     const char *what);

/* Sentences for sriov_blockers(). -ENOMEM. */
int sriov_blocker_add(struct sriov_blockers *b, enum sriov_blocker_kind kind, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
int sriov_block_users(struct sriov *s, const struct sriov_func *f, struct sriov_blockers *b);
int sriov_block_disks(struct sriov *s, const struct sriov_func *f, struct sriov_blockers *b);
/* -EBUSY if VFIO says that the group is open, though nobody was seen: it refuses
 * a second opener. For changes only: while we look, another one is refused. */
int sriov_check_hidden_user(struct sriov *s, const struct sriov_func *f);
/* -EBUSY if the kernel uses a disk of the function, whatever for; for changes
 * only, for the same reason. */
int sriov_check_hidden_disks(struct sriov *s, const struct sriov_func *f);
/* Look again at what processes have open. */
void sriov_users_forget(struct sriov *s);
/* "process 12 (qemu-system-x86), VM vm1": text has SRIOV_TEXT_LEN. */
void sriov_process_text(const struct sriov *s, pid_t pid, char *text);

bool sriov_driver_is_vfio(const char *driver);
/* The files of VFIO for a function: group, and cdev or "". SRIOV_TEXT_LEN each,
 * without the root. */
void sriov_vfio_nodes(const struct sriov *s, const char *addr, int group, char *group_node,
		      char *cdev_node);
/* Entries of its MSI-X table; 0 if it has none, or nobody may look. */
unsigned int sriov_msix_vectors(const struct sriov *s, const char *addr);
/* Give a VF without driver vectors, 0 for as many as it has by itself. Its record is
 * left for the caller to save. */
int sriov_msix_give(struct sriov *s, struct sriov_rec *rec, uint64_t vectors);
/* Given so many it gives some back: to be done before others get more, as a driver
 * has a number for all VFs of a PF together. */
bool sriov_msix_gives_back(const struct sriov *s, const char *addr, uint64_t vectors);
/* As many vectors as before the claim, for which it loses its driver. A driver of
 * the PF that refuses is told only. */
int sriov_msix_restore(struct sriov *s, struct sriov_rec *rec);
/* Fields that count in want and are not the same in have, without MSI-X. */
unsigned int sriov_conf_differs(const struct sriov_conf *want, const struct sriov_conf *have);
/* Set and read back, without MSI-X. */
int sriov_conf_write(struct sriov *s, const char *netdev, unsigned int vf,
		     const struct sriov_conf *want);
/* A change of this PF is stuck in the kernel: who asks it waits, and who asks
 * its driver may. */
bool sriov_is_stuck(struct sriov *s, const char *pf);
/* As the PF's driver tells; has is 0 if it tells nothing of this VF. */
int sriov_conf_read(struct sriov *s, const char *netdev, unsigned int vf, struct sriov_conf *conf);
/* All network devices of a function that this namespace shows; their number,
 * *netdev is to be freed. */
int sriov_netdevs(const struct sriov *s, const char *addr, char (**netdev)[IFNAMSIZ]);
/* The PCI function of a network device; -ENODEV. */
int sriov_netdev_function(const struct sriov *s, const char *netdev, char addr[SRIOV_ADDR_LEN]);
/* The one of them that configures VFs, "" if none. IFNAMSIZ. */
void sriov_netdev(struct sriov *s, const char *addr, char *netdev);

/* ---- Events: watch.c ---- */

struct sriov_watch;
struct sriov_event;

/* Where events go, as during sriov_watch_wait(); and one message of the kernel,
 * with a zero behind its end. For tests. */
void sriov_watch_tell(struct sriov_watch *w,
		      void (*told)(void *opaque, const struct sriov_event *event), void *opaque);
void sriov_watch_lost_links(struct sriov_watch *w); /* as if events of links were */
void sriov_watch_look(struct sriov_watch *w); /* as if it was time to look again */
void sriov_watch_uevent(struct sriov_watch *w, const char *event, size_t len);

#endif
