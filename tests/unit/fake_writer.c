/* SPDX-License-Identifier: MIT */
/* writer.h without a database: see fake_writer.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fake_writer.h"

#define COPY(to, from) snprintf(to, sizeof(to), "%s", (from) != NULL ? (from) : "(none)")

bool
writer_submit(struct writer *w, struct pending *pending, struct delivery *d, void *owner)
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

	d->outcome = w->result.outcome;
	memcpy(d->order, w->result.order, sizeof d->order);
	memcpy(d->order_state, w->result.order_state, sizeof d->order_state);
	d->unavailable = w->result.unavailable;
	memcpy(d->reason, w->result.reason, sizeof d->reason);
	d->delivery_id = w->result.delivery_id;
	d->merchant_known = w->result.merchant_known;
	*pending = (struct pending){.d = d, .owner = owner};
	return !w->refuses;
}
