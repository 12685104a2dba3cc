/* SPDX-License-Identifier: MIT */
/*
 * spool.h - durable files that hold deliveries while PostgreSQL is away.
 *
 * spool.c knows files and nothing of the database; drain.c records them there. Everything
 * here is safe from several threads, and several processes may share a directory.
 */
#ifndef SPOOL_H
#define SPOOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "delivery.h"

#define SPOOL_NAME_SIZE 64 /* of a file's name, with the NUL; a longer name is a foreign file's */

struct spool;

struct spool_options {
	const char *directory; /* copied */
	size_t max_bytes;      /* of all files together */
	size_t max_files;
};

/*
 * Open a spool. Returns an owned object for spool_close(), or NULL, and then a malloc'ed
 * sentence with the remedy in *error: there must be a directory that only this user may use (root
 * may open any), because a user who may write into it can forge payments.
 */
struct spool *spool_open(const struct spool_options *, char **error);
/* NULL is ignored. Threads that hang at the disk are left after two seconds, and all that they need. */
void spool_close(struct spool *);

/*
 * Keep a delivery: merchant, request id, order key and body. Whatever the disk does, it returns
 * in time: the work is done by a thread of the spool's.
 *   arrived   when it did, in microseconds since 1970
 *   until     clock_ms() by which to return
 * Returns REASON_NONE: it is on disk, and its name too, a power cut may come; REASON_SPOOL_FULL or
 * REASON_SPOOL_FAILED: nothing was kept, the log has why; REASON_SPOOL_LATE: the disk hangs, it
 * was not kept in time, but perhaps it will be.
 */
enum reason spool_keep(struct spool *, const struct delivery *, int64_t arrived, int64_t until);

/* -- for the drain: one process at a time, the one that has spool_lock() -- */

/* False: another process has it, or the directory is gone. Ends with the process. */
bool spool_lock(struct spool *);
void spool_unlock(struct spool *);

struct spool_usage {
	size_t files, bytes;
	int64_t oldest; /* arrival in microseconds since 1970; 0: there is none */
	size_t aside;   /* files that were set aside, not among files; limits count them */
	bool unread;    /* the directory cannot be read: the figures are those of the last count */
};

/*
 * Does a directory hold deliveries that are not recorded, or that were set aside? 1: it does; 0: it does not,
 * or is not there; -1: it cannot be read (errno).
 */
int spool_has_files(const char *directory);

/* Seconds since an arrival; 0 for that of none. */
int64_t spool_age_s(int64_t arrived);

/* Count what is there, which also renews what the limits are compared with. */
struct spool_usage spool_count(struct spool *);

/* The same as of the last count, and of what this process kept since, without looking. */
struct spool_usage spool_usage(struct spool *);

/*
 * Why nothing can be kept now, in one word: "full", "disk_full", "unwritable", "hangs"; NULL: it
 * can, as far as can be seen without trying.
 */
const char *spool_trouble(struct spool *);

struct spool_name {
	char text[SPOOL_NAME_SIZE];
};

/*
 * The names that sort behind after ("": all), oldest arrival first, at most max. Returns how
 * many; *names is owned by the caller. tidy: also remove what was left half written by a
 * crash, and set foreign files aside; only with spool_lock().
 */
size_t spool_list(
    struct spool *, const char *after, size_t max, bool tidy, struct spool_name **names);

/* A delivery from a file. Its pointers lead into bytes. */
struct spooled {
	unsigned char *bytes; /* owned; see spooled_free() */
	int64_t arrived;      /* microseconds since 1970 */
	char *unprefixed;     /* see struct delivery; NULL: none */
	char *order_ref;      /* NULL: none */
	const unsigned char *body;
	size_t body_len;
	char request_id[REQUEST_ID_SIZE];
	char merchant[LIMIT_MERCHANT + 1];
};

enum spool_read {
	SPOOL_READ,      /* *spooled is filled */
	SPOOL_GONE,      /* there is no such file any more */
	SPOOL_TORN,      /* it is no spool file, or not all of one: for spool_set_aside() */
	SPOOL_UNREADABLE /* it cannot be read now; errno says why */
};

/* Read a file into *spooled. *fault: what is wrong with a torn one, static. */
enum spool_read spool_load(
    struct spool *, const char *name, struct spooled *spooled, const char **fault);
void spooled_free(struct spooled *); /* what it owns; safe on a zeroed struct */

/*
 * A file's len bytes into *s, which points into them and owns nothing. Returns NULL, or what is
 * wrong with them.
 */
const char *spool_parse(unsigned char *bytes, size_t len, struct spooled *s);

/* Remove a file whose delivery is committed. False, with errno: it is still there. */
bool spool_remove(struct spool *, const char *name);

/* Move a file into the subdirectory "aside", for a person to look at, and log it. */
void spool_set_aside(struct spool *, const char *name, const char *reason);

#endif
