// objects: lib/clock.c
/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/time.h>

#include <cmocka.h>

#include "between.h"
#include "clock.h"

static void
ignore(int signal)
{
	(void)signal;
}

static void
runs_forward_and_sleeps_through_signals(void **state)
{
	const struct itimerval often = {{0, 2000}, {0, 2000}}, never = {{0, 0}, {0, 0}};
	int64_t before = clock_ms(), after;

	(void)state;
	sigaction(SIGALRM, &(struct sigaction){.sa_handler = ignore}, NULL);
	setitimer(ITIMER_REAL, &often, NULL);
	clock_sleep(50);
	setitimer(ITIMER_REAL, &never, NULL);
	after = clock_ms();
	assert_true(after - before >= 49 && after - before < 5000);
}

static void
wall_clocks_agree(void **state)
{
	int64_t us = clock_wall_us();
	time_t s = clock_wall_s();

	(void)state;
	assert_between((uint64_t)s, (uint64_t)(us / 1000000), (uint64_t)(us / 1000000) + 5);
	assert_true(s >= time(NULL) - 5 && s <= time(NULL) + 5);
}

static void
moments(void **state)
{
	struct timespec t = clock_timespec(INT64_C(12345678901234));

	(void)state;
	assert_int_equal(t.tv_sec, INT64_C(12345678901));
	assert_int_equal(t.tv_nsec, 234000000);
	t = clock_timespec(0);
	assert_int_equal(t.tv_sec, 0);
	assert_int_equal(t.tv_nsec, 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(runs_forward_and_sleeps_through_signals),
	    cmocka_unit_test(wall_clocks_agree),
	    cmocka_unit_test(moments),
	};

	return cmocka_run_group_tests_name("clock", tests, NULL, NULL);
}
