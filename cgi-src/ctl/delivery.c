/* SPDX-License-Identifier: MIT */
/*
 * delivery.c - "foloosictl replay" records a delivery again; "foloosictl explain" shows what that would change.
 *
 * The bytes, stored ones or a file's, are treated as the handler treats a body: the same decoder, the same
 * order key by the same configuration, the same function of the database. Only nothing is authenticated.
 */
#include <err.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "ctl.h"
#include "mem.h"
#include "text.h"

/* Parameters of the two functions: what comes before the transfer's fields, these, what comes after. */
enum {
	P_SUBJECT, /* merchant, or id of the delivery */
	P_STATUS,
	P_ORDER,
	P_FIELDS,
	P_BODY = P_FIELDS + TRANSFER__MAX - 1,
	P_FAULT,
	P_REPLAY,
	P_UNPREFIXED,
	P__MAX
};

#define TRANSFER_PARAMETERS "$1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14"

static const char replay_sql[] =
    "select q.*, row_to_json(q)::text from (select r.delivery_id as delivery, r.outcome,"
    " r.reason, r.order_named as order_ref, r.order_state from "
    "foloosi.replay_transfer(" TRANSFER_PARAMETERS ", $15) r) q";
#define REPLAY_JSON 5 /* the column */

#define EXPLAINED                                                                                  \
	"foloosi.explain_delivery(" TRANSFER_PARAMETERS                                            \
	", $15::bytea, $16, coalesce($17, 'no')::boolean, $18)"                                    \
	" with ordinality as x (relation, key, before, after, n)"

static const char explain_json_sql[] =
    "select x.relation, x.key, x.before, x.after from " EXPLAINED " order by x.n";
static const char explain_sql[] =
    "select x.relation, x.key, case when x.relation = 'answer' then null"
    " when x.before is null then 'new' when x.after is null then 'gone'"
    " else 'changed' end as change, c.k as column, x.before ->> c.k as before,"
    " x.after ->> c.k as after"
    " from " EXPLAINED " cross join lateral (select k, o from "
    "jsonb_object_keys(coalesce(x.after, x.before))"
    " with ordinality as k (k, o) where x.before ->> k is "
    "distinct from x.after ->> k) c"
    " order by x.n, c.o";

static const char stored_sql[] =
    "select d.merchant, b.body, d.outcome, d.rule, d.reason, d.detail, d.order_ref,"
    " d.outcome in ('rejected', 'ignored') or coalesce(d.reason in ('hook_failed', 'refused'), "
    "false)"
    " from foloosi.deliveries d left join foloosi.bodies b on b.delivery_id = d.id"
    " where d.id = $1 order by b.created_at limit 1";

/* The sentence of a rule; a delivery that is no transfer was decided by none of them. */
static const char rule_sql[] =
    "select format('rule %s: %s', $1::int, coalesce((select r.sentence from foloosi.rules r"
    " where r.number = $1::int), 'is no valid transfer'))";

struct subject {
	struct pg_rows stored; /* the row of a delivery that is stored */
	const char *id;        /* NULL: it is a file's */
	char *body;            /* owned */
	size_t len;
	const struct merchant *merchant;
	struct transfer transfer;
	char *fault;  /* owned; NULL: it is a transfer */
	char *digits; /* the body as a parameter: \x and hexadecimal; owned */
};

static void
subject_free(struct subject *s)
{
	pg_rows_free(&s->stored);
	free(s->body);
	transfer_free(&s->transfer);
	free(s->fault);
	free(s->digits);
}

/* A file, or standard input for "-". False after a message. */
static bool
read_file(struct subject *s, const char *path, size_t limit)
{
	FILE *f = strcmp(path, "-") == 0 ? stdin : fopen(path, "re");
	bool ok = false;

	if (f == NULL) {
		warn("%s", path);
		return false;
	}
	s->body = xrealloc(NULL, limit + 1);
	s->len = fread(s->body, 1, limit + 1, f);
	if (ferror(f))
		warn("%s", path);
	else if (s->len > limit)
		warnx("%s: has more than %zu bytes (body_limit): it would be answered 413 and not "
		      "kept",
		    path, limit);
	else
		ok = true;
	if (f != stdin)
		fclose(f);
	return ok; /* NOLINT(clang-analyzer-unix.Stream): takes fopen()'s stream for stdin */
}

static unsigned
nibble(char c)
{
	return (unsigned)(c <= '9' ? c - '0' : c - 'a' + 10);
}

/* A delivery of the database, by its id. False after a message. */
static bool
read_stored(struct subject *s, struct pg *pg, const char *id)
{
	const char *hex;

	if (pg_query(pg, stored_sql, 1, &id, &s->stored) != PG_OK) {
		warnx("%s", pg_error(pg));
		return false;
	}
	if (s->stored.count == 0) {
		warnx("there is no delivery %s", id);
		return false;
	}
	if ((hex = pg_value(&s->stored, 0, 1)) == NULL) {
		warnx("the bytes of delivery %s are gone", id);
		return false;
	}
	s->id = id;
	s->len = strlen(hex + 2) / 2; /* "\x…" */
	s->body = xrealloc(NULL, s->len);
	for (size_t i = 0; i < s->len; i++)
		s->body[i] = (char)(nibble(hex[2 + 2 * i]) << 4 | nibble(hex[3 + 2 * i]));
	return true;
}

/* As the handler does it. */
static void
decode_subject(struct subject *s)
{
	struct json_error e;
	struct faults f;
	/* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): takes s->body for changed, because s->transfer is */
	enum decoded decoded =
	    transfer_decode(s->body, s->len, s->merchant->order_key, &s->transfer, &e, &f);
	struct text fault = {0};

	if (decoded != DECODED_OK)
		transfer_add_faults(&fault, decoded, &e, &f);
	s->fault = fault.bytes;
	s->digits = xrealloc(NULL, 2 * s->len + 3);
	memcpy(s->digits, "\\x", 3);
	for (size_t i = 0; i < s->len; i++)
		snprintf(s->digits + 2 + 2 * i, 3, "%02x", (unsigned char)s->body[i]);
}

/* The parameters of the transfer; all null if it is none. */
static void
set_parameters(const struct subject *s, const char *values[P__MAX])
{
	for (size_t i = 0; i < P__MAX; i++)
		values[i] = NULL;
	if (s->fault != NULL)
		return;
	values[P_STATUS] = s->transfer.field[TRANSFER_STATUS];
	values[P_ORDER] = merchant_order_ref(s->merchant, &s->transfer);
	values[P_UNPREFIXED] = merchant_unprefixed(s->merchant, &s->transfer);
	for (size_t i = TRANSFER_STATUS + 1; i < TRANSFER__MAX; i++)
		values[P_FIELDS + i - 1] = s->transfer.field[i];
}

static void
print_rows(const struct pg_rows *rows, int columns, bool records)
{
	struct table t = {0};

	ctl_add_rows(&t, rows, columns);
	ctl_print_answer(&t, false, records, NULL);
	table_free(&t);
}

static int
replay_delivery(struct pg *pg, const struct subject *s, bool json)
{
	const char *values[P__MAX];
	struct pg_rows rows;
	const char *outcome, *reason;
	int code = CTL_OK;

	if (s->fault != NULL) {
		warnx("delivery %s is no valid transfer today either; nothing was changed\n%s",
		    s->id, s->fault);
		return CTL_FAILED;
	}
	set_parameters(s, values);
	values[P_SUBJECT] = s->id;
	values[P_BODY] = values[P_UNPREFIXED]; /* which is the next one here */
	if (pg_query(pg, replay_sql, P_BODY + 1, values, &rows) != PG_OK) {
		warnx("nothing was changed: %s", pg_error(pg));
		return CTL_FAILED;
	}
	outcome = pg_value(&rows, 0, 1);
	reason = pg_value(&rows, 0, 2);
	if (strcmp(outcome, "busy") == 0) {
		warnx("nothing was changed: another session holds its order or transaction; try "
		      "again");
		code = CTL_FAILED;
	} else {
		if (json) {
			table_json(stdout, pg_value(&rows, 0, REPLAY_JSON));
			putchar('\n');
		} else {
			print_rows(&rows, REPLAY_JSON, true);
		}
		if (reason != NULL &&
		    (strcmp(reason, "hook_failed") == 0 || strcmp(reason, "refused") == 0)) {
			warnx("it was refused again: foloosictl deliveries has the error");
			code = CTL_FAILED;
		}
	}
	pg_rows_free(&rows);
	return code;
}

/* "rule 13: is a success, ..." on a line of its own; nothing for NULL. */
static void
print_rule(struct pg *pg, const char *indent, const char *number)
{
	struct pg_rows rows;

	if (number == NULL)
		return;
	if (pg_query(pg, rule_sql, 1, &number, &rows) != PG_OK) {
		warnx("%s", pg_error(pg));
		return;
	}
	printf("%s%s\n", indent, pg_value(&rows, 0, 0));
	pg_rows_free(&rows);
}

/* What became of a stored one, and by which rule. */
static void
print_stored(struct pg *pg, const struct subject *s)
{
	struct table_style style = table_style(stdout);
	static const char *const names[] = {"outcome", "rule", "reason", "detail", "order_ref"};

	printf("delivery %s of merchant %s, as it is stored:\n", s->id, s->merchant->name);
	for (int i = 0; i < 5; i++)
		if (pg_value(&s->stored, 0, 2 + i) != NULL) {
			printf("  %-10s ", names[i]);
			table_text(stdout, &style, pg_value(&s->stored, 0, 2 + i));
			putchar('\n');
		}
	print_rule(pg, "  ", pg_value(&s->stored, 0, 3));
	puts("\nIf it came now:");
}

/* The rule by which the rows of an explanation were decided; NULL: none was. */
static const char *
rule_of(const struct pg_rows *rows)
{
	const char *rule = NULL;

	for (size_t r = 0; r < rows->count; r++) {
		const char *relation = pg_value(rows, r, 0), *column = pg_value(rows, r, 3),
			   *after = pg_value(rows, r, 5);

		if (strcmp(relation, "deliveries") == 0 && strcmp(column, "rule") == 0 &&
		    after != NULL)
			return after;
		if (strcmp(relation, "answer") == 0 && strcmp(column, "outcome") == 0 &&
		    after != NULL && strcmp(after, "duplicate") == 0)
			rule =
			    "1"; /* counts the repeat and leaves the rule that decided the first */
	}
	return rule;
}

static int
explain_delivery(struct pg *pg, const struct subject *s, bool json)
{
	const char *values[P__MAX];
	struct pg_rows rows;

	set_parameters(s, values);
	values[P_SUBJECT] = s->merchant->name;
	values[P_BODY] = s->digits;
	values[P_FAULT] = s->fault;
	values[P_REPLAY] =
	    s->id != NULL && strcmp(pg_value(&s->stored, 0, 7), "t") == 0 ? "yes" : "no";
	if (json)
		return ctl_print_query(pg, explain_json_sql, P__MAX, values, true, false, NULL) < 0
			   ? CTL_FAILED
			   : CTL_OK;
	if (pg_query(pg, explain_sql, P__MAX, values, &rows) != PG_OK) {
		warnx("%s", pg_error(pg));
		return CTL_FAILED;
	}
	if (s->id != NULL)
		print_stored(pg, s);
	print_rule(pg, "", rule_of(&rows));
	print_rows(&rows, pg_columns(&rows), false);
	puts("\nNothing was changed: this was rolled back.");
	pg_rows_free(&rows);
	return CTL_OK;
}

static int
run_delivery(const struct ctl_call *call)
{
	bool json = ctl_value(call, "json") != NULL, explains = call->self == &explain_subcommand,
	     read;
	const char *merchant = explains ? ctl_value(call, "merchant") : NULL, *what = call->argv[0];
	struct subject subject = {0};
	struct config *config;
	struct pg *pg;
	int code = CTL_FAILED;

	if (call->argc != 1 || (!explains && !ctl_is_number(what)))
		return ctl_usage(call->self);
	if ((config = ctl_config(call)) == NULL)
		return CTL_FAILED;
	if ((pg = ctl_connect(call)) == NULL)
		goto out;
	read = ctl_is_number(what) ? read_stored(&subject, pg, what)
				   : read_file(&subject, what, config->body_limit);
	if (read)
		subject.merchant = ctl_merchant(
		    config, ctl_is_number(what) ? pg_value(&subject.stored, 0, 0) : merchant);
	if (subject.merchant != NULL) {
		decode_subject(&subject);
		code = explains ? explain_delivery(pg, &subject, json)
				: replay_delivery(pg, &subject, json);
	}
	subject_free(&subject);
out:
	pg_free(pg);
	config_unref(config);
	return code;
}

const struct subcommand replay_subcommand = {
    .name = "replay",
    .arguments = "ID",
    .summary = "try a rejected, ignored or refused delivery again, from its stored bytes",
    .options = CTL_OPTIONS(CTL_DATABASE, CTL_JSON, CTL_CONFIG),
    .run = run_delivery,
};

const struct subcommand explain_subcommand = {
    .name = "explain",
    .arguments = "ID | FILE",
    .summary = "show what a delivery would change, row by row, and change nothing",
    .options = CTL_OPTIONS(CTL_DATABASE, CTL_JSON, CTL_CONFIG,
	{"merchant", 0, "NAME", "at whose endpoint the FILE arrives; not needed if there is one",
	    NULL}),
    .help = "  ID                         a delivery that is stored\n"
	    "  FILE                       a body; -: standard input; ./17: a file\n",
    .run = run_delivery,
};
