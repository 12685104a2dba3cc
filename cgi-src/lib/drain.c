/* SPDX-License-Identifier: MIT */
/*
 * drain.c - from the spool into PostgreSQL, beside live traffic.
 *
 * A delivery in a file is decoded by the same code as a request and recorded by the same
 * call, so it ends as it would have ended; only its credentials are not checked again. The drain has
 * a connection of its own, which is open while there is something to drain, so neither it nor
 * live traffic queues behind the other; the rate limits what it takes of the database.
 *
 * A file is removed when its delivery is committed, never before. What comes back busy
 * stays, and has its next turn when all the others had theirs: one locked order holds up no
 * other. A batch that is rolled back is tried one delivery at a time, and what is refused even then
 * stays too: the database may accept it after a change. If the reply is lost, the same files are
 * tried again: a repeat is recognised by the database.
 *
 * To remove a file may take a disk milliseconds, when it gives blocks back (ext4 with discard, say),
 * and a batch has many. They are removed together: worker threads remove the files of one batch
 * while the next is read and committed, and the directory is not read before they are done.
 *
 * If a file cannot be removed (a disk that went read-only), it is not recorded again by this
 * process, which would count a repeat with each pass.
 *
 * A delivery that breaks the connection each time, or at which the server each time says
 * that it cannot (a damaged page of an index, say), would stop all behind it. So after such a
 * failure batches have one delivery until one succeeds, and a delivery that keeps failing is passed
 * over.
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

#define BATCH 64               /* smaller than live batches may be: they share orders' locks */
#define BATCH_BYTES (4u << 20) /* of bodies */
#define LIST 16384             /* names at a time, so that the limits see what was removed */
#define CALL 3000              /* ms for a batch */
#define CONNECT 3000           /* ms for an attempt to connect */
#define IDLE 1000              /* ms between two looks into an empty directory */
#define LOOK 2000              /* … and, if that takes long, into a large one */
#define AGAIN_FIRST 200        /* ms before the next turn if something is left, doubled up to … */
#define AGAIN_LAST 2000
#define HUNG_FIRST 1000   /* … or, while calls hang, from this to … */
#define HUNG_LAST 30000   /* … this: each leaves a session in the server */
#define CATCH_UP 250      /* ms */
#define LOG_AGAIN 60000   /* ms between log lines that say what waits */
#define LOG_ASIDE 3600000 /* … of what was set aside */
#define FRUITLESS 20      /* failures in a row after which drain_once() gives up */
#define REMOVERS_MAX 8    /* threads that remove files, while there are many */
#define PATIENCE 5        /* failures that a single delivery may cause before it is passed over */

struct item {
	struct spool_name name;
	struct spooled spooled;
	struct delivery delivery;
};

struct drain {
	struct spool *spool;
	struct pg *pg;
	int rate;
	void (*drained)(enum outcome); /* NULL: nothing to call */

	pthread_t thread;
	pthread_mutex_t mutex;
	pthread_cond_t wake;
	atomic_bool stop;

	/* threads that remove files, and what they have to remove; under mutex */
	pthread_t removers[REMOVERS_MAX];
	size_t remover_count;
	struct spool_name removals[BATCH]; /* a ring */
	size_t removals_first, removals_count;
	pthread_cond_t removal; /* there is one, or there will be none */
	pthread_cond_t room;    /* in the ring */

	struct item items[BATCH];
	size_t at_once;              /* how many to a batch: 1 after a failure */
	bool hangs;                  /* the last call had no answer in time */
	bool waiting;                /* it was logged that something is there */
	bool no_more_removals;       /* under mutex */
	int failures;                /* in a row, with one delivery to a batch */
	int64_t due;                 /* in µs, of clock_ms(): when the rate allows the next batch */
	char after[SPOOL_NAME_SIZE]; /* the last name of this pass that had its turn */
	int fruitless;               /* failures in a row, whatever the batch */
	struct drain_result result;  /* of this pass; left under mutex */
	struct spool_name *done; /* committed, and not to be removed; sorted, owned; under mutex */
	size_t done_count, done_room;
	size_t done_left;           /* … of those, that are there still */
	int64_t usage_logged;       /* clock_ms() of the log's last line about it */
	int64_t usage_logged_aside; /* … of its last line about what was set aside */
	int64_t tidied;             /* … of the last look for foreign files */
	int64_t logged;             /* … of its last line about a file that stays; under mutex */
	unsigned seed;              /* of rand_r() */
};

/* -- one delivery -- */

/* Make the delivery from what the file holds. */
static void
decode_item(struct item *item)
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

/* A file stays, for it was acknowledged. Log why, but not for each of many, at each pass. */
static void
log_left(struct drain *dr, const struct spool_name *file, const char *trouble, const char *reason)
{
	int64_t now = clock_ms();
	bool due;

	pthread_mutex_lock(&dr->mutex);
	dr->result.left++;
	due = now - dr->logged >= LOG_AGAIN;
	if (due)
		dr->logged = now;
	pthread_mutex_unlock(&dr->mutex);
	if (due)
		log_event(LOG_ERROR, "spool", "trouble", trouble, "reason", reason, "file",
		    file->text, "remedy", "it stays in the spool and is tried again",
		    (const char *)NULL);
}

/* The index of a name in done, or where it has to be inserted. Mutex held. */
static size_t
find_done(const struct drain *dr, const char *name)
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
add_done(struct drain *dr, const struct spool_name *file)
{
	size_t at = find_done(dr, file->text);

	if (dr->done_count == dr->done_room) {
		dr->done_room = dr->done_room == 0 ? 64 : dr->done_room * 2;
		dr->done = xrealloc(dr->done, dr->done_room * sizeof *dr->done);
	}
	memmove(dr->done + at + 1, dr->done + at, (dr->done_count - at) * sizeof *dr->done);
	dr->done[at] = *file;
	dr->done_count++;
	dr->done_left++;
}

/* Remove the file of a committed delivery. */
static void
remove_file(struct drain *dr, const struct spool_name *file)
{
	if (spool_remove(dr->spool, file->text))
		return;
	log_left(dr, file, "a drained file cannot be removed", strerror(errno));
	pthread_mutex_lock(&dr->mutex);
	add_done(dr, file);
	pthread_mutex_unlock(&dr->mutex);
}

/* Is it committed already, and only its file is still there? Then try again to remove that. */
static bool
is_done(struct drain *dr, const struct spool_name *file)
{
	size_t at;
	bool found;

	pthread_mutex_lock(&dr->mutex);
	at = find_done(dr, file->text);
	found = at < dr->done_count && strcmp(dr->done[at].text, file->text) == 0;
	pthread_mutex_unlock(&dr->mutex);
	if (!found)
		return false;
	if (!spool_remove(dr->spool, file->text)) {
		log_left(dr, file, "a drained file cannot be removed", strerror(errno));
		return true;
	}
	pthread_mutex_lock(&dr->mutex);
	if (--dr->done_left == 0)
		dr->done_count = 0;
	pthread_mutex_unlock(&dr->mutex);
	return true;
}

/* -- the threads that remove -- */

static void *
remove_files(void *arg)
{
	struct drain *dr = arg;
	struct spool_name file;

	pthread_mutex_lock(&dr->mutex);
	for (;;) {
		while (dr->removals_count == 0 && !dr->no_more_removals)
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

/* Start threads for so many files. Where none can be made, there are fewer, or none. */
static void
start_removers(struct drain *dr, size_t files)
{
	dr->no_more_removals = false;
	while (dr->remover_count < REMOVERS_MAX && dr->remover_count < files / REMOVERS_MAX &&
	       pthread_create(&dr->removers[dr->remover_count], NULL, remove_files, dr) == 0)
		dr->remover_count++;
}

/* Have the threads finish what there is, and end. */
static void
stop_removers(struct drain *dr)
{
	pthread_mutex_lock(&dr->mutex);
	dr->no_more_removals = true;
	pthread_cond_broadcast(&dr->removal);
	pthread_mutex_unlock(&dr->mutex);
	while (dr->remover_count > 0)
		pthread_join(dr->removers[--dr->remover_count], NULL);
}

/* Have a file removed, now or soon. */
static void
remove_soon(struct drain *dr, const struct spool_name *file)
{
	if (dr->remover_count == 0) {
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

/* The delivery has its outcome. */
static void
finish_item(struct drain *dr, struct item *item)
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
	if (dr->drained != NULL)
		dr->drained(d->outcome);
	remove_soon(dr, &item->name);
}

/* -- a batch -- */

static bool
stopping(struct drain *dr)
{
	return atomic_load(&dr->stop);
}

/* Wait for so many ms, or until the stop. */
static void
wait_ms(struct drain *dr, int64_t ms)
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
commit_items(struct drain *dr, size_t from, size_t n)
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
			finish_item(dr, &dr->items[from + i]);
		return true;
	case PG_LOCKED:
	case PG_DATA:
		if (n == 1) {
			if (status == PG_DATA)
				log_left(dr, &dr->items[from].name,
				    "the database refuses a delivery", pg_error(dr->pg));
			else
				count_left(dr);
			dr->failures = 0;
			return true;
		}
		for (size_t i = 0; i < n && !stopping(dr); i++)
			if (!commit_items(dr, from + i, 1))
				return false;
		return true;
	case PG_LOST:
	case PG_DOWN:
		if (n == 1 && ++dr->failures >= PATIENCE) {
			memcpy(dr->after, dr->items[from].name.text, sizeof dr->after);
			dr->failures = 0;
			log_left(dr, &dr->items[from].name,
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
load_items(struct drain *dr, const struct spool_name *names, size_t n, size_t *taken)
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
			decode_item(item);
			bytes += item->spooled.body_len;
			filled++;
			break;
		case SPOOL_TORN:
			spool_set_aside(dr->spool, item->name.text, fault);
			break;
		case SPOOL_UNREADABLE:
			log_left(dr, &item->name, "a file cannot be read", strerror(errno));
			break;
		case SPOOL_GONE:
			break;
		}
	}
	return filled;
}

/*
 * Wait until so many are due by the rate. What was lost to a slow disk or a busy machine is made up
 * for, but not more than CATCH_UP of it: that would be a burst.
 */
static void
pace(struct drain *dr, size_t n)
{
	int64_t now = clock_ms();

	if (dr->due < (now - CATCH_UP) * 1000)
		dr->due = (now - CATCH_UP) * 1000;
	dr->due += (int64_t)n * 1000000 / dr->rate;
	if (dr->due / 1000 > now)
		wait_ms(dr, dr->due / 1000 - now);
}

/* The next batch of names; *taken: how many had their turn. False as in commit_items(). */
static bool
drain_batch(struct drain *dr, const struct spool_name *names, size_t n, size_t *taken)
{
	size_t filled = load_items(dr, names, n, taken);
	bool ok = filled == 0 || commit_items(dr, 0, filled);

	for (size_t i = 0; i < filled; i++)
		spooled_free(&dr->items[i].spooled);
	if (!ok)
		return false;
	memcpy(dr->after, names[*taken - 1].text, sizeof dr->after);
	pace(dr, filled);
	return true;
}

/* Try each file once, from where the last pass was broken off. False as in commit_items(). */
static bool
drain_pass(struct drain *dr)
{
	size_t n = 1;

	if (dr->after[0] == '\0')
		dr->result = (struct drain_result){0};
	while (n > 0 && !stopping(dr)) {
		struct spool_name *names;
		size_t done = 0, taken;
		bool ok = true;

		n = spool_list(dr->spool, dr->after, LIST, true, &names);
		start_removers(dr, n);
		for (; ok && done < n && !stopping(dr); done += taken)
			ok = drain_batch(dr, names + done, n - done, &taken);
		stop_removers(dr);
		free(names);
		if (!ok)
			return false;
		spool_count(dr->spool); /* the limits see what has gone */
	}
	dr->after[0] = '\0';
	return true;
}

/* -- the thread -- */

/* Log when the spool fills, each minute that it is not empty, and when it is empty again. */
static void
log_usage(struct drain *dr, const struct spool_usage *usage)
{
	int64_t now = clock_ms();

	if (usage->files > 0 && (!dr->waiting || now - dr->usage_logged >= LOG_AGAIN)) {
		log_event(LOG_WARNING, "spool", "state", "waiting", "files",
		    log_number((int64_t)usage->files), "bytes", log_number((int64_t)usage->bytes),
		    "oldest_s", log_number(spool_age_s(usage->oldest)), (const char *)NULL);
		dr->waiting = true;
		dr->usage_logged = now;
	} else if (usage->files == 0 && dr->waiting) {
		log_event(LOG_INFO, "spool", "state", "empty", (const char *)NULL);
		dr->waiting = false;
	}
	if (usage->aside > 0 && now - dr->usage_logged_aside >= LOG_ASIDE) {
		log_event(LOG_WARNING, "spool", "state", "aside", "files",
		    log_number((int64_t)usage->aside), "remedy",
		    "look into spool_dir/aside; they count for the spool's limits until they "
		    "are removed",
		    (const char *)NULL);
		dr->usage_logged_aside = now;
	}
}

/* Drain, if no other process does. False: something is left. */
static bool
take_turn(struct drain *dr)
{
	bool done;

	if (!spool_lock(dr->spool))
		return true;
	dr->hangs = false;
	done = pg_connect(dr->pg, clock_ms() + CONNECT) == PG_OK && drain_pass(dr) &&
	       dr->result.left == 0;
	spool_unlock(dr->spool);
	return done;
}

/* An empty spool has no passes: look for foreign files apart. */
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
drain_thread(void *arg)
{
	struct drain *dr = arg;
	int64_t again = AGAIN_FIRST, last;

	while (!stopping(dr)) {
		int64_t begin = clock_ms(), pause = IDLE, looked;
		struct spool_usage usage = spool_count(dr->spool);

		looked = clock_ms() - begin;
		if (usage.unread) { /* it was logged; what waits is neither known nor gone */
			wait_ms(dr, AGAIN_LAST);
			continue;
		}
		log_usage(dr, &usage);
		if (usage.files == 0) {
			pg_close(dr->pg);
			if (clock_ms() - dr->tidied >= LOG_AGAIN)
				tidy(dr);
			again = AGAIN_FIRST;
		} else if (take_turn(dr)) {
			again = AGAIN_FIRST;
			pause = AGAIN_FIRST;
		} else {
			pause = again - rand_r(&dr->seed) % (again / 4 + 1);
			if (dr->hangs && again < HUNG_FIRST)
				again = HUNG_FIRST;
			last = dr->hangs ? HUNG_LAST : AGAIN_LAST;
			again = again * 2 < last ? again * 2 : last;
		}
		/* Reading a large directory takes time, and holds up threads that write into it. */
		looked = 20 * looked < LOOK ? 20 * looked : LOOK;
		wait_ms(dr, pause > looked ? pause : looked);
	}
	return NULL;
}

static struct drain *
drain_new(const struct drain_options *options)
{
	struct drain *dr = xcalloc(1, sizeof *dr);
	pthread_condattr_t attributes;

	dr->spool = options->spool;
	dr->pg = pg_new(PG_HANDLER, options->database);
	dr->rate = options->rate;
	dr->drained = options->drained;
	dr->at_once = BATCH;
	dr->logged = dr->tidied = -LOG_AGAIN;
	dr->usage_logged_aside = -LOG_ASIDE;
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
drain_free(struct drain *dr)
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
	struct drain *dr = drain_new(options);

	if (pthread_create(&dr->thread, NULL, drain_thread, dr) != 0)
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
	drain_free(dr);
}

/*
 * A pass to its end, however often it is broken off: a delivery that breaks it is passed over in
 * the end, where a new pass each time would always fail at the same. False: the database is away,
 * or takes nothing.
 */
static bool
finish_pass(struct drain *dr)
{
	while (pg_connect(dr->pg, clock_ms() + CONNECT) == PG_OK) {
		int before = dr->fruitless;

		if (drain_pass(dr))
			return dr->fruitless == 0 || dr->result.drained > 0;
		if (dr->fruitless == before || dr->fruitless >= FRUITLESS)
			return false;
		wait_ms(dr, AGAIN_FIRST);
	}
	return false;
}

enum drained
drain_once(const struct drain_options *options, struct drain_result *result, char **error)
{
	struct drain *dr = drain_new(options);
	enum drained drained = DRAIN_ELSEWHERE;

	*error = NULL;
	*result = (struct drain_result){0};
	if (spool_lock(dr->spool)) {
		drained = DRAIN_DONE;
		if (!finish_pass(dr)) {
			drained = DRAIN_FAILED;
			*error = pg_complaint(dr->pg);
		}
		*result = dr->result;
		spool_unlock(dr->spool);
	}
	drain_free(dr);
	return drained;
}
