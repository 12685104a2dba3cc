// objects: lib/drain.c lib/spool.c lib/spool_io.c lib/outcome.c lib/transfer.c lib/rfc8259.c lib/money.c lib/auth.c lib/log.c fake_pg.c
/* SPDX-License-Identifier: MIT */
/*
 * A file goes when its delivery is committed, and not before, whatever the database does. Against a
 * database that fails on command: see fake_pg.h.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "clock.h"
#include "drain.h"
#include "fake_pg.h"
#include "log.h"
#include "mem.h"

#define BODY                                                                                       \
	"{\"data\":{\"transfer\":{\"transaction_status\":\"failed\",\"api\":{\"optional1\":\"A\"}" \
	"}}}"

static char directory[] = "/tmp/fw-drain.XXXXXX";
static struct spool *spool;
static size_t drained; /* how often options.drained() was called */

static void
count_drained(enum outcome outcome)
{
	(void)outcome;
	drained++;
}

static struct drain_options options = {.database = "", .rate = 100000, .drained = count_drained};
static int arrivals;
static atomic_bool read_only; /* the disk went so: the executable's unlinkat() goes before libc's */

int
unlinkat(int dir, const char *name, int flags)
{
	if (atomic_load(&read_only)) {
		errno = EROFS;
		return -1;
	}
	return (int)syscall(SYS_unlinkat, dir, name, flags);
}

static int
set_up(void **state)
{
	char *error;

	(void)state;
	strcpy(directory + strlen(directory) - 6, "XXXXXX");
	assert_non_null(mkdtemp(directory));
	spool = spool_open(
	    &(struct spool_options){
		.directory = directory, .max_bytes = 1 << 30, .max_files = 100000},
	    &error);
	assert_non_null(spool);
	options.spool = spool;
	options.rate = 100000;
	fake_reset();
	arrivals = 0;
	read_only = false;
	return 0;
}

static int
tear_down(void **state)
{
	char *command = xasprintf("rm -rf %s", directory);

	(void)state;
	spool_close(spool);
	assert_int_equal(system(command), 0);
	free(command);
	return 0;
}

/* n deliveries of this merchant, behind those that are there. */
static void
keep_body(const char *merchant, int n, const char *body)
{
	for (int i = 0; i < n; i++) {
		struct delivery d = {.merchant = merchant,
		    .body = (const unsigned char *)body,
		    .body_len = strlen(body),
		    .order_ref = "A"};

		snprintf(d.request_id, sizeof d.request_id, "%016x", (unsigned)++arrivals);
		assert_int_equal(
		    spool_keep(spool, &d, 1000 + arrivals, clock_ms() + 10000), REASON_NONE);
	}
}

static void
keep(const char *merchant, int n)
{
	keep_body(merchant, n, BODY);
}

static size_t
files(void)
{
	return spool_count(spool).files;
}

static struct drain_result
drain(enum drained expected)
{
	struct drain_result result;
	char *error;

	drained = 0;
	assert_int_equal(drain_once(&options, &result, &error), expected);
	assert_true(
	    drained >= result.drained); /* more, where a pass was broken off and began again */
	if (expected == DRAIN_FAILED)
		assert_non_null(error);
	else
		assert_null(error);
	free(error);
	return result;
}

static void
all_in_batches_oldest_first(void **state)
{
	const struct fake_call *calls;
	size_t n;

	(void)state;
	keep("shop", 200);
	assert_int_equal(drain(DRAIN_DONE).drained, 200);
	assert_int_equal(files(), 0);
	calls = fake_calls(&n);
	assert_int_equal(n, 4);
	assert_int_equal(calls[0].n, 64);
	assert_string_equal(calls[0].first, "0000000000000001");
	assert_string_equal(calls[1].first, "0000000000000041");
	assert_int_equal(fake_open(), 0);
}

static void
nothing_goes_without_a_commit(void **state)
{
	static const enum pg_status failures[] = {PG_LOST, PG_LOCKED, PG_DATA, PG_DOWN, PG_SCHEMA};

	(void)state;
	keep("shop", 3);
	for (size_t i = 0; i < sizeof failures / sizeof *failures; i++) {
		bool answered = failures[i] == PG_LOCKED || failures[i] == PG_DATA;
		int tried = failures[i] == PG_SCHEMA ? 0 : 3; /* one by one, in the end */

		fake_reset();
		fake_records(&(struct fake_step){failures[i], 0}, 1);
		assert_int_equal(drain(answered ? DRAIN_DONE : DRAIN_FAILED).left, tried);
		assert_int_equal(files(), 3);
	}
	fake_reset();
	fake_connects(&(struct fake_step){PG_DOWN, 0}, 1);
	drain(DRAIN_FAILED);
	assert_int_equal(files(), 3);
	fake_reset();
	assert_int_equal(drain(DRAIN_DONE).drained, 3);
	assert_int_equal(files(), 0);
}

static void
what_is_refused_or_busy_holds_up_no_other(void **state)
{
	struct drain_result result;

	(void)state;
	fake_hold(true);
	keep("busy", 70);
	keep("poison", 1);
	keep("locked", 2);
	keep("shop", 70);
	result = drain(DRAIN_DONE);
	assert_int_equal(result.drained, 70);
	assert_int_equal(result.left, 73);
	assert_int_equal(files(), 73);
	fake_hold(false);
	result = drain(DRAIN_DONE);
	assert_int_equal(result.drained, 72);
	assert_int_equal(files(), 1);
}

static void
torn_files_are_set_aside(void **state)
{
	char *command = xasprintf(
	    "cd %s && for f in *; do head -c 50 $f >t && mv t $f; break; done", directory);

	(void)state;
	keep("shop", 3);
	assert_int_equal(system(command), 0);
	free(command);
	assert_int_equal(drain(DRAIN_DONE).drained, 2);
	assert_int_equal(files(), 0);
	assert_int_equal(spool_count(spool).aside, 1);
}

/* It was acknowledged: what another version finds invalid is not buried among the rejected. */
static void
what_is_no_transfer_any_more_is_set_aside(void **state)
{
	(void)state;
	keep("shop", 1);
	keep_body("shop", 1, "{}");
	keep("shop", 1);
	assert_int_equal(drain(DRAIN_DONE).drained, 2);
	assert_int_equal(files(), 0);
	assert_int_equal(spool_count(spool).aside, 1);
}

static void
another_process_drains(void **state)
{
	struct spool *other;
	char *error;

	(void)state;
	keep("shop", 1);
	other = spool_open(
	    &(struct spool_options){.directory = directory, .max_bytes = 1, .max_files = 1},
	    &error);
	assert_true(spool_lock(other));
	drain(DRAIN_ELSEWHERE);
	assert_int_equal(files(), 1);
	spool_close(other);
	drain(DRAIN_DONE);
	assert_int_equal(files(), 0);
}

/* Without the thread this pass has to pass it over. */
static void
a_killer_stops_no_other_once(void **state)
{
	struct fake_step records[1 + 5 + 1];
	struct drain_result result;

	(void)state;
	for (size_t i = 0; i < 6; i++)
		records[i] = (struct fake_step){PG_LOST, 0};
	records[6] = (struct fake_step){PG_OK, 0};
	keep("shop", 100);
	fake_records(records, 7);
	result = drain(DRAIN_DONE);
	assert_int_equal(result.drained, 99);
	assert_int_equal(result.left, 1);
	assert_int_equal(files(), 1);
}

/* -- the thread -- */

static void
wait_until_empty(void)
{
	int64_t end = clock_ms() + 20000;

	while (files() > 0) {
		assert_true(clock_ms() < end);
		usleep(2000);
	}
}

static void
the_thread_comes_back_with_the_database(void **state)
{
	const struct fake_step connects[] = {
	    {PG_DOWN, 0}, {PG_SCHEMA, 0}, {PG_DOWN, 0}, {PG_OK, 0}};
	const struct fake_step records[] = {{PG_LOST, 0}, {PG_DOWN, 0}, {PG_OK, 0}};
	struct drain *d;

	(void)state;
	keep("shop", 100);
	fake_connects(connects, 4);
	fake_records(records, 3);
	d = drain_start(&options);
	wait_until_empty();
	keep("shop", 5); /* and later ones */
	wait_until_empty();
	drain_stop(d);
	assert_int_equal(fake_open(), 0);
}

/* One that fails like this each time is passed over at last. */
static void
stops_no_other(enum pg_status failure)
{
	struct fake_step records[1 + 5 + 1];
	const struct fake_call *calls;
	struct drain *d;
	size_t n;

	for (size_t i = 0; i < 6; i++)
		records[i] = (struct fake_step){failure, 0};
	records[6] = (struct fake_step){PG_OK, 0};
	keep("shop", 3);
	fake_records(records, 7);
	d = drain_start(&options);
	wait_until_empty();
	drain_stop(d);
	calls = fake_calls(&n);
	assert_true(n >= 8);
	assert_int_equal(calls[0].n, 3);
	for (size_t i = 1; i <= 5; i++) {
		assert_int_equal(calls[i].n, 1);
		assert_string_equal(calls[i].first, "0000000000000001");
	}
	assert_string_equal(calls[6].first, "0000000000000002");
}

static void
a_killer_stops_no_other(void **state)
{
	(void)state;
	stops_no_other(PG_LOST);
}

/* The server says each time that it cannot, because of a damaged page, say. */
static void
one_that_the_server_cannot_take_stops_no_other(void **state)
{
	(void)state;
	stops_no_other(PG_DOWN);
}

/* What is committed is not recorded at each pass, and counted as a repeat, until its file can go. */
static void
files_that_cannot_be_removed(void **state)
{
	struct drain *d;
	size_t n = 0;

	(void)state;
	keep("shop", 200);
	read_only = true;
	d = drain_start(&options);
	for (int64_t end = clock_ms() + 20000; n < 4 && clock_ms() < end; usleep(2000))
		(void)fake_calls(&n);
	usleep(1500 * 1000);
	assert_int_equal(files(), 200);
	read_only = false;
	wait_until_empty();
	read_only = true;
	keep("shop", 1);
	for (int64_t end = clock_ms() + 20000; n < 5 && clock_ms() < end; usleep(2000))
		(void)fake_calls(&n);
	read_only = false;
	wait_until_empty();
	drain_stop(d);
	(void)fake_calls(&n);
	assert_int_equal(n, 5);
}

static void
it_stops_with_files_left(void **state)
{
	struct drain *d;

	(void)state;
	keep("shop", 300);
	options.rate = 1;
	d = drain_start(&options);
	for (int64_t end = clock_ms() + 20000; files() == 300; usleep(2000))
		assert_true(clock_ms() < end);
	drain_stop(d); /* does not wait for the rate */
	assert_int_equal(files(), 300 - 64);
	drain_stop(NULL);
}

int
main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
	    TEST(all_in_batches_oldest_first),
	    TEST(nothing_goes_without_a_commit),
	    TEST(what_is_refused_or_busy_holds_up_no_other),
	    TEST(torn_files_are_set_aside),
	    TEST(what_is_no_transfer_any_more_is_set_aside),
	    TEST(another_process_drains),
	    TEST(a_killer_stops_no_other_once),
	    TEST(the_thread_comes_back_with_the_database),
	    TEST(a_killer_stops_no_other),
	    TEST(one_that_the_server_cannot_take_stops_no_other),
	    TEST(files_that_cannot_be_removed),
	    TEST(it_stops_with_files_left),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
