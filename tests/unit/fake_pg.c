/* SPDX-License-Identifier: MIT */
/* fake_pg.c - see fake_pg.h. */
#include <assert.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../../cgi-src/lib/log.h"
#include "../../cgi-src/lib/mem.h"
#include "clock.h"
#include "fake_pg.h"

struct script {
	struct fake_step steps[FAKE_STEPS];
	size_t n, next;
};

struct pg {
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
static enum pg_status
step(struct script *script, int64_t deadline)
{
	struct fake_step s = {PG_OK, 0};

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
		return PG_LOST;
	}
	pass(s.ms);
	return s.status;
}

struct pg *
pg_new(enum pg_program program, const char *conninfo)
{
	struct pg *pg = xcalloc(1, sizeof *pg);

	(void)program, (void)conninfo;
	pg->number = -1;
	return pg;
}

enum pg_status
pg_connect(struct pg *pg, int64_t deadline)
{
	enum pg_status status;

	if (pg->connected)
		return PG_OK;
	pthread_mutex_lock(&mutex);
	connect_count++;
	pthread_mutex_unlock(&mutex);
	status = step(&connects, deadline);
	if (status == PG_LOST)
		status = PG_DOWN;
	if (status == PG_OK) {
		pg->connected = true;
		pthread_mutex_lock(&mutex);
		open_count++;
		pthread_mutex_unlock(&mutex);
	}
	return status;
}

bool
pg_connected(const struct pg *pg)
{
	return pg->connected;
}

static bool
any(struct delivery *const *batch, size_t n, const char *merchant)
{
	for (size_t i = 0; i < n; i++)
		if (strcmp(batch[i]->merchant, merchant) == 0)
			return true;
	return false;
}

enum pg_status
pg_record(struct pg *pg, struct delivery *const *batch, size_t n, int64_t deadline)
{
	int64_t at = clock_ms();
	enum pg_status status;

	assert(pg->connected);
	assert(n >= 1 && n <= BATCH_MAX);
	status = step(&records, deadline);

	pthread_mutex_lock(&mutex);
	if (pg->number < 0)
		pg->number = numbers++;
	if (status == PG_OK && any(batch, n, "poison"))
		status = PG_DATA;
	if (status == PG_OK && held && any(batch, n, "locked"))
		status = PG_LOCKED;
	for (size_t i = 0; status == PG_OK && i < n; i++) {
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
		c->connection = pg->number;
		c->n = n;
		memcpy(c->first, batch[0]->request_id, REQUEST_ID_SIZE);
		c->at = at;
	}
	pthread_mutex_unlock(&mutex);
	if (status == PG_LOST || status == PG_DOWN || status == PG_SCHEMA)
		pg_close(pg);
	return status;
}

const char *
pg_error(const struct pg *pg)
{
	(void)pg;
	return "the script says so";
}

void
pg_close(struct pg *pg)
{
	if (pg->connected) {
		pthread_mutex_lock(&mutex);
		open_count--;
		pthread_mutex_unlock(&mutex);
	}
	pg->connected = false;
}

void
pg_free(struct pg *pg)
{
	if (pg == NULL)
		return;
	pg_close(pg);
	free(pg);
}

const char *
pg_remedy(const struct pg *pg)
{
	(void)pg;
	return NULL;
}

char *
pg_complaint(const struct pg *pg)
{
	return xstrdup(pg_error(pg));
}
