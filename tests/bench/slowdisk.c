/* SPDX-License-Identifier: MIT */
/*
 * slowdisk.c - LD_PRELOAD: each fdatasync() and fsync() takes SLOWDISK_US microseconds more.
 *
 * A cloud volume under a PostgreSQL that knows nothing of it: the real call is made first, so
 * what is on disk and what is not stays true.
 */
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

typedef int sync_call(int fd);

static int
slowly(const char *name, int fd)
{
	sync_call *real;
	const char *us = getenv("SLOWDISK_US");
	long delay = us != NULL ? atol(us) : 2000;
	struct timespec left = {delay / 1000000, delay % 1000000 * 1000};
	int rc, error;

	*(void **)&real = dlsym(RTLD_NEXT, name); /* the cast is POSIX's own: dlsym(3p) */
	rc = real(fd);
	error = errno;
	while (nanosleep(&left, &left) != 0) /* a signal must not make the disk fast */
		;
	errno = error;
	return rc;
}

int
fdatasync(int fd)
{
	return slowly("fdatasync", fd);
}

int
fsync(int fd)
{
	return slowly("fsync", fd);
}
