// objects: lib/outcome.c
/* SPDX-License-Identifier: MIT */
/* The table of outcomes: complete, and in step with the answers that are promised. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "between.h"
#include "delivery.h"
#include "log.h"

static void
every_outcome_has_a_row(void **state)
{
	(void)state;
	for (int i = 0; i < OUTCOME__MAX; i++) {
		const struct outcome_info *info = outcome_info((enum outcome)i);

		assert_non_null(info);
		assert_non_null(info->name);
		assert_non_null(info->title);
		assert_between(info->status, 200, 503);
		assert_between(info->log_level, 0, LOG__MAX - 1);
		/* Lower case words: they are read by SQL, logs and answers. */
		assert_true(strlen(info->name) > 0);
		assert_int_equal(
		    strspn(info->name, "abcdefghijklmnopqrstuvwxyz_"), strlen(info->name));
	}
}

static void
names_round_trip(void **state)
{
	(void)state;
	for (int i = 0; i < OUTCOME__MAX; i++)
		assert_int_equal(outcome_from_name(outcome_info((enum outcome)i)->name), i);
	assert_int_equal(outcome_from_name(""), OUTCOME__MAX);
	assert_int_equal(outcome_from_name("Recorded"), OUTCOME__MAX);
	assert_int_equal(outcome_from_name("recorded "), OUTCOME__MAX);
	assert_int_equal(outcome_from_name("record"), OUTCOME__MAX);
}

static void
the_database_speaks_these_words(void **state)
{
	static const struct {
		const char *name;
		enum outcome outcome;
	} words[] = {{"recorded", OUTCOME_RECORDED}, {"duplicate", OUTCOME_DUPLICATE},
	    {"ignored", OUTCOME_IGNORED}, {"review", OUTCOME_REVIEW},
	    {"rejected", OUTCOME_REJECTED}, {"busy", OUTCOME_BUSY}};

	(void)state;
	for (size_t i = 0; i < sizeof words / sizeof *words; i++)
		assert_int_equal(outcome_from_name(words[i].name), words[i].outcome);
}

/* A provider sends again what is not 2xx, so 2xx must be what is kept and nothing else. */
static void
only_what_is_kept_is_2xx(void **state)
{
	static const int status[OUTCOME__MAX] = {[OUTCOME_NOT_FOUND] = 404,
	    [OUTCOME_HELLO] = 200,
	    [OUTCOME_BAD_METHOD] = 405,
	    [OUTCOME_UNAUTHORIZED] = 401,
	    [OUTCOME_TOO_LARGE] = 413,
	    [OUTCOME_BAD_TYPE] = 415,
	    [OUTCOME_CUT_SHORT] = 400,
	    [OUTCOME_NOT_JSON] = 400,
	    [OUTCOME_NOT_TRANSFER] = 422,
	    [OUTCOME_RECORDED] = 200,
	    [OUTCOME_DUPLICATE] = 200,
	    [OUTCOME_IGNORED] = 200,
	    [OUTCOME_REVIEW] = 200,
	    [OUTCOME_REJECTED] = 422,
	    [OUTCOME_SPOOLED] = 200,
	    [OUTCOME_BUSY] = 503,
	    [OUTCOME_UNAVAILABLE] = 503};

	(void)state;
	for (int i = 0; i < OUTCOME__MAX; i++)
		assert_int_equal(outcome_info((enum outcome)i)->status, status[i]);
}

/* What passes by itself is spooled, and worth another try soon; for the rest a person is needed. */
static void
every_reason_has_a_row(void **state)
{
	static const struct {
		const char *name;
		bool spoolable;
	} rows[REASON__MAX] = {[REASON_NONE] = {"other", false},
	    [REASON_DATABASE] = {"database", true},
	    [REASON_IN_DOUBT] = {"in_doubt", true},
	    [REASON_BUSY] = {"busy", true},
	    [REASON_REFUSED] = {"refused", false},
	    [REASON_SCHEMA] = {"schema", false},
	    [REASON_SPOOL_FULL] = {"spool_full", false},
	    [REASON_SPOOL_FAILED] = {"spool_failed", false},
	    [REASON_SPOOL_LATE] = {"spool_late", false}};

	(void)state;
	for (int i = 0; i < REASON__MAX; i++) {
		const struct reason_info *info = reason_info((enum reason)i);

		assert_string_equal(info->name, rows[i].name);
		assert_int_equal(info->spoolable, rows[i].spoolable);
		assert_true(info->retry_after >= 1 && info->retry_after <= 60);
		assert_non_null(strstr(info->detail, "end it again"));
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(every_outcome_has_a_row),
	    cmocka_unit_test(names_round_trip),
	    cmocka_unit_test(the_database_speaks_these_words),
	    cmocka_unit_test(every_reason_has_a_row),
	    cmocka_unit_test(only_what_is_kept_is_2xx),
	};

	return cmocka_run_group_tests_name("outcome", tests, NULL, NULL);
}
