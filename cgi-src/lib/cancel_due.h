/* SPDX-License-Identifier: MIT */
/*
 * cancel_due.h - cancel the orders whose time has come, for foloosi-worker and foloosictl.
 */
#ifndef CANCEL_DUE_H
#define CANCEL_DUE_H

#include "config.h"
#include "pg_query.h"

struct cancel_result {
	int cancelled; /* orders */
	char held_until
	    [24]; /* none is before this time (UTC), because payments may wait elsewhere; empty: it does */
};

/*
 * Call foloosi.cancel_due() with what this machine knows: whether its spool has files, and which merchants
 * have a provider that is to be asked first.
 *   most    orders at most
 *   result  receives what came of it; all 0 after a failure
 * Returns what pg_query() does.
 */
enum pg_status cancel_due(
    struct pg *, const struct config *, int most, struct cancel_result *result);

#endif
