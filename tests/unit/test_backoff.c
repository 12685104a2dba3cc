// objects: lib/backoff.c
/* SPDX-License-Identifier: MIT */
// backoff.c: when to try again.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "between.h"
#include "backoff.h"

static const struct backoff b = {.first_ms = 5000, .most_ms = INT64_C(12) * 3600 * 1000};

static void
each_delay_is_three_times_the_one_before(void **state)
{
	(void)state;
	for (unsigned n = 1; n < 9; n++) {
		int64_t ms = backoff_ms(&b, n, UINT32_MAX / 2),
			next = backoff_ms(&b, n + 1, UINT32_MAX / 2);

		assert_between((uintmax_t)next, (uintmax_t)(ms * 3 - 10), (uintmax_t)(ms * 3 + 10));
	}
}

static void
a_quarter_more_or_less(void **state)
{
	(void)state;
	assert_int_equal(backoff_ms(&b, 1, 0), 3750);
	assert_int_equal(backoff_ms(&b, 1, UINT32_MAX), 6250);
	for (int i = 0; i < 1000; i++) {
		int64_t ms = backoff_ms(&b, 2, backoff_chance());

		assert_between((uintmax_t)ms, 11250, 18750);
	}
}

static void
no_delay_is_longer_than_the_most(void **state)
{
	(void)state;
	for (unsigned n = 10; n < 200; n++)
		assert_int_equal(backoff_ms(&b, n, 0), b.most_ms - b.most_ms / 4);
	assert_int_equal(backoff_ms(&b, UINT32_MAX, UINT32_MAX), b.most_ms + b.most_ms / 4);
}

/* What foloosi-worker(8) says of 15 attempts: between three and five days. */
static void
fifteen_attempts_take_days(void **state)
{
	int64_t least = 0, most = 0;

	(void)state;
	for (unsigned n = 1; n < 15; n++) {
		least += backoff_ms(&b, n, 0);
		most += backoff_ms(&b, n, UINT32_MAX);
	}
	assert_between((uintmax_t)least, 2 * 86400000ULL, 3 * 86400000ULL);
	assert_between((uintmax_t)most, 3 * 86400000ULL, 5 * 86400000ULL);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(each_delay_is_three_times_the_one_before),
	    cmocka_unit_test(a_quarter_more_or_less),
	    cmocka_unit_test(no_delay_is_longer_than_the_most),
	    cmocka_unit_test(fifteen_attempts_take_days),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
