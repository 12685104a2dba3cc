/*
 * handler.h - the stairs of one request: route, authenticate, read, decode, record, answer.
 */
#ifndef HANDLER_H
#define HANDLER_H

#include "config.h"
#include "http.h"
#include "spool.h"
#include "writer.h"

/* Room for one request at a time: the delivery and the buffers that its requests reuse. */
struct handler;

/*
 * owner: what stands for this handler in struct waiting when its delivery comes back from
 * writer_collect(); NULL: handler_serve() waits for it. spool: NULL if there is none.
 * All are borrowed.
 */
struct handler *handler_new(struct writer *, struct spool *spool, void *owner);
void handler_free(struct handler *); /* NULL is ignored */

enum handler_served {
	HANDLER_ANSWERED, /* with http_finish() */
	HANDLER_PENDING,  /* the delivery is the writer's; when it is back, handler_complete() */
	HANDLER_REFUSED,  /* the writer has not taken it: handler_complete(), which may take long */
};
/*
 * Serve one accepted request. After HANDLER_PENDING handler and request belong to who collects the
 * delivery, and that may be at once. config is pinned by the caller until the answer.
 */
enum handler_served handler_serve(
    struct handler *, const struct config *config, struct http_request *);

/* Answer the request whose delivery has its verdict. */
void handler_complete(struct handler *);

#endif
