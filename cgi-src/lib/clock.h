/* SPDX-License-Identifier: MIT */
/*
 * clock.h - the time. What a program knows of it, it has from here.
 */
#ifndef CLOCK_H
#define CLOCK_H

#include <stdint.h>
#include <time.h>

/* Milliseconds of the monotonic clock: for deadlines and durations. */
int64_t clock_ms(void);

/* Microseconds since 1970, and whole seconds: for what people and other machines read. */
int64_t clock_wall_us(void);
time_t clock_wall_s(void);

/* ms as a struct timespec: a moment of clock_ms() for functions that wait by CLOCK_MONOTONIC, or a duration. */
struct timespec clock_timespec(int64_t ms);

/* Sleep for so many milliseconds, whatever signals come. */
void clock_sleep(int64_t ms);

#endif
