/*
 * Hostile front-ends and drivers against the real program: each malformed
 * message and chain is a named case. After each, another device of the same
 * process still serves, the attacked one serves a new front-end, and the process
 * holds no descriptor and no mapping of guest memory more than before. Run by meson
 * with the path of ringbolt-blk or ringbolt-net; skips without it. "files" behind
 * that: the disks are files, whose requests are in flight for a while. What is not about messages and
 * set-up, which all devices have in common, is in attacks_blk*.c and attacks_net.c.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#undef NDEBUG
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/base.h"
#include "tests/frontend/attacks.h"

#define SKIP 77
#define TESTS_MAX 256

static const char *server_path;
static char dir[] = "/tmp/ringbolt-attack-XXXXXX";
static char victim_sock[64], witness_sock[64];
static pid_t server;
static char files[2][64]; /* empty: not asked for */
static unsigned int fds_before, maps_before;
static struct victim victim;

static unsigned int nr_fds(void)
{
	unsigned int n = 0;
	char path[64];
	DIR *d;

	snprintf(path, sizeof(path), "/proc/%d/fd", server);
	d = opendir(path);
	assert_non_null(d);
	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

/* Of the memory files that front-ends share: nothing else is mapped from one. */
static unsigned int nr_maps(void)
{
	char path[64], line[512];
	unsigned int n = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/maps", server);
	f = fopen(path, "re");
	assert_non_null(f);
	while (fgets(line, sizeof(line), f))
		n += strstr(line, "/memfd:") != NULL;
	fclose(f);
	return n;
}

/* Refused, or the connection is gone. */
void attack_assert_refused(struct fe *fe, int err)
{
	if (err == 0 || err == -ETIMEDOUT)
		fail_msg("not refused: %d", err);
	/* Whatever it was, nobody hangs. */
	err = fe_sync(fe);
	assert_int_not_equal(err, -ETIMEDOUT);
}

void attack_assert_request_refused(struct victim *v, uint32_t request, const void *payload,
				   uint32_t len)
{
	attack_assert_refused(v->fe, fe_request(v->fe, request, payload, len, NULL, 0));
}

/* Any reaction will do but none at all. */
void attack_assert_answers_or_hangs_up(struct fe *fe)
{
	assert_int_not_equal(fe_sync(fe), -ETIMEDOUT);
}

static void run_attack(void **state)
{
	const struct attack *a = *state;

	for (int packed = 0; packed < (a->both_rings ? 2 : 1); packed++) {
		assert_int_equal(attack_open(&victim, victim_sock, a->stage, packed), 0);
		/* Not the same rings twice. */
		if (a->stage >= ATTACK_RUNNING)
			assert_int_equal(victim.ring[0]->packed, packed);
		assert_int_equal(fe_has(victim.fe, VIRTIO_F_ACCESS_PLATFORM),
				 a->stage == ATTACK_IOMMU);
		a->run(&victim);
		attack_witness_serves();
		attack_abandon(&victim);
		attack_witness_serves();
		attack_victim_serves(victim_sock);
	}
	assert_int_equal(waitpid(server, NULL, WNOHANG), 0);
	/* The end of the last connection is handled a moment later. */
	for (unsigned int i = 0; nr_fds() > fds_before && i < 5000; i++)
		usleep(1000);
	assert_int_equal(nr_fds(), fds_before);
	assert_int_equal(nr_maps(), maps_before);
}

static int make_file(char *path, size_t len, const char *name)
{
	int fd, ret;

	snprintf(path, len, "%s/%s", dir, name);
	fd = open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
	if (fd < 0)
		return -1;
	ret = ftruncate(fd, 1 << 20);
	close(fd);
	return ret;
}

static int start(void **state)
{
	const char *const paths[2] = { files[0], files[1] };

	server = fork();
	if (server < 0)
		return -1;
	if (!server) {
		/* What it says about each attack is many lines. */
		int null = open("/dev/null", O_WRONLY);

		if (!getenv("ATTACK_LOG"))
			dup2(null, STDERR_FILENO);
		attack_exec(server_path, victim_sock, witness_sock, *files[0] ? paths : NULL);
		_exit(127);
	}
	if (attack_open_witness(witness_sock))
		return -1;
	attack_victim_serves(victim_sock);
	usleep(50000);
	fds_before = nr_fds();
	maps_before = nr_maps();
	/* The witness's. */
	return maps_before ? 0 : -1;
}

static int stop(void **state)
{
	int status;

	attack_abandon(&victim);
	attack_close_witness();
	kill(server, SIGTERM);
	if (waitpid(server, &status, 0) != server)
		return -1;
	/* A sanitizer that found a leak says so in the exit status. */
	return WIFEXITED(status) && !WEXITSTATUS(status) ? 0 : -1;
}

static unsigned int add_tests(struct CMUnitTest *tests, unsigned int n, const struct attack *table)
{
	for (; table->name; table++) {
		assert(n < TESTS_MAX);
		tests[n++] = (struct CMUnitTest){ .name = table->name,
						  .test_func = run_attack,
						  .initial_state = (void *)table };
	}
	return n;
}

int main(int argc, char **argv)
{
	static struct CMUnitTest tests[TESTS_MAX];
	unsigned int n = 0;
	int failed;

	if (argc < 2 || access(argv[1], X_OK)) {
		fprintf(stderr, "needs the path of the program\n");
		return SKIP;
	}
	server_path = argv[1];
	if (!mkdtemp(dir))
		return 1;
	snprintf(victim_sock, sizeof(victim_sock), "%s/victim", dir);
	snprintf(witness_sock, sizeof(witness_sock), "%s/witness", dir);
	if (argc > 2 && (make_file(files[0], sizeof(files[0]), "victim.img") ||
			 make_file(files[1], sizeof(files[1]), "witness.img")))
		return 1;
	n = add_tests(tests, n, attacks_msg);
	n = add_tests(tests, n, attacks_setup);
	n = add_tests(tests, n, attacks_ring);
	n = add_tests(tests, n, attacks_iommu);
	n = add_tests(tests, n, attacks_device);
	failed = _cmocka_run_group_tests("attacks", tests, n, start, stop);
	unlink(victim_sock);
	unlink(witness_sock);
	for (size_t i = 0; i < ARRAY_SIZE(files); i++)
		unlink(files[i]);
	rmdir(dir);
	return failed ? 1 : 0;
}
