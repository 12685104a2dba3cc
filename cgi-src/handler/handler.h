/* SPDX-License-Identifier: MIT */
/*
 * handler.h - one request: route, authenticate, read, decode, record, answer.
 */
#ifndef HANDLER_H
#define HANDLER_H

#include "config.h"
#include "http.h"
#include "spool.h"
#include "writer.h"

/* What one request at a time needs: a delivery, and buffers that are reused. */
struct handler;

/*
 * All are borrowed.
 *   spool  NULL: there is none
 *   owner  struct pending's, when writer_take_completed() returns the delivery
 */
struct handler *handler_new(struct writer *, struct spool *spool, void *owner);
void handler_free(struct handler *); /* NULL is ignored */

enum handler_served {
	HANDLER_ANSWERED, /* with http_finish() */
	HANDLER_PENDING,  /* submitted: handler_complete() once the writer has completed it */
	HANDLER_REFUSED,  /* the writer has not taken it: handler_complete(), which may take long */
};
/*
 * Serve one accepted request. After HANDLER_PENDING handler and request belong to the thread that
 * takes the completed delivery, and that may be at once. config is pinned by the caller until the
 * answer.
 */
enum handler_served handler_serve(
    struct handler *, const struct config *config, struct http_request *);

/* Answer the request whose delivery has its outcome. */
void handler_complete(struct handler *);

#endif
