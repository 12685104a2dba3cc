/* SPDX-License-Identifier: MIT */
/*
 * cancel.h - orders that time cancels.
 */
#ifndef CANCEL_H
#define CANCEL_H

#include <stdint.h>

#include "config.h"
#include "pg_query.h"

struct cancel;

/* The two arguments must live as long as it does. Owned, for cancel_free(). */
struct cancel *cancel_new(const struct config *, struct pg *);
void cancel_free(struct cancel *); /* NULL is ignored */

/* Cancel what is due, if it is time to look. */
void cancel_work(struct cancel *);

/* clock_ms(): when cancel_work() has something to do. */
int64_t cancel_next(const struct cancel *);

#endif
