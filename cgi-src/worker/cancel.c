/* SPDX-License-Identifier: MIT */
/*
 * cancel.c - orders that time cancels: failed and not paid since, or registered and never paid.
 *
 * The database counts on being asked all the time: after a pause of two minutes it cancels nothing for ten,
 * because payments may have waited elsewhere meanwhile.
 */
#include <stdlib.h>

#include "cancel.h"
#include "cancel_due.h"
#include "clock.h"
#include "log.h"
#include "mem.h"

#define LOOK_MS 3000   /* between looks */
#define AGAIN_MS 30000 /* after the database refused */
#define MOST 100       /* orders at a time */

struct cancel {
	const struct config *config;
	struct pg *pg;
	int64_t look_at; /* clock_ms() */
};

struct cancel *
cancel_new(const struct config *config, struct pg *pg)
{
	struct cancel *c = xcalloc(1, sizeof *c);

	c->config = config;
	c->pg = pg;
	return c;
}

void
cancel_free(struct cancel *c)
{
	free(c);
}

void
cancel_work(struct cancel *c)
{
	struct cancel_result result;
	enum pg_status status;

	if (clock_ms() < c->look_at || !pg_ready(c->pg))
		return;
	status = cancel_due(c->pg, c->config, MOST, &result);
	if (result.cancelled > 0)
		log_event(LOG_INFO, "cancelled", "orders", log_number(result.cancelled),
		    (const char *)NULL);
	c->look_at = clock_ms() + (result.cancelled == MOST ? 0
				      : pg_refused(status)  ? AGAIN_MS
							    : LOOK_MS);
}

int64_t
cancel_next(const struct cancel *c)
{
	return c->look_at;
}
