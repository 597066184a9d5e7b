/*
 * Events: what the kernel's messages and our own records become.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "tests/core/test.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/base.h"
#include "core/log.h"
#include "sriov/watch.h"
#include "tests/sriov/fake.h"

static struct fake fake;
static struct sriov *s, *watcher;
static struct sriov_watch *watch;
static char seen[4096];

static int setup(void **state)
{
	struct sriov_resize want = { .nr_vfs = 2 };

	log_set_level(LOG_LEVEL_ERROR);
	fake_create(&fake);
	s = fake_open(&fake, true);
	if (sriov_resize(s, FAKE_PF, &want) != 1)
		return -1;
	/* It needs no lock, while another process has it. */
	watcher = fake_open(&fake, false);
	if (sriov_watch_open(watcher, &watch) < 0) {
		print_message("skipped: %s\n", sriov_error(watcher));
		watch = NULL;
	}
	seen[0] = '\0';
	return 0;
}

static int teardown(void **state)
{
	sriov_watch_close(watch);
	sriov_close(watcher);
	sriov_close(s);
	fake_destroy(&fake);
	return 0;
}

static void told(void *opaque, const struct sriov_event *e)
{
	size_t used = strlen(seen);

	/* The machine's own links may change while this runs. */
	if (e->kind != SRIOV_EVENT_LINK)
		snprintf(seen + used, sizeof(seen) - used, "%s %s %s %s;",
			 sriov_event_names[e->kind], e->addr, e->pf, e->detail);
}

/* A message of the kernel: lines that end with zeroes. */
static void uevent(const char *text)
{
	char event[512];
	size_t len = strlen(text);

	seen[0] = '\0';
	memcpy(event, text, len + 1);
	for (size_t i = 0; i < len; i++) {
		if (event[i] == '|')
			event[i] = '\0';
	}
	sriov_watch_tell(watch, told, NULL);
	sriov_watch_uevent(watch, event, len);
	sriov_watch_tell(watch, NULL, NULL);
}

static void devices_come_and_go(void **state)
{
	if (!watch)
		skip();
	uevent("add@/x|ACTION=add|SUBSYSTEM=pci|PCI_SLOT_NAME=" FAKE_VF1 "|SEQNUM=1");
	assert_string_equal(seen, "appeared " FAKE_VF1 " " FAKE_PF " ;");
	uevent("bind@/x|ACTION=bind|SUBSYSTEM=pci|PCI_SLOT_NAME=" FAKE_VF1);
	assert_string_equal(seen, "driver " FAKE_VF1 " " FAKE_PF " igbvf;");
	/* What it was then counts, not what there is now. */
	uevent("bind@/x|ACTION=bind|SUBSYSTEM=pci|DRIVER=vfio-pci|PCI_SLOT_NAME=" FAKE_VF1);
	assert_string_equal(seen, "driver " FAKE_VF1 " " FAKE_PF " vfio-pci;");
	uevent("unbind@/x|ACTION=unbind|SUBSYSTEM=pci|PCI_SLOT_NAME=" FAKE_VF1);
	assert_string_equal(seen, "driver " FAKE_VF1 " " FAKE_PF " ;");
	uevent("remove@/x|ACTION=remove|SUBSYSTEM=pci|PCI_SLOT_NAME=0000:77:00.0");
	assert_string_equal(seen, "vanished 0000:77:00.0  ;");
	uevent("change@/x|ACTION=change|SUBSYSTEM=pci|PCI_SLOT_NAME=" FAKE_PF
	       "|ERROR_EVENT=BEGIN_RECOVERY");
	assert_string_equal(seen, "error " FAKE_PF "  BEGIN_RECOVERY;");
}

static void other_messages_are_nothing(void **state)
{
	static const char *const others[] = {
		"",
		"|",
		"add@/x|ACTION=add|SUBSYSTEM=net|INTERFACE=eth0",
		"add@/x|ACTION=add|SUBSYSTEM=pci",
		"add@/x|ACTION=add|SUBSYSTEM=pci|PCI_SLOT_NAME=junk",
		"add@/x|ACTION=add|SUBSYSTEM=pci|PCI_SLOT_NAME=" FAKE_PF "|SYNTH_UUID=0",
		"change@/x|ACTION=change|SUBSYSTEM=pci|PCI_SLOT_NAME=" FAKE_PF,
		"ACTION=add|SUBSYSTEM=pciX|PCI_SLOT_NAME=" FAKE_PF,
	};

	if (!watch)
		skip();
	for (size_t i = 0; i < ARRAY_SIZE(others); i++) {
		uevent(others[i]);
		assert_string_equal(seen, "");
	}
}

/* Events of several changes may come together; none is lost. */
static void claims_and_resets_are_told(void **state)
{
	struct sriov_claim_opts opts = { .owner = "vm1", .vf = FAKE_VF0 };
	char addr[SRIOV_ADDR_LEN];

	if (!watch)
		skip();
	assert_int_equal(sriov_claim(s, &opts, addr), 0);
	while (!strstr(seen, "claimed"))
		assert_true(sriov_watch_wait(watch, -1, told, NULL) >= 0);
	assert_string_equal(seen, "claimed " FAKE_VF0 " " FAKE_PF " vm1;");
	seen[0] = '\0';
	assert_int_equal(sriov_release(s, FAKE_VF0, "vm1", 0), 0);
	while (!strstr(seen, "released"))
		assert_true(sriov_watch_wait(watch, -1, told, NULL) >= 0);
	assert_string_equal(seen, "reset " FAKE_VF0 " " FAKE_PF " ;released " FAKE_VF0 " " FAKE_PF
				  " vm1;");
}

static void a_claim_that_fails_was_none(void **state)
{
	struct sriov_claim_opts opts = { .owner = "vm1", .vf = FAKE_VF0 };
	struct sriov_claim_opts good = { .owner = "vm2", .vf = FAKE_VF1 };
	char addr[SRIOV_ADDR_LEN];

	if (!watch)
		skip();
	fake_file(&fake, "/fake/refuse/vfio-pci", "");
	assert_true(sriov_claim(s, &opts, addr) < 0);
	fake_remove(&fake, "/fake/refuse/vfio-pci");
	assert_int_equal(sriov_claim(s, &good, addr), 0);
	while (!strstr(seen, "vm2"))
		assert_true(sriov_watch_wait(watch, -1, told, NULL) >= 0);
	assert_null(strstr(seen, "vm1"));
}

static void each_of_two_resets_is_told(void **state)
{
	if (!watch)
		skip();
	assert_int_equal(sriov_reset(s, FAKE_VF0), 0);
	assert_int_equal(sriov_reset(s, FAKE_VF0), 0);
	while (strlen(seen) < 2 * strlen("reset " FAKE_VF0 " " FAKE_PF " ;"))
		assert_true(sriov_watch_wait(watch, -1, told, NULL) >= 0);
	assert_string_equal(seen,
			    "reset " FAKE_VF0 " " FAKE_PF " ;reset " FAKE_VF0 " " FAKE_PF " ;");
}

static void told_link(void *opaque, const struct sriov_event *e)
{
	size_t used = strlen(seen);

	if (e->kind == SRIOV_EVENT_LOST || !strcmp(e->netdev, "lo"))
		snprintf(seen + used, sizeof(seen) - used, "%s %s;", sriov_event_names[e->kind],
			 e->kind == SRIOV_EVENT_LOST ? e->detail : e->addr);
}

/* The loopback device was none of a function's when it was looked at: as good as
 * one whose events were lost. */
static void after_lost_events_links_are_looked_at_again(void **state)
{
	if (!watch)
		skip();
	fake_link(&fake, "/sys/class/net/lo/device", "/sys/devices/pci0000:00/" FAKE_PF);
	sriov_watch_tell(watch, told_link, NULL);
	sriov_watch_lost_links(watch);
	sriov_watch_tell(watch, NULL, NULL);
	assert_string_equal(seen, "lost links;link " FAKE_PF ";");
}

static void told_eth0(void *opaque, const struct sriov_event *e)
{
	size_t used = strlen(seen);

	if (e->kind == SRIOV_EVENT_LOST)
		snprintf(seen + used, sizeof(seen) - used, "lost %s;", e->detail);
	else if (!strcmp(e->netdev, "eth0"))
		snprintf(seen + used, sizeof(seen) - used, "eth0 %s;", e->detail);
}

/* A driver waits for its card with the lock of all network devices. */
static void links_that_cannot_be_read_are_read_later(void **state)
{
	if (!watch)
		skip();
	sriov_watch_close(watch);
	fake_file(&fake, "/fake/hang-links", "");
	assert_int_equal(sriov_watch_open(watcher, &watch), 0);
	/* Other events are told. */
	assert_int_equal(sriov_reset(s, FAKE_VF0), 0);
	while (!*seen)
		assert_true(sriov_watch_wait(watch, -1, told, NULL) >= 0);
	assert_string_equal(seen, "reset " FAKE_VF0 " " FAKE_PF " ;");
	/* What was there all the time is no event, what comes after that is one. */
	fake_remove(&fake, "/fake/hang-links");
	fake_file(&fake, "/fake/links", "77 1 eth0\n");
	seen[0] = '\0';
	sriov_watch_tell(watch, told_eth0, NULL);
	sriov_watch_look(watch);
	assert_string_equal(seen, "");
	fake_file(&fake, "/fake/links", "77 0 eth0\n");
	sriov_watch_lost_links(watch);
	assert_string_equal(seen, "lost links;eth0 down;");
	sriov_watch_tell(watch, NULL, NULL);
}

/* Those that ask are not heaped up while the kernel keeps them. */
static void one_question_at_a_time(void **state)
{
	if (!watch)
		skip();
	watcher->stuck = fork();
	if (!watcher->stuck) {
		pause();
		_exit(0);
	}
	fake_file(&fake, "/fake/links", "77 1 eth0\n");
	sriov_watch_tell(watch, told_eth0, NULL);
	sriov_watch_lost_links(watch);
	assert_string_equal(seen, "lost links;");
	kill(watcher->stuck, SIGKILL);
	while (sriov_survey_is_stuck(watcher))
		sriov_sleep_ms(1);
	sriov_watch_look(watch);
	assert_string_equal(seen, "lost links;eth0 up;");
	sriov_watch_tell(watch, NULL, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
		T(devices_come_and_go),
		T(other_messages_are_nothing),
		T(claims_and_resets_are_told),
		T(a_claim_that_fails_was_none),
		T(each_of_two_resets_is_told),
		T(after_lost_events_links_are_looked_at_again),
		T(links_that_cannot_be_read_are_read_later),
		T(one_question_at_a_time),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
