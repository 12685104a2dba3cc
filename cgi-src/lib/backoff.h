/* SPDX-License-Identifier: MIT */
/*
 * backoff.h - when to try again.
 */
#ifndef BACKOFF_H
#define BACKOFF_H

#include <stdint.h>

struct backoff {
	int64_t first_ms; /* after the first attempt */
	int64_t most_ms;  /* each delay is three times the one before, up to this */
};

/*
 * The delay after so many attempts (1: the first has just failed), a quarter more or less by chance,
 * so that what failed together does not come back together. chance: 0 to UINT32_MAX.
 */
int64_t backoff_ms(const struct backoff *, unsigned attempts, uint32_t chance);

/* A number for chance. */
uint32_t backoff_chance(void);

#endif
