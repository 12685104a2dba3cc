/* SPDX-License-Identifier: MIT */
/*
 * ops.h - the operator's own requests: /healthz, /readyz, /metrics.
 */
#ifndef OPS_H
#define OPS_H

#include "config.h"
#include "http.h"
#include "spool.h"
#include "writer.h"

/*
 * The CGI variable by which a web server marks a request to its location for operators.
 * Clients cannot set it: what they send arrives as HTTP_*.
 */
#define OPS_PARAM "FOLOOSI_OPERATIONS"

struct ops;

struct ops_options {
	int listen_fd;         /* as for http_request_new() */
	struct writer *writer; /* borrowed, like the spool, until ops_stop() */
	struct spool *spool;   /* NULL: there is none */
	size_t spool_max_bytes, spool_max_files;
	const char *database; /* libpq connection string; copied */
	const char *monitor;  /* … for foloosi.monitor(); copied. NULL: it is not asked */
};

/* Start the thread. Fatal when there can be none. */
struct ops *ops_start(const struct ops_options *);

/*
 * Is this accepted request one of them? Then it is answered, or will be, and *request may be
 * another one for the caller to go on with. Never waits. From any accept thread.
 *   ops     NULL: there are no such requests
 *   config  in force
 */
bool ops_take(struct ops *, const struct config *config, struct http_request **request);

/* Answer what is left and end the thread. After the last ops_take(). NULL is ignored. */
void ops_stop(struct ops *);

#endif
