/* SPDX-License-Identifier: MIT */
/*
 * spool_io.c - threads that write the spool's files, so that a disk that hangs holds up no request.
 *
 * A disk may hang, and then it holds the thread that writes, in the kernel, for as long as it likes.
 * So no request touches the disk: it leaves a struct job to one of these threads, and waits no
 * longer than its deadline. A job that no thread has begun by then is withdrawn; one that was begun
 * becomes the thread's. Should the disk go on and the file be whole after all, it is recorded some
 * time though its sender was told to send it again, which does no harm. Until a thread comes back
 * the disk counts as hung, and every request is refused at once.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "clock.h"
#include "mem.h"
#include "spool.h"
#include "spool_io.h"

#define THREADS_MAX 64         /* at the disk at a time; its journal writes for many at once */
#define IDLE_MS INT64_C(10000) /* after which an idle thread ends */
#define CLOSE_MS 2000          /* at the end, for threads that are still at the disk */

/* A file to be written. Owned by the request that waits for it; once that has left, by the thread. */
struct job {
	struct job *next; /* in the queue */
	unsigned char *bytes;
	size_t len;
	char name[SPOOL_NAME_SIZE];

	/* under the mutex */
	pthread_cond_t changed;
	bool begun, done, abandoned;
	enum reason reason;
};

struct spool_io {
	enum reason (*write)(void *, const char *, const unsigned char *, size_t);
	void *arg;

	pthread_mutex_t mutex; /* see the lock order in handler/main.c */
	struct job *first;     /* the queue, oldest first */
	struct job **last;     /* where the next one is linked in */
	size_t threads, idle;  /* all, and those that wait for a job */
	bool hangs; /* a request has left without an answer, and no thread came back since */
	bool closing;
	pthread_cond_t work; /* something was queued, or the end */
	pthread_cond_t left; /* a thread has ended */
};

struct spool_io *
spool_io_new(enum reason (*write)(void *, const char *, const unsigned char *, size_t), void *arg)
{
	struct spool_io *io = xcalloc(1, sizeof *io);

	io->write = write;
	io->arg = arg;
	io->last = &io->first;
	pthread_mutex_init(&io->mutex, NULL);
	pthread_cond_init(&io->work, NULL);
	pthread_cond_init(&io->left, NULL);
	return io;
}

bool
spool_io_close(struct spool_io *io)
{
	struct timespec end = clock_timespec(clock_ms() + CLOSE_MS);
	bool stuck;
	int rc = 0;

	pthread_mutex_lock(&io->mutex);
	io->closing = true;
	pthread_cond_broadcast(&io->work);
	while (io->threads > 0 && rc != ETIMEDOUT)
		rc = pthread_cond_clockwait(&io->left, &io->mutex, CLOCK_MONOTONIC, &end);
	stuck = io->threads > 0;
	pthread_mutex_unlock(&io->mutex);
	if (stuck)
		return false; /* a thread that comes back still needs all of it */
	pthread_cond_destroy(&io->left);
	pthread_cond_destroy(&io->work);
	pthread_mutex_destroy(&io->mutex);
	free(io);
	return true;
}

static void
free_job(struct job *job)
{
	pthread_cond_destroy(&job->changed);
	free(job->bytes);
	free(job);
}

/* -- a thread's side -- */

/* Take the oldest job out of the queue. Mutex held. */
static struct job *
begin_job(struct spool_io *io)
{
	struct job *job = io->first;

	io->first = job->next;
	if (io->first == NULL)
		io->last = &io->first;
	job->begun = true;
	return job;
}

/* The job has its result. Mutex held. */
static void
end_job(struct spool_io *io, struct job *job, enum reason reason)
{
	io->hangs = false;
	job->reason = reason;
	job->done = true;
	if (job->abandoned)
		free_job(job);
	else
		pthread_cond_signal(&job->changed);
}

/* Wait for a job. False: there was none for IDLE_MS, or there will be none. Mutex held. */
static bool
wait_for_job(struct spool_io *io)
{
	struct timespec until = clock_timespec(clock_ms() + IDLE_MS);
	int rc = 0;

	io->idle++;
	while (io->first == NULL && !io->closing && rc != ETIMEDOUT)
		rc = pthread_cond_clockwait(&io->work, &io->mutex, CLOCK_MONOTONIC, &until);
	io->idle--;
	return io->first != NULL;
}

static void *
write_files(void *arg)
{
	struct spool_io *io = arg;

	pthread_mutex_lock(&io->mutex);
	while (wait_for_job(io)) {
		struct job *job = begin_job(io);
		enum reason reason;

		pthread_mutex_unlock(&io->mutex);
		reason = io->write(io->arg, job->name, job->bytes, job->len);
		pthread_mutex_lock(&io->mutex);
		end_job(io, job, reason);
	}
	io->threads--;
	pthread_cond_signal(&io->left);
	pthread_mutex_unlock(&io->mutex);
	return NULL;
}

/* -- a request's side -- */

/* Have a thread take what was queued. Returns 0, or why none ever will. Mutex held. */
static int
wake_thread(struct spool_io *io)
{
	pthread_attr_t attributes;
	pthread_t id;
	int rc = 0;

	if (io->idle > 0)
		pthread_cond_signal(&io->work);
	if (io->idle == 0 && io->threads < THREADS_MAX) {
		pthread_attr_init(&attributes);
		pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
		rc = pthread_create(&id, &attributes, write_files, io);
		pthread_attr_destroy(&attributes);
		io->threads += rc == 0;
	}
	return io->threads > 0 ? 0 : rc;
}

/* Take a job that no thread has begun out of the queue. Mutex held. */
static void
withdraw_job(struct spool_io *io, const struct job *job)
{
	struct job **at = &io->first;

	while (*at != job)
		at = &(*at)->next;
	*at = job->next;
	if (io->last == &job->next)
		io->last = at;
}

/*
 * Leave the job to a thread, and wait for it. Mutex held. The job is freed, now or by the thread.
 */
static enum reason
run_job(struct spool_io *io, struct job *job, int64_t until, int *error)
{
	struct timespec then = clock_timespec(until);
	enum reason reason = REASON_SPOOL_LATE;
	int rc = 0;

	*io->last = job;
	io->last = &job->next;
	*error = wake_thread(io);
	while (*error == 0 && !job->done && rc != ETIMEDOUT)
		rc = pthread_cond_clockwait(&job->changed, &io->mutex, CLOCK_MONOTONIC, &then);
	if (job->begun && !job->done) {
		io->hangs = true;
		job->abandoned = true;
		return REASON_SPOOL_LATE;
	}
	if (job->done)
		reason = job->reason;
	else
		withdraw_job(io, job);
	free_job(job);
	return *error == 0 ? reason : REASON_SPOOL_FAILED;
}

enum reason
spool_io_write(struct spool_io *io, const char *name, unsigned char *bytes, size_t len,
    int64_t until, int *error)
{
	struct job *job = xcalloc(1, sizeof *job);
	enum reason reason = REASON_SPOOL_LATE;

	*error = 0;
	pthread_cond_init(&job->changed, NULL);
	job->bytes = bytes;
	job->len = len;
	memcpy(job->name, name, strlen(name) + 1);
	pthread_mutex_lock(&io->mutex);
	if (io->hangs)
		free_job(job);
	else
		reason = run_job(io, job, until, error);
	pthread_mutex_unlock(&io->mutex);
	return reason;
}

bool
spool_io_hangs(struct spool_io *io)
{
	bool hangs;

	pthread_mutex_lock(&io->mutex);
	hangs = io->hangs;
	pthread_mutex_unlock(&io->mutex);
	return hangs;
}
