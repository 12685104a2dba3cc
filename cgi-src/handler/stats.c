/* SPDX-License-Identifier: MIT */
/*
 * stats.c - what the handler counts, and how Prometheus reads it.
 *
 * One table, families[], has a row for each metric: its help is a sentence on what to do about
 * it. Whatever is counted at each request is counted once, by merchant and outcome;
 * the rest (answers by status, say) is added up when it is asked for.
 *
 * The counters are relaxed atomics: each is right by itself, and nothing is concluded from one to
 * another. A merchant's are found by a pointer in its struct merchant, which is set before the
 * configuration comes into force; rows are never freed, because counters survive a reload.
 */
#include <dirent.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "log.h"
#include "mem.h"
#include "stats.h"

#ifndef VERSION
#define VERSION "unversioned"
#endif

#define BOUNDS 13
#define WORDS 7 /* and one NULL at least behind them */

/* A merchant's counters. */
struct stats_merchant {
	struct stats_merchant *_Atomic next;
	char name[LIMIT_MERCHANT + 1];
	_Atomic uint64_t outcomes[OUTCOME__MAX];
};

static time_t started;

/* The list begins with the unknown ones. */
static struct stats_merchant unknown = {.name = "-"};

/* The last one, "other", is for words that are not in the row. */
static const char *const words[STATS__COUNTERS][WORDS] = {
    [STATS_BATCH_FAILED] = {"database", "in_doubt", "locked", "refused", "schema", "other"},
    [STATS_DRAINED] = {"recorded", "duplicate", "ignored", "review", "other"},
    [STATS_RELOADED] = {"ok", "failed", "other"},
};
static _Atomic uint64_t counters[STATS__COUNTERS][WORDS];
static _Atomic uint64_t unavailable[REASON__MAX]; /* answers 503 */

/* Upper bounds, ascending; what is greater than the last goes into the bucket behind it. */
static const struct {
	double unit; /* what the value is to be multiplied with */
	int64_t bounds[BOUNDS];
	size_t count;
} scales[STATS__HISTOGRAMS] = {
    [STATS_REQUEST_MS] = {0.001, {1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 3000, 5000}, 13},
    [STATS_COMMIT_MS] = {0.001, {1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 3000, 5000}, 13},
    [STATS_BATCH_SIZE] = {1, {1, 2, 4, 8, 16, 32, 64, 128, 256}, 9},
};
static struct {
	_Atomic uint64_t buckets[BOUNDS + 1], sum;
} histograms[STATS__HISTOGRAMS];

/* -- count -- */

static void
add(_Atomic uint64_t *counter, uint64_t n)
{
	atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}

static uint64_t
get(_Atomic uint64_t *counter)
{
	return atomic_load_explicit(counter, memory_order_relaxed);
}

void
stats_adopt(struct config *config)
{
	if (started == 0)
		started = clock_wall_s();
	for (size_t i = 0; i < config->merchant_count; i++) {
		const char *name = config->merchants[i].name;
		struct stats_merchant *m = &unknown;

		while (m->next != NULL && strcmp(m->name, name) != 0)
			m = m->next;
		if (strcmp(m->name, name) != 0) {
			struct stats_merchant *fresh = xcalloc(1, sizeof *fresh);

			memcpy(fresh->name, name, strlen(name) + 1);
			m->next = fresh; /* whole, should stats_write() be under way */
			m = fresh;
		}
		config->merchants[i].stats = m;
	}
}

void
stats_count(enum stats_counter counter, const char *word)
{
	size_t i = 0;

	while (words[counter][i + 1] != NULL && strcmp(words[counter][i], word) != 0)
		i++;
	add(&counters[counter][i], 1);
}

void
stats_observe(enum stats_histogram h, int64_t value)
{
	size_t i = 0;

	while (i < scales[h].count && value > scales[h].bounds[i])
		i++;
	add(&histograms[h].buckets[i], 1);
	add(&histograms[h].sum, value > 0 ? (uint64_t)value : 0);
}

void
stats_answer(const struct merchant *merchant, enum outcome outcome, enum reason reason, int64_t ms)
{
	struct stats_merchant *m =
	    merchant != NULL && merchant->stats != NULL ? merchant->stats : &unknown;

	add(&m->outcomes[outcome], 1);
	if (outcome == OUTCOME_UNAVAILABLE)
		add(&unavailable[reason], 1);
	stats_observe(STATS_REQUEST_MS, ms);
}

/* -- write -- */

#define SAMPLE(member) offsetof(struct stats_sample, member)

struct family {
	const char *name;
	const char *type; /* counter, gauge or histogram */
	const char *help;
	void (*write)(FILE *, const struct family *, const struct stats_sample *);
	size_t at;         /* of what: an enum's value, or a member of struct stats_sample */
	const char *label; /* what the words, or the database's details, are */
	const char *more;  /* a second label: the merchant */
	size_t when;       /* a member of the sample: only if that is true; 0: always */
};

/* A label's value: whatever is in it, it stays within its quotes. */
static void
write_text(FILE *out, const char *text)
{
	for (; *text != '\0'; text++)
		if (*text == '\n')
			fputs("\\n", out);
		else if (*text == '"' || *text == '\\')
			fprintf(out, "\\%c", *text);
		else
			fputc(*text, out);
}

static void
write_build(FILE *out, const struct family *f, const struct stats_sample *s)
{
	(void)s;
	fprintf(out, "%s{version=\"" VERSION "\"} 1\n", f->name);
}

/* A member of the sample. */
static void
write_number(FILE *out, const struct family *f, const struct stats_sample *s)
{
	fprintf(out, "%s %" PRIu64 "\n", f->name,
	    *(const uint64_t *)(const void *)((const char *)s + f->at));
}

static void
write_flag(FILE *out, const struct family *f, const struct stats_sample *s)
{
	fprintf(out, "%s %d\n", f->name, *(const bool *)((const char *)s + f->at));
}

static void
write_words(FILE *out, const struct family *f, const struct stats_sample *s)
{
	(void)s;
	for (size_t i = 0; words[f->at][i] != NULL; i++)
		fprintf(out, "%s{%s=\"%s\"} %" PRIu64 "\n", f->name, f->label, words[f->at][i],
		    get(&counters[f->at][i]));
}

static void
write_unavailable(FILE *out, const struct family *f, const struct stats_sample *s)
{
	(void)s;
	for (int i = 1; i <= REASON__MAX; i++) { /* REASON_NONE, "other", comes last */
		enum reason reason = i < REASON__MAX ? (enum reason)i : REASON_NONE;

		fprintf(out, "%s{reason=\"%s\"} %" PRIu64 "\n", f->name, reason_info(reason)->name,
		    get(&unavailable[reason]));
	}
}

static void
write_histogram(FILE *out, const struct family *f, const struct stats_sample *s)
{
	uint64_t below = 0;

	(void)s;
	for (size_t i = 0; i < scales[f->at].count; i++) {
		below += get(&histograms[f->at].buckets[i]);
		fprintf(out, "%s_bucket{le=\"%g\"} %" PRIu64 "\n", f->name,
		    (double)scales[f->at].bounds[i] * scales[f->at].unit, below);
	}
	below += get(&histograms[f->at].buckets[scales[f->at].count]);
	fprintf(out, "%s_bucket{le=\"+Inf\"} %" PRIu64 "\n", f->name, below);
	fprintf(out, "%s_sum %.10g\n%s_count %" PRIu64 "\n", f->name,
	    (double)get(&histograms[f->at].sum) * scales[f->at].unit, f->name, below);
}

/* Begin with zeros, or the first of a kind is no increase; but only what can happen. */
static bool
can_happen(const struct stats_merchant *m, enum outcome outcome)
{
	if (m == &unknown)
		return outcome == OUTCOME_NOT_FOUND;
	return outcome != OUTCOME_BUSY && outcome != OUTCOME_REJECTED;
}

static void
write_requests(FILE *out, const struct family *f, const struct stats_sample *s)
{
	(void)s;
	for (struct stats_merchant *m = &unknown; m != NULL; m = m->next)
		for (int i = 0; i < OUTCOME__MAX; i++) {
			uint64_t n = get(&m->outcomes[i]);

			if (n > 0 || can_happen(m, (enum outcome)i))
				fprintf(out, "%s{merchant=\"%s\",outcome=\"%s\"} %" PRIu64 "\n",
				    f->name, m->name, outcome_info((enum outcome)i)->name, n);
		}
}

static void
write_answers(FILE *out, const struct family *f, const struct stats_sample *s)
{
	(void)s;
	for (int status = 200; status < 600; status++) {
		uint64_t n = 0;
		bool given = false;

		for (int i = 0; i < OUTCOME__MAX; i++) {
			if (outcome_info((enum outcome)i)->status != status)
				continue;
			given = true;
			for (struct stats_merchant *m = &unknown; m != NULL; m = m->next)
				n += get(&m->outcomes[i]);
		}
		if (given)
			fprintf(out, "%s{status=\"%d\"} %" PRIu64 "\n", f->name, status, n);
	}
}

/* foloosi.monitor()'s facts of this family. */
static void
write_facts(FILE *out, const struct family *f, const struct stats_sample *s)
{
	for (size_t i = 0; i < s->fact_count; i++) {
		const struct pg_fact *fact = &s->facts[i];
		const char *between = "";

		if (strcmp(fact->metric, f->name) != 0)
			continue;
		fputs(f->name, out);
		if (f->label != NULL || f->more != NULL) {
			fputc('{', out);
			if (f->label != NULL) {
				fprintf(out, "%s=\"", f->label);
				write_text(out, fact->detail);
				between = "\",";
			}
			if (f->more != NULL) {
				fprintf(out, "%s%s=\"", between, f->more);
				write_text(out, fact->merchant);
			}
			fputs("\"}", out);
		}
		fprintf(out, " %.15g\n", fact->value);
	}
}

/* Names and meanings as in Prometheus' own client libraries. */
static void
write_cpu(FILE *out, const struct family *f, const struct stats_sample *s)
{
	struct timespec t = {0};

	(void)s;
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	fprintf(out, "%s %.6f\n", f->name, (double)t.tv_sec + (double)t.tv_nsec / 1e9);
}

static void
write_memory(FILE *out, const struct family *f, const struct stats_sample *s)
{
	FILE *statm = fopen("/proc/self/statm", "re");
	unsigned long resident;

	(void)s;
	if (statm == NULL)
		return;
	if (fscanf(statm, "%*u %lu", &resident) == 1)
		fprintf(out, "%s %lu\n", f->name, resident * (unsigned long)sysconf(_SC_PAGESIZE));
	fclose(statm);
}

static void
write_files(FILE *out, const struct family *f, const struct stats_sample *s)
{
	DIR *d = opendir("/proc/self/fd");
	int n = -3; /* itself, "." and ".." */

	(void)s;
	if (d == NULL)
		return;
	while (readdir(d) != NULL)
		n++;
	closedir(d);
	fprintf(out, "%s %d\n", f->name, n);
}

static void
write_files_max(FILE *out, const struct family *f, const struct stats_sample *s)
{
	struct rlimit files;

	(void)s;
	if (getrlimit(RLIMIT_NOFILE, &files) == 0)
		fprintf(out, "%s %ju\n", f->name, (uintmax_t)files.rlim_cur);
}

static void
write_start(FILE *out, const struct family *f, const struct stats_sample *s)
{
	(void)s;
	fprintf(out, "%s %jd\n", f->name, (intmax_t)started);
}

#define COUNTER "counter"
#define GAUGE "gauge"
#define HISTOGRAM "histogram"

/* clang-format off */
static const struct family families[] = {
    {"foloosi_build_info", GAUGE, "The version that runs, as a label.", write_build, 0, NULL, NULL, 0},
    {"foloosi_requests_total", COUNTER,
	"Webhook requests by merchant and what became of them; none of an outcome that commits for long: look whether the provider still sends. unauthorized, or not_found without a merchant (-): a secret is being guessed, or a token was changed on one side only.",
	write_requests, 0, NULL, NULL, 0},
    {"foloosi_answers_total", COUNTER, "The same by HTTP status; 503 means that the provider has to send again.", write_answers, 0, NULL, NULL, 0},
    {"foloosi_request_duration_seconds", HISTOGRAM,
	"From a request's arrival at the handler to its answer, by the millisecond; if it nears the deadline, look at foloosi_commit_duration_seconds.",
	write_histogram, STATS_REQUEST_MS, NULL, NULL, 0},
    {"foloosi_unavailable_total", COUNTER,
	"Answers 503 by reason, as in foloosi-webhook(8); spool_full and spool_failed need a person at once.",
	write_unavailable, 0, NULL, NULL, 0},
    {"foloosi_queue_length", GAUGE,
	"Deliveries that wait for the writer; if it stays near the number of threads, the database is too slow for what comes.",
	write_number, SAMPLE(writer.queued), NULL, NULL, 0},
    {"foloosi_commits_total", COUNTER, "Batches that PostgreSQL has committed.", write_number, SAMPLE(writer.batches), NULL, NULL, 0},
    {"foloosi_batch_deliveries", HISTOGRAM, "Deliveries in a committed batch; they grow with the load.", write_histogram, STATS_BATCH_SIZE, NULL, NULL, 0},
    {"foloosi_commit_duration_seconds", HISTOGRAM,
	"Time of a committed batch in PostgreSQL; if it grows, look at the server's disk, locks and triggers of your own.",
	write_histogram, STATS_COMMIT_MS, NULL, NULL, 0},
    {"foloosi_batch_failures_total", COUNTER,
	"Batches that were not confirmed, by reason; in_doubt: the connection broke or the commit hung, locked: deadlocks or lock_timeout, refused: data, or a trigger of yours.",
	write_words, STATS_BATCH_FAILED, "reason", NULL, 0},
    {"foloosi_busy_total", COUNTER,
	"Deliveries that met a locked order and were tried again; if it keeps growing, another session holds a transaction open.",
	write_number, SAMPLE(writer.busy), NULL, NULL, 0},
    {"foloosi_database_up", GAUGE, "1 while the writer has its connection to PostgreSQL; 0: the log says why.", write_flag, SAMPLE(writer.up), NULL, NULL, 0},
    {"foloosi_database_connects_total", COUNTER,
	"Connections that the writer has made; each beyond the first two is one that was lost.",
	write_number, SAMPLE(writer.connects), NULL, NULL, 0},
    {"foloosi_config_reloads_total", COUNTER, "Configurations read at SIGHUP; failed: the log names the line, and the old one is in force.",
	write_words, STATS_RELOADED, "result", NULL, 0},

    {"foloosi_spool_files", GAUGE, "Deliveries in the spool; they drain while PostgreSQL takes them.", write_number, SAMPLE(spool_files), NULL, NULL, SAMPLE(spooling)},
    {"foloosi_spool_bytes", GAUGE, "How much disk they take.", write_number, SAMPLE(spool_bytes), NULL, NULL, SAMPLE(spooling)},
    {"foloosi_spool_max_files", GAUGE, "Its limit, spool_max_files: when it is reached, deliveries are refused.", write_number, SAMPLE(spool_max_files), NULL, NULL, SAMPLE(spooling)},
    {"foloosi_spool_max_bytes", GAUGE, "Its limit, spool_max_bytes: when it is reached, deliveries are refused.", write_number, SAMPLE(spool_max_bytes), NULL, NULL, SAMPLE(spooling)},
    {"foloosi_spool_oldest_seconds", GAUGE, "How long the oldest has waited; if it grows with PostgreSQL up, the log says what holds it.", write_number, SAMPLE(spool_oldest_s), NULL, NULL, SAMPLE(spooling)},
    {"foloosi_spool_aside_files", GAUGE, "Files that were set aside and wait for a person: foloosictl spool list.", write_number, SAMPLE(spool_aside), NULL, NULL, SAMPLE(spooling)},
    {"foloosi_spool_drained_total", COUNTER, "Deliveries that came out of the spool into PostgreSQL, by outcome.", write_words, STATS_DRAINED, "outcome", NULL, SAMPLE(spooling)},

    {"foloosi_monitor_up", GAUGE, "1 if foloosi.monitor() has answered, which all of the following come from; 0: the log says why.", write_flag, SAMPLE(monitor_up), NULL, NULL, SAMPLE(monitored)},
    {"foloosi_schema_version", GAUGE, "The latest migration of schema foloosi.", write_facts, 0, NULL, NULL, SAMPLE(monitor_up)},
    {"foloosi_attention", GAUGE, "What waits for a person, by kind: table foloosi.attention.", write_facts, 0, "kind", "merchant", SAMPLE(monitor_up)},
    {"foloosi_attention_oldest_seconds", GAUGE, "How long the oldest of them has waited.", write_facts, 0, "kind", "merchant", SAMPLE(monitor_up)},
    {"foloosi_paybacks", GAUGE, "Open paybacks: due is money that must go back, check may have to.", write_facts, 0, "state", "merchant", SAMPLE(monitor_up)},
    {"foloosi_paybacks_oldest_seconds", GAUGE, "How long the oldest of them has been open; a customer waits for the money.", write_facts, 0, "state", "merchant", SAMPLE(monitor_up)},
    {"foloosi_verifications", GAUGE, "Payments that wait for the provider's word; if it grows, look at foloosi-worker.", write_facts, 0, NULL, "merchant", SAMPLE(monitor_up)},
    {"foloosi_verifications_oldest_seconds", GAUGE, "How long the oldest of them has waited.", write_facts, 0, NULL, "merchant", SAMPLE(monitor_up)},
    {"foloosi_orders_overdue", GAUGE, "Pending orders whose time to be cancelled has come; if it grows, foloosi-worker or foloosi-cancel.timer does not run, or the provider's list cannot be read.", write_facts, 0, NULL, "merchant", SAMPLE(monitor_up)},
    {"foloosi_orders_overdue_oldest_seconds", GAUGE, "How long the oldest of them has waited.", write_facts, 0, NULL, "merchant", SAMPLE(monitor_up)},
    {"foloosi_events_last_id", GAUGE, "Number of the latest event.", write_facts, 0, NULL, NULL, SAMPLE(monitor_up)},
    {"foloosi_events_backlog", GAUGE, "Events that a consumer has not finished; those it has not been offered yet are counted up to 10000.", write_facts, 0, "consumer", "merchant", SAMPLE(monitor_up)},
    {"foloosi_events_oldest_seconds", GAUGE, "Age of the oldest of them; the merchant's systems are behind by as much.", write_facts, 0, "consumer", "merchant", SAMPLE(monitor_up)},
    {"foloosi_events_dead", GAUGE, "Events that were given up: foloosictl events retry or discard.", write_facts, 0, "consumer", "merchant", SAMPLE(monitor_up)},
    {"foloosi_consumer_position", GAUGE, "Up to which event a consumer was offered them; it stands still if the consumer does not ask, or nothing happens.", write_facts, 0, "consumer", "merchant", SAMPLE(monitor_up)},
    {"foloosi_consumer_failures", GAUGE, "Posts in a row that found its endpoint out of order.", write_facts, 0, "consumer", "merchant", SAMPLE(monitor_up)},
    {"foloosi_consumer_paused", GAUGE, "1 while its circuit is open: one event is tried now and then.", write_facts, 0, "consumer", "merchant", SAMPLE(monitor_up)},
    {"foloosi_consumer_disabled", GAUGE, "1 if it gets nothing until foloosictl events enable.", write_facts, 0, "consumer", "merchant", SAMPLE(monitor_up)},

    {"process_start_time_seconds", GAUGE, "When the program started, in seconds since 1970; all counters begin there.", write_start, 0, NULL, NULL, 0},
    {"process_cpu_seconds_total", COUNTER, "Processor time that it has used.", write_cpu, 0, NULL, NULL, 0},
    {"process_resident_memory_bytes", GAUGE, "Memory that it has in use.", write_memory, 0, NULL, NULL, 0},
    {"process_open_fds", GAUGE, "Descriptors that it has open.", write_files, 0, NULL, NULL, 0},
    {"process_max_fds", GAUGE, "How many it may have; when they are used up, requests wait at the socket.", write_files_max, 0, NULL, NULL, 0},
};
/* clang-format on */

void
stats_write(FILE *out, const struct stats_sample *s)
{
	for (size_t i = 0; i < sizeof families / sizeof *families; i++) {
		const struct family *f = &families[i];

		if (f->when != 0 && !*(const bool *)((const char *)s + f->when))
			continue;
		fprintf(out, "# HELP %s %s\n# TYPE %s %s\n", f->name, f->help, f->name, f->type);
		f->write(out, f, s);
	}
}
