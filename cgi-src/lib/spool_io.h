/* SPDX-License-Identifier: MIT */
/*
 * spool_io.h - threads that write the spool's files, so that a disk that hangs holds up no request.
 */
#ifndef SPOOL_IO_H
#define SPOOL_IO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "delivery.h"

struct spool_io;

/*
 * Owned by the caller, ended by spool_io_close(). write() makes a file of len bytes durable, in one
 * of the threads, with the given arg; it returns spool_keep()'s reasons.
 */
struct spool_io *spool_io_new(
    enum reason (*write)(void *arg, const char *name, const unsigned char *bytes, size_t len),
    void *arg);

/* End the threads and free. False: after two seconds some still write, and all is left as it is. */
bool spool_io_close(struct spool_io *);

/*
 * Have write() called and wait for it, until the given clock_ms() at the latest. Returns its reason,
 * or REASON_SPOOL_LATE: a file that was begun by then may still be written. After that all is late
 * at once until a thread has come back from the disk.
 *   bytes   malloc'ed; this function takes them over
 *   *error  0, or why there is no thread; then nothing was written: REASON_SPOOL_FAILED
 */
enum reason spool_io_write(struct spool_io *, const char *name, unsigned char *bytes, size_t len,
    int64_t until, int *error);

/* The disk has not answered in time, and no thread has come back from it since. */
bool spool_io_hangs(struct spool_io *);

#endif
