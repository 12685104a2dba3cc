// objects: handler/stats.c lib/outcome.c lib/log.c
/* SPDX-License-Identifier: MIT */
/*
 * What is counted is what /metrics says, exactly, from many threads too, and after a reload.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>

#include "log.h"
#include "mem.h"
#include "stats.h"

#define THREADS 8
#define EACH 20000

static struct config *
config_of(size_t n, const char *const *names)
{
	struct config *c = xcalloc(1, sizeof *c);

	c->merchants = xcalloc(n, sizeof *c->merchants);
	c->merchant_count = n;
	for (size_t i = 0; i < n; i++)
		c->merchants[i].name = xstrdup(names[i]);
	stats_adopt(c);
	return c;
}

static void
config_drop(struct config *c)
{
	for (size_t i = 0; i < c->merchant_count; i++)
		free(c->merchants[i].name);
	free(c->merchants);
	free(c);
}

static char *
text_of(const struct stats_sample *sample)
{
	char *text;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	assert_non_null(out);
	stats_write(out, sample);
	assert_int_equal(fclose(out), 0);
	return text;
}

/* The value of a series, -1 if there is none. */
static double
value_in(const char *text, const char *series)
{
	char *line = xasprintf("\n%s ", series);
	const char *at = strstr(text, line);
	double value = at == NULL ? -1 : strtod(at + strlen(line), NULL);

	free(line);
	return value;
}

static double
value_of(const char *series)
{
	char *text = text_of(&(struct stats_sample){0});
	double value = value_in(text, series);

	free(text);
	return value;
}

static void
counts_by_merchant_and_outcome(void **state)
{
	struct config *c = config_of(2, (const char *const[]){"a", "b.2_C-x"});

	(void)state;
	assert_true(value_of("foloosi_requests_total{merchant=\"a\",outcome=\"recorded\"}") == 0);
	assert_true(value_of("foloosi_requests_total{merchant=\"a\",outcome=\"busy\"}") == -1);
	stats_answer(&c->merchants[0], OUTCOME_RECORDED, REASON_NONE, 3);
	stats_answer(&c->merchants[0], OUTCOME_RECORDED, REASON_NONE, 4);
	stats_answer(&c->merchants[1], OUTCOME_DUPLICATE, REASON_NONE, 1);
	stats_answer(&c->merchants[1], OUTCOME_UNAVAILABLE, REASON_SPOOL_FULL, 1);
	stats_answer(&c->merchants[1], OUTCOME_UNAVAILABLE, REASON_SPOOL_LATE, 1);
	stats_answer(&c->merchants[1], OUTCOME_UNAVAILABLE, REASON_NONE, 1);
	stats_answer(NULL, OUTCOME_NOT_FOUND, REASON_NONE, 0);
	assert_true(value_of("foloosi_requests_total{merchant=\"a\",outcome=\"recorded\"}") == 2);
	assert_true(
	    value_of("foloosi_requests_total{merchant=\"b.2_C-x\",outcome=\"duplicate\"}") == 1);
	assert_true(value_of("foloosi_requests_total{merchant=\"-\",outcome=\"not_found\"}") == 1);
	assert_true(value_of("foloosi_answers_total{status=\"200\"}") == 3);
	assert_true(value_of("foloosi_answers_total{status=\"503\"}") == 3);
	assert_true(value_of("foloosi_answers_total{status=\"404\"}") == 1);
	assert_true(value_of("foloosi_unavailable_total{reason=\"spool_full\"}") == 1);
	assert_true(value_of("foloosi_unavailable_total{reason=\"spool_late\"}") == 1);
	assert_true(value_of("foloosi_unavailable_total{reason=\"other\"}") == 1);
	assert_true(value_of("foloosi_unavailable_total{reason=\"database\"}") == 0);
	config_drop(c);
}

static void
counters_survive_a_reload(void **state)
{
	struct config *before = config_of(1, (const char *const[]){"stays"}), *after, *again;

	(void)state;
	stats_answer(&before->merchants[0], OUTCOME_REVIEW, REASON_NONE, 1);
	after = config_of(1, (const char *const[]){"comes"});
	stats_answer(&before->merchants[0], OUTCOME_REVIEW, REASON_NONE, 1); /* was under way */
	config_drop(before);
	again = config_of(2, (const char *const[]){"comes", "stays"});
	stats_answer(&again->merchants[1], OUTCOME_REVIEW, REASON_NONE, 1);
	assert_true(value_of("foloosi_requests_total{merchant=\"stays\",outcome=\"review\"}") == 3);
	assert_true(value_of("foloosi_requests_total{merchant=\"comes\",outcome=\"review\"}") == 0);
	config_drop(after);
	config_drop(again);
}

static void
a_histogram_has_every_value_once(void **state)
{
	double count = value_of("foloosi_batch_deliveries_count");
	double one = value_of("foloosi_batch_deliveries_bucket{le=\"1\"}");
	double two = value_of("foloosi_batch_deliveries_bucket{le=\"2\"}");
	double most = value_of("foloosi_batch_deliveries_bucket{le=\"256\"}");
	double sum = value_of("foloosi_batch_deliveries_sum");

	(void)state;
	stats_observe(STATS_BATCH_SIZE, 1);
	stats_observe(STATS_BATCH_SIZE, 2);
	stats_observe(STATS_BATCH_SIZE, 256);
	stats_observe(STATS_BATCH_SIZE, 257);
	assert_true(value_of("foloosi_batch_deliveries_bucket{le=\"1\"}") == one + 1);
	assert_true(value_of("foloosi_batch_deliveries_bucket{le=\"2\"}") == two + 2);
	assert_true(value_of("foloosi_batch_deliveries_bucket{le=\"256\"}") == most + 3);
	assert_true(value_of("foloosi_batch_deliveries_bucket{le=\"+Inf\"}") == count + 4);
	assert_true(value_of("foloosi_batch_deliveries_count") == count + 4);
	assert_true(value_of("foloosi_batch_deliveries_sum") == sum + 516);
	stats_observe(STATS_COMMIT_MS, 1500);
	assert_true(value_of("foloosi_commit_duration_seconds_sum") == 1.5);
	assert_true(value_of("foloosi_commit_duration_seconds_bucket{le=\"1\"}") == 0);
	assert_true(value_of("foloosi_commit_duration_seconds_bucket{le=\"2\"}") == 1);
}

static void *
answer_often(void *merchant)
{
	for (int i = 0; i < EACH; i++)
		stats_answer(merchant, OUTCOME_IGNORED, REASON_NONE, 7);
	return NULL;
}

/* While threads count, merchants are added and another thread reads. */
static void
nothing_is_lost_between_threads(void **state)
{
	struct config *c = config_of(1, (const char *const[]){"crowd"});
	double seven = value_of("foloosi_request_duration_seconds_count");
	pthread_t threads[THREADS];

	(void)state;
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(
		    pthread_create(&threads[i], NULL, answer_often, &c->merchants[0]), 0);
	for (int i = 0; i < 20; i++) {
		char name[16];
		const char *const names[] = {name};

		snprintf(name, sizeof name, "new%d", i);
		config_drop(config_of(1, names));
		free(text_of(&(struct stats_sample){0}));
	}
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	assert_true(value_of("foloosi_requests_total{merchant=\"crowd\",outcome=\"ignored\"}") ==
		    THREADS * EACH);
	assert_true(value_of("foloosi_request_duration_seconds_count") == seven + THREADS * EACH);
	config_drop(c);
}

static void
what_is_not_there_is_left_out(void **state)
{
	const struct pg_fact facts[] = {
	    {.metric = "foloosi_attention", .merchant = "a", .detail = "order", .value = 3},
	    {.metric = "foloosi_schema_version", .value = 12},
	    {.metric = "foloosi_events_backlog",
		.merchant = "",
		.detail = "a\"b\\c\nd",
		.value = 0.5},
	    {.metric = "foloosi_of_a_later_release", .value = 1},
	};
	struct stats_sample sample = {0};
	char *text = text_of(&sample);

	(void)state;
	assert_null(strstr(text, "foloosi_spool_"));
	assert_null(strstr(text, "foloosi_monitor_up"));
	assert_null(strstr(text, "foloosi_attention"));
	assert_true(value_in(text, "process_open_fds") >= 3);
	assert_true(value_in(text, "process_resident_memory_bytes") > 0);
	assert_true(value_in(text, "process_start_time_seconds") > 0);
	free(text);

	sample.spooling = sample.monitored = true;
	sample.spool_files = 5;
	text = text_of(&sample);
	assert_true(value_in(text, "foloosi_spool_files") == 5);
	assert_true(value_in(text, "foloosi_monitor_up") == 0);
	assert_null(strstr(text, "foloosi_attention"));
	free(text);

	sample.monitor_up = true;
	sample.facts = facts;
	sample.fact_count = sizeof facts / sizeof *facts;
	text = text_of(&sample);
	assert_true(value_in(text, "foloosi_monitor_up") == 1);
	assert_true(value_in(text, "foloosi_attention{kind=\"order\",merchant=\"a\"}") == 3);
	assert_true(value_in(text, "foloosi_schema_version") == 12);
	assert_true(
	    value_in(text, "foloosi_events_backlog{consumer=\"a\\\"b\\\\c\\nd\",merchant=\"\"}") ==
	    0.5);
	assert_null(strstr(text, "later_release"));
	free(text);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(counts_by_merchant_and_outcome),
	    cmocka_unit_test(counters_survive_a_reload),
	    cmocka_unit_test(a_histogram_has_every_value_once),
	    cmocka_unit_test(nothing_is_lost_between_threads),
	    cmocka_unit_test(what_is_not_there_is_left_out),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
