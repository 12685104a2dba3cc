/* SPDX-License-Identifier: MIT */
/*
 * backoff.c - when to try again.
 */
#include <stdlib.h>
#include <sys/random.h>

#include "backoff.h"

int64_t
backoff_ms(const struct backoff *b, unsigned attempts, uint32_t chance)
{
	int64_t ms = b->first_ms;

	for (unsigned n = 1; n < attempts && ms < b->most_ms; n++)
		ms *= 3;
	if (ms > b->most_ms)
		ms = b->most_ms;
	return ms - ms / 4 + (int64_t)((uint64_t)ms / 2 * chance / UINT32_MAX);
}

uint32_t
backoff_chance(void)
{
	uint32_t chance;

	if (getrandom(&chance, sizeof chance, GRND_NONBLOCK) != (ssize_t)sizeof chance)
		abort();
	return chance;
}
