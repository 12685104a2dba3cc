/* SPDX-License-Identifier: MIT */
/*
 * pool.c - the threads that accept and answer requests (leader/follower).
 *
 * A slot has what one request needs: an http_request, and a handler with one delivery and its
 * buffers, reused for ever. It belongs to one thread at a time: from take_slot() on to an accept
 * thread; while its delivery is submitted to the writer, to the writer; then to the answer
 * thread, which takes completed deliveries and answers them; after free_slot() it is free. The
 * configuration is immutable: a slot pins the one in force for one request, pool_set_config()
 * replaces it whole, the last config_unref() frees it.
 *
 * Waking a thread costs more than all else that a request does here. So no accept thread waits
 * for its own delivery: the answer thread is woken once for all of a batch. And at most
 * ACCEPTING_MAX threads accept; under load they find the next connection without having slept.
 * The others are idle. A thread that is about to wait for something other than the next
 * connection, a peer that is late or a disk, first calls stop_accepting(), which wakes an idle one.
 *
 * Deferred completions are answers that may take long, because the database has not taken the
 * delivery and the spool has to: the answer thread leaves each to a waiting thread of its own.
 * There are enough, since there are as many threads as slots, and a thread that does not wait has
 * a slot.
 *
 * With one thread there is no answer thread: it waits for its delivery itself.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "handler.h"
#include "http.h"
#include "log.h"
#include "mem.h"
#include "pool.h"

#define ACCEPTING_MAX 2 /* threads that accept at a time; each more costs wake-ups */
#define FOR_EVER (INT32_MAX * INT64_C(1000)) /* in the milliseconds of clock_ms() */
#define PATIENCE_MS 1000    /* at the stop, for peers that have not sent all of their request */
#define STACK (512UL << 10) /* bytes a thread: the deepest is a few dozen KiB of libcrypto */
#ifdef __has_feature
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED
#endif
#endif
#if defined(SANITIZED) || defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#undef STACK
#define STACK (8UL << 20) /* their frames are many times larger */
#endif

struct slot {
	struct http_request *request;
	struct handler *handler;
	struct config *config; /* pinned while there is a request */
	struct slot *next;     /* in the list of free ones, or of deferred completions */
};

static struct {
	pthread_mutex_t lock;     /* see the lock order in main.c */
	pthread_cond_t left;      /* an accept thread has left its loop */
	pthread_cond_t idle_wake; /* for idle threads: one more may accept, or complete */
	pthread_cond_t slot_wake; /* for threads without a slot: one is free, or to be completed */
	struct config *config;    /* in force; under lock, like all up to closed */
	int running;              /* accept threads in their loop */
	int accepting;            /* of them, those that accept or wait for a slot to do so */
	int idle;                 /* waiting for idle_wake */
	int slotless;             /* waiting for slot_wake */
	int deferred_count;       /* of the list deferred */
	struct slot *deferred;    /* completions for waiting threads */
	struct slot *free;        /* slots */
	bool finished;            /* no completion will be deferred any more */
	atomic_bool closed;       /* pool_close() was called; changed under lock */
	_Atomic int64_t open_until; /* clock_ms(): until when waiting connections are accepted */
	atomic_bool failed;         /* the socket is gone */

	/* constant while there are threads */
	struct pool_options options;
	struct slot *slots;
	pthread_t *threads;
	pthread_t answerer; /* with more than one accept thread */
} pool = {
    .lock = PTHREAD_MUTEX_INITIALIZER,
    .left = PTHREAD_COND_INITIALIZER,
    .idle_wake = PTHREAD_COND_INITIALIZER,
    .slot_wake = PTHREAD_COND_INITIALIZER,
};

static _Thread_local bool accepting; /* is this thread one of pool.accepting? */

/* -- the configuration in force -- */

struct config *
pool_set_config(struct config *fresh)
{
	struct config *old;

	pthread_mutex_lock(&pool.lock);
	old = pool.config;
	pool.config = fresh;
	pthread_mutex_unlock(&pool.lock);
	return old;
}

static void
pin_config(struct slot *slot)
{
	pthread_mutex_lock(&pool.lock);
	slot->config = config_ref(pool.config);
	pthread_mutex_unlock(&pool.lock);
}

static void
unpin_config(struct slot *slot)
{
	config_unref(slot->config);
	slot->config = NULL;
}

/* -- slots and threads -- */

static void
free_slot(struct slot *slot)
{
	unpin_config(slot);
	pthread_mutex_lock(&pool.lock);
	slot->next = pool.free;
	pool.free = slot;
	pthread_cond_signal(&pool.slot_wake);
	pthread_mutex_unlock(&pool.lock);
}

/* Answer the request in the slot, whose delivery has its outcome. */
static void
complete(struct slot *slot)
{
	handler_complete(slot->handler);
	free_slot(slot);
}

/* Let another thread accept: this one may be kept for long. */
static void
stop_accepting(void)
{
	if (!accepting)
		return;
	accepting = false;
	pthread_mutex_lock(&pool.lock);
	pool.accepting--;
	pthread_cond_signal(&pool.idle_wake);
	pthread_mutex_unlock(&pool.lock);
}

/* Wait with the lock held. waiting: where that is counted. */
static void
wait_for(pthread_cond_t *cond, int *waiting)
{
	++*waiting;
	pthread_cond_wait(cond, &pool.lock);
	--*waiting;
}

/* Carry out a deferred completion if there is one. Lock held; it is released meanwhile. */
static bool
complete_deferred(void)
{
	struct slot *slot = pool.deferred;

	if (slot == NULL)
		return false;
	pool.deferred = slot->next;
	pool.deferred_count--;
	pthread_mutex_unlock(&pool.lock);
	stop_accepting();
	complete(slot);
	pthread_mutex_lock(&pool.lock);
	return true;
}

/*
 * Become one of the accepting threads, with a free slot; deferred completions come first. While
 * there is no free slot no thread accepts: the web server's connections wait in the socket.
 */
static struct slot *
take_slot(void)
{
	struct slot *slot;

	pthread_mutex_lock(&pool.lock);
	for (;;) {
		if (complete_deferred())
			continue;
		if (!accepting && (pool.accepting < ACCEPTING_MAX || atomic_load(&pool.closed))) {
			pool.accepting++;
			accepting = true;
		}
		if (accepting && pool.free != NULL)
			break;
		if (accepting)
			wait_for(&pool.slot_wake, &pool.slotless);
		else
			wait_for(&pool.idle_wake, &pool.idle);
	}
	slot = pool.free;
	pool.free = slot->next;
	pthread_mutex_unlock(&pool.lock);
	return slot;
}

/* Leave a completion that may take long to a thread that waits. False: there is none. */
static bool
defer_completion(struct slot *slot)
{
	pthread_cond_t *cond = NULL;

	pthread_mutex_lock(&pool.lock);
	if (pool.idle > pool.deferred_count) /* each completion there takes one idle thread */
		cond = &pool.idle_wake;
	else if (pool.idle + pool.slotless > pool.deferred_count)
		cond = &pool.slot_wake;
	if (cond != NULL) {
		slot->next = pool.deferred;
		pool.deferred = slot;
		pool.deferred_count++;
		pthread_cond_signal(cond);
	}
	pthread_mutex_unlock(&pool.lock);
	return cond != NULL;
}

/* This accept thread has left its loop; it carries out completions that are still deferred. */
static void
complete_until_finished(void)
{
	pthread_mutex_lock(&pool.lock);
	pool.running--;
	pthread_cond_signal(&pool.left);
	for (;;) {
		if (complete_deferred())
			continue;
		if (pool.finished)
			break;
		wait_for(&pool.idle_wake, &pool.idle);
	}
	pthread_mutex_unlock(&pool.lock);
}

static bool
has_answer_thread(void)
{
	return pool.options.threads > 1;
}

/* Serve the request in the slot. False: the slot is the writer's, with its delivery. */
static bool
serve(struct slot *slot)
{
	pin_config(slot);
	if (!ops_take(pool.options.ops, slot->config, &slot->request))
		switch (handler_serve(slot->handler, slot->config, slot->request)) {
		case HANDLER_PENDING:
			if (has_answer_thread())
				return false;
			writer_take_completed(pool.options.writer); /* no other is pending */
			handler_complete(slot->handler);
			break;
		case HANDLER_REFUSED:
			stop_accepting();
			handler_complete(slot->handler);
			break;
		case HANDLER_ANSWERED:
			break;
		}
	unpin_config(slot);
	return true;
}

static void *
accept_thread(void *unused)
{
	struct slot *slot = take_slot();

	(void)unused;
	for (;;) {
		enum http_accepted accepted = http_accept(slot->request);

		if (accepted == HTTP_REQUEST && !serve(slot))
			slot = NULL;
		else if (accepted == HTTP_CLOSED && !atomic_exchange(&pool.failed, true)) {
			log_event(LOG_ERROR, "socket_gone", (const char *)NULL);
			kill(getpid(), SIGTERM); /* to the main thread, which waits for it */
		}
		if (accepted == HTTP_CLOSED)
			break;
		/* At the stop what waits at the socket is accepted, for a while. */
		if (atomic_load(&pool.closed) &&
		    (accepted == HTTP_NOTHING || clock_ms() >= atomic_load(&pool.open_until)))
			break;
		if (slot != NULL && accepting)
			continue;
		if (slot != NULL)
			free_slot(slot);
		slot = take_slot();
	}
	if (slot != NULL)
		free_slot(slot);
	stop_accepting();
	complete_until_finished();
	return NULL;
}

/* Answers deliveries that the writer has completed, except for deferred ones. */
static void *
answer_thread(void *unused)
{
	struct pending *p, *next;

	(void)unused;
	while ((p = writer_take_completed(pool.options.writer)) != NULL)
		for (; p != NULL; p = next) {
			struct slot *slot = p->owner;

			next = p->next; /* p is the slot's */
			if (p->d->outcome != OUTCOME_UNAVAILABLE || !defer_completion(slot))
				complete(slot);
		}
	return NULL;
}

/* -- start and stop -- */

static pthread_t
start_thread(void *(*run)(void *))
{
	pthread_attr_t attributes;
	pthread_t id;

	if (pthread_attr_init(&attributes) != 0 ||
	    pthread_attr_setstacksize(&attributes, STACK) != 0)
		abort();
	if ((errno = pthread_create(&id, &attributes, run, NULL)) != 0)
		fatal("a thread cannot be made: %s (fewer threads, or a higher limit of tasks)",
		    strerror(errno));
	pthread_attr_destroy(&attributes);
	return id;
}

void
pool_start(const struct pool_options *options)
{
	size_t n = (size_t)options->threads;

	pool.options = *options;
	pool.running = options->threads;
	pool.slots = xcalloc(n, sizeof *pool.slots);
	pool.threads = xcalloc(n, sizeof *pool.threads);
	http_on_wait(stop_accepting);
	for (size_t i = n; i-- > 0;) {
		struct slot *slot = &pool.slots[i];

		slot->request = http_request_new(options->fd);
		slot->handler = handler_new(options->writer, options->spool, slot);
		free_slot(slot);
	}
	if (has_answer_thread()) {
		pool.answerer = start_thread(answer_thread);
		pthread_setname_np(pool.answerer, "answers");
	}
	for (size_t i = 0; i < n; i++)
		pool.threads[i] = start_thread(accept_thread);
}

/* Wait until all accept threads have left their loops, or until the given clock_ms(). */
static void
wait_for_threads(int64_t until)
{
	const struct timespec end = clock_timespec(until);
	int rc = 0;

	pthread_mutex_lock(&pool.lock);
	while (pool.running > 0 && rc != ETIMEDOUT)
		rc = pthread_cond_clockwait(&pool.left, &pool.lock, CLOCK_MONOTONIC, &end);
	pthread_mutex_unlock(&pool.lock);
}

void
pool_close(int64_t wait_ms)
{
	int64_t now = clock_ms();

	http_unlisten();
	atomic_store(&pool.open_until, now + wait_ms);
	pthread_mutex_lock(&pool.lock);
	atomic_store(&pool.closed, true);
	pthread_cond_broadcast(&pool.idle_wake);
	pthread_mutex_unlock(&pool.lock);
	wait_for_threads(now + PATIENCE_MS);
	http_stop_reading();
	wait_for_threads(FOR_EVER);
}

bool
pool_join(void)
{
	size_t n = (size_t)pool.options.threads;

	if (has_answer_thread())
		pthread_join(pool.answerer, NULL);
	pthread_mutex_lock(&pool.lock);
	pool.finished = true;
	pthread_cond_broadcast(&pool.idle_wake);
	pthread_mutex_unlock(&pool.lock);
	for (size_t i = 0; i < n; i++)
		pthread_join(pool.threads[i], NULL);
	for (size_t i = 0; i < n; i++) {
		http_request_free(pool.slots[i].request);
		handler_free(pool.slots[i].handler);
	}
	free(pool.slots);
	free(pool.threads);
	return !atomic_load(&pool.failed);
}

void
pool_serve_cgi(struct writer *writer, struct spool *spool)
{
	struct slot slot = {
	    .request = http_request_new(-1),
	    .handler = handler_new(writer, spool, &slot),
	};

	pool.options = (struct pool_options){.threads = 1, .writer = writer, .spool = spool};
	if (http_accept(slot.request) == HTTP_REQUEST)
		serve(&slot);
	http_request_free(slot.request);
	handler_free(slot.handler);
}
