/* SPDX-License-Identifier: MIT */
/*
 * pool.h - the threads of foloosi-webhook that accept and answer requests. There is one pool in
 * the process.
 */
#ifndef POOL_H
#define POOL_H

#include <stdbool.h>
#include <stdint.h>

#include "config.h"
#include "ops.h"
#include "spool.h"
#include "writer.h"

#define POOL_THREADS_MAX 1024 /* as the configuration's bound */

/*
 * Put a configuration in force, for requests that begin from now on; the pool takes over the
 * caller's reference. Returns the one before, with its reference, or NULL.
 */
struct config *pool_set_config(struct config *);

struct pool_options {
	int fd;                /* the listening socket */
	int threads;           /* accept threads, and requests at a time; at least 1 */
	struct writer *writer; /* borrowed until pool_join(), like the next two */
	struct spool *spool;   /* NULL: there is none */
	struct ops *ops;       /* NULL: nothing is answered by ops.h; until pool_close() */
};

/* Start the threads. pool_set_config() comes first. Fatal when a thread cannot be made. */
void pool_start(const struct pool_options *);

/*
 * Accept no more, and return when every accept thread has ended its request.
 *   wait_ms  for so long requests that already wait at the socket are accepted
 */
void pool_close(int64_t wait_ms);

/*
 * Return when all that was submitted to the writer is answered, and the threads have ended. After
 * pool_close() and writer_close(). False: the socket was lost while the pool was open.
 */
bool pool_join(void);

/* Plain CGI: answer the one request of this process, in the calling thread. */
void pool_serve_cgi(struct writer *, struct spool *);

#endif
