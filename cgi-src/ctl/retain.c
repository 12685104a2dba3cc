/* SPDX-License-Identifier: MIT */
/*
 * retain.c - "foloosictl retain" deletes old raw bytes and personal fields; "foloosictl erase" deletes
 * those of one customer at once.
 *
 * sql/functions/retention.sql and erase_customer.sql decide everything. Retention does one small piece of work a
 * call, so that no delivery waits for it. This is the loop: call until a step is done, repeat a busy call, add up what was done.
 */
#include <err.h>
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "clock.h"
#include "ctl.h"
#include "log.h"
#include "mem.h"

#define WAIT_DEFAULT_MS 60000
#define PAUSE_FIRST_MS 100 /* before a busy call is tried again; doubled each time … */
#define PAUSE_LAST_MS 2000 /* … up to this: each try may hold deliveries up for 50 ms */
#define DAYS_MAX 36500

/* The steps of a run, in order. The last one notes that the run came to its end. */
static const struct step {
	const char *sql;
	const char *unit; /* of the amount */
	bool personal;    /* it goes by the days of personal fields */
} steps[] = {
#define CALL(function)                                                                             \
	"select what, subject, amount, next, state from foloosi." function                         \
	"($1::int, $2::bigint, $3::boolean)"
    {CALL("retain_months"), "months", false},
    {CALL("retain_bodies"), "bytes", false},
    {CALL("retain_default"), "rows", false},
    {CALL("retain_personal"), "rows", true},
};
#define STEPS (sizeof steps / sizeof *steps)

struct run {
	const char *bodies_days, *personal_days; /* NULL: as the database has it */
	bool dry_run, json;
	int64_t wait_ms;     /* for how long what is busy is tried again */
	int printed;         /* lines, so far */
	bool refused;        /* this role may not */
	struct table report; /* with json they are printed at the end */
};

/* One line of the report; nothing for nothing done. */
static void
report(
    struct run *run, const struct step *step, const char *what, const char *subject, int64_t amount)
{
	if (amount == 0)
		return;
	if (run->json) {
		char number[24];

		snprintf(number, sizeof number, "%" PRId64, amount);
		table_row(&run->report, (const char *[]){what, subject, number, step->unit});
	} else {
		printf("%s%-22s  %-16s  %12" PRId64 " %s\n", run->dry_run ? "would be: " : "", what,
		    subject, amount, step->unit);
	}
	run->printed++;
}

/* Call until the step is done. False: after a message. */
static bool
run_step(struct pg *s, struct run *run, const struct step *step)
{
	char next[24] = "0", what[64] = "", subject[128] = "";
	int64_t amount = 0, pause = PAUSE_FIRST_MS, give_up = clock_ms() + run->wait_ms;
	bool more = true, ok = true;

	while (more) {
		const char *values[] = {step->personal ? run->personal_days : run->bodies_days,
		    next, run->dry_run ? "true" : "false"};
		struct pg_rows rows;
		const char *state, *now;
		bool busy;

		if (pg_query(s, step->sql, 3, values, &rows) != PG_OK) {
			warnx("%s", pg_error(s));
			run->refused |= strstr(pg_error(s), "permission denied") != NULL;
			ok = false;
			break;
		}
		now = pg_value(&rows, 0, 1);
		if (now != NULL && strcmp(now, subject) != 0) {
			report(run, step, what, subject, amount);
			amount = 0;
			snprintf(subject, sizeof subject, "%s", now);
			snprintf(what, sizeof what, "%s", pg_value(&rows, 0, 0));
		}
		amount += strtoll(pg_value(&rows, 0, 2), NULL, 10);
		snprintf(next, sizeof next, "%s", pg_value(&rows, 0, 3));
		state = pg_value(&rows, 0, 4);
		busy = strcmp(state, "busy") == 0;
		more = busy || strcmp(state, "more") == 0;
		pg_rows_free(&rows);

		if (!busy) {
			pause = PAUSE_FIRST_MS;
			give_up = clock_ms() + run->wait_ms;
		} else if (clock_ms() + pause > give_up) {
			warnx("%s: another session holds a lock on it: left for the next run",
			    subject);
			ok = more = false;
		} else {
			clock_sleep(pause);
			pause = pause * 2 < PAUSE_LAST_MS ? pause * 2 : PAUSE_LAST_MS;
		}
	}
	report(run, step, what, subject, amount);
	return ok;
}

/* A number from 0 to max, in digits only. */
static bool
is_count(const char *text, long max)
{
	size_t n = strlen(text);

	return n > 0 && n < 10 && strspn(text, "0123456789") == n && atol(text) <= max;
}

static int
run_retain(const struct ctl_call *call)
{
	const char *wait = ctl_value(call, "wait");
	struct run run = {.bodies_days = ctl_value(call, "bodies-days"),
	    .personal_days = ctl_value(call, "personal-days"),
	    .dry_run = ctl_value(call, "dry-run") != NULL,
	    .json = ctl_value(call, "json") != NULL,
	    .wait_ms = WAIT_DEFAULT_MS};
	struct pg *s;
	int code = CTL_OK;

	if (call->argc > 0 || (run.bodies_days != NULL && !is_count(run.bodies_days, DAYS_MAX)) ||
	    (run.personal_days != NULL && !is_count(run.personal_days, DAYS_MAX)) ||
	    (wait != NULL && !is_count(wait, 86400)))
		return ctl_usage(call->self);
	if (wait != NULL)
		run.wait_ms = atol(wait) * 1000;

	if ((s = ctl_connect(call)) == NULL)
		return CTL_FAILED;
	table_column(&run.report, "what", TABLE_WORD);
	table_column(&run.report, "subject", TABLE_WORD);
	table_column(&run.report, "amount", TABLE_NUMBER);
	table_column(&run.report, "unit", TABLE_WORD);
	for (size_t i = 0; i < STEPS; i++)
		if (!run_step(s, &run, &steps[i]))
			code = CTL_FAILED;
	pg_free(s);
	if (run.refused)
		warnx("retain is for the role foloosi_retention: user=foloosi_retention in "
		      "--database, or PGUSER");
	if (run.json)
		ctl_print_json(&run.report);
	else if (run.printed == 0 && code == CTL_OK)
		puts("Nothing is old enough.");
	table_free(&run.report);
	return code;
}

/* ---- erase ---- */

/* Add a customer, or with "-" the lines of standard input. */
static void
add_customer(struct text *customers, const char *customer)
{
	char *line = NULL;
	size_t size = 0;

	if (strcmp(customer, "-") != 0) {
		pg_array_add(customers, customer);
		return;
	}
	while (getline(&line, &size, stdin) > 0) {
		line[strcspn(line, "\r\n")] = '\0';
		if (*line != '\0')
			pg_array_add(customers, line);
	}
	free(line);
}

static int
run_erase(const struct ctl_call *call)
{
	static const char sql[] =
	    "select id, transactions, bodies, texts from foloosi.erase_customer($1::text[], $2, "
	    "$3::boolean)";
	bool json = ctl_value(call, "json") != NULL, dry_run = ctl_value(call, "dry-run") != NULL,
	     found;
	const char *values[] = {NULL, ctl_value(call, "note"), dry_run ? "true" : "false"}, *id;
	struct text customers = {0};
	struct pg_rows rows;
	struct pg *s = NULL;
	int code = CTL_FAILED;

	for (size_t i = 0; i < call->given_count; i++)
		if (strcmp(call->given[i].option->name, "customer") == 0)
			add_customer(&customers, call->given[i].value);
	if (call->argc > 0 || customers.len == 0) {
		code = ctl_usage(call->self);
		goto out;
	}
	values[0] = pg_array_text(&customers);
	if ((s = ctl_connect(call)) == NULL)
		goto out;
	if (pg_query(s, sql, 3, values, &rows) != PG_OK) {
		warnx("nothing was changed: %s", pg_error(s));
		goto out;
	}
	id = pg_value(&rows, 0, 0);
	found = id != NULL;
	for (int c = 1; c <= 3; c++)
		found |= strcmp(pg_value(&rows, 0, c), "0") != 0;
	if (json)
		printf("{\"erasure\": %s, \"dry_run\": %s, \"transactions\": %s, \"bodies\": %s, "
		       "\"texts\": %s}\n",
		    id != NULL ? id : "null", values[2], pg_value(&rows, 0, 1),
		    pg_value(&rows, 0, 2), pg_value(&rows, 0, 3));
	else if (found)
		printf("%s transactions %smasked\n%s raw bodies %sdeleted\n%s notes, details and "
		       "messages %sblanked\n",
		    pg_value(&rows, 0, 1), dry_run ? "would be " : "", pg_value(&rows, 0, 2),
		    dry_run ? "would be " : "", pg_value(&rows, 0, 3), dry_run ? "would be " : "");
	if (!json && id != NULL)
		printf("noted as erasure %s\n", id);
	if (!found)
		warnx("nothing here names this customer: nothing was changed");
	code = found ? CTL_OK : CTL_FAILED;
	pg_rows_free(&rows);
out:
	pg_free(s);
	text_free(&customers);
	return code;
}

#define DRY_RUN {"dry-run", 'n', NULL, "change nothing, say what would be", NULL}

const struct subcommand retain_subcommand = {
    .name = "retain",
    .arguments = "",
    .summary = "let old raw bytes and personal fields go; make months ahead",
    .options = CTL_OPTIONS(CTL_DATABASE, CTL_JSON, DRY_RUN,
	{"bodies-days", 0, "N", "how long raw bytes stay (default: foloosi.retention)", NULL},
	{"personal-days", 0, "N", "how long personal fields stay (default: foloosi.retention)",
	    NULL},
	{"wait", 0, "SECONDS", "how long to try again what is locked (default: 60)", NULL}),
    .run = run_retain,
};

const struct subcommand erase_subcommand = {
    .name = "erase",
    .arguments = "",
    .summary = "take one customer's personal data out",
    .options = CTL_OPTIONS(CTL_DATABASE, CTL_JSON, DRY_RUN,
	{"customer", 0, "TEXT",
	    "needed, also several times: an e-mail address or phone number as the payload spells "
	    "it; -: the lines of standard input, so that it stands in no list of processes",
	    NULL},
	{"note", 0, "TEXT", "for the audit row, say the request's number", NULL}),
    .run = run_erase,
};
