/* SPDX-License-Identifier: MIT */
/*
 * delivery.h - a delivery, and what may become of it.
 *
 * A delivery is one authenticated HTTP request with its raw bytes. It is owned by the thread that
 * serves its request, from the first byte to the answer; while it is submitted to the writer, it is
 * owned by the writer, which may write the members under "outcome" and nothing else. Deliveries are
 * not allocated for each request: each slot of pool.c has one, which is used again.
 */
#ifndef DELIVERY_H
#define DELIVERY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "transfer.h"

/*
 * What became of a request. The first block are answers that the handler gives
 * by itself, in the order in which it checks; the second block comes from the database
 * (or the spool). outcome.c has one row for each: HTTP status, title, log level, and the
 * name that logs and answers print.
 */
enum outcome {
	OUTCOME_NOT_FOUND, /* unknown path, merchant or token */
	OUTCOME_HELLO, /* GET or HEAD on an endpoint: the provider's dashboard checks that it is there */
	OUTCOME_BAD_METHOD,   /* anything but GET, HEAD, POST */
	OUTCOME_UNAUTHORIZED, /* Basic or signature configured, and missing, wrong or doubled */
	OUTCOME_TOO_LARGE,    /* more body than body_limit */
	OUTCOME_BAD_TYPE,     /* not JSON by its content type, or content-encoded */
	OUTCOME_CUT_SHORT,    /* the body ended before its announced length */
	OUTCOME_NOT_JSON,     /* not RFC 8259; raw bytes kept as rejected */
	OUTCOME_NOT_TRANSFER, /* JSON, but no valid transfer; raw bytes kept as rejected */

	OUTCOME_RECORDED,  /* committed */
	OUTCOME_DUPLICATE, /* committed: it said nothing new */
	OUTCOME_IGNORED,   /* committed: kept, but its status moves nothing */
	OUTCOME_REVIEW,    /* committed: waits for a person */
	OUTCOME_REJECTED,  /* committed: the raw bytes of a 400 or 422 are kept */
	OUTCOME_SPOOLED,   /* fsynced in the local spool */
	OUTCOME_BUSY, /* not recorded: another session holds the order's lock; never an answer */
	OUTCOME_UNAVAILABLE, /* not recorded, not kept: send it again */
	OUTCOME__MAX
};

/*
 * Why a delivery is OUTCOME_UNAVAILABLE. outcome.c has one row for each. (Reasons of the other
 * outcomes are the order rules' and stand in the database: struct delivery has their text.)
 */
enum reason {
	REASON_NONE,         /* it is not unavailable, or nothing is known */
	REASON_DATABASE,     /* no connection, or the server is out of resources */
	REASON_IN_DOUBT,     /* no answer in time: it may be recorded */
	REASON_BUSY,         /* another session holds the order's lock */
	REASON_REFUSED,      /* the database refuses this delivery */
	REASON_SCHEMA,       /* the schema is of a version that this program does not know */
	REASON_SPOOL_FULL,   /* a limit of the spool is reached */
	REASON_SPOOL_FAILED, /* the spool's disk is full or broken */
	REASON_SPOOL_LATE,   /* the spool's disk did not answer in time: it may be kept */
	REASON__MAX
};

/* Lengths of what the database returns, in bytes with the final NUL. */
#define ORDER_REF_SIZE (LIMIT_OPTIONAL * 4 + 1) /* characters of at most 4 bytes of UTF-8 */
#define ORDER_STATE_SIZE 16
#define REASON_SIZE 64
#define REQUEST_ID_SIZE 17

#define DIGEST_SIZE 32 /* SHA-256 */

struct delivery {
	/* What arrived. Written before it is submitted to the writer. */
	char request_id[REQUEST_ID_SIZE]; /* 16 hex digits, in log lines and the answer */
	const char *merchant;      /* borrowed from the configuration that the request pinned */
	const unsigned char *body; /* the raw bytes; borrowed from the request */
	size_t body_len;
	unsigned char digest[DIGEST_SIZE]; /* SHA-256 of body */
	const char *faults;       /* why it is rejected, one fault a line; NULL: it is valid */
	struct transfer transfer; /* all NULL if faults is set */
	const char *order_ref;    /* the order's number, prefix off; NULL: none. Points
	                                      into transfer */
	const char
	    *unprefixed; /* the order's key if it lacks the merchant's prefix, so that order_ref is
	                             NULL; else NULL. Points into transfer */
	const char *source; /* how it arrived; NULL: as a webhook */
	int64_t deadline;   /* clock_ms() by which the request must have its answer */

	/* Outcome. Written by the writer, and by the thread that spools the delivery. */
	enum outcome outcome;       /* RECORDED … UNAVAILABLE */
	char order[ORDER_REF_SIZE]; /* the order concerned; "": none */
	char order_state
	    [ORDER_STATE_SIZE];   /* its state after the commit; "": there is no such order */
	enum reason unavailable;  /* why the database has not taken it, if outcome is UNAVAILABLE or
	                             SPOOLED; or, if UNAVAILABLE, the spool; else NONE */
	char reason[REASON_SIZE]; /* else why, as the database names it; "": nothing to add */
	int64_t delivery_id;      /* foloosi.deliveries.id; 0: no row was written */
	bool merchant_known;      /* foloosi.merchants has a row for the merchant */
};

/* A row of outcome.c's table. */
struct outcome_info {
	const char *name;  /* as logs, answers and the database spell it */
	int status;        /* HTTP status, RFC 9110 */
	const char *title; /* reason phrase, and the title of problem+json (RFC 9457) */
	int log_level;     /* enum log_level */
};

/* A row of outcome.c's table of reasons. */
struct reason_info {
	const char *name;   /* as logs, answers and metrics spell it */
	int retry_after;    /* seconds */
	bool spoolable;     /* it passes by itself: the spool may take the delivery */
	const char *detail; /* the sentence of problem+json */
};

/* The row for a reason. Never NULL; static. */
const struct reason_info *reason_info(enum reason);

/* The row for an outcome. Never NULL; static. */
const struct outcome_info *outcome_info(enum outcome);

/* The outcome with this name; OUTCOME__MAX if there is none. */
enum outcome outcome_from_name(const char *name);

#endif
