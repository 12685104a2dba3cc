/* writer.h without a database: see fake_writer.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fake_writer.h"

#define COPY(to, from) snprintf(to, sizeof(to), "%s", (from) != NULL ? (from) : "(none)")

void
writer_record(struct writer *w, struct delivery *d)
{
	w->calls++;
	COPY(w->merchant, d->merchant);
	COPY(w->order_ref, d->order_ref);
	COPY(w->unprefixed, d->unprefixed);
	COPY(w->faults, d->faults);
	COPY(w->status, d->transfer.field[TRANSFER_STATUS]);
	w->body_len = d->body_len;
	if (d->body_len > sizeof w->body)
		abort();
	memcpy(w->body, d->body, d->body_len);
	memcpy(w->digest, d->digest, sizeof w->digest);
	w->deadline = d->deadline;

	d->outcome = w->verdict.outcome;
	memcpy(d->order, w->verdict.order, sizeof d->order);
	memcpy(d->order_state, w->verdict.order_state, sizeof d->order_state);
	d->unavailable = w->verdict.unavailable;
	memcpy(d->reason, w->verdict.reason, sizeof d->reason);
	d->delivery_id = w->verdict.delivery_id;
	d->merchant_known = w->verdict.merchant_known;
}

/* Lent, and given back when the test says so by handler_complete(); or refused at once. */
bool
writer_lend(struct writer *w, struct waiting *loan, struct delivery *d, void *owner)
{
	writer_record(w, d);
	*loan = (struct waiting){.owner = owner};
	return !w->refuses;
}
