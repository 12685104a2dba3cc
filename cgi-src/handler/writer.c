/*
 * writer.c - collects waiting deliveries, commits them together, hands back outcomes.
 *
 * Who may touch a delivery when. Its lender wraps it in a struct waiting and puts that into
 * a lane's queue. From there it goes one of two ways:
 *
 *   queued --take()--> in hand --give_back()--> who waits, or collects, has it
 *      |                  |
 *      |                  +--later()--> queued again, in the second lane
 *      +--withdraw() or expire(), when its deadline has come
 *
 * While it is queued, nobody touches the delivery, and all sides may change
 * struct waiting, under the mutex. While it is in hand, both belong to the lane's thread
 * alone, without the mutex.
 *
 * The other side comes in two kinds. writer_record() waits: struct waiting is on the stack of
 * its thread, which withdraws by itself when its deadline has come. A semaphore gives the
 * delivery back: posting it is the last thing that a lane does with either, because
 * the thread may return, and its stack go, at once. A thread that cannot withdraw, because its
 * delivery is in hand, waits for the post without a limit; the lane has promised it (below).
 * writer_lend() does not wait: what has its verdict is hung into the list of what is done,
 * under the mutex, and that is the end of a lane's part; one thread takes the whole
 * list in writer_collect(), woken once for a batch. It also looks after the deadlines of
 * what is queued, for nobody else does: it sleeps no longer than until the first of them.
 *
 * Two lanes, each a thread with a connection of its own. The main lane takes all
 * that wait, in the order in which they came, and commits them as one batch; while
 * it does, the next batch collects by itself. It never waits for anybody's lock: what
 * the database calls busy, and every batch that it rolled back, moves to the second lane,
 * which tries again with growing pauses, a rolled back batch one delivery at a time. So
 * neither a stuck order nor a poisonous delivery holds up the others. The second lane
 * connects when it is first needed. A process that has one request at a time (CGI, mod_fcgid)
 * has nobody to hold up: its main lane tries again by itself, on the connection that it has.
 *
 * Deadlines. A call's deadline is the smallest of its deliveries' less a margin,
 * and pg_record.c keeps it whatever happens; so a lane answers in time all that it has in
 * hand. It takes nothing that has less time left than a call needs (it would cut the
 * call short for the others), and it has nothing in hand while it connects, which
 * may block in the resolver, or backs off. What stands in the queue meanwhile is
 * withdrawn by its own thread, or by the one that collects.
 *
 * A lost reply. The batch may have been committed; recording it again is harmless, and
 * tells. So it goes back to the head of the queue, in doubt, and the lane connects at
 * once and asks once more. A server that restarted between two batches is noticed in
 * this way, and costs no 503. If that fails too, or if the database says by itself that
 * it cannot, the lane is down: all that it has, and all that comes, is refused at once
 * until a probe connects.
 *
 * A commit that hangs, for a synchronous standby say, leaves a session in the server that
 * waits on when we have hung up, and a probe connects as if all were well. Each try costs one
 * more of max_connections. So after a few such in a row the lane backs off for long.
 */
#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
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
 * All in milliseconds. A call ends MARGIN before its first delivery's deadline, so that
 * there is time to say so. What still waits half of it before its own is withdrawn.
 */
#define MARGIN 20
#define LEAST 50          /* what has less time left than this is not taken any more */
#define CONNECT 3000      /* an attempt to connect while no delivery is in hand */
#define BACKOFF_FIRST 100 /* between attempts to connect: doubled up to … */
#define BACKOFF_LAST 2000
#define TELL_AGAIN 60000 /* between two log lines about one reason not to connect */
#define HUNG 500         /* a call without an answer for so long hangs, … */
#define HUNG_FIRST                                                                                 \
	1000 /* … and from the second in a row on the back-off is this, doubled up to … */
#define HUNG_LAST 30000
#define PAUSE_FIRST 20 /* before a busy delivery is tried again: doubled up to … */
#define PAUSE_LAST 200

#define BATCH_BYTES (16u << 20) /* of bodies a batch: bounds the memory that a connection keeps */

#define IDLE 500 /* between two looks of writer_collect() when nothing happens */

#define NEVER INT64_MAX

struct lane {
	struct writer *writer;
	const char *name;
	pthread_t thread;
	struct pg *pg;
	bool eager; /* connects before there is anything to do */

	/* under the mutex */
	pthread_cond_t work;   /* something was queued, or the writer stops */
	struct waiting *first; /* the queue, oldest first */
	struct waiting **last; /* where the next one is hung in */
	enum reason down;      /* NONE, or the reason to refuse with */
	bool up;               /* it was connected since, which NULL alone does not say */
	int64_t expected; /* clock_ms() at which it is to show up again; see writer_overdue() */

	/* the lane's thread only */
	struct waiting *hand[BATCH_MAX];
	struct delivery *batch[BATCH_MAX];
	int backoff; /* ms before the next attempt to connect */
	int hung;    /* calls in a row that hung */
	/* that it cannot connect: when, and what to do; what follows soon only says it again */
	bool complained;
	int64_t told;
	const char *remedy;
	unsigned seed; /* of rand_r() */
};

struct writer {
	pthread_mutex_t mutex; /* see the lock order in main.c */
	bool stop;
	struct writer_stats stats;

	/* of what nobody waits for; under the mutex */
	struct waiting *done;       /* with their verdicts, oldest first */
	struct waiting **done_last; /* where the next one is hung in */
	size_t lent;                /* not yet collected */
	bool closed;                /* no more will be lent */
	pthread_cond_t collector;   /* done is not empty, or there is another reason to look */
	int64_t alarm;              /* clock_ms() at which writer_collect() wakes by itself */
	int64_t expected;           /* as a lane's, of the thread that collects */

	struct lane main, second;
	struct lane *beside; /* which of them tries again */
};

/* -- the waiting thread's side, and what both sides share -- */

/* Hang w into a lane's queue. Mutex held. */
static void
queue(struct lane *lane, struct waiting *w)
{
	int64_t now = clock_ms();

	if (lane->expected > now)
		lane->expected = now;
	w->lane = lane;
	w->next = NULL;
	*lane->last = w;
	lane->last = &w->next;
	pthread_cond_signal(&lane->work);
}

/* Hang w in before all others. Mutex held; the lane is awake. */
static void
queue_first(struct lane *lane, struct waiting *w)
{
	w->lane = lane;
	w->next = lane->first;
	if (lane->first == NULL)
		lane->last = &w->next;
	lane->first = w;
}

/* Take the element that *at points to out of a lane's queue. Mutex held. */
static struct waiting *
unqueue(struct lane *lane, struct waiting **at)
{
	struct waiting *w = *at;

	*at = w->next;
	if (lane->last == &w->next)
		lane->last = at;
	w->lane = NULL;
	return w;
}

/* Nothing was kept, as far as is known. */
static void
unavailable(struct delivery *d, enum reason reason)
{
	d->outcome = OUTCOME_UNAVAILABLE;
	d->unavailable = reason;
	d->order[0] = d->order_state[0] = d->reason[0] = '\0';
	d->delivery_id = 0;
	d->merchant_known = true; /* as far as we know: no ground to warn */
}

/* Until when w may wait in a queue. */
static int64_t
last_moment(const struct waiting *w)
{
	return w->d->deadline - MARGIN / 2;
}

/* Leave w, which has its verdict, to writer_collect(). Mutex held. */
static void
finish(struct writer *writer, struct waiting *w)
{
	w->next = NULL;
	*writer->done_last = w;
	writer->done_last = &w->next;
}

/* Take the delivery back if it is still queued. False: a lane has it, and will answer. */
static bool
withdraw(struct writer *writer, struct waiting *w)
{
	struct lane *lane;

	pthread_mutex_lock(&writer->mutex);
	lane = w->lane;
	if (lane != NULL) {
		struct waiting **at = &lane->first;
		while (*at != w)
			at = &(*at)->next;
		unqueue(lane, at);
	}
	pthread_mutex_unlock(&writer->mutex);
	return lane != NULL;
}

/* Wait for the answer. False: not before the deadline. */
static bool
wait_until(sem_t *answered, int64_t deadline)
{
	struct timespec until = clock_timespec(deadline);
	int rc;

	while ((rc = sem_clockwait(answered, CLOCK_MONOTONIC, &until)) != 0 && errno == EINTR)
		continue;
	return rc == 0;
}

/* Queue w, or refuse it at once: then false. */
static bool
lend(struct writer *writer, struct waiting *w)
{
	enum reason down;

	pthread_mutex_lock(&writer->mutex);
	down = writer->main.down;
	if (down == REASON_NONE)
		queue(&writer->main, w);
	if (down == REASON_NONE && w->unattended) {
		writer->lent++;
		if (last_moment(w) < writer->alarm)
			pthread_cond_signal(&writer->collector);
	}
	pthread_mutex_unlock(&writer->mutex);
	if (down != REASON_NONE)
		unavailable(w->d, down);
	return down == REASON_NONE;
}

bool
writer_lend(struct writer *writer, struct waiting *w, struct delivery *d, void *owner)
{
	*w = (struct waiting){.d = d,
	    .pause = PAUSE_FIRST,
	    .reason = REASON_DATABASE,
	    .unattended = true,
	    .owner = owner};
	return lend(writer, w);
}

/*
 * Withdraw from a lane's queue what is out of time, on behalf of those who do not wait
 * themselves. Mutex held. Returns when to look again, or then if that is earlier.
 */
static int64_t
expire(struct lane *lane, int64_t now, int64_t then)
{
	for (struct waiting **at = &lane->first; *at != NULL;) {
		struct waiting *w = *at;

		if (!w->unattended || last_moment(w) > now) {
			if (w->unattended && last_moment(w) < then)
				then = last_moment(w);
			at = &w->next;
			continue;
		}
		unqueue(lane, at);
		unavailable(w->d, w->in_doubt ? REASON_IN_DOUBT : w->reason);
		finish(lane->writer, w);
	}
	return then;
}

/*
 * The alarm is the moment at which the first delivery has to be withdrawn. Who lends one that
 * has less time rings; with IDLE being shorter than nearly every deadline that is rare, and
 * no lender wakes anybody.
 */
struct waiting *
writer_collect(struct writer *writer)
{
	struct waiting *done;

	pthread_mutex_lock(&writer->mutex);
	for (;;) {
		int64_t now = clock_ms();
		int64_t alarm = expire(&writer->main, now, now + IDLE);
		struct timespec then;

		alarm = expire(&writer->second, now, alarm);
		if (writer->done != NULL || (writer->closed && writer->lent == 0))
			break;
		writer->alarm = writer->expected = alarm;
		then = clock_timespec(alarm);
		pthread_cond_timedwait(&writer->collector, &writer->mutex, &then);
		writer->alarm = 0;
	}
	done = writer->done;
	for (const struct waiting *w = done; w != NULL; w = w->next)
		writer->lent--;
	writer->done = NULL;
	writer->done_last = &writer->done;
	writer->expected = done != NULL ? clock_ms() : NEVER;
	pthread_mutex_unlock(&writer->mutex);
	return done;
}

void
writer_close(struct writer *writer)
{
	pthread_mutex_lock(&writer->mutex);
	writer->closed = true;
	pthread_cond_signal(&writer->collector);
	pthread_mutex_unlock(&writer->mutex);
}

void
writer_record(struct writer *writer, struct delivery *d)
{
	struct waiting w = {.d = d, .pause = PAUSE_FIRST, .reason = REASON_DATABASE};

	sem_init(&w.answered, 0, 0);
	if (!lend(writer, &w)) {
		;
	} else if (!wait_until(&w.answered, last_moment(&w))) {
		if (withdraw(writer, &w))
			unavailable(d, w.in_doubt ? REASON_IN_DOUBT : w.reason);
		else
			wait_until(&w.answered, NEVER);
	}
	(void)atomic_load(&w.posted); /* see answer() */
	sem_destroy(&w.answered);
}

/* -- a lane's side -- */

/*
 * Wake the thread that waits: neither the delivery nor w may be touched after this. The
 * semaphore alone would do; the flag says the same in words that thread sanitizers follow, who
 * do not know sem_clockwait().
 */
static void
answer(struct waiting *w)
{
	atomic_store(&w->posted, true);
	sem_post(&w->answered);
}

/* A delivery that has its verdict leaves the lane. Mutex held. */
static void
give_back(struct writer *writer, struct waiting *w)
{
	if (w->unattended)
		finish(writer, w);
	else
		answer(w);
}

static void
refuse(struct writer *writer, struct waiting *w, enum reason reason)
{
	unavailable(w->d, w->in_doubt ? REASON_IN_DOUBT : reason);
	give_back(writer, w);
}

/* ms, or up to a quarter less, so that processes which fail together do not come back together. */
static int
jitter(struct lane *lane, int ms)
{
	return ms - rand_r(&lane->seed) % (ms / 4 + 1);
}

/* Until then, or until something happens. Mutex held. */
static void
sleep_until(struct lane *lane, int64_t then)
{
	struct timespec until = clock_timespec(then);

	lane->expected = then;
	if (then == NEVER)
		pthread_cond_wait(&lane->work, &lane->writer->mutex);
	else
		pthread_cond_timedwait(&lane->work, &lane->writer->mutex, &until);
}

/*
 * Move what can be tried now from the queue into lane->hand. Mutex held. Returns how
 * many; with 0, *wake is when to look again. What has too little time left stays
 * for its thread to withdraw.
 */
static size_t
take(struct lane *lane, int64_t *wake)
{
	int64_t now = clock_ms();
	struct waiting **at = &lane->first;
	size_t n = 0, bytes = 0;

	*wake = NEVER;
	while (*at != NULL && n < BATCH_MAX) {
		struct waiting *w = *at;

		if (w->d->deadline - now >= LEAST && w->due <= now) {
			if (n > 0 && (w->alone || bytes + w->d->body_len > BATCH_BYTES))
				break; /* the next batch begins with it */
			bytes += w->d->body_len;
			lane->hand[n++] = unqueue(lane, at);
			if (w->alone)
				break;
			continue;
		}
		if (w->d->deadline - w->due >= LEAST && w->due > now && w->due < *wake)
			*wake = w->due;
		at = &w->next;
	}
	return n;
}

/* Have w tried again beside the main stream, ms from now. Mutex held. False: that lane is down. */
static bool
later(struct lane *lane, struct waiting *w, int ms)
{
	struct lane *beside = lane->writer->beside;

	if (beside->down != REASON_NONE)
		return false;
	w->due = clock_ms() + ms;
	queue(beside, w);
	return true;
}

/* The n in hand lost their reply. Mutex held. False if asking again is no use. */
static bool
ask_again(struct lane *lane, size_t n)
{
	int64_t now = clock_ms();
	bool worth = false;

	for (size_t i = 0; i < n; i++) {
		if (lane->hand[i]->in_doubt) /* this was the second time */
			return false;
		worth |= lane->hand[i]->d->deadline - now >= LEAST;
	}
	for (size_t i = n; worth && i-- > 0;) {
		lane->hand[i]->in_doubt = true;
		queue_first(lane, lane->hand[i]);
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

/* Refuse all that is queued and all that will come, until a probe connects. Mutex held. */
static void
go_down(struct lane *lane, enum pg_status status)
{
	lane->down = status == PG_SCHEMA ? REASON_SCHEMA : REASON_DATABASE;
	lane->up = false;
	while (lane->first != NULL)
		refuse(lane->writer, unqueue(lane, &lane->first), lane->down);
	pthread_cond_signal(&lane->writer->collector);
}

/* A call has ended like this after so many ms. */
static void
hangs(struct lane *lane, enum pg_status status, int64_t ms)
{
	if (status == PG_OK)
		lane->hung = 0;
	else if (status == PG_LOST && ms >= HUNG && ++lane->hung >= 2)
		lane->backoff = lane->hung < 7 ? HUNG_FIRST << (lane->hung - 2) : HUNG_LAST;
}

/* Commit the n in hand. Mutex not held. */
static enum pg_status
record(struct lane *lane, size_t n)
{
	struct writer_stats *stats = &lane->writer->stats;
	int64_t deadline = NEVER, begin, took;
	enum pg_status status;
	const char *failure;
	uint64_t busy = 0;

	for (size_t i = 0; i < n; i++) {
		lane->batch[i] = lane->hand[i]->d;
		if (lane->batch[i]->deadline < deadline)
			deadline = lane->batch[i]->deadline;
	}
	begin = clock_ms();
	status = pg_record(lane->pg, lane->batch, n, deadline - MARGIN);
	took = clock_ms() - begin;
	failure = status == PG_LOCKED ? "locked" : reason_info(reason_of(status))->name;
	hangs(lane, status, took);
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

/* Commit the n in hand, and send each where the result sends it. Mutex not held. */
static void
commit(struct lane *lane, size_t n)
{
	enum pg_status status = record(lane, n);
	bool single = n == 1;
	size_t answers = 0;
	bool done;

	/* Who waits is woken behind the mutex, or all would run into it: until then they move to
	 * the front of the hand. */
	pthread_mutex_lock(&lane->writer->mutex);
	if (status == PG_LOST && ask_again(lane, n))
		n = 0;
	for (size_t i = 0; i < n; i++) {
		struct waiting *w = lane->hand[i];
		bool busy =
		    status == PG_LOCKED || (status == PG_OK && w->d->outcome == OUTCOME_BUSY);
		bool suspect = (status == PG_LOCKED || status == PG_DATA) && !single;
		int pause = busy ? jitter(lane, w->pause) : 0;

		if (busy) {
			w->pause = w->pause * 2 < PAUSE_LAST ? w->pause * 2 : PAUSE_LAST;
			w->reason = REASON_BUSY;
		}
		w->alone |= suspect;
		if ((busy || suspect) && later(lane, w, pause))
			continue;
		if (busy || suspect)
			unavailable(
			    w->d, w->in_doubt ? REASON_IN_DOUBT : lane->writer->beside->down);
		else if (status != PG_OK)
			unavailable(w->d, w->in_doubt ? REASON_IN_DOUBT : reason_of(status));
		if (w->unattended)
			finish(lane->writer, w);
		else
			lane->hand[answers++] = w;
	}
	done = lane->writer->done != NULL;
	if (n > 0 && !pg_connected(lane->pg))
		go_down(lane, status);
	pthread_mutex_unlock(&lane->writer->mutex);
	if (done)
		pthread_cond_signal(&lane->writer->collector);
	for (size_t i = 0; i < answers; i++)
		answer(lane->hand[i]);
}

/* It cannot connect: aloud if that is news, each minute, or another matter than before. */
static void
complain(struct lane *lane)
{
	const char *remedy = pg_remedy(lane->pg); /* the same words are the same pointer */
	int64_t now = clock_ms();
	bool known = lane->complained && lane->remedy == remedy && now - lane->told < TELL_AGAIN;

	log_event(known ? LOG_DEBUG : LOG_ERROR, "database", "lane", lane->name, "state", "down",
	    "error", pg_error(lane->pg), "remedy", remedy, NULL);
	if (!known)
		lane->told = now;
	lane->remedy = remedy;
}

/* Connect, with nothing in hand; if the lane is down, back off before. Mutex held. */
static void
connect_lane(struct lane *lane)
{
	pthread_mutex_t *mutex = &lane->writer->mutex;
	enum pg_status status;

	if (lane->down != REASON_NONE) {
		int64_t then = clock_ms() + jitter(lane, lane->backoff);
		while (!lane->writer->stop && clock_ms() < then)
			sleep_until(lane, then);
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
		complain(lane);
	lane->complained = status != PG_OK;
	pthread_mutex_lock(mutex);
	if (status == PG_OK) {
		lane->down = REASON_NONE;
		lane->up = true;
		lane->writer->stats.connects++;
	} else {
		if (lane->backoff > BACKOFF_LAST) /* it does not hang, it is away */
			lane->backoff = BACKOFF_LAST;
		lane->hung = 0;
		go_down(lane, status);
	}
}

static void *
run(void *arg)
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
		} else if ((n = take(lane, &wake)) == 0) {
			sleep_until(lane, wake);
		} else {
			pthread_mutex_unlock(&writer->mutex);
			commit(lane, n);
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
	if (pthread_create(&lane->thread, NULL, run, lane) != 0)
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
	writer->done_last = &writer->done;
	writer->expected = writer->second.expected = NEVER;
	init_cond(&writer->collector);
	writer->main.eager = true;
	writer->beside = options->one_at_a_time ? &writer->main : &writer->second;
	if (writer->beside != &writer->main)
		start_lane(writer, writer->beside, "second", options->database);
	start_lane(writer, &writer->main, "main", options->database);
	return writer;
}

/* Mutex held. */
static uint64_t
queue_length(const struct lane *lane)
{
	uint64_t n = 0;

	for (const struct waiting *w = lane->first; w != NULL; w = w->next)
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
 * Who is awake is expected at once, again and again: no turn takes longer than a deadline or an
 * attempt to connect. Who sleeps is expected when he wakes by himself, or from the moment on
 * at which somebody calls him; so one that died in his sleep is found as soon as he is needed.
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
	assert(lane->first == NULL); /* who still waits would wait for ever */
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
	pthread_cond_signal(&writer->beside->work);
	pthread_mutex_unlock(&writer->mutex);
	stop_lane(&writer->main);
	if (writer->beside != &writer->main)
		stop_lane(writer->beside);
	assert(writer->lent == 0);
	pthread_cond_destroy(&writer->collector);
	pthread_mutex_destroy(&writer->mutex);
	free(writer);
}
