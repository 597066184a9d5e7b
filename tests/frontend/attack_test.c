/*
 * Hostile front-ends and drivers against the real program: each malformed
 * message and chain is a named case. After each, a second device of the same
 * process still serves, the attacked one serves a new front-end, and the process
 * holds no descriptor more than before. Run by meson with the path of
 * ringbolt-blk; skips without it. The cases are in attacks_msg.c, attacks_setup.c
 * and attacks_ring.c.
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
static unsigned int fds_before;

/* The second device: connected all the time. */
static struct blk witness;
static struct blk_req witness_req;
static struct blk victim;

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

static void serves(struct blk_req *req)
{
	static uint8_t out[4096], in[4096];
	static uint32_t seed = 1;

	for (size_t i = 0; i < sizeof(out); i++)
		out[i] = (uint8_t)blk_random(&seed);
	assert_int_equal(blk_write(req, 0, 8, out, sizeof(out)), VIRTIO_BLK_S_OK);
	assert_int_equal(blk_read(req, 0, 8, in, sizeof(in)), VIRTIO_BLK_S_OK);
	assert_memory_equal(in, out, sizeof(in));
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

void attack_assert_request_refused(struct blk *v, uint32_t request, const void *payload,
				   uint32_t len)
{
	attack_assert_refused(&v->fe, fe_request(&v->fe, request, payload, len, NULL, 0));
}

/* Any reaction will do but none at all. */
void attack_assert_answers_or_hangs_up(struct fe *fe)
{
	assert_int_not_equal(fe_sync(fe), -ETIMEDOUT);
}

static int open_victim(enum attack_stage stage, bool packed)
{
	const struct blk_conf conf = {
		.path = victim_sock,
		.queues = ATTACK_QUEUES,
		.queue_size = ATTACK_RING_SIZE,
		.packed = packed,
		.indirect = true,
		.event_idx = true,
		.mem = 4 << 20,
	};
	int err;

	if (stage == ATTACK_RUNNING)
		return blk_open(&victim, &conf);
	memset(&victim, 0, sizeof(victim));
	victim.conf = conf;
	fe_init(&victim.fe);
	victim.region = fe_mem_new(&victim.fe, conf.mem);
	err = fe_connect(&victim.fe, victim_sock);
	if (!err && stage == ATTACK_NEGOTIATED)
		err = fe_negotiate(&victim.fe, ~0ull & ~(1ull << FE_F_LOG_ALL),
				   ~(1ull << FE_PROTO_INBAND_NOTIFICATIONS));
	return err;
}

/* The attacked device takes a front-end that behaves. */
static void victim_is_back(void)
{
	static struct blk_req req;

	assert_int_equal(open_victim(ATTACK_RUNNING, false), 0);
	assert_int_equal(blk_req_init(&req, &victim, victim.region, 4096), 0);
	serves(&req);
	assert_int_equal(blk_close(&victim), 0);
}

static void run_attack(void **state)
{
	const struct attack *a = *state;

	for (int packed = 0; packed < (a->both_rings ? 2 : 1); packed++) {
		assert_int_equal(open_victim(a->stage, packed), 0);
		a->run(&victim);
		serves(&witness_req);
		blk_abandon(&victim);
		serves(&witness_req);
		victim_is_back();
	}
	assert_int_equal(waitpid(server, NULL, WNOHANG), 0);
	/* The end of the last connection is handled a moment later. */
	for (unsigned int i = 0; nr_fds() > fds_before && i < 5000; i++)
		usleep(1000);
	assert_int_equal(nr_fds(), fds_before);
}

static int start(void **state)
{
	const struct blk_conf conf = {
		.path = witness_sock, .queues = 1, .queue_size = 64, .mem = 1 << 20
	};
	char args[2][160];

	snprintf(args[0], sizeof(args[0]), "--device=name=victim,socket=%s,store=mem:1M,queues=%d",
		 victim_sock, ATTACK_QUEUES);
	snprintf(args[1], sizeof(args[1]), "--device=name=witness,socket=%s,store=mem:1M",
		 witness_sock);
	server = fork();
	if (server < 0)
		return -1;
	if (!server) {
		/* What it says about each attack is many lines. */
		int null = open("/dev/null", O_WRONLY);

		if (!getenv("ATTACK_LOG"))
			dup2(null, STDERR_FILENO);
		execl(server_path, "ringbolt-blk", args[0], args[1], NULL);
		_exit(127);
	}
	if (blk_open(&witness, &conf) || blk_req_init(&witness_req, &witness, witness.region, 4096))
		return -1;
	victim_is_back();
	usleep(50000);
	fds_before = nr_fds();
	return 0;
}

static int stop(void **state)
{
	int status;

	blk_abandon(&victim);
	blk_abandon(&witness);
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
		fprintf(stderr, "needs the path of ringbolt-blk\n");
		return SKIP;
	}
	server_path = argv[1];
	if (!mkdtemp(dir))
		return 1;
	snprintf(victim_sock, sizeof(victim_sock), "%s/victim", dir);
	snprintf(witness_sock, sizeof(witness_sock), "%s/witness", dir);
	n = add_tests(tests, n, attacks_msg);
	n = add_tests(tests, n, attacks_setup);
	n = add_tests(tests, n, attacks_ring);
	failed = _cmocka_run_group_tests("attacks", tests, n, start, stop);
	unlink(victim_sock);
	unlink(witness_sock);
	rmdir(dir);
	return failed ? 1 : 0;
}
