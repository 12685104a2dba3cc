/* SPDX-License-Identifier: MIT */
/*
 * clock.c - the time.
 */
#include <errno.h>

#include "clock.h"

static int64_t
read_us(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

int64_t
clock_ms(void)
{
	return read_us(CLOCK_MONOTONIC) / 1000;
}

int64_t
clock_wall_us(void)
{
	return read_us(CLOCK_REALTIME);
}

time_t
clock_wall_s(void)
{
	return (time_t)(clock_wall_us() / 1000000);
}

struct timespec
clock_timespec(int64_t ms)
{
	return (struct timespec){.tv_sec = (time_t)(ms / 1000), .tv_nsec = ms % 1000 * 1000000};
}

void
clock_sleep(int64_t ms)
{
	struct timespec left = clock_timespec(ms);

	while (nanosleep(&left, &left) != 0 && errno == EINTR)
		;
}
