/*
 * drain.c - the way back from the spool into PostgreSQL, beside live traffic.
 *
 * A delivery in a file is decoded by the same code as a request and recorded by the same
 * call, so it ends as it would have ended; only who sent it is not asked again. The drain has
 * a connection of its own, which is open while there is something to drain, so it
 * stands in nobody's queue and nobody in its; what live traffic keeps is the rate.
 *
 * A file is removed when its delivery is committed, never before. What comes back busy
 * stays, and has its next turn when all the others had theirs: one stuck order stops no
 * other here either. A batch that is rolled back is tried one at a time, and what
 * is refused even then stays too, for the database may be taught better. If the reply is lost,
 * the same files are tried again: a repeat is recognised by the database.
 *
 * To remove a file may take a disk milliseconds, when it gives blocks back (ext4 with discard, say),
 * and a batch has many. They go together: a crew of threads removes the files of one batch
 * while the next is read and committed, and nobody looks into the directory before it is done.
 *
 * If a file cannot be removed (a disk that went read-only), it is not recorded again by this
 * process, which would count a repeat with each pass.
 *
 * A delivery that breaks the connection each time, or at which the server each time says
 * that it cannot (a damaged page of an index, say), would stop all behind it. So after such a
 * failure there is one delivery to a batch until one is through, and the culprit is passed over
 * at last.
 */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "auth.h"
#include "clock.h"
#include "pg_record.h"
#include "drain.h"
#include "log.h"
#include "mem.h"
#include "stats.h"

#define BATCH 64               /* smaller than live batches may be: they share orders' locks */
#define BATCH_BYTES (4u << 20) /* of bodies */
#define LIST 16384             /* names at a time, so that the limits see what was removed */
#define CALL 3000              /* ms for a batch */
#define CONNECT 3000           /* ms for an attempt to connect */
#define IDLE 1000              /* ms between two looks into an empty directory */
#define LOOK 2000              /* … and, if that takes long, into a large one */
#define AGAIN_FIRST 200        /* ms before the next turn if something is left, doubled up to … */
#define AGAIN_LAST 2000
#define HUNG_FIRST 1000      /* … or, while calls hang, from this to … */
#define HUNG_LAST 30000      /* … this: each leaves a session in the server */
#define CATCH_UP 250         /* ms */
#define REMIND 60000         /* ms between log lines that say what waits */
#define REMIND_ASIDE 3600000 /* … of what was set aside */
#define FRUITLESS 20         /* failures in a row after which drain_once() gives up */
#define CREW 8               /* threads that remove files, while there are many */
#define PATIENCE 5 /* failures that a single delivery may cause before it is passed over */

struct item {
	struct spool_name name;
	struct spooled spooled;
	struct delivery delivery;
};

struct drain {
	struct spool *spool;
	struct pg *pg;
	int rate;

	pthread_t thread;
	pthread_mutex_t mutex;
	pthread_cond_t wake;
	atomic_bool stop;

	/* the crew, and what it has to remove; under mutex */
	pthread_t crew[CREW];
	size_t crew_count;
	struct spool_name removals[BATCH]; /* a ring */
	size_t removals_first, removals_count;
	pthread_cond_t removal; /* there is one, or the crew may go */
	pthread_cond_t room;    /* in the ring */

	struct item items[BATCH];
	size_t at_once;              /* how many to a batch: 1 after a failure */
	bool hangs;                  /* the last call had no answer in time */
	bool waiting;                /* the log was told that something is there */
	bool dismissed;              /* the crew is; under mutex */
	int failures;                /* in a row, with one delivery to a batch */
	int64_t due;                 /* in µs, of clock_ms(): when the rate allows the next batch */
	char after[SPOOL_NAME_SIZE]; /* the last name of this pass that had its turn */
	int fruitless;               /* failures in a row, whatever the batch */
	struct drain_result result;  /* of this pass; left under mutex */
	struct spool_name *done; /* committed, and not to be removed; sorted, owned; under mutex */
	size_t done_count, done_room;
	size_t done_left;       /* … of those, that are there still */
	int64_t reminded;       /* clock_ms() of the log's last line about it */
	int64_t reminded_aside; /* … of its last line about what was set aside */
	int64_t tidied;         /* … of the last look for what is none of ours */
	int64_t complained;     /* … of its last line about a file that stays; under mutex */
	unsigned seed;          /* of rand_r() */
};

/* -- one delivery -- */

/* Fill in what the database is asked, from what the file holds. */
static void
prepare(struct item *item)
{
	struct delivery *d = &item->delivery;
	const struct spooled *s = &item->spooled;
	const struct transfer reused = {.text = d->transfer.text};
	struct json_error error;
	struct faults faults;

	*d = (struct delivery){
	    .merchant = s->merchant,
	    .body = s->body,
	    .body_len = s->body_len,
	    /* an older program has spooled it as it came */
	    .order_ref = s->order_ref != NULL ? transfer_clean_key(utf8_trim(s->order_ref)) : NULL,
	    .unprefixed = s->unprefixed,
	    .source = "spool",
	    .transfer = reused,
	};
	memcpy(d->request_id, s->request_id, sizeof d->request_id);
	digest_sha256(d->body, d->body_len, d->digest);
	/* It was valid when it came; another version of this program may think otherwise. */
	if (transfer_decode((const char *)d->body, d->body_len, TRANSFER__MAX, &d->transfer, &error,
		&faults) != DECODED_OK) {
		d->faults = "this version of the program finds it no valid transfer";
		d->order_ref = d->unprefixed = NULL;
	}
}

/* One more has had its turn, and is still there. */
static void
count_left(struct drain *dr)
{
	pthread_mutex_lock(&dr->mutex);
	dr->result.left++;
	pthread_mutex_unlock(&dr->mutex);
}

/* A file stays, for it was acknowledged. Say why, but not for each of many, at each pass. */
static void
stays(struct drain *dr, const struct spool_name *file, const char *trouble, const char *reason)
{
	int64_t now = clock_ms();
	bool say;

	pthread_mutex_lock(&dr->mutex);
	dr->result.left++;
	say = now - dr->complained >= REMIND;
	if (say)
		dr->complained = now;
	pthread_mutex_unlock(&dr->mutex);
	if (say)
		log_event(LOG_ERROR, "spool", "trouble", trouble, "reason", reason, "file",
		    file->text, "remedy", "it stays in the spool and is tried again",
		    (const char *)NULL);
}

/* Where a name is among those that are done, or belongs. Mutex held. */
static size_t
done_at(const struct drain *dr, const char *name)
{
	size_t from = 0, to = dr->done_count;

	while (from < to) {
		size_t middle = from + (to - from) / 2;

		if (strcmp(dr->done[middle].text, name) < 0)
			from = middle + 1;
		else
			to = middle;
	}
	return from;
}

/* Remember one that is committed and cannot be removed. Mutex held. */
static void
remember(struct drain *dr, const struct spool_name *file)
{
	size_t at = done_at(dr, file->text);

	if (dr->done_count == dr->done_room) {
		dr->done_room = dr->done_room == 0 ? 64 : dr->done_room * 2;
		dr->done = xrealloc(dr->done, dr->done_room * sizeof *dr->done);
	}
	memmove(dr->done + at + 1, dr->done + at, (dr->done_count - at) * sizeof *dr->done);
	dr->done[at] = *file;
	dr->done_count++;
	dr->done_left++;
}

/* Its delivery is committed: its file may go. */
static void
remove_file(struct drain *dr, const struct spool_name *file)
{
	if (spool_remove(dr->spool, file->text))
		return;
	stays(dr, file, "a drained file cannot be removed", strerror(errno));
	pthread_mutex_lock(&dr->mutex);
	remember(dr, file);
	pthread_mutex_unlock(&dr->mutex);
}

/* Is it committed already, and only its file is still there? Then try again to remove that. */
static bool
is_done(struct drain *dr, const struct spool_name *file)
{
	size_t at;
	bool found;

	pthread_mutex_lock(&dr->mutex);
	at = done_at(dr, file->text);
	found = at < dr->done_count && strcmp(dr->done[at].text, file->text) == 0;
	pthread_mutex_unlock(&dr->mutex);
	if (!found)
		return false;
	if (!spool_remove(dr->spool, file->text)) {
		stays(dr, file, "a drained file cannot be removed", strerror(errno));
		return true;
	}
	pthread_mutex_lock(&dr->mutex);
	if (--dr->done_left == 0)
		dr->done_count = 0;
	pthread_mutex_unlock(&dr->mutex);
	return true;
}

/* -- the crew -- */

static void *
remove_files(void *arg)
{
	struct drain *dr = arg;
	struct spool_name file;

	pthread_mutex_lock(&dr->mutex);
	for (;;) {
		while (dr->removals_count == 0 && !dr->dismissed)
			pthread_cond_wait(&dr->removal, &dr->mutex);
		if (dr->removals_count == 0)
			break;
		file = dr->removals[dr->removals_first];
		dr->removals_first = (dr->removals_first + 1) % BATCH;
		dr->removals_count--;
		pthread_cond_signal(&dr->room);
		pthread_mutex_unlock(&dr->mutex);
		remove_file(dr, &file);
		pthread_mutex_lock(&dr->mutex);
	}
	pthread_mutex_unlock(&dr->mutex);
	return NULL;
}

/* Have a crew for so many files. Where no thread can be made, there is a smaller one, or none. */
static void
hire(struct drain *dr, size_t files)
{
	dr->dismissed = false;
	while (dr->crew_count < CREW && dr->crew_count < files / CREW &&
	       pthread_create(&dr->crew[dr->crew_count], NULL, remove_files, dr) == 0)
		dr->crew_count++;
}

/* Let the crew finish what it has, and go. */
static void
dismiss(struct drain *dr)
{
	pthread_mutex_lock(&dr->mutex);
	dr->dismissed = true;
	pthread_cond_broadcast(&dr->removal);
	pthread_mutex_unlock(&dr->mutex);
	while (dr->crew_count > 0)
		pthread_join(dr->crew[--dr->crew_count], NULL);
}

/* Have a file removed, now or soon. */
static void
hand_over(struct drain *dr, const struct spool_name *file)
{
	if (dr->crew_count == 0) {
		remove_file(dr, file);
		return;
	}
	pthread_mutex_lock(&dr->mutex);
	while (dr->removals_count == BATCH)
		pthread_cond_wait(&dr->room, &dr->mutex);
	dr->removals[(dr->removals_first + dr->removals_count++) % BATCH] = *file;
	pthread_cond_signal(&dr->removal);
	pthread_mutex_unlock(&dr->mutex);
}

/* The database has said what became of it. */
static void
finish(struct drain *dr, struct item *item)
{
	const struct delivery *d = &item->delivery;

	if (d->outcome == OUTCOME_BUSY) {
		count_left(dr);
		return;
	}
	log_event(LOG_INFO, "drained", "id", d->request_id, "merchant", d->merchant, "outcome",
	    outcome_info(d->outcome)->name, "reason", *d->reason != '\0' ? d->reason : NULL,
	    "delivery", log_number(d->delivery_id), "waited_s",
	    log_number(spool_age_s(item->spooled.arrived)), (const char *)NULL);
	/* It was acknowledged as a valid transfer. The database lists no rejected body as waiting for
	 * a person, and beyond the quota does not even keep it. */
	if (d->outcome == OUTCOME_REJECTED) {
		spool_set_aside(dr->spool, item->name.text,
		    d->faults != NULL ? d->faults : "the database rejects it");
		return;
	}
	dr->result.drained++;
	stats_count(STATS_DRAINED, outcome_info(d->outcome)->name);
	hand_over(dr, &item->name);
}

/* -- a batch -- */

static bool
stopping(struct drain *dr)
{
	return atomic_load(&dr->stop);
}

/* So many ms, or until the stop. */
static void
nap(struct drain *dr, int64_t ms)
{
	struct timespec until = clock_timespec(clock_ms() + ms);
	int rc = 0;

	pthread_mutex_lock(&dr->mutex);
	while (!stopping(dr) && rc != ETIMEDOUT)
		rc = pthread_cond_timedwait(&dr->wake, &dr->mutex, &until);
	pthread_mutex_unlock(&dr->mutex);
}

/* Commit items[from] to items[from + n - 1]. False: the database is away, or failed. */
static bool
commit(struct drain *dr, size_t from, size_t n)
{
	struct delivery *batch[BATCH];
	enum pg_status status;
	int64_t deadline;

	for (size_t i = 0; i < n; i++)
		batch[i] = &dr->items[from + i].delivery;
	deadline = clock_ms() + CALL;
	status = pg_record(dr->pg, batch, n, deadline);
	dr->hangs = status == PG_LOST && clock_ms() >= deadline;
	switch (status) {
	case PG_OK:
		dr->at_once = dr->at_once * 2 < BATCH ? dr->at_once * 2 : BATCH;
		dr->failures = dr->fruitless = 0;
		for (size_t i = 0; i < n; i++)
			finish(dr, &dr->items[from + i]);
		return true;
	case PG_LOCKED:
	case PG_DATA:
		if (n == 1) {
			if (status == PG_DATA)
				stays(dr, &dr->items[from].name, "the database refuses a delivery",
				    pg_error(dr->pg));
			else
				count_left(dr);
			dr->failures = 0;
			return true;
		}
		for (size_t i = 0; i < n && !stopping(dr); i++)
			if (!commit(dr, from + i, 1))
				return false;
		return true;
	case PG_LOST:
	case PG_DOWN:
		if (n == 1 && ++dr->failures >= PATIENCE) {
			memcpy(dr->after, dr->items[from].name.text, sizeof dr->after);
			dr->failures = 0;
			stays(dr, &dr->items[from].name,
			    "the database fails each time at a delivery", pg_error(dr->pg));
		}
		dr->fruitless++;
		dr->at_once = 1;
		return false;
	default:
		return false;
	}
}

/* Load the next files into items. *taken: how many names that took. Returns how many are filled. */
static size_t
load(struct drain *dr, const struct spool_name *names, size_t n, size_t *taken)
{
	size_t filled = 0, bytes = 0;
	const char *fault;

	for (*taken = 0; *taken < n && filled < dr->at_once && bytes < BATCH_BYTES; ++*taken) {
		struct item *item = &dr->items[filled];

		item->name = names[*taken];
		if (is_done(dr, &item->name))
			continue;
		switch (spool_load(dr->spool, item->name.text, &item->spooled, &fault)) {
		case SPOOL_READ:
			prepare(item);
			bytes += item->spooled.body_len;
			filled++;
			break;
		case SPOOL_TORN:
			spool_set_aside(dr->spool, item->name.text, fault);
			break;
		case SPOOL_UNREADABLE:
			stays(dr, &item->name, "a file cannot be read", strerror(errno));
			break;
		case SPOOL_GONE:
			break;
		}
	}
	return filled;
}

/*
 * Rest until so many are due by the rate. What was lost to a slow disk or a busy machine is caught
 * up, but not more than CATCH_UP of it: that would be a burst.
 */
static void
pace(struct drain *dr, size_t n)
{
	int64_t now = clock_ms();

	if (dr->due < (now - CATCH_UP) * 1000)
		dr->due = (now - CATCH_UP) * 1000;
	dr->due += (int64_t)n * 1000000 / dr->rate;
	if (dr->due / 1000 > now)
		nap(dr, dr->due / 1000 - now);
}

/* The next batch of names; *taken: how many had their turn. False as in commit(). */
static bool
step(struct drain *dr, const struct spool_name *names, size_t n, size_t *taken)
{
	size_t filled = load(dr, names, n, taken);
	bool ok = filled == 0 || commit(dr, 0, filled);

	for (size_t i = 0; i < filled; i++)
		spooled_free(&dr->items[i].spooled);
	if (!ok)
		return false;
	memcpy(dr->after, names[*taken - 1].text, sizeof dr->after);
	pace(dr, filled);
	return true;
}

/* Give each file its turn, from where the last pass was broken off. False as in commit(). */
static bool
pass(struct drain *dr)
{
	size_t n = 1;

	if (dr->after[0] == '\0')
		dr->result = (struct drain_result){0};
	while (n > 0 && !stopping(dr)) {
		struct spool_name *names;
		size_t done = 0, taken;
		bool ok = true;

		n = spool_list(dr->spool, dr->after, LIST, true, &names);
		hire(dr, n);
		for (; ok && done < n && !stopping(dr); done += taken)
			ok = step(dr, names + done, n - done, &taken);
		dismiss(dr);
		free(names);
		if (!ok)
			return false;
		spool_count(dr->spool); /* the limits see what has gone */
	}
	dr->after[0] = '\0';
	return true;
}

/* -- the thread -- */

/* Tell the log when the spool fills, each minute that it is not empty, and when it is again. */
static void
remind(struct drain *dr, const struct spool_usage *usage)
{
	int64_t now = clock_ms();

	if (usage->files > 0 && (!dr->waiting || now - dr->reminded >= REMIND)) {
		log_event(LOG_WARNING, "spool", "state", "waiting", "files",
		    log_number((int64_t)usage->files), "bytes", log_number((int64_t)usage->bytes),
		    "oldest_s", log_number(spool_age_s(usage->oldest)), (const char *)NULL);
		dr->waiting = true;
		dr->reminded = now;
	} else if (usage->files == 0 && dr->waiting) {
		log_event(LOG_INFO, "spool", "state", "empty", (const char *)NULL);
		dr->waiting = false;
	}
	if (usage->aside > 0 && now - dr->reminded_aside >= REMIND_ASIDE) {
		log_event(LOG_WARNING, "spool", "state", "aside", "files",
		    log_number((int64_t)usage->aside), "remedy",
		    "look into spool_dir/aside; they count for the spool's limits until they "
		    "are removed",
		    (const char *)NULL);
		dr->reminded_aside = now;
	}
}

/* Drain, if that is ours to do. Returns false if it is, and something is left. */
static bool
turn(struct drain *dr)
{
	bool done;

	if (!spool_lock(dr->spool))
		return true;
	dr->hangs = false;
	done =
	    pg_connect(dr->pg, clock_ms() + CONNECT) == PG_OK && pass(dr) && dr->result.left == 0;
	spool_unlock(dr->spool);
	return done;
}

/* An empty spool has no passes, and what is none of ours would lie there unseen. */
static void
tidy(struct drain *dr)
{
	struct spool_name *names;

	if (!spool_lock(dr->spool))
		return;
	spool_list(dr->spool, "", 0, true, &names);
	free(names);
	spool_unlock(dr->spool);
	dr->tidied = clock_ms();
}

static void *
run(void *arg)
{
	struct drain *dr = arg;
	int64_t again = AGAIN_FIRST, last;

	while (!stopping(dr)) {
		int64_t begin = clock_ms(), pause = IDLE, looked;
		struct spool_usage usage = spool_count(dr->spool);

		looked = clock_ms() - begin;
		if (usage.unread) { /* the log has said so; what waits is neither known nor gone */
			nap(dr, AGAIN_LAST);
			continue;
		}
		remind(dr, &usage);
		if (usage.files == 0) {
			pg_close(dr->pg);
			if (clock_ms() - dr->tidied >= REMIND)
				tidy(dr);
			again = AGAIN_FIRST;
		} else if (turn(dr)) {
			again = AGAIN_FIRST;
			pause = AGAIN_FIRST;
		} else {
			pause = again - rand_r(&dr->seed) % (again / 4 + 1);
			if (dr->hangs && again < HUNG_FIRST)
				again = HUNG_FIRST;
			last = dr->hangs ? HUNG_LAST : AGAIN_LAST;
			again = again * 2 < last ? again * 2 : last;
		}
		/* Looking into a large directory costs, and holds up those who write into it. */
		looked = 20 * looked < LOOK ? 20 * looked : LOOK;
		nap(dr, pause > looked ? pause : looked);
	}
	return NULL;
}

static struct drain *
make(const struct drain_options *options)
{
	struct drain *dr = xcalloc(1, sizeof *dr);
	pthread_condattr_t attributes;

	dr->spool = options->spool;
	dr->pg = pg_new(PG_HANDLER, options->database);
	dr->rate = options->rate;
	dr->at_once = BATCH;
	dr->complained = dr->tidied = -REMIND;
	dr->reminded_aside = -REMIND_ASIDE;
	dr->seed = (unsigned)clock_ms() ^ (unsigned)(uintptr_t)dr;
	pthread_mutex_init(&dr->mutex, NULL);
	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	pthread_cond_init(&dr->wake, &attributes);
	pthread_cond_init(&dr->removal, NULL);
	pthread_cond_init(&dr->room, NULL);
	pthread_condattr_destroy(&attributes);
	return dr;
}

static void
unmake(struct drain *dr)
{
	for (size_t i = 0; i < BATCH; i++)
		transfer_free(&dr->items[i].delivery.transfer);
	free(dr->done);
	pg_free(dr->pg);
	pthread_cond_destroy(&dr->room);
	pthread_cond_destroy(&dr->removal);
	pthread_cond_destroy(&dr->wake);
	pthread_mutex_destroy(&dr->mutex);
	free(dr);
}

struct drain *
drain_start(const struct drain_options *options)
{
	struct drain *dr = make(options);

	if (pthread_create(&dr->thread, NULL, run, dr) != 0)
		fatal("the spool's thread cannot be started (fewer threads, or a higher limit of "
		      "tasks)");
	return dr;
}

void
drain_stop(struct drain *dr)
{
	if (dr == NULL)
		return;
	pthread_mutex_lock(&dr->mutex);
	atomic_store(&dr->stop, true);
	pthread_cond_signal(&dr->wake);
	pthread_mutex_unlock(&dr->mutex);
	pthread_join(dr->thread, NULL);
	unmake(dr);
}

/*
 * A pass to its end, however often it is broken off: a delivery that breaks it is passed over in
 * the end, and whoever starts anew each time would always fail at the same. False: the database
 * is away, or takes nothing.
 */
static bool
insist(struct drain *dr)
{
	while (pg_connect(dr->pg, clock_ms() + CONNECT) == PG_OK) {
		int before = dr->fruitless;

		if (pass(dr))
			return dr->fruitless == 0 || dr->result.drained > 0;
		if (dr->fruitless == before || dr->fruitless >= FRUITLESS)
			return false;
		nap(dr, AGAIN_FIRST);
	}
	return false;
}

enum drained
drain_once(const struct drain_options *options, struct drain_result *result, char **error)
{
	struct drain *dr = make(options);
	enum drained drained = DRAIN_ELSEWHERE;

	*error = NULL;
	*result = (struct drain_result){0};
	if (spool_lock(dr->spool)) {
		drained = DRAIN_DONE;
		if (!insist(dr)) {
			drained = DRAIN_FAILED;
			*error = pg_complaint(dr->pg);
		}
		*result = dr->result;
		spool_unlock(dr->spool);
	}
	unmake(dr);
	return drained;
}
