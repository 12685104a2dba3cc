/* SPDX-License-Identifier: MIT */
/*
 * outcome.c - the tables of what may become of a request, and of why it may be unavailable.
 *
 * The order is that of the enum. Titles are RFC 9110's reason phrases, which is what
 * problem+json asks for when its type is about:blank (RFC 9457 section 4.2.1).
 */
#include <string.h>

#include "delivery.h"
#include "log.h"

static const struct outcome_info table[] = {
    [OUTCOME_NOT_FOUND] = {"not_found", 404, "Not Found", LOG_INFO},
    [OUTCOME_HELLO] = {"hello", 200, "OK", LOG_INFO},
    [OUTCOME_BAD_METHOD] = {"bad_method", 405, "Method Not Allowed", LOG_INFO},
    [OUTCOME_UNAUTHORIZED] = {"unauthorized", 401, "Unauthorized", LOG_WARNING},
    [OUTCOME_TOO_LARGE] = {"too_large", 413, "Content Too Large", LOG_WARNING},
    [OUTCOME_BAD_TYPE] = {"bad_type", 415, "Unsupported Media Type", LOG_WARNING},
    [OUTCOME_CUT_SHORT] = {"cut_short", 400, "Bad Request", LOG_WARNING},
    [OUTCOME_NOT_JSON] = {"not_json", 400, "Bad Request", LOG_WARNING},
    [OUTCOME_NOT_TRANSFER] = {"not_transfer", 422, "Unprocessable Content", LOG_WARNING},
    [OUTCOME_RECORDED] = {"recorded", 200, "OK", LOG_INFO},
    [OUTCOME_DUPLICATE] = {"duplicate", 200, "OK", LOG_INFO},
    [OUTCOME_IGNORED] = {"ignored", 200, "OK", LOG_INFO},
    [OUTCOME_REVIEW] = {"review", 200, "OK", LOG_INFO},
    [OUTCOME_REJECTED] = {"rejected", 422, "Unprocessable Content", LOG_WARNING},
    [OUTCOME_SPOOLED] = {"spooled", 200, "OK", LOG_WARNING},
    [OUTCOME_BUSY] = {"busy", 503, "Service Unavailable", LOG_WARNING},
    [OUTCOME_UNAVAILABLE] = {"unavailable", 503, "Service Unavailable", LOG_WARNING},
};
_Static_assert(sizeof table / sizeof *table == OUTCOME__MAX, "a row for each outcome");

const struct outcome_info *
outcome_info(enum outcome outcome)
{
	return &table[outcome];
}

enum outcome
outcome_from_name(const char *name)
{
	for (int i = 0; i < OUTCOME__MAX; i++)
		if (strcmp(table[i].name, name) == 0)
			return (enum outcome)i;
	return OUTCOME__MAX;
}

static const struct reason_info reasons[] = {
    [REASON_NONE] = {"other", 5, false,
	"It could not be recorded. Nothing was kept: send it again."},
    [REASON_DATABASE] = {"database", 5, true,
	"The database is away. Nothing was kept: send it again."},
    [REASON_IN_DOUBT] = {"in_doubt", 5, true,
	"The database did not confirm in time, so it is not known whether this was recorded. "
	"Send it again: a repeat does no harm."},
    [REASON_BUSY] = {"busy", 2, true,
	"The order is locked by another session. Nothing was kept: send it again."},
    [REASON_REFUSED] = {"refused", 30, false,
	"The database refused this delivery. Nothing was kept: send it again."},
    [REASON_SCHEMA] = {"schema", 30, false,
	"The database's schema is not the one that this program knows. Nothing was kept: "
	"send it again."},
    [REASON_SPOOL_FULL] = {"spool_full", 30, false,
	"The database is away, and the spool is full. Nothing was kept: send it again."},
    [REASON_SPOOL_FAILED] = {"spool_failed", 30, false,
	"The database is away, and the spool cannot be written to. Nothing was kept: send it "
	"again."},
    [REASON_SPOOL_LATE] = {"spool_late", 30, false,
	"The database is away, and the spool's disk did not answer in time. Nothing is "
	"acknowledged: send it again, a repeat does no harm."},
};
_Static_assert(sizeof reasons / sizeof *reasons == REASON__MAX, "a row for each reason");

const struct reason_info *
reason_info(enum reason reason)
{
	return &reasons[reason];
}
