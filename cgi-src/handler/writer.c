/* SPDX-License-Identifier: MIT */
/*
 * writer.c - collects submitted deliveries, commits them together, gives each its outcome.
 *
 * Which thread may touch a delivery when. writer_submit() puts it into the main lane's queue, with
 * its struct pending. From there it goes one of two ways:
 *
 *   queued --take_batch()--> owned by the lane --complete()--> completed --> writer_take_completed()
 *      |                            |                              |
 *      |                            +--retry_later()--> queued     |
 *      +--withdraw_expired(), when its deadline has come ----------+
 *
 * While it is queued, no thread touches the delivery, and all threads may change its struct pending,
 * under the mutex. While a lane owns it, both belong to the lane's thread alone, without the mutex.
 * The last thing that a lane does with either is to append them to the list of completed ones,
 * under the mutex. One thread takes the whole list, and is woken once for a batch. It also
 * withdraws queued deliveries at their deadlines, so it waits no longer than until the first.
 *
 * A lane is a thread with a connection of its own. The main lane takes all that is queued, in the
 * order of submission, and commits it as one batch; while it does, the next batch gathers. It never
 * waits for a lock in the database: what comes back busy, and every batch that was rolled back,
 * moves to the second lane, which tries again with growing pauses, a rolled back batch one delivery
 * at a time. So neither a locked order nor a delivery that the database refuses holds up others.
 * The second lane connects when it is first needed. A process that has one request at a time (CGI,
 * mod_fcgid) has no others to hold up: its main lane retries by itself, on the connection that it
 * has.
 *
 * Deadlines. A call's deadline is the smallest of its deliveries' less a margin, and pg_record.c
 * keeps it whatever happens; so a lane completes in time all that it owns. It takes nothing that
 * has less time left than a call needs (that would cut the call short for the others), and it owns
 * nothing while it connects, which may block in the resolver, or backs off. What is queued
 * meanwhile is withdrawn at its deadline.
 *
 * A lost reply. The batch may have been committed; recording it again is harmless, and tells. So
 * it goes back to the head of the queue, in doubt, and the lane connects at once and tries once
 * more. A server that restarted between two batches is noticed in this way, and costs no 503. If
 * that fails too, or if the database itself says that it cannot, the lane is down: all that it has,
 * and all that is submitted, is refused at once until a connection succeeds.
 *
 * A commit that hangs, for a synchronous standby say, leaves a session in the server that waits on
 * after the connection was closed, while new connections succeed. Each try costs one more of
 * max_connections. So after a few such calls in a row the lane backs off for long.
 */
#include <assert.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "clock.h"
#include "pg_record.h"
#include "log.h"
#include "mem.h"
#include "stats.h"
#include "writer.h"

/*
 * All in milliseconds. A call ends MARGIN before its first delivery's deadline, so that there is
 * time for the answer. What is queued is withdrawn half of it before its own.
 */
#define MARGIN 20
#define LEAST 50          /* what has less time left than this is not taken any more */
#define CONNECT 3000      /* an attempt to connect while the lane owns no delivery */
#define BACKOFF_FIRST 100 /* between attempts to connect: doubled up to … */
#define BACKOFF_LAST 2000
#define LOG_AGAIN 60000 /* between two log lines about one reason not to connect */
#define HUNG 500        /* a call without an answer for so long hangs, … */
#define HUNG_FIRST                                                                                 \
	1000 /* … and from the second in a row on the back-off is this, doubled up to … */
#define HUNG_LAST 30000
#define PAUSE_FIRST 20 /* before a busy delivery is tried again: doubled up to … */
#define PAUSE_LAST 200

#define BATCH_BYTES (16u << 20) /* of bodies a batch: bounds the memory that a connection keeps */

#define IDLE 500 /* after which writer_take_completed() looks at the deadlines again */

#define NEVER INT64_MAX

struct lane {
	struct writer *writer;
	const char *name;
	pthread_t thread;
	struct pg *pg;
	bool eager; /* connects before there is anything to do */

	/* under the mutex */
	pthread_cond_t work;   /* something was queued, or the writer stops */
	struct pending *first; /* the queue, oldest first */
	struct pending **last; /* where the next one is linked in */
	enum reason down;      /* NONE, or the reason to refuse with */
	bool up;               /* it was connected since, which NONE alone does not say */
	int64_t expected;      /* clock_ms() until which it may wait; see writer_overdue() */

	/* the lane's thread only */
	struct pending *taken[BATCH_MAX]; /* what it owns */
	struct delivery *batch[BATCH_MAX];
	int backoff;        /* ms before the next attempt to connect */
	int hung;           /* calls in a row that hung */
	bool failed;        /* the last attempt to connect … */
	int64_t logged;     /* … clock_ms() of its last log line above debug … */
	const char *remedy; /* … and that line's remedy */
	unsigned seed;      /* of rand_r() */
};

struct writer {
	pthread_mutex_t mutex; /* see the lock order in main.c */
	bool stop;
	struct writer_stats stats;

	/* under the mutex */
	struct pending *completed;       /* with their outcomes, oldest first */
	struct pending **completed_last; /* where the next one is linked in */
	size_t pending;                  /* submitted, and not yet taken */
	bool closed;                     /* nothing more will be submitted */
	pthread_cond_t taker;            /* completed is not empty, or a deadline is near */
	int64_t alarm;                   /* clock_ms() at which the taker wakes by itself */
	int64_t expected;                /* as a lane's, of the taker */

	struct lane main, second;
	struct lane *retries; /* which of them tries again */
	bool one_at_a_time;
};

/* -- queues -- */

/* Append p to a lane's queue. Mutex held. */
static void
enqueue(struct lane *lane, struct pending *p)
{
	int64_t now = clock_ms();

	if (lane->expected > now)
		lane->expected = now;
	p->next = NULL;
	*lane->last = p;
	lane->last = &p->next;
	pthread_cond_signal(&lane->work);
}

/* Put p at the head of the queue. Mutex held, by the lane itself. */
static void
enqueue_first(struct lane *lane, struct pending *p)
{
	p->next = lane->first;
	if (lane->first == NULL)
		lane->last = &p->next;
	lane->first = p;
}

/* Take the element that *at points to out of a lane's queue. Mutex held. */
static struct pending *
dequeue(struct lane *lane, struct pending **at)
{
	struct pending *p = *at;

	*at = p->next;
	if (lane->last == &p->next)
		lane->last = at;
	return p;
}

/* Nothing was kept, as far as is known. */
static void
set_unavailable(const struct pending *p, enum reason reason)
{
	struct delivery *d = p->d;

	d->outcome = OUTCOME_UNAVAILABLE;
	d->unavailable = p->in_doubt ? REASON_IN_DOUBT : reason;
	d->order[0] = d->order_state[0] = d->reason[0] = '\0';
	d->delivery_id = 0;
	d->merchant_known = true; /* as far as is known: no ground to warn */
}

/* Until when p may be queued. */
static int64_t
last_moment(const struct pending *p)
{
	return p->d->deadline - MARGIN / 2;
}

/* p has its outcome. Mutex held. */
static void
complete(struct writer *writer, struct pending *p)
{
	p->next = NULL;
	*writer->completed_last = p;
	writer->completed_last = &p->next;
}

/* -- what other threads call -- */

bool
writer_submit(struct writer *writer, struct pending *p, struct delivery *d, void *owner)
{
	enum reason down;

	*p = (struct pending){
	    .d = d, .pause = PAUSE_FIRST, .reason = REASON_DATABASE, .owner = owner};
	pthread_mutex_lock(&writer->mutex);
	down = writer->main.down;
	if (down == REASON_NONE) {
		enqueue(&writer->main, p);
		writer->pending++;
		if (last_moment(p) < writer->alarm)
			pthread_cond_signal(&writer->taker);
	}
	pthread_mutex_unlock(&writer->mutex);
	if (down != REASON_NONE)
		set_unavailable(p, down);
	return down == REASON_NONE;
}

/*
 * Withdraw from a lane's queue what is out of time. Mutex held. Returns when the next one will be,
 * or then if that is earlier.
 */
static int64_t
withdraw_expired(struct lane *lane, int64_t now, int64_t then)
{
	for (struct pending **at = &lane->first; *at != NULL;) {
		struct pending *p = *at;

		if (last_moment(p) > now) {
			if (last_moment(p) < then)
				then = last_moment(p);
			at = &p->next;
			continue;
		}
		dequeue(lane, at);
		set_unavailable(p, p->reason);
		complete(lane->writer, p);
	}
	return then;
}

/*
 * The alarm is the moment at which the first delivery has to be withdrawn. writer_submit() signals
 * for one that has less time; with IDLE being shorter than nearly every deadline that is rare.
 */
struct pending *
writer_take_completed(struct writer *writer)
{
	struct pending *completed;

	pthread_mutex_lock(&writer->mutex);
	for (;;) {
		int64_t now = clock_ms();
		int64_t alarm = withdraw_expired(&writer->main, now, now + IDLE);
		struct timespec then;

		alarm = withdraw_expired(&writer->second, now, alarm);
		if (writer->completed != NULL || (writer->closed && writer->pending == 0))
			break;
		writer->alarm = writer->expected = alarm;
		then = clock_timespec(alarm);
		pthread_cond_timedwait(&writer->taker, &writer->mutex, &then);
		writer->alarm = 0;
	}
	completed = writer->completed;
	for (const struct pending *p = completed; p != NULL; p = p->next)
		writer->pending--;
	writer->completed = NULL;
	writer->completed_last = &writer->completed;
	/* with one at a time the next call comes after the next request, whenever that is */
	writer->expected = completed != NULL && !writer->one_at_a_time ? clock_ms() : NEVER;
	pthread_mutex_unlock(&writer->mutex);
	return completed;
}

void
writer_close(struct writer *writer)
{
	pthread_mutex_lock(&writer->mutex);
	writer->closed = true;
	pthread_cond_signal(&writer->taker);
	pthread_mutex_unlock(&writer->mutex);
}

/* -- a lane's side -- */

/* ms, or up to a quarter less, so that processes which fail together do not come back together. */
static int
jitter(struct lane *lane, int ms)
{
	return ms - rand_r(&lane->seed) % (ms / 4 + 1);
}

/* Until then, or until something happens. Mutex held. */
static void
wait_until(struct lane *lane, int64_t then)
{
	struct timespec until = clock_timespec(then);

	lane->expected = then;
	if (then == NEVER)
		pthread_cond_wait(&lane->work, &lane->writer->mutex);
	else
		pthread_cond_timedwait(&lane->work, &lane->writer->mutex, &until);
}

/*
 * Move what can be tried now from the queue into lane->taken. Mutex held. Returns how many; with 0,
 * *wake is when to look again. What has too little time left stays, to be withdrawn.
 */
static size_t
take_batch(struct lane *lane, int64_t *wake)
{
	int64_t now = clock_ms();
	struct pending **at = &lane->first;
	size_t n = 0, bytes = 0;

	*wake = NEVER;
	while (*at != NULL && n < BATCH_MAX) {
		struct pending *p = *at;

		if (p->d->deadline - now >= LEAST && p->due <= now) {
			if (n > 0 && (p->alone || bytes + p->d->body_len > BATCH_BYTES))
				break; /* the next batch begins with it */
			bytes += p->d->body_len;
			lane->taken[n++] = dequeue(lane, at);
			if (p->alone)
				break;
			continue;
		}
		if (p->d->deadline - p->due >= LEAST && p->due > now && p->due < *wake)
			*wake = p->due;
		at = &p->next;
	}
	return n;
}

/* Queue p in the lane that tries again, for ms from now. Mutex held. False: that lane is down. */
static bool
retry_later(struct lane *lane, struct pending *p, int ms)
{
	struct lane *retries = lane->writer->retries;

	if (retries->down != REASON_NONE)
		return false;
	p->due = clock_ms() + ms;
	enqueue(retries, p);
	return true;
}

/* The n taken lost their reply: try them again first. Mutex held. False if that is no use. */
static bool
requeue_in_doubt(struct lane *lane, size_t n)
{
	int64_t now = clock_ms();
	bool worth = false;

	for (size_t i = 0; i < n; i++) {
		if (lane->taken[i]->in_doubt) /* this was the second time */
			return false;
		worth |= lane->taken[i]->d->deadline - now >= LEAST;
	}
	for (size_t i = n; worth && i-- > 0;) {
		lane->taken[i]->in_doubt = true;
		enqueue_first(lane, lane->taken[i]);
	}
	return worth;
}

static enum reason
reason_of(enum pg_status status)
{
	switch (status) {
	case PG_LOST:
		return REASON_IN_DOUBT;
	case PG_DATA:
		return REASON_REFUSED;
	case PG_SCHEMA:
		return REASON_SCHEMA;
	default:
		return REASON_DATABASE;
	}
}

/* Refuse all that is queued and all that will come, until a connection succeeds. Mutex held. */
static void
refuse_all(struct lane *lane, enum pg_status status)
{
	lane->down = status == PG_SCHEMA ? REASON_SCHEMA : REASON_DATABASE;
	lane->up = false;
	while (lane->first != NULL) {
		struct pending *p = dequeue(lane, &lane->first);

		set_unavailable(p, lane->down);
		complete(lane->writer, p);
	}
	pthread_cond_signal(&lane->writer->taker);
}

/* A call has ended like this after so many ms. */
static void
note_hang(struct lane *lane, enum pg_status status, int64_t ms)
{
	if (status == PG_OK)
		lane->hung = 0;
	else if (status == PG_LOST && ms >= HUNG && ++lane->hung >= 2)
		lane->backoff = lane->hung < 7 ? HUNG_FIRST << (lane->hung - 2) : HUNG_LAST;
}

/* Send the n taken to the database, count and log the result. Mutex not held. */
static enum pg_status
record_batch(struct lane *lane, size_t n)
{
	struct writer_stats *stats = &lane->writer->stats;
	int64_t deadline = NEVER, begin, took;
	enum pg_status status;
	const char *failure;
	uint64_t busy = 0;

	for (size_t i = 0; i < n; i++) {
		lane->batch[i] = lane->taken[i]->d;
		if (lane->batch[i]->deadline < deadline)
			deadline = lane->batch[i]->deadline;
	}
	begin = clock_ms();
	status = pg_record(lane->pg, lane->batch, n, deadline - MARGIN);
	took = clock_ms() - begin;
	failure = status == PG_LOCKED ? "locked" : reason_info(reason_of(status))->name;
	note_hang(lane, status, took);
	for (size_t i = 0; status == PG_OK && i < n; i++)
		busy += lane->batch[i]->outcome == OUTCOME_BUSY;

	pthread_mutex_lock(&lane->writer->mutex);
	stats->batches += status == PG_OK;
	stats->deliveries += status == PG_OK ? n : 0;
	stats->busy += busy;
	stats->failures += status != PG_OK;
	pthread_mutex_unlock(&lane->writer->mutex);

	if (status == PG_OK) {
		stats_observe(STATS_BATCH_SIZE, (int64_t)n);
		stats_observe(STATS_COMMIT_MS, took);
	} else {
		stats_count(STATS_BATCH_FAILED, failure);
	}
	if (status == PG_OK)
		lane->backoff = BACKOFF_FIRST;
	else if (status == PG_DATA && n == 1)
		log_event(LOG_ERROR, "refused", "lane", lane->name, "request",
		    lane->batch[0]->request_id, "error", pg_error(lane->pg), NULL);
	else
		log_event(status == PG_LOCKED ? LOG_INFO : LOG_WARNING, "batch_failed", "lane",
		    lane->name, "deliveries", log_number((int64_t)n), "reason", failure, "error",
		    pg_error(lane->pg), "remedy", pg_remedy(lane->pg), NULL);
	return status;
}

/* Commit the n taken, and complete each or have it tried again. Mutex not held. */
static void
commit_batch(struct lane *lane, size_t n)
{
	enum pg_status status = record_batch(lane, n);
	bool single = n == 1, wake;

	pthread_mutex_lock(&lane->writer->mutex);
	if (status == PG_LOST && requeue_in_doubt(lane, n))
		n = 0;
	for (size_t i = 0; i < n; i++) {
		struct pending *p = lane->taken[i];
		bool busy =
		    status == PG_LOCKED || (status == PG_OK && p->d->outcome == OUTCOME_BUSY);
		bool suspect = (status == PG_LOCKED || status == PG_DATA) && !single;
		int pause = busy ? jitter(lane, p->pause) : 0;

		if (busy) {
			p->pause = p->pause * 2 < PAUSE_LAST ? p->pause * 2 : PAUSE_LAST;
			p->reason = REASON_BUSY;
		}
		p->alone |= suspect;
		if ((busy || suspect) && retry_later(lane, p, pause))
			continue;
		if (busy || suspect)
			set_unavailable(p, lane->writer->retries->down);
		else if (status != PG_OK)
			set_unavailable(p, reason_of(status));
		complete(lane->writer, p);
	}
	wake = lane->writer->completed != NULL;
	if (n > 0 && !pg_connected(lane->pg))
		refuse_all(lane, status);
	pthread_mutex_unlock(&lane->writer->mutex);
	if (wake) /* without the mutex, which the thread that wakes takes first */
		pthread_cond_signal(&lane->writer->taker);
}

/* It cannot connect: an error if that is new, has another remedy than before, or each LOG_AGAIN. */
static void
log_connect_failure(struct lane *lane)
{
	const char *remedy = pg_remedy(lane->pg); /* the same words are the same pointer */
	int64_t now = clock_ms();
	bool known = lane->failed && lane->remedy == remedy && now - lane->logged < LOG_AGAIN;

	log_event(known ? LOG_DEBUG : LOG_ERROR, "database", "lane", lane->name, "state", "down",
	    "error", pg_error(lane->pg), "remedy", remedy, NULL);
	if (!known)
		lane->logged = now;
	lane->remedy = remedy;
}

/* Connect, while it owns nothing; if the lane is down, back off before. Mutex held. */
static void
connect_lane(struct lane *lane)
{
	pthread_mutex_t *mutex = &lane->writer->mutex;
	enum pg_status status;

	if (lane->down != REASON_NONE) {
		int64_t then = clock_ms() + jitter(lane, lane->backoff);
		while (!lane->writer->stop && clock_ms() < then)
			wait_until(lane, then);
		if (lane->writer->stop)
			return;
		if (lane->backoff < BACKOFF_LAST)
			lane->backoff =
			    lane->backoff * 2 < BACKOFF_LAST ? lane->backoff * 2 : BACKOFF_LAST;
	}
	pthread_mutex_unlock(mutex);
	status = pg_connect(lane->pg, clock_ms() + CONNECT);
	if (status == PG_OK)
		log_event(LOG_INFO, "database", "lane", lane->name, "state", "up", NULL);
	else
		log_connect_failure(lane);
	lane->failed = status != PG_OK;
	pthread_mutex_lock(mutex);
	if (status == PG_OK) {
		lane->down = REASON_NONE;
		lane->up = true;
		lane->writer->stats.connects++;
	} else {
		if (lane->backoff > BACKOFF_LAST) /* it does not hang, it is away */
			lane->backoff = BACKOFF_LAST;
		lane->hung = 0;
		refuse_all(lane, status);
	}
}

static void *
lane_thread(void *arg)
{
	struct lane *lane = arg;
	struct writer *writer = lane->writer;
	int64_t wake;
	size_t n;

	pthread_mutex_lock(&writer->mutex);
	while (!writer->stop) {
		lane->expected = clock_ms();
		if (!pg_connected(lane->pg) &&
		    (lane->eager || lane->down != REASON_NONE || lane->first != NULL)) {
			connect_lane(lane);
		} else if ((n = take_batch(lane, &wake)) == 0) {
			wait_until(lane, wake);
		} else {
			pthread_mutex_unlock(&writer->mutex);
			commit_batch(lane, n);
			pthread_mutex_lock(&writer->mutex);
		}
	}
	pthread_mutex_unlock(&writer->mutex);
	return NULL;
}

/* -- the writer -- */

/* One that waits by the clock of clock_ms(). */
static void
init_cond(pthread_cond_t *cond)
{
	pthread_condattr_t attr;

	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(cond, &attr);
	pthread_condattr_destroy(&attr);
}

static void
start_lane(struct writer *writer, struct lane *lane, const char *name, const char *database)
{
	char title[16]; /* as top -H shows it */

	lane->writer = writer;
	lane->name = name;
	lane->pg = pg_new(PG_HANDLER, database);
	lane->last = &lane->first;
	lane->expected = clock_ms();
	lane->backoff = BACKOFF_FIRST;
	lane->seed = (unsigned)clock_ms() ^ (unsigned)(uintptr_t)lane;
	init_cond(&lane->work);
	if (pthread_create(&lane->thread, NULL, lane_thread, lane) != 0)
		fatal("the writer's thread cannot be started (fewer threads, or a higher limit of "
		      "tasks)");
	snprintf(title, sizeof title, "writer %s", name);
	pthread_setname_np(lane->thread, title);
}

struct writer *
writer_start(const struct writer_options *options)
{
	struct writer *writer = xcalloc(1, sizeof *writer);

	pthread_mutex_init(&writer->mutex, NULL);
	writer->completed_last = &writer->completed;
	writer->expected = writer->second.expected = NEVER;
	init_cond(&writer->taker);
	writer->main.eager = true;
	writer->one_at_a_time = options->one_at_a_time;
	writer->retries = options->one_at_a_time ? &writer->main : &writer->second;
	if (writer->retries != &writer->main)
		start_lane(writer, writer->retries, "second", options->database);
	start_lane(writer, &writer->main, "main", options->database);
	return writer;
}

/* Mutex held. */
static uint64_t
queue_length(const struct lane *lane)
{
	uint64_t n = 0;

	for (const struct pending *p = lane->first; p != NULL; p = p->next)
		n++;
	return n;
}

void
writer_stats(struct writer *writer, struct writer_stats *stats)
{
	pthread_mutex_lock(&writer->mutex);
	*stats = writer->stats;
	stats->up = writer->main.up;
	stats->queued = queue_length(&writer->main) + queue_length(&writer->second);
	stats->down = writer->main.down;
	pthread_mutex_unlock(&writer->mutex);
}

/*
 * A running thread is expected at once, again and again: no step takes longer than a deadline or an
 * attempt to connect. A waiting one is expected when it wakes by itself, or from the moment on at
 * which it is signalled; so a dead waiting thread is detected as soon as it is needed.
 */
int64_t
writer_overdue(struct writer *writer)
{
	int64_t first, now;

	pthread_mutex_lock(&writer->mutex);
	first = writer->expected;
	if (writer->main.expected < first)
		first = writer->main.expected;
	if (writer->second.expected < first)
		first = writer->second.expected;
	now = clock_ms();
	pthread_mutex_unlock(&writer->mutex);
	return now > first ? now - first : 0;
}

static void
stop_lane(struct lane *lane)
{
	pthread_join(lane->thread, NULL);
	assert(lane->first == NULL); /* nothing would ever complete it */
	pthread_cond_destroy(&lane->work);
	pg_free(lane->pg);
}

void
writer_stop(struct writer *writer)
{
	if (writer == NULL)
		return;
	pthread_mutex_lock(&writer->mutex);
	writer->stop = true;
	pthread_cond_signal(&writer->main.work);
	pthread_cond_signal(&writer->retries->work);
	pthread_mutex_unlock(&writer->mutex);
	stop_lane(&writer->main);
	if (writer->retries != &writer->main)
		stop_lane(writer->retries);
	assert(writer->pending == 0);
	pthread_cond_destroy(&writer->taker);
	pthread_mutex_destroy(&writer->mutex);
	free(writer);
}
