/*
 * The commands of ringbolt-vf. Each resolves what the user wrote, takes the lock
 * if it changes something, and leaves the rest to sriov/.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "apps/vf_cmds.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "apps/vf_opts.h"
#include "apps/vf_print.h"
#include "apps/vf_user.h"
#include "core/base.h"
#include "core/log.h"
#include "sriov/attach.h"

/* ---- See ---- */

void vf_print_json(json_t *json)
{
	json_dumpf(json, stdout, JSON_INDENT(2) | JSON_ENCODE_ANY);
	putchar('\n');
	json_decref(json);
}

static int list_json(struct vf_context *c, const struct sriov_list *list)
{
	json_t *all = json_array();

	for (unsigned int i = 0; i < list->nr; i++)
		json_array_append_new(all, sriov_func_json(c->s, &list->func[i]));
	vf_print_json(all);
	return 0;
}

static int run_list(struct vf_context *c)
{
	unsigned int flags = SRIOV_LIST_CONF;
	struct sriov_list *list;
	int res;

	if (c->opts->given & VF_OPT_ALL)
		flags |= SRIOV_LIST_ALL;
	if (c->opts->given & VF_OPT_JSON)
		flags |= SRIOV_LIST_NAMES;
	res = sriov_list(c->s, flags, &list);
	if (res < 0)
		return res;
	if (c->opts->given & VF_OPT_JSON)
		res = list_json(c, list);
	else if (list->nr)
		vf_print_table(c->s, list);
	else
		fputs("no function here has SR-IOV (list --all shows the others)\n", stderr);
	sriov_list_free(list);
	return res;
}

static int run_show(struct vf_context *c)
{
	char addr[SRIOV_ADDR_LEN];
	struct sriov_func f;
	int res;

	res = sriov_resolve(c->s, c->opts->args[0], addr);
	if (!res)
		res = sriov_func_read(c->s, addr, SRIOV_LIST_CONF | SRIOV_LIST_NAMES, &f);
	if (res < 0)
		return res;
	if (c->opts->given & VF_OPT_JSON)
		vf_print_json(sriov_func_json(c->s, &f));
	else
		vf_print_function(c->s, &f);
	return 0;
}

/* ---- Arguments ---- */

/* The function of the first argument, with the lock held. */
static int resolve_and_lock(struct vf_context *c, char addr[SRIOV_ADDR_LEN])
{
	int res = sriov_resolve(c->s, c->opts->args[0], addr);

	return res < 0 ? res : sriov_lock(c->s);
}

static int usage(const char *text)
{
	fprintf(stderr, VF_PROGRAM ": %s\n", text);
	return EXIT_USAGE;
}

/* Arguments from the first on, each KEY=VALUE. EXIT_USAGE if one is not, which
 * has been said. */
static int parse_conf(const struct vf_options *opts, int first, struct sriov_conf *conf)
{
	char err[OPTS_ERR_LEN], key[64], *equals;

	memset(conf, 0, sizeof(*conf));
	for (int i = first; i < opts->nr_args; i++) {
		equals = strchr(opts->args[i], '=');
		snprintf(key, sizeof(key), "%.*s",
			 equals ? (int)min_u64((uint64_t)(equals - opts->args[i]), 63) : 63,
			 opts->args[i]);
		if (!equals) {
			snprintf(err, sizeof(err), "%s: '%.80s': expected KEY=VALUE",
				 opts->command->name, opts->args[i]);
			return usage(err);
		}
		if (sriov_conf_item(opts->command->name, key, equals + 1, conf, err) < 0)
			return usage(err);
	}
	return 0;
}

static int parse_count(const struct vf_options *opts, uint64_t *count)
{
	static const struct opt_desc desc = { .type = OPT_UINT, .min = 1, .max = UINT16_MAX };
	char err[OPTS_ERR_LEN];

	if (opts_parse_value("create", opts->args[1], &desc, count, err) < 0)
		return usage(err);
	return 0;
}

/* ---- Create and destroy ---- */

static int configure_all(struct sriov *s, const char *pf, void *opaque)
{
	const struct sriov_conf *conf = opaque;
	struct sriov_list *list;
	int res;

	res = sriov_list(s, 0, &list);
	if (res < 0)
		return res;
	for (unsigned int i = 0; i < list->nr && !res; i++) {
		if (list->func[i].is_vf && !strcmp(list->func[i].pf, pf))
			res = sriov_configure(s, list->func[i].addr, conf);
	}
	sriov_list_free(list);
	return res;
}

/* A driver that was asked for and came too late must not be taken silently. */
static int check_drivers(struct vf_context *c, const char *pf)
{
	const char *driver = c->opts->driver ? c->opts->driver : SRIOV_DRIVER_AUTO;
	char text[OPTS_ERR_LEN];
	struct sriov_list *list;
	int res;

	res = sriov_list(c->s, 0, &list);
	if (res < 0)
		return res;
	for (unsigned int i = 0; i < list->nr && !res; i++) {
		const struct sriov_func *f = &list->func[i];

		if (!f->is_vf || strcmp(f->pf, pf) != 0 || sriov_has_driver(f, driver))
			continue;
		snprintf(text, sizeof(text),
			 "create: it has that many VFs already, and %s has driver %s: bind gives "
			 "it another one",
			 f->addr, *f->driver ? f->driver : "none");
		res = usage(text);
	}
	sriov_list_free(list);
	return res;
}

static int run_create(struct vf_context *c)
{
	struct sriov_resize want = { .driver = c->opts->driver,
				     .replace = c->opts->given & VF_OPT_REPLACE };
	char addr[SRIOV_ADDR_LEN];
	struct sriov_conf conf;
	uint64_t count;
	int res;

	res = parse_count(c->opts, &count);
	if (!res)
		res = parse_conf(c->opts, 2, &conf);
	if (res)
		return res;
	if (conf.has & SRIOV_CONF_MAC && count > 1)
		return usage("create: mac=: expected for one VF only: set gives each its own");
	want.nr_vfs = (unsigned int)count;
	want.configure = conf.has ? configure_all : NULL;
	want.opaque = &conf;
	res = resolve_and_lock(c, addr);
	if (!res)
		res = sriov_resize(c->s, addr, &want);
	if (!res && conf.has)
		return sriov_unlock(c->s), usage("create: it has that many VFs already: set "
						 "configures them");
	if (res)
		return res < 0 ? res : 0;
	log_info("%s: has %u VFs already", addr, want.nr_vfs);
	res = check_drivers(c, addr);
	if (res)
		sriov_unlock(c->s);
	return res;
}

static int run_destroy(struct vf_context *c)
{
	struct sriov_resize want = { .nr_vfs = 0 };
	char addr[SRIOV_ADDR_LEN];
	int res;

	res = resolve_and_lock(c, addr);
	if (!res)
		res = sriov_resize(c->s, addr, &want);
	if (!res)
		log_info("%s: has no VFs", addr);
	return res < 0 ? res : 0;
}

/* ---- Configure, bind, reset ---- */

static int run_set(struct vf_context *c)
{
	char addr[SRIOV_ADDR_LEN];
	struct sriov_conf conf;
	int res;

	res = parse_conf(c->opts, 1, &conf);
	if (res)
		return res;
	res = resolve_and_lock(c, addr);
	return res < 0 ? res : sriov_configure(c->s, addr, &conf);
}

static unsigned int bind_flags(const struct vf_options *opts)
{
	return opts->given & VF_OPT_UNSAFE ? SRIOV_BIND_NOIOMMU : 0;
}

static int run_bind(struct vf_context *c)
{
	char addr[SRIOV_ADDR_LEN];
	int res;

	res = resolve_and_lock(c, addr);
	if (!res)
		res = sriov_bind(c->s, addr, c->opts->args[1], bind_flags(c->opts));
	return res < 0 ? res : 0;
}

static int run_unbind(struct vf_context *c)
{
	char addr[SRIOV_ADDR_LEN];
	int res;

	res = resolve_and_lock(c, addr);
	return res < 0 ? res : sriov_unbind(c->s, addr);
}

static int run_reset(struct vf_context *c)
{
	char addr[SRIOV_ADDR_LEN];
	int res;

	res = resolve_and_lock(c, addr);
	return res < 0 ? res : sriov_reset(c->s, addr);
}

/* ---- Claim and release ---- */

static int run_claim(struct vf_context *c)
{
	const struct vf_options *o = c->opts;
	struct sriov_claim_opts claim = {
		.owner = o->owner,
		.pf = o->pf,
		.cpus = o->cpus,
		.pid = (pid_t)o->pid,
		.driver = o->driver,
		.bind_flags = bind_flags(o),
		.has_user = o->has_user,
		.uid = o->uid,
		.gid = o->gid,
	};
	char addr[SRIOV_ADDR_LEN];
	struct sriov_conf conf;
	struct sriov_func f;
	int res, first;

	/* The VF may be left to us; a key is no address. */
	first = o->nr_args && !strchr(o->args[0], '=');
	claim.vf = first ? o->args[0] : NULL;
	res = parse_conf(o, first, &conf);
	if (res)
		return res;
	claim.conf = conf.has ? &conf : NULL;
	res = sriov_lock(c->s);
	if (!res)
		res = sriov_claim(c->s, &claim, addr);
	if (res < 0)
		return res;
	if (!(o->given & VF_OPT_JSON))
		return puts(addr) < 0 ? -EIO : 0;
	res = sriov_func_read(c->s, addr, SRIOV_LIST_CONF | SRIOV_LIST_NAMES, &f);
	if (!res)
		vf_print_json(sriov_func_json(c->s, &f));
	return res;
}

static int run_release(struct vf_context *c)
{
	unsigned int flags = 0;
	char addr[SRIOV_ADDR_LEN];
	int res;

	if (!c->opts->owner && !(c->opts->given & VF_OPT_FORCE))
		return usage("release: expected --owner=NAME of the claim, or --force");
	if (c->opts->given & VF_OPT_FORCE)
		flags |= SRIOV_RELEASE_FORCE;
	if (c->opts->given & VF_OPT_NO_RESET)
		flags |= SRIOV_RELEASE_NO_RESET;
	res = resolve_and_lock(c, addr);
	return res < 0 ? res : sriov_release(c->s, addr, c->opts->owner, flags);
}

static int run_recover(struct vf_context *c)
{
	int res = sriov_lock(c->s);

	if (!res)
		res = sriov_reap(c->s);
	return res < 0 ? res : 0;
}

/* ---- Attach ---- */

#define VFS_MAX 64 /* of one program: more than there are slots on a bus of a VM */

/* The program's own arguments and those that name the devices. */
static char **exec_argv(const struct vf_options *o, const struct sriov_attachment *a)
{
	char **argv;
	int nr = 0;

	while (o->exec[nr])
		nr++;
	/* The command line has one. */
	assert(nr > 0);
	argv = calloc((size_t)nr + a->nr + 1, sizeof(*argv));
	if (!argv)
		return NULL;
	memcpy(argv, o->exec, (size_t)nr * sizeof(*argv));
	for (unsigned int i = 0; i < a->nr; i++)
		argv[nr + (int)i] = (char *)a->arg[i];
	return argv;
}

/* All, or none. */
static int adopt_all(struct vf_context *c, const char (*addr)[SRIOV_ADDR_LEN],
		     struct sriov_holder *before)
{
	int res = 0, nr = 0;

	for (; nr < c->opts->nr_args && !res; nr++)
		res = sriov_claim_adopt(c->s, addr[nr], c->opts->owner, getpid(), &before[nr]);
	for (nr -= 2; res < 0 && nr >= 0; nr--)
		sriov_claim_return(c->s, addr[nr], getpid(), &before[nr]);
	return res;
}

static int return_all(struct vf_context *c, const char (*addr)[SRIOV_ADDR_LEN],
		      const struct sriov_holder *before)
{
	int one, res;

	res = sriov_lock(c->s);
	if (res < 0)
		return res;
	for (int i = 0; i < c->opts->nr_args; i++) {
		one = sriov_claim_return(c->s, addr[i], getpid(), &before[i]);
		if (one < 0)
			res = one;
	}
	sriov_unlock(c->s);
	return res;
}

/* Returns if there is no such program, which has been said; then this process is
 * again what it was. */
static void become_program(const struct vf_options *o, char **argv,
			   const struct sriov_attachment *a)
{
	uid_t uid = geteuid();
	gid_t gid = getegid();

	if (vf_keep_fds(a->fd, a->nr_fds) < 0)
		return;
	if (!o->has_user || !vf_become(o->uid, o->gid)) {
		execvp(argv[0], argv);
		fprintf(stderr, VF_PROGRAM ": %s: %s\n", argv[0], strerror(errno));
	}
	if (o->has_user)
		vf_be_again(uid, gid);
}

/* The claims become this process's, which becomes the program; or they stay
 * whose they were, if there is no such program. */
static int exec_with(struct vf_context *c, const char (*addr)[SRIOV_ADDR_LEN],
		     const struct sriov_attach_opts *opts, struct sriov_attachment *a)
{
	const struct vf_options *o = c->opts;
	struct sriov_holder before[VFS_MAX];
	char **argv;
	int res;

	/* What is looked at is what is adopted. */
	res = sriov_lock(c->s);
	if (!res)
		res = sriov_attach(c->s, addr, (unsigned int)o->nr_args, opts, a);
	if (!res)
		res = adopt_all(c, addr, before);
	sriov_unlock(c->s);
	if (res < 0)
		return res;
	fflush(stdout);
	argv = exec_argv(o, a);
	if (argv)
		become_program(o, argv, a);
	else
		fprintf(stderr, VF_PROGRAM ": out of memory\n");
	free(argv);
	res = return_all(c, addr, before);
	return res < 0 ? res : EXIT_FAILED;
}

static void print_attachment(const struct vf_options *o, const struct sriov_attachment *a)
{
	json_t *list, *files;

	if (o->given & VF_OPT_JSON) {
		list = json_array();
		for (unsigned int i = 0; i < a->nr; i++)
			json_array_append_new(list, json_string(a->arg[i]));
		files = json_array();
		for (unsigned int i = 0; i < a->nr_nodes; i++)
			json_array_append_new(files, json_string(a->node[i]));
		vf_print_json(json_pack("{s:o, s:o}", "arguments", list, "files", files));
		return;
	}
	for (unsigned int i = 0; i < a->nr; i++)
		printf("%s%s", a->arg[i],
		       o->format == SRIOV_ATTACH_LIBVIRT || i + 1 == a->nr ? "\n" : " ");
}

static int run_attach(struct vf_context *c)
{
	const struct vf_options *o = c->opts;
	/* A program that stays root opens the files itself. */
	const struct sriov_attach_opts opts = {
		.owner = o->owner,
		.format = (enum sriov_attach_format)o->format,
		.backend = (enum iommu_backend)o->backend,
		.has_user = o->has_user || o->exec,
		.uid = o->has_user ? o->uid : geteuid(),
		.gid = o->has_user ? o->gid : getegid(),
		.open = o->has_user && o->exec,
	};
	struct sriov_attachment a = { .nr = 0 };
	char addr[VFS_MAX][SRIOV_ADDR_LEN];
	int res = 0;

	if (o->exec && (o->format == SRIOV_ATTACH_LIBVIRT || o->given & VF_OPT_JSON))
		return usage("attach: '--': expected a format that is arguments of a program");
	for (int i = 0; i < o->nr_args && !res; i++)
		res = sriov_resolve(c->s, o->args[i], addr[i]);
	if (!res && o->exec)
		res = exec_with(c, addr, &opts, &a);
	else if (!res)
		res = sriov_attach(c->s, addr, (unsigned int)o->nr_args, &opts, &a);
	if (!res && !o->exec)
		print_attachment(o, &a);
	sriov_attachment_free(&a);
	return res;
}

#define KEYS_MAX 12 /* of one command: more than there are */
#define CHANGES VF_OPT_TIMEOUT

const struct vf_command vf_commands[] = {
	{ "list", "", "PFs and VFs, who has them, what stands in the way", 0, 0, false,
	  VF_OPT_JSON | VF_OPT_ALL, 0, run_list },
	{ "show", "FUNCTION", "everything about one function", 1, 1, false, VF_OPT_JSON, 0,
	  run_show },
	{ "create", "PF COUNT [KEY=VALUE]", "make VFs: all, or none", 2, 2 + KEYS_MAX, false,
	  CHANGES | VF_OPT_REPLACE | VF_OPT_DRIVER, 0, run_create },
	{ "destroy", "PF", "take all VFs away", 1, 1, false, CHANGES, 0, run_destroy },
	{ "set", "VF KEY=VALUE...", "configure a VF and read it back", 2, 1 + KEYS_MAX, false,
	  CHANGES, 0, run_set },
	{ "bind", "FUNCTION DRIVER", "give to a driver, remember the old one", 2, 2, false,
	  CHANGES | VF_OPT_UNSAFE, 0, run_bind },
	{ "unbind", "FUNCTION", "give back to the driver it had", 1, 1, false, CHANGES, 0,
	  run_unbind },
	{ "claim", "[VF] [KEY=VALUE...]", "one VF for one owner; prints it", 0, 1 + KEYS_MAX, false,
	  CHANGES | VF_OPT_OWNER | VF_OPT_PF | VF_OPT_CPUS | VF_OPT_PID | VF_OPT_DRIVER |
		  VF_OPT_USER | VF_OPT_UNSAFE | VF_OPT_JSON,
	  VF_OPT_OWNER, run_claim },
	{ "attach", "VF... [-- PROGRAM...]", "print arguments for a VMM, or run it with them", 1,
	  VFS_MAX, true,
	  VF_OPT_OWNER | VF_OPT_FORMAT | VF_OPT_BACKEND | VF_OPT_USER | VF_OPT_JSON |
		  VF_OPT_TIMEOUT,
	  0, run_attach },
	{ "probe", "FUNCTION", "prove a hand-over: open, read, map, interrupt, reset", 1, 1, false,
	  CHANGES | VF_OPT_OWNER | VF_OPT_BACKEND | VF_OPT_TOKEN | VF_OPT_UNSAFE | VF_OPT_JSON, 0,
	  vf_run_probe },
	{ "release", "VF", "reset, clear and give back", 1, 1, false,
	  CHANGES | VF_OPT_OWNER | VF_OPT_FORCE | VF_OPT_NO_RESET, 0, run_release },
	{ "reset", "FUNCTION", "function level reset", 1, 1, false, CHANGES, 0, run_reset },
	{ "recover", "", "finish what died, release what the dead had claimed", 0, 0, false,
	  CHANGES, 0, run_recover },
	{ "apply", "FILE", "make true what a file says", 1, 1, false,
	  CHANGES | VF_OPT_DRY_RUN | VF_OPT_JSON, 0, vf_run_apply },
	{ "diff", "FILE", "what is not as a file says; status 1 if anything", 1, 1, false,
	  VF_OPT_JSON, 0, vf_run_diff },
	{ "watch", "", "tell what happens, a line or JSON object each", 0, 0, false, VF_OPT_JSON, 0,
	  vf_run_watch },
	{ NULL },
};
