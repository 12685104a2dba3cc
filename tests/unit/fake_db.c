/* fake_db.c - see fake_db.h. */
#include <assert.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../../cgi-src/lib/log.h"
#include "../../cgi-src/lib/mem.h"
#include "fake_db.h"

struct script {
	struct fake_step steps[FAKE_STEPS];
	size_t n, next;
};

struct db {
	bool connected;
	int number; /* -1: has not recorded yet */
};

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static struct script connects, records;
static struct fake_call calls[FAKE_CALLS];
static size_t call_count, connect_count, open_count;
static int numbers;
static bool held, gate;

void
fake_reset(void)
{
	pthread_mutex_lock(&mutex);
	connects.n = connects.next = records.n = records.next = 0;
	call_count = connect_count = open_count = 0;
	numbers = 0;
	held = gate = false;
	pthread_mutex_unlock(&mutex);
}

static void
load(struct script *script, const struct fake_step *steps, size_t n)
{
	assert(n <= FAKE_STEPS);
	pthread_mutex_lock(&mutex);
	memcpy(script->steps, steps, n * sizeof *steps);
	script->n = n;
	script->next = 0;
	pthread_mutex_unlock(&mutex);
}

void
fake_connects(const struct fake_step *steps, size_t n)
{
	load(&connects, steps, n);
}

void
fake_records(const struct fake_step *steps, size_t n)
{
	load(&records, steps, n);
}

void
fake_hold(bool yes)
{
	pthread_mutex_lock(&mutex);
	held = yes;
	pthread_mutex_unlock(&mutex);
}

void
fake_gate(void)
{
	pthread_mutex_lock(&mutex);
	gate = true;
	pthread_mutex_unlock(&mutex);
}

static bool
gate_is_shut(void)
{
	pthread_mutex_lock(&mutex);
	bool shut = !gate;
	pthread_mutex_unlock(&mutex);
	return shut;
}

const struct fake_call *
fake_calls(size_t *n)
{
	pthread_mutex_lock(&mutex);
	*n = call_count;
	pthread_mutex_unlock(&mutex);
	return calls;
}

size_t
fake_connections(void)
{
	pthread_mutex_lock(&mutex);
	size_t n = connect_count;
	pthread_mutex_unlock(&mutex);
	return n;
}

size_t
fake_open(void)
{
	pthread_mutex_lock(&mutex);
	size_t n = open_count;
	pthread_mutex_unlock(&mutex);
	return n;
}

static void
pass(int64_t ms)
{
	struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};

	if (ms > 0)
		nanosleep(&t, NULL);
}

/* The script's next step, taken: its time has passed, within the deadline. */
static enum db_status
step(struct script *script, int64_t deadline)
{
	struct fake_step s = {DB_OK, 0};

	pthread_mutex_lock(&mutex);
	if (script->n > 0) {
		s = script->steps[script->next];
		if (script->next + 1 < script->n)
			script->next++;
	}
	pthread_mutex_unlock(&mutex);
	while (s.ms == FAKE_GATE && gate_is_shut() && clock_ms() < deadline)
		pass(5);
	if (s.ms == FAKE_HANG || clock_ms() + s.ms > deadline) {
		pass(deadline - clock_ms());
		return DB_LOST;
	}
	pass(s.ms);
	return s.status;
}

struct db *
db_new(const char *conninfo)
{
	struct db *db = xcalloc(1, sizeof *db);

	(void)conninfo;
	db->number = -1;
	return db;
}

enum db_status
db_connect(struct db *db, int64_t deadline)
{
	enum db_status status;

	if (db->connected)
		return DB_OK;
	pthread_mutex_lock(&mutex);
	connect_count++;
	pthread_mutex_unlock(&mutex);
	status = step(&connects, deadline);
	if (status == DB_LOST)
		status = DB_DOWN;
	if (status == DB_OK) {
		db->connected = true;
		pthread_mutex_lock(&mutex);
		open_count++;
		pthread_mutex_unlock(&mutex);
	}
	return status;
}

bool
db_connected(const struct db *db)
{
	return db->connected;
}

static bool
any(struct delivery *const *batch, size_t n, const char *merchant)
{
	for (size_t i = 0; i < n; i++)
		if (strcmp(batch[i]->merchant, merchant) == 0)
			return true;
	return false;
}

enum db_status
db_record(struct db *db, struct delivery *const *batch, size_t n, int64_t deadline)
{
	int64_t at = clock_ms();
	enum db_status status;

	assert(db->connected);
	assert(n >= 1 && n <= BATCH_MAX);
	status = step(&records, deadline);

	pthread_mutex_lock(&mutex);
	if (db->number < 0)
		db->number = numbers++;
	if (status == DB_OK && any(batch, n, "poison"))
		status = DB_DATA;
	if (status == DB_OK && held && any(batch, n, "locked"))
		status = DB_LOCKED;
	for (size_t i = 0; status == DB_OK && i < n; i++) {
		struct delivery *d = batch[i];
		bool busy = held && strcmp(d->merchant, "busy") == 0;
		d->outcome = busy                ? OUTCOME_BUSY
			     : d->faults != NULL ? OUTCOME_REJECTED
						 : OUTCOME_RECORDED;
		strcpy(d->order, busy ? "" : d->request_id);
		strcpy(d->order_state, busy ? "" : "paid");
		d->reason[0] = '\0';
		d->delivery_id = busy ? 0 : 1;
		d->merchant_known = true;
	}
	if (call_count < FAKE_CALLS) {
		struct fake_call *c = &calls[call_count++];
		c->status = status;
		c->connection = db->number;
		c->n = n;
		memcpy(c->first, batch[0]->request_id, REQUEST_ID_SIZE);
		c->at = at;
	}
	pthread_mutex_unlock(&mutex);
	if (status == DB_LOST || status == DB_DOWN || status == DB_SCHEMA)
		db_close(db);
	return status;
}

const char *
db_error(const struct db *db)
{
	(void)db;
	return "the script says so";
}

void
db_close(struct db *db)
{
	if (db->connected) {
		pthread_mutex_lock(&mutex);
		open_count--;
		pthread_mutex_unlock(&mutex);
	}
	db->connected = false;
}

void
db_free(struct db *db)
{
	if (db == NULL)
		return;
	db_close(db);
	free(db);
}

const char *
db_remedy(const struct db *db)
{
	(void)db;
	return NULL;
}
