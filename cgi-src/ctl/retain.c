/*
 * retain.c - "foloosictl retain": old raw bytes and personal fields go; "foloosictl erase":
 * one customer's go at once.
 *
 * sql/functions/retention.sql decides everything and does one small piece of work a call, so that
 * no delivery waits for it. Here is the loop: call until a step is done, try again what comes back busy,
 * add up what was done.
 */
#include <err.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "clock.h"
#include "ctl.h"
#include "log.h"
#include "mem.h"
#include "pg_query.h"

#define WAIT_DEFAULT_MS 60000
#define PAUSE_FIRST_MS 100 /* before a busy call is tried again; doubled each time … */
#define PAUSE_LAST_MS 2000 /* … up to this: each try may hold deliveries up for 50 ms */
#define DAYS_MAX 36500

#define HELP                                                                                       \
	"  -d, --database CONNECTION  how libpq connects (default: by its environment)\n"          \
	"  -j, --json                 print JSON\n"                                                \
	"  -n, --dry-run              change nothing, say what would be\n"

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
	int64_t wait_ms; /* for how long what is busy is tried again */
	int printed;     /* lines, so far */
};

/* One line of the report; nothing for nothing done. */
static void
report(
    struct run *run, const struct step *step, const char *what, const char *subject, int64_t amount)
{
	if (amount == 0)
		return;
	if (run->json)
		printf("%s\n  {\"what\": \"%s\", \"subject\": \"%s\", \"amount\": %" PRId64
		       ", \"unit\": \"%s\"}",
		    run->printed > 0 ? "," : "[", what, subject, amount, step->unit);
	else
		printf("%s%-22s  %-16s  %12" PRId64 " %s\n", run->dry_run ? "would be: " : "", what,
		    subject, amount, step->unit);
	run->printed++;
}

/* Call until the step is done. False: after a sentence. */
static bool
walk(struct pg *s, struct run *run, const struct step *step)
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
			warnx("the database refused: do you connect as foloosi_retention?");
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
			warnx("%s: somebody holds a lock on it: left for the next run", subject);
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
retain(int argc, char **argv)
{
	static const struct option known[] = {{"database", required_argument, NULL, 'd'},
	    {"json", no_argument, NULL, 'j'}, {"bodies-days", required_argument, NULL, 'b'},
	    {"personal-days", required_argument, NULL, 'p'}, {"dry-run", no_argument, NULL, 'n'},
	    {"wait", required_argument, NULL, 'w'}, {NULL, 0, NULL, 0}};
	struct run run = {.wait_ms = WAIT_DEFAULT_MS};
	const char *conninfo = "", *wait = NULL;
	struct pg *s;
	int option, code = CTL_OK;

	while ((option = getopt_long(argc, argv, "d:jn", known, NULL)) != -1)
		switch (option) {
		case 'd':
			conninfo = optarg;
			break;
		case 'j':
			run.json = true;
			break;
		case 'b':
			run.bodies_days = optarg;
			break;
		case 'p':
			run.personal_days = optarg;
			break;
		case 'n':
			run.dry_run = true;
			break;
		case 'w':
			wait = optarg;
			break;
		default:
			return ctl_usage(&retain_subcommand);
		}
	if (optind != argc || (run.bodies_days != NULL && !is_count(run.bodies_days, DAYS_MAX)) ||
	    (run.personal_days != NULL && !is_count(run.personal_days, DAYS_MAX)) ||
	    (wait != NULL && !is_count(wait, 86400)))
		return ctl_usage(&retain_subcommand);
	if (wait != NULL)
		run.wait_ms = atol(wait) * 1000;

	s = pg_new(PG_OPERATOR, conninfo);
	if (!pg_ready(s)) {
		pg_free(s);
		return CTL_FAILED;
	}
	for (size_t i = 0; i < STEPS; i++)
		if (!walk(s, &run, &steps[i]))
			code = CTL_FAILED;
	pg_free(s);
	if (run.json)
		puts(run.printed > 0 ? "\n]" : "[]");
	else if (run.printed == 0 && code == CTL_OK)
		puts("Nothing is old enough.");
	return code;
}

/* ---- erase ---- */

/* Add a customer, or with "-" the lines of standard input. */
static void
add_customer(struct pg_array *customers, const char *customer)
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
erase(int argc, char **argv)
{
	static const struct option known[] = {{"database", required_argument, NULL, 'd'},
	    {"json", no_argument, NULL, 'j'}, {"customer", required_argument, NULL, 'c'},
	    {"note", required_argument, NULL, 'o'}, {"dry-run", no_argument, NULL, 'n'},
	    {NULL, 0, NULL, 0}};
	static const char sql[] =
	    "select id, transactions, bodies, texts from foloosi.erase_customer($1::text[], $2, "
	    "$3::boolean)";
	const char *conninfo = "", *id;
	const char *values[] = {NULL, NULL, "false"};
	struct pg_array customers = {0};
	struct pg_rows rows;
	struct pg *s = NULL;
	bool json = false, dry_run, found;
	int option, code = CTL_FAILED;

	while ((option = getopt_long(argc, argv, "d:jn", known, NULL)) != -1)
		switch (option) {
		case 'd':
			conninfo = optarg;
			break;
		case 'j':
			json = true;
			break;
		case 'c':
			add_customer(&customers, optarg);
			break;
		case 'o':
			values[1] = optarg;
			break;
		case 'n':
			values[2] = "true";
			break;
		default:
			goto usage;
		}
	if (optind != argc || customers.len == 0)
		goto usage;
	dry_run = strcmp(values[2], "true") == 0;
	values[0] = pg_array_text(&customers);

	s = pg_new(PG_OPERATOR, conninfo);
	if (!pg_ready(s))
		goto out;
	if (pg_query(s, sql, 3, values, &rows) != PG_OK) {
		warnx(
		    "nothing was changed: is each an e-mail address, or a phone number of at least "
		    "6 "
		    "digits? Does the note name none of them? Do you connect as foloosi_operator?");
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
	goto out;
usage:
	code = ctl_usage(&erase_subcommand);
out:
	pg_free(s);
	pg_array_free(&customers);
	return code;
}

const struct subcommand retain_subcommand = {
    .name = "retain",
    .synopsis = "[--bodies-days N] [--personal-days N] [--dry-run] [--wait SECONDS] [--json]",
    .summary = "let old raw bytes and personal fields go; make months ahead",
    .options = HELP
    "      --bodies-days N        how long raw bytes stay\n"
    "      --personal-days N      how long personal fields stay\n"
    "                             (default of both: foloosi.retention)\n"
    "      --wait SECONDS         how long to try again what somebody holds (default: 60)\n",
    .run = retain,
};

const struct subcommand erase_subcommand = {
    .name = "erase",
    .synopsis = "--customer ADDRESS|PHONE ... [--note TEXT] [--dry-run] [--json]",
    .summary = "take one customer's personal data out",
    .options = HELP
    "      --customer TEXT        an e-mail address or phone number as the payload spells it;\n"
    "                             several times; -: the lines of standard input, so that\n"
    "                             it stands in no list of processes\n"
    "      --note TEXT            for the audit row, say the request's number\n",
    .run = erase,
};
