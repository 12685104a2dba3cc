// objects: handler/writer.c handler/stats.c lib/outcome.c lib/log.c fake_pg.c
/* SPDX-License-Identifier: MIT */
/*
 * The writer against a database that fails on command. Times are asserted with room
 * for a busy machine: what must be fast is compared with what would be slow.
 *
 * The senders are threads; one more takes what is completed, as in a FastCGI program. Tests with one
 * delivery at a time run again as in a CGI program: the sender takes it itself.
 */
#include <pthread.h>
#include <setjmp.h>
#include <semaphore.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "../../cgi-src/lib/log.h"
#include "../../cgi-src/handler/writer.h"
#include "clock.h"
#include "fake_pg.h"

#define SENDERS 40
#define LONG 5000 /* a deadline that no test should reach, ms */
#define SOON 500  /* "at once", on a machine that does other things as well */

static struct writer *writer;

/* A thread that submits one delivery. */
struct sender {
	pthread_t thread;
	struct delivery d;
	atomic_bool begun;
	int64_t took; /* ms until it came back */
};

static struct sender senders[SENDERS];

static bool one_at_a_time; /* there is no taker */
static pthread_t taker;

static void *
take_completed(void *unused)
{
	struct pending *p, *next;

	(void)unused;
	while ((p = writer_take_completed(writer)) != NULL)
		for (; p != NULL; p = next) {
			next = p->next;
			sem_post(p->owner);
		}
	return NULL;
}

/* Submit a delivery and wait for its outcome. */
static void
submit_and_wait(struct delivery *d)
{
	struct pending p;
	sem_t completed;

	sem_init(&completed, 0, 0);
	if (writer_submit(writer, &p, d, &completed)) {
		if (one_at_a_time) {
			assert_ptr_equal(writer_take_completed(writer), &p);
			assert_null(p.next);
		} else {
			sem_wait(&completed);
		}
	}
	sem_destroy(&completed);
}

static void
start(void)
{
	writer = writer_start(
	    &(struct writer_options){.database = "nowhere", .one_at_a_time = one_at_a_time});
	if (!one_at_a_time)
		assert_int_equal(pthread_create(&taker, NULL, take_completed, NULL), 0);
}

static void
end_writer(void)
{
	if (writer != NULL) {
		writer_close(writer);
		if (one_at_a_time)
			assert_null(writer_take_completed(writer));
		else
			pthread_join(taker, NULL);
	}
	writer_stop(writer);
	writer = NULL;
}

static int
setup(void **state)
{
	(void)state;
	fake_reset();
	for (size_t i = 0; i < SENDERS; i++)
		senders[i] = (struct sender){.took = -1};
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	end_writer();
	return fake_open() == 0 ? 0 : -1;
}

static void
pass(int ms)
{
	nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L}, NULL);
}

static void *
send_one(void *arg)
{
	struct sender *s = arg;
	int64_t at = clock_ms();

	atomic_store(&s->begun, true);
	submit_and_wait(&s->d);
	s->took = clock_ms() - at;
	return NULL;
}

static void
prepare(size_t i, const char *merchant, int deadline)
{
	struct delivery *d = &senders[i].d;

	snprintf(d->request_id, sizeof d->request_id, "%016zx", i);
	d->merchant = merchant;
	d->deadline = clock_ms() + deadline;
	d->outcome = OUTCOME__MAX;
}

/* Submit delivery i from a thread of its own. */
static void
begin(size_t i, const char *merchant, int deadline)
{
	prepare(i, merchant, deadline);
	assert_int_equal(pthread_create(&senders[i].thread, NULL, send_one, &senders[i]), 0);
}

/* Submit delivery i to a writer that is busy: it is queued when this returns. */
static void
begin_queued(size_t i, const char *merchant, int deadline)
{
	begin(i, merchant, deadline);
	while (!atomic_load(&senders[i].begun))
		pass(1);
	pass(i < 10 ? 30 : 5);
}

static struct sender *
end(size_t i)
{
	assert_int_equal(pthread_join(senders[i].thread, NULL), 0);
	return &senders[i];
}

/* Submit delivery i and wait for it. */
static struct sender *
record(size_t i, const char *merchant, int deadline)
{
	prepare(i, merchant, deadline);
	send_one(&senders[i]);
	return &senders[i];
}

static void
assert_recorded(const struct sender *s)
{
	assert_int_equal(s->d.outcome, OUTCOME_RECORDED);
	assert_string_equal(s->d.order, s->d.request_id); /* its own outcome, not a neighbour's */
	assert_string_equal(s->d.reason, "");
}

static void
assert_unavailable(const struct sender *s, enum reason reason)
{
	assert_int_equal(s->d.outcome, OUTCOME_UNAVAILABLE);
	assert_int_equal(s->d.unavailable, reason);
	assert_string_equal(s->d.reason, "");
	assert_string_equal(s->d.order, "");
	assert_int_equal(s->d.delivery_id, 0);
}

static struct writer_stats
stats(void)
{
	struct writer_stats n;

	writer_stats(writer, &n);
	return n;
}

#define CONNECTS(...)                                                                              \
	fake_connects((const struct fake_step[]){__VA_ARGS__},                                     \
	    sizeof((const struct fake_step[]){__VA_ARGS__}) / sizeof(struct fake_step))
#define RECORDS(...)                                                                               \
	fake_records((const struct fake_step[]){__VA_ARGS__},                                      \
	    sizeof((const struct fake_step[]){__VA_ARGS__}) / sizeof(struct fake_step))

/* -- the ordinary case -- */

static void
one_delivery(void **state)
{
	(void)state;
	start();
	assert_recorded(record(0, "shop", LONG));
	assert_int_equal(stats().batches, 1);
	assert_int_equal(stats().deliveries, 1);
	assert_int_equal(stats().connects, 1); /* the second lane was not needed */
}

static void
batches_form_while_one_commits(void **state)
{
	size_t n;

	(void)state;
	RECORDS({PG_OK, FAKE_GATE}, {PG_OK, 0});
	start();
	begin(0, "shop", LONG);
	pass(100);
	for (size_t i = 1; i < SENDERS; i++)
		begin_queued(i, "shop", LONG);
	fake_gate();
	for (size_t i = 0; i < SENDERS; i++)
		assert_recorded(end(i));
	const struct fake_call *c = fake_calls(&n);
	assert_int_equal(n, 2);
	assert_int_equal(c[0].n, 1);
	assert_int_equal(c[1].n, SENDERS - 1);
	assert_string_equal(c[1].first, senders[1].d.request_id); /* first come, first */
}

static void
batch_is_bounded_by_bytes(void **state)
{
	size_t n;

	(void)state;
	RECORDS({PG_OK, FAKE_GATE}, {PG_OK, 0});
	start();
	begin(0, "shop", LONG);
	pass(100);
	for (size_t i = 1; i <= 5; i++) { /* the fake never looks at the bodies */
		senders[i].d.body_len = 6u << 20;
		begin_queued(i, "shop", LONG);
	}
	fake_gate();
	for (size_t i = 0; i <= 5; i++)
		assert_recorded(end(i));
	const struct fake_call *c = fake_calls(&n);
	assert_int_equal(n, 4);
	assert_int_equal(c[1].n, 2);
	assert_int_equal(c[2].n, 2);
	assert_int_equal(c[3].n, 1);
}

/* -- locks and poison -- */

static void
busy_waits_beside_the_stream(void **state)
{
	size_t n;

	(void)state;
	fake_hold(true);
	start();
	begin(0, "busy", LONG);
	pass(50);
	for (size_t i = 1; i < 10; i++) {
		struct sender *s = record(i, "shop", LONG);
		assert_recorded(s);
		assert_true(s->took < SOON);
	}
	pass(300); /* some tries more */
	fake_hold(false);
	assert_recorded(end(0));
	assert_true(senders[0].took < LONG);
	assert_int_equal(stats().connects, 2);
	assert_int_equal(stats().deliveries, 10 + stats().busy);
	assert_true(stats().busy >= 3);
	assert_true(stats().busy < 12); /* pauses grow */
	const struct fake_call *c = fake_calls(&n);
	for (size_t i = 0; i < n; i++)
		if (i > 0 && strcmp(c[i].first, senders[0].d.request_id) == 0)
			assert_int_not_equal(c[i].connection, c[0].connection);
}

/* With one request at a time there are no others to hold up, and a second connection costs. */
static void
one_at_a_time_needs_one_connection(void **state)
{
	(void)state;
	fake_hold(true);
	start();
	begin(0, "busy", LONG);
	pass(300);
	fake_hold(false);
	assert_recorded(end(0));
	assert_true(senders[0].took < LONG);
	assert_true(stats().busy >= 3);
	fake_hold(true);
	assert_unavailable(record(1, "busy", 400), REASON_BUSY);
	assert_recorded(record(2, "shop", LONG));
	assert_int_equal(stats().connects, 1);
}

static void
busy_to_the_end(void **state)
{
	(void)state;
	fake_hold(true);
	start();
	begin(0, "busy", 400);
	begin(1, "busy", 700);
	assert_unavailable(end(0), REASON_BUSY);
	assert_true(senders[0].took <= 400 + SOON);
	assert_unavailable(end(1), REASON_BUSY);
	assert_true(senders[1].took >= 600 && senders[1].took <= 700 + SOON);
	assert_recorded(record(2, "shop", LONG));
}

static void
poison_hurts_only_itself(void **state)
{
	size_t n;

	(void)state;
	RECORDS({PG_OK, FAKE_GATE}, {PG_OK, 0});
	start();
	begin(0, "shop", LONG);
	pass(100);
	for (size_t i = 1; i <= 10; i++)
		begin_queued(i, i == 5 ? "poison" : "shop", LONG);
	fake_gate();
	for (size_t i = 0; i <= 10; i++) {
		if (i == 5)
			assert_unavailable(end(i), REASON_REFUSED);
		else
			assert_recorded(end(i));
		assert_true(senders[i].took < LONG);
	}
	const struct fake_call *c = fake_calls(&n);
	assert_int_equal(n, 12); /* one, all ten, and ten alone */
	assert_int_equal(c[1].n, 10);
	for (size_t i = 2; i < n; i++) {
		assert_int_equal(c[i].n, 1);
		assert_int_not_equal(c[i].connection, c[0].connection);
	}
}

static void
single_poison_is_refused_at_once(void **state)
{
	size_t n;

	(void)state;
	start();
	assert_unavailable(record(0, "poison", LONG), REASON_REFUSED);
	fake_calls(&n);
	assert_int_equal(n, 1);
	assert_recorded(record(1, "shop", LONG));
}

static void
locked_batch_is_tried_singly(void **state)
{
	(void)state;
	fake_hold(true);
	RECORDS({PG_OK, FAKE_GATE}, {PG_OK, 0});
	start();
	begin(0, "shop", LONG);
	pass(100);
	begin_queued(1, "shop", LONG);
	begin_queued(2, "locked", LONG);
	begin_queued(3, "shop", LONG);
	fake_gate();
	assert_recorded(end(0));
	assert_recorded(end(1));
	assert_recorded(end(3));
	assert_true(senders[1].took < LONG / 2);
	assert_recorded(record(4, "shop", LONG)); /* the main lane goes on */
	fake_hold(false);
	assert_recorded(end(2));
}

static void
single_lock_leaves_the_main_lane(void **state)
{
	(void)state;
	fake_hold(true);
	start();
	begin(0, "locked", 600);
	pass(50);
	for (size_t i = 1; i < 5; i++)
		assert_true(record(i, "shop", LONG)->took < SOON);
	assert_unavailable(end(0), REASON_BUSY);
}

/* -- lost replies -- */

static void
lost_reply_is_asked_again(void **state)
{
	size_t n;

	(void)state;
	RECORDS({PG_LOST, 0}, {PG_OK, 0});
	start();
	assert_recorded(record(0, "shop", LONG));
	fake_calls(&n);
	assert_int_equal(n, 2);
	assert_int_equal(stats().connects, 2);
	assert_int_equal(stats().failures, 1);
}

static void
lost_batch_keeps_its_order(void **state)
{
	size_t n;

	(void)state;
	RECORDS({PG_OK, FAKE_GATE}, {PG_LOST, 0}, {PG_OK, 0});
	start();
	begin(0, "shop", LONG);
	pass(100);
	begin_queued(1, "shop", LONG);
	begin_queued(2, "shop", LONG);
	fake_gate();
	for (size_t i = 0; i <= 2; i++)
		assert_recorded(end(i));
	const struct fake_call *c = fake_calls(&n);
	assert_int_equal(n, 3);
	assert_int_equal(c[2].n, 2);
	assert_string_equal(c[2].first, senders[1].d.request_id);
}

static void
lost_twice_is_in_doubt(void **state)
{
	(void)state;
	RECORDS({PG_LOST, 0}, {PG_LOST, 0}, {PG_OK, 0});
	start();
	struct sender *s = record(0, "shop", LONG);
	assert_unavailable(s, REASON_IN_DOUBT);
	assert_true(s->took < LONG / 2);
	assert_unavailable(record(1, "shop", LONG), REASON_DATABASE); /* down until a probe */
	pass(1000);
	assert_recorded(record(2, "shop", LONG));
}

static void
lost_and_no_way_back_is_in_doubt(void **state)
{
	(void)state;
	CONNECTS({PG_OK, 0}, {PG_DOWN, 0});
	RECORDS({PG_LOST, 0});
	start();
	assert_unavailable(record(0, "shop", LONG), REASON_IN_DOUBT);
	assert_unavailable(record(1, "shop", LONG), REASON_DATABASE);
}

/* The first try may have been kept, so "busy" would promise too much. */
static void
lost_then_busy_stays_in_doubt(void **state)
{
	(void)state;
	fake_hold(true);
	RECORDS({PG_LOST, 0}, {PG_OK, 0});
	start();
	assert_unavailable(record(0, "busy", 400), REASON_IN_DOUBT);
}

/* -- a database that is away -- */

static void
down_fails_fast_and_recovers(void **state)
{
	int64_t begun = clock_ms();

	(void)state;
	CONNECTS({PG_DOWN, 0}, {PG_DOWN, 0}, {PG_DOWN, 0}, {PG_OK, 0});
	start();
	record(0, "shop", LONG); /* may come before the first attempt has failed, or after it */
	assert_unavailable(&senders[0], REASON_DATABASE);
	struct sender *s = record(1, "shop", LONG);
	assert_unavailable(s, REASON_DATABASE);
	assert_true(s->took < SOON);
	assert_int_equal(stats().connects, 0);
	for (size_t i = 2; record(2, "shop", LONG)->d.outcome == OUTCOME_UNAVAILABLE; i++) {
		assert_true(clock_ms() - begun < LONG);
		pass(20);
	}
	assert_recorded(&senders[2]);
	assert_int_equal(fake_connections(), 4);
	assert_true(clock_ms() - begun >= 75 + 150 + 300); /* three back-offs, less their jitter */
}

static void
down_refuses_what_is_queued(void **state)
{
	(void)state;
	CONNECTS({PG_OK, 0}, {PG_DOWN, 0});
	RECORDS({PG_DOWN, 300});
	start();
	begin(0, "shop", LONG);
	pass(100);
	begin(1, "shop", LONG);
	assert_unavailable(end(0), REASON_DATABASE);
	assert_unavailable(end(1), REASON_DATABASE);
	assert_true(senders[1].took < LONG / 2);
}

static void
unknown_schema_has_its_own_reason(void **state)
{
	(void)state;
	CONNECTS({PG_SCHEMA, 0});
	start();
	pass(50);
	assert_unavailable(record(0, "shop", LONG), REASON_SCHEMA);
}

static void
start_is_waited_for(void **state)
{
	(void)state;
	CONNECTS({PG_OK, 300});
	start();
	struct sender *s = record(0, "shop", LONG);
	assert_recorded(s);
	assert_true(s->took >= 200);
}

/* The lane owns nothing while it connects, so that a connect without a deadline holds up no delivery. */
static void
start_that_hangs_keeps_the_deadline(void **state)
{
	(void)state;
	CONNECTS({PG_OK, 1500});
	start();
	struct sender *s = record(0, "shop", 300);
	assert_unavailable(s, REASON_DATABASE);
	assert_true(s->took >= 280 && s->took < 300 + SOON);
}

static void
second_lane_without_connection(void **state)
{
	(void)state;
	CONNECTS({PG_OK, 0}, {PG_DOWN, 0});
	fake_hold(true);
	start();
	pass(50);
	assert_unavailable(record(0, "busy", LONG), REASON_DATABASE);
	assert_unavailable(record(1, "busy", LONG), REASON_DATABASE);
	assert_recorded(record(2, "shop", LONG)); /* the main lane is well */
}

/* -- deadlines -- */

static void
hanging_call_keeps_the_deadline(void **state)
{
	(void)state;
	RECORDS({PG_OK, FAKE_HANG});
	start();
	begin(0, "shop", 600);
	pass(200);
	begin(1, "shop", 300); /* queued behind it: withdrawn */
	assert_unavailable(end(1), REASON_DATABASE);
	assert_true(senders[1].took < 300 + SOON);
	assert_unavailable(end(0), REASON_IN_DOUBT);
	assert_true(senders[0].took < 600 + SOON);
	assert_true(senders[0].took >= 400);
}

/* Each call that hangs leaves a session in the server: there must not be many. And it ends. */
static void
hanging_calls_become_rare(void **state)
{
	const struct fake_call *calls = NULL;
	size_t n = 0;

	(void)state;
	RECORDS({PG_OK, FAKE_HANG}, {PG_OK, FAKE_HANG}, {PG_OK, FAKE_HANG}, {PG_OK, 0});
	start();
	for (int64_t last = clock_ms() + 60000; n < 4; calls = fake_calls(&n)) {
		record(0, "shop", 700);
		pass(5);
		assert_true(clock_ms() < last);
	}
	assert_true(calls[2].at - calls[1].at >= 600 + 750); /* the back-off less its jitter */
	assert_true(calls[3].at - calls[2].at >= 600 + 1500);
	assert_recorded(record(0, "shop", LONG));
}

/* The call is cut for the delivery that has least time; the other one is asked again. */
static void
neighbour_with_little_time(void **state)
{
	(void)state;
	RECORDS({PG_OK, FAKE_GATE}, {PG_OK, 700}, {PG_OK, 0});
	start();
	begin(0, "shop", LONG);
	pass(100);
	begin_queued(1, "shop", 600);
	begin_queued(2, "shop", LONG);
	fake_gate();
	assert_recorded(end(0));
	assert_unavailable(end(1), REASON_IN_DOUBT);
	assert_recorded(end(2));
}

/* What has no time for a call is not taken: it would only cut the call short for the others. */
static void
too_late_is_not_taken(void **state)
{
	size_t n;

	(void)state;
	start();
	assert_recorded(record(0, "shop", LONG));
	assert_unavailable(record(1, "shop", 30), REASON_DATABASE);
	assert_unavailable(record(2, "shop", -30), REASON_DATABASE);
	fake_calls(&n);
	assert_int_equal(n, 1);
}

static void
stop_does_not_wait_for_the_back_off(void **state)
{
	(void)state;
	CONNECTS({PG_DOWN, 0});
	start();
	pass(1200); /* the pauses are long by now */
	int64_t begun = clock_ms();
	end_writer();
	assert_true(clock_ms() - begun < SOON);
}

static void
stop_without_a_writer(void **state)
{
	(void)state;
	writer_stop(NULL);
}

/* -- all at once -- */

#define HAMMERS 64
#define BLOWS 150

static size_t recorded, unavailable_count, wrong, late;
static pthread_mutex_t count_mutex = PTHREAD_MUTEX_INITIALIZER;

static void *
hammer(void *arg)
{
	static const char *const merchants[] = {
	    "shop", "shop", "shop", "shop", "shop", "busy", "locked", "poison"};
	struct delivery *d = calloc(1, sizeof *d);
	unsigned seed = (unsigned)(size_t)arg;

	for (int i = 0; i < BLOWS; i++) {
		d->merchant = merchants[(unsigned)rand_r(&seed) % 8];
		if (strcmp(d->merchant, "poison") == 0 && i % 4 != 0)
			d->merchant = "shop";
		snprintf(d->request_id, sizeof d->request_id, "%08x%08x", (unsigned)(size_t)arg,
		    (unsigned)i);
		d->deadline = clock_ms() + 60 + rand_r(&seed) % 400;
		d->outcome = OUTCOME__MAX;
		submit_and_wait(d);
		int64_t over = clock_ms() - d->deadline;
		if (d->outcome == OUTCOME_UNAVAILABLE)
			pass(5); /* or all would be refused while the writer backs off */
		pthread_mutex_lock(&count_mutex);
		recorded += d->outcome == OUTCOME_RECORDED;
		unavailable_count += d->outcome == OUTCOME_UNAVAILABLE;
		wrong += d->outcome == OUTCOME_RECORDED && strcmp(d->order, d->request_id) != 0;
		wrong += d->outcome == OUTCOME_RECORDED && strcmp(d->merchant, "poison") == 0;
		late += over > SOON;
		pthread_mutex_unlock(&count_mutex);
	}
	free(d);
	return NULL;
}

static void
many_threads_and_every_failure(void **state)
{
	pthread_t threads[HAMMERS];

	(void)state;
	recorded = unavailable_count = wrong = late = 0;
	start();
	for (size_t i = 0; i < HAMMERS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, hammer, (void *)(i + 1)), 0);
	for (int i = 0; i < 20; i++) {
		fake_hold(i % 3 == 0);
		switch (i % 5) {
		case 1:
			RECORDS({PG_LOST, 1}, {PG_OK, 1}, {PG_LOST, 1}, {PG_LOST, 1}, {PG_OK, 1});
			break;
		case 2:
			RECORDS({PG_DOWN, 1}, {PG_OK, 2});
			CONNECTS({PG_DOWN, 5}, {PG_SCHEMA, 1}, {PG_OK, 5});
			break;
		case 3:
			RECORDS({PG_OK, FAKE_HANG}, {PG_DATA, 1}, {PG_LOCKED, 1}, {PG_OK, 1});
			break;
		default:
			RECORDS({PG_OK, 1});
		}
		pass(60);
	}
	RECORDS({PG_OK, 0});
	CONNECTS({PG_OK, 0});
	fake_hold(false);
	for (size_t i = 0; i < HAMMERS; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	assert_int_equal(recorded + unavailable_count, HAMMERS * BLOWS); /* each has an answer */
	assert_int_equal(wrong, 0);
	assert_int_equal(late, 0);
	assert_true(recorded > HAMMERS); /* and the storm let something through */
	print_message("recorded %zu of %d, batches %zu\n", recorded, HAMMERS * BLOWS,
	    (size_t)stats().batches);
}

/* What the service manager's watchdog has to find: a thread that is needed and does not come. */
static void
a_stuck_lane_is_overdue(void **state)
{
	(void)state;
	RECORDS({PG_OK, 0}, {PG_OK, FAKE_GATE}, {PG_OK, 0});
	start();
	assert_recorded(record(0, "shop", LONG));
	pass(50);
	assert_true(writer_overdue(writer) < SOON); /* idle is not stuck */
	begin_queued(1, "shop", LONG);
	while (writer_overdue(writer) < 100)
		pass(5);
	fake_gate();
	assert_recorded(end(1));
	while (writer_overdue(writer) >= 100)
		pass(5);
}

/* A database that is away, and a back-off, are no fault. */
static void
a_lane_that_is_down_is_not_overdue(void **state)
{
	(void)state;
	CONNECTS({PG_DOWN, 0});
	start();
	for (int i = 0; i < 40; i++) {
		pass(10);
		assert_true(writer_overdue(writer) < SOON);
	}
	assert_int_equal(stats().down, REASON_DATABASE);
}

/* With one request at a time no thread takes anything until the next request. */
static void
an_idle_program_is_not_overdue(void **state)
{
	(void)state;
	start();
	assert_recorded(record(0, "shop", LONG));
	pass(SOON + 100);
	assert_true(writer_overdue(writer) < SOON);
}

/* -- without a taker that runs all the time -- */

/* No thread takes what is completed any more: then nothing is answered. */
static void
a_lost_taker_is_overdue(void **state)
{
	struct pending pending;

	(void)state;
	writer = writer_start(&(struct writer_options){.database = "nowhere"});
	prepare(0, "shop", LONG);
	assert_true(writer_submit(writer, &pending, &senders[0].d, NULL));
	assert_ptr_equal(writer_take_completed(writer), &pending);
	while (writer_overdue(writer) < 100)
		pass(5);
	writer_close(writer);
	assert_null(writer_take_completed(writer));
	assert_int_equal(writer_overdue(writer), 0);
	writer_stop(writer);
	writer = NULL;
}

/* One thread submits many deliveries, and takes them together, in their order. */
static void
one_thread_submits_many(void **state)
{
	struct pending pending[SENDERS], *p;
	size_t n, back = 0;

	(void)state;
	RECORDS({PG_OK, FAKE_GATE}, {PG_OK, 0});
	writer = writer_start(&(struct writer_options){.database = "nowhere"});
	for (size_t i = 0; i < SENDERS; i++) {
		prepare(i, "shop", LONG);
		assert_true(writer_submit(writer, &pending[i], &senders[i].d, &senders[i]));
		if (i == 0)
			pass(50); /* a lane owns it */
	}
	fake_gate();
	p = writer_take_completed(writer);
	assert_ptr_equal(p, &pending[0]);
	writer_close(writer); /* what is pending is still completed */
	do
		for (; p != NULL; p = p->next, back++) {
			assert_ptr_equal(p->owner, &senders[back]);
			assert_recorded(p->owner);
		}
	while ((p = writer_take_completed(writer)) != NULL);
	assert_int_equal(back, SENDERS);
	fake_calls(&n);
	assert_int_equal(n, 2);
	assert_null(writer_take_completed(writer)); /* and again */
	writer_stop(writer);
	writer = NULL;
}

/* A short deadline wakes a taker that waits for a longer one. */
static void
the_shorter_deadline_comes_back_first(void **state)
{
	struct pending pending[3], *p;

	(void)state;
	CONNECTS({PG_OK, 2 * SOON});
	writer = writer_start(&(struct writer_options){.database = "nowhere"});
	prepare(0, "shop", 4 * SOON);
	prepare(1, "shop", SOON / 2);
	assert_true(writer_submit(writer, &pending[0], &senders[0].d, NULL));
	assert_true(writer_submit(writer, &pending[1], &senders[1].d, NULL));
	p = writer_take_completed(writer);
	assert_ptr_equal(p, &pending[1]);
	assert_null(p->next);
	assert_unavailable(&senders[1], REASON_DATABASE);
	p = writer_take_completed(writer);
	assert_ptr_equal(p, &pending[0]);
	assert_recorded(&senders[0]);
	writer_stop(writer);
	writer = NULL;
}

/* What is refused at once is not pending: it is not completed a second time. */
static void
what_is_refused_is_not_pending(void **state)
{
	struct pending pending;

	(void)state;
	CONNECTS({PG_SCHEMA, 0});
	writer = writer_start(&(struct writer_options){.database = "nowhere"});
	pass(50);
	prepare(0, "shop", LONG);
	assert_false(writer_submit(writer, &pending, &senders[0].d, NULL));
	assert_unavailable(&senders[0], REASON_SCHEMA);
	writer_close(writer);
	assert_null(writer_take_completed(writer));
	writer_stop(writer);
	writer = NULL;
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(one_delivery),
	    TEST(batches_form_while_one_commits),
	    TEST(batch_is_bounded_by_bytes),
	    TEST(busy_waits_beside_the_stream),
	    TEST(busy_to_the_end),
	    TEST(poison_hurts_only_itself),
	    TEST(single_poison_is_refused_at_once),
	    TEST(locked_batch_is_tried_singly),
	    TEST(single_lock_leaves_the_main_lane),
	    TEST(lost_reply_is_asked_again),
	    TEST(lost_batch_keeps_its_order),
	    TEST(lost_twice_is_in_doubt),
	    TEST(lost_and_no_way_back_is_in_doubt),
	    TEST(lost_then_busy_stays_in_doubt),
	    TEST(down_fails_fast_and_recovers),
	    TEST(down_refuses_what_is_queued),
	    TEST(unknown_schema_has_its_own_reason),
	    TEST(start_is_waited_for),
	    TEST(start_that_hangs_keeps_the_deadline),
	    TEST(second_lane_without_connection),
	    TEST(hanging_call_keeps_the_deadline),
	    TEST(hanging_calls_become_rare),
	    TEST(neighbour_with_little_time),
	    TEST(too_late_is_not_taken),
	    TEST(a_stuck_lane_is_overdue),
	    TEST(a_lane_that_is_down_is_not_overdue),
	    TEST(stop_does_not_wait_for_the_back_off),
	    TEST(stop_without_a_writer),
	    TEST(many_threads_and_every_failure),
	};
	const struct CMUnitTest taking[] = {
	    TEST(one_thread_submits_many),
	    TEST(a_lost_taker_is_overdue),
	    TEST(the_shorter_deadline_comes_back_first),
	    TEST(what_is_refused_is_not_pending),
	};
	const struct CMUnitTest singles[] = {
	    TEST(one_delivery),
	    TEST(one_at_a_time_needs_one_connection),
	    TEST(single_poison_is_refused_at_once),
	    TEST(lost_reply_is_asked_again),
	    TEST(lost_twice_is_in_doubt),
	    TEST(lost_and_no_way_back_is_in_doubt),
	    TEST(lost_then_busy_stays_in_doubt),
	    TEST(down_fails_fast_and_recovers),
	    TEST(unknown_schema_has_its_own_reason),
	    TEST(start_is_waited_for),
	    TEST(start_that_hangs_keeps_the_deadline),
	    TEST(hanging_calls_become_rare),
	    TEST(too_late_is_not_taken),
	    TEST(an_idle_program_is_not_overdue),
	    TEST(a_lane_that_is_down_is_not_overdue),
	    TEST(stop_does_not_wait_for_the_back_off),
	};
	int failed;

	log_set_level((enum log_level) - 1); /* every failure here is on purpose */
	failed = cmocka_run_group_tests_name("writer", tests, NULL, NULL);
	failed += cmocka_run_group_tests_name("writer, taking", taking, NULL, NULL);
	one_at_a_time = true;
	return failed + cmocka_run_group_tests_name("writer, one at a time", singles, NULL, NULL);
}
