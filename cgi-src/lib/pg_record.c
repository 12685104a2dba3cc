/* SPDX-License-Identifier: MIT */
/*
 * pg_record.c - record a batch in PostgreSQL; with a deadline, see pg.c.
 *
 * The hard part is to know when a batch is committed. A batch is one statement
 * outside any transaction block, so the server commits it by itself, after it has
 * sent the rows. Having the rows therefore proves nothing: the commit may still
 * fail (a deferred constraint), or may be cut while it waits for a synchronous
 * standby, which the server reports as a success with a warning. The answer is PG_OK
 * only when
 *   1. everything up to the end of the exchange has been read (PQgetResult() is NULL)
 *      and none of it was an error,
 *   2. the session is idle again, outside a transaction,
 *   3. no warning came that is about the commit itself, and
 *   4. every delivery was answered exactly once, in words that we know.
 * Whatever else happens after the first byte was sent is PG_LOST, "perhaps", unless the
 * server answered plainly that it rolled back.
 *
 * One parameter is one array.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include <libpq-fe.h>

#include "log.h"
#include "mem.h"
#include "pg_private.h"
#include "pg_record.h"

#define PARAMETERS (P_UNPREFIXED + 1)
#define UNPREFIXED_SINCE 11 /* the schema's version */

/* Sessions of our role that may wait for a synchronous standby, each longer than it would if that
 * were well. A commit that it does not confirm leaves its session in the server until it does, and
 * each try makes another: without a limit they would use up max_connections, and the shop could
 * not connect. */
#define WAITING_MOST 8

static const char record_sql[] =
    "select ordinal, outcome, order_ref, order_state, reason, delivery_id, merchant_known"
    " from foloosi.record_deliveries($1, $2, $3, $4, $5, $6, $7, $8, $9, $10,"
    " $11, $12, $13, $14, $15, $16, $17, $18, $19, $20)";
static const char record_10_sql[] = /* of a schema older than UNPREFIXED_SINCE */
    "select ordinal, outcome, order_ref, order_state, reason, delivery_id, merchant_known"
    " from foloosi.record_deliveries($1, $2, $3, $4, $5, $6, $7, $8, $9, $10,"
    " $11, $12, $13, $14, $15, $16, $17, $18, $19)";

/*
 * What a 2xx promises depends on two settings that a role may have been given; see pg_connect().
 * The empty batch has the server prepare its session before a batch holds locks, and shows
 * now, not at the first delivery, that we may not call it.
 */
static const char ready_sql[] =
    "select foloosi.schema_version(), current_setting('synchronous_commit') <> 'off',"
    " current_setting('client_min_messages') <> 'error',"
    " (select count(*) from foloosi.record_deliveries('{}', '{}', '{}', '{}', '{}', '{}', '{}',"
    " '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}')),"
    " (select count(*) from pg_stat_activity where usename = session_user and wait_event = "
    "'SyncRep'"
    " and query_start < now() - interval '5 s')";

static const char monitor_sql[] =
    "select metric, coalesce(merchant, ''), coalesce(detail, ''), value from foloosi.monitor()";

/* The parameters of record_sql. From P_TRANSFER on they follow enum transfer_field. */
enum {
	P_ORDINAL,
	P_MERCHANT,
	P_ORDER_REF,
	P_DIGEST,
	P_BODY,
	P_FAULTS,
	P_SOURCE,
	P_TRANSFER,
	P_UNPREFIXED = P_TRANSFER + TRANSFER__MAX
};
static_assert(PARAMETERS == 20, "one parameter an array of record_deliveries()");

/* The columns of its answer. */
enum {
	C_ORDINAL,
	C_OUTCOME,
	C_ORDER_REF,
	C_ORDER_STATE,
	C_REASON,
	C_DELIVERY_ID,
	C_MERCHANT_KNOWN,
	C__MAX
};

/* Object identifiers of PostgreSQL's types (pg_type.dat): fixed for ever. */
enum {
	INT4 = 23,
	TEXT = 25,
	BYTEA = 17
};
enum {
	INT4_ARRAY = 1007,
	TEXT_ARRAY = 1009,
	BYTEA_ARRAY = 1001,
	NUMERIC_ARRAY = 1231
};

/* One array element. at NULL: the SQL null. */
struct piece {
	const void *at;
	size_t len;
};

/* -- the session -- */

/* Close what must not be used again, and pass the status on. */
static enum pg_status
close_after(struct pg *pg, enum pg_status status)
{
	if (status == PG_LOST || status == PG_DOWN || status == PG_SCHEMA)
		pg_close(pg);
	return status;
}

/* Is a statement committed, or plainly rolled back? See above. */
static enum pg_status
confirm_commit(struct pg *pg, enum pg_status status)
{
	if (status == PG_LOST)
		return PG_LOST;
	if (PQstatus(pg->conn) != CONNECTION_OK || PQtransactionStatus(pg->conn) != PQTRANS_IDLE) {
		if (status == PG_OK)
			pg_explain(pg, "the connection broke");
		return PG_LOST;
	}
	if (status == PG_OK && pg->warned) {
		pg_explain(pg, "the server warned: the commit is not confirmed");
		return PG_LOST;
	}
	return status;
}

/* Ask what keeps nothing, so that nothing is in doubt: PG_OK, PG_DOWN or PG_SCHEMA. */
static enum pg_status
ask_harmless(struct pg *pg, const char *sql, int64_t deadline, PGresult **answer)
{
	enum pg_status status = confirm_commit(pg, pg_ask(pg, sql, deadline, answer));

	if (status != PG_OK) {
		PQclear(*answer);
		*answer = NULL;
	}
	return status == PG_OK || status == PG_SCHEMA ? status : PG_DOWN;
}

/* Ask whether this is our schema, in a version that we know. On PG_OK *answer is that of ready_sql. */
static enum pg_status
ask_ready(struct pg *pg, int64_t deadline, PGresult **answer)
{
	enum pg_status status = ask_harmless(pg, ready_sql, deadline, answer);
	PGresult *r = *answer;

	if (status == PG_OK)
		status = pg_check_version(pg, atoi(PQgetvalue(r, 0, 0)), deadline);
	if (status == PG_OK && atoi(PQgetvalue(r, 0, 4)) >= WAITING_MOST) {
		pg_explain(pg, "%s sessions wait for a synchronous standby, and one more would too",
		    PQgetvalue(r, 0, 4));
		status = PG_DOWN;
	}
	if (status != PG_OK) {
		PQclear(r);
		*answer = NULL;
	}
	return status;
}

/* Ask it of a new session, whose settings may be an operator's choice, but not an unknown one. */
static enum pg_status
check_session(struct pg *pg, int64_t deadline)
{
	PGresult *r;
	enum pg_status status = ask_ready(pg, deadline, &r);

	if (status != PG_OK)
		return status;
	if (strcmp(PQgetvalue(r, 0, 1), "t") != 0)
		log_event(LOG_WARNING, "database", "problem",
		    "synchronous_commit is off: a crash of the server loses acknowledged "
		    "deliveries",
		    NULL);
	if (strcmp(PQgetvalue(r, 0, 2), "t") != 0)
		log_event(LOG_WARNING, "database", "problem",
		    "client_min_messages is error: commits that a standby did not get go unnoticed",
		    NULL);
	PQclear(r);
	return PG_OK;
}

enum pg_status
pg_connect(struct pg *pg, int64_t deadline)
{
	enum pg_status status = PG_OK;

	if (!pg_connected(pg) && (status = pg_open(pg, deadline)) == PG_OK)
		status = check_session(pg, deadline);
	return close_after(pg, status);
}

enum pg_status
pg_ping(struct pg *pg, int64_t deadline)
{
	enum pg_status status;
	PGresult *r;

	if (!pg_connected(pg))
		return pg_connect(pg, deadline);
	status = ask_ready(pg, deadline, &r);
	PQclear(r);
	return close_after(pg, status);
}

/* -- the figures -- */

/* Copy one row of foloosi.monitor(). False: it is longer than anything that we know. */
static bool
read_fact(const PGresult *r, int row, struct pg_fact *fact)
{
	char *const to[] = {fact->metric, fact->merchant, fact->detail};
	const size_t sizes[] = {sizeof fact->metric, sizeof fact->merchant, sizeof fact->detail};

	for (int i = 0; i < 3; i++) {
		if ((size_t)PQgetlength(r, row, i) >= sizes[i])
			return false;
		memcpy(to[i], PQgetvalue(r, row, i), (size_t)PQgetlength(r, row, i) + 1);
	}
	fact->value = strtod(PQgetvalue(r, row, 3), NULL);
	return true;
}

enum pg_status
pg_monitor(struct pg *pg, int64_t deadline, struct pg_fact **facts, size_t *n)
{
	enum pg_status status = PG_OK;
	PGresult *r = NULL;

	*facts = NULL;
	*n = 0;
	if (!pg_connected(pg))
		status = pg_open(pg, deadline);
	if (status == PG_OK)
		status = ask_harmless(pg, monitor_sql, deadline, &r);
	if (status == PG_OK && PQnfields(r) == 4) {
		*facts = xcalloc((size_t)PQntuples(r), sizeof **facts);
		for (int row = 0; row < PQntuples(r); row++)
			*n += read_fact(r, row, &(*facts)[*n]);
	}
	PQclear(r);
	return close_after(pg, status);
}

/* -- a batch on its way -- */

/* A 32 bit integer in network order, which is how PostgreSQL's binary forms have it. */
static void
put_int(struct text *b, size_t value)
{
	unsigned char bytes[] = {(unsigned char)(value >> 24), (unsigned char)(value >> 16),
	    (unsigned char)(value >> 8), (unsigned char)value};

	assert(value <= UINT32_MAX);
	text_add_bytes(b, bytes, sizeof bytes);
}

#define NULL_LENGTH UINT32_MAX /* -1: this element is null */

/*
 * A one-dimensional array in binary form (array_recv() in PostgreSQL's arrayfuncs.c), for
 * element types whose own binary form is their bytes. So nothing is ever quoted.
 */
static void
put_array(struct text *b, size_t element_type, const struct piece *pieces, size_t n)
{
	size_t nulls = 0;

	for (size_t i = 0; i < n; i++)
		nulls |= pieces[i].at == NULL;
	put_int(b, 1); /* dimensions */
	put_int(b, nulls);
	put_int(b, element_type);
	put_int(b, n);
	put_int(b, 1); /* the first subscript */
	for (size_t i = 0; i < n; i++) {
		if (pieces[i].at == NULL) {
			put_int(b, NULL_LENGTH);
			continue;
		}
		assert(pieces[i].len <= INT32_MAX);
		put_int(b, pieces[i].len);
		text_add_bytes(b, pieces[i].at, pieces[i].len);
	}
}

/*
 * An array of numbers in text form, {1.50,NULL}: numeric's binary form is base 10000
 * and worth no code here. money.c lets digits and one dot through and nothing else.
 */
static void
put_number_array(struct text *b, const struct piece *pieces, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		struct piece number = pieces[i].at != NULL ? pieces[i] : (struct piece){"NULL", 4};
		assert(pieces[i].at == NULL ||
		       /* cppcheck-suppress assertWithSideEffect ; strspn() has none */
		       (number.len > 0 && strspn(number.at, "0123456789.") == number.len));
		text_add_char(b, i == 0 ? '{' : ',');
		text_add_bytes(b, number.at, number.len);
	}
	text_add_bytes(b, "}", 2); /* with the NUL that ends a text parameter */
}

static struct piece
text_piece(const char *s)
{
	return (struct piece){s, s != NULL ? strlen(s) : 0};
}

/* What a delivery has for a parameter. ordinal: 4 bytes in network order. */
static struct piece
piece_of(const struct delivery *d, int parameter, const void *ordinal)
{
	switch (parameter) {
	case P_ORDINAL:
		return (struct piece){ordinal, 4};
	case P_MERCHANT:
		return text_piece(d->merchant);
	case P_ORDER_REF:
		return text_piece(d->order_ref);
	case P_DIGEST:
		return (struct piece){d->digest, DIGEST_SIZE};
	case P_BODY: /* an empty body is a body */
		return (struct piece){d->body_len > 0 ? (const void *)d->body : "", d->body_len};
	case P_FAULTS:
		return text_piece(d->faults);
	case P_SOURCE:
		return text_piece(d->source);
	case P_UNPREFIXED:
		return text_piece(d->unprefixed);
	default:
		return text_piece(d->transfer.field[parameter - P_TRANSFER]);
	}
}

static Oid
type_of(int parameter)
{
	switch (parameter) {
	case P_ORDINAL:
		return INT4_ARRAY;
	case P_DIGEST:
	case P_BODY:
		return BYTEA_ARRAY;
	case P_TRANSFER + TRANSFER_AMOUNT:
		return NUMERIC_ARRAY;
	default:
		return TEXT_ARRAY;
	}
}

/* Encode the batch and pass it to libpq. Ordinals run from 1. False: the connection is broken. */
static bool
send_batch(struct pg *pg, struct delivery *const *batch, size_t n)
{
	struct text *b = &pg->parameters;
	struct piece pieces[BATCH_MAX];
	unsigned char ordinals[BATCH_MAX][4];
	size_t start_of[PARAMETERS + 1];
	int parameters = pg->version < UNPREFIXED_SINCE ? P_UNPREFIXED : PARAMETERS;
	const char *values[PARAMETERS];
	int lengths[PARAMETERS], formats[PARAMETERS];
	Oid types[PARAMETERS];

	for (size_t i = 0; i < n; i++) {
		ordinals[i][0] = ordinals[i][1] = 0;
		ordinals[i][2] = (unsigned char)((i + 1) >> 8);
		ordinals[i][3] = (unsigned char)(i + 1);
	}
	text_clear(b);
	for (int p = 0; p < parameters; p++) {
		for (size_t i = 0; i < n; i++)
			/* an older schema takes a key without the prefix for the order's */
			pieces[i] = p == P_ORDER_REF && parameters < PARAMETERS &&
					    batch[i]->order_ref == NULL
					? piece_of(batch[i], P_UNPREFIXED, ordinals[i])
					: piece_of(batch[i], p, ordinals[i]);
		types[p] = type_of(p);
		formats[p] = types[p] != NUMERIC_ARRAY;
		start_of[p] = b->len;
		if (types[p] == INT4_ARRAY)
			put_array(b, INT4, pieces, n);
		else if (types[p] == BYTEA_ARRAY)
			put_array(b, BYTEA, pieces, n);
		else if (types[p] == TEXT_ARRAY)
			put_array(b, TEXT, pieces, n);
		else
			put_number_array(b, pieces, n);
	}
	start_of[parameters] = b->len;
	assert(b->len <= INT32_MAX);
	for (int p = 0; p < parameters; p++) { /* the text stays where it is from here on */
		values[p] = b->bytes + start_of[p];
		lengths[p] = (int)(start_of[p + 1] - start_of[p]);
	}
	return PQsendQueryParams(pg->conn, parameters == PARAMETERS ? record_sql : record_10_sql,
	    parameters, types, values, lengths, formats, 0);
}

/* -- and its answer -- */

/* Copy a text column into a member of a delivery, which has room: see read_outcomes(). */
static void
copy_column(char *to, const PGresult *r, int row, int column)
{
	memcpy(to, PQgetvalue(r, row, column), (size_t)PQgetlength(r, row, column) + 1);
}

static bool
column_fits(const PGresult *r, int row, int column, size_t size)
{
	return (size_t)PQgetlength(r, row, column) < size;
}

static bool
is_of_database(enum outcome outcome)
{
	return (outcome >= OUTCOME_RECORDED && outcome <= OUTCOME_REJECTED) ||
	       outcome == OUTCOME_BUSY;
}

/*
 * Fill the outcomes from the rows, matched by ordinal; they come in any order. All or
 * none: false, and nothing written, unless every delivery has exactly one
 * row that makes sense.
 */
static bool
read_outcomes(const PGresult *r, struct delivery *const *batch, size_t n)
{
	bool seen[BATCH_MAX] = {false};

	if (PQnfields(r) != C__MAX || (size_t)PQntuples(r) != n)
		return false;
	for (int row = 0; row < PQntuples(r); row++) {
		unsigned long ordinal = strtoul(PQgetvalue(r, row, C_ORDINAL), NULL, 10);
		if (ordinal < 1 || ordinal > n || seen[ordinal - 1] ||
		    !is_of_database(outcome_from_name(PQgetvalue(r, row, C_OUTCOME))) ||
		    !column_fits(r, row, C_ORDER_REF, ORDER_REF_SIZE) ||
		    !column_fits(r, row, C_ORDER_STATE, ORDER_STATE_SIZE) ||
		    !column_fits(r, row, C_REASON, REASON_SIZE))
			return false;
		seen[ordinal - 1] = true;
	}
	for (int row = 0; row < PQntuples(r); row++) {
		struct delivery *d = batch[strtoul(PQgetvalue(r, row, C_ORDINAL), NULL, 10) - 1];
		d->outcome = outcome_from_name(PQgetvalue(r, row, C_OUTCOME));
		copy_column(d->order, r, row, C_ORDER_REF);
		copy_column(d->order_state, r, row, C_ORDER_STATE);
		copy_column(d->reason, r, row, C_REASON);
		d->delivery_id = strtoll(PQgetvalue(r, row, C_DELIVERY_ID), NULL, 10);
		d->merchant_known = strcmp(PQgetvalue(r, row, C_MERCHANT_KNOWN), "t") == 0;
	}
	return true;
}

enum pg_status
pg_record(struct pg *pg, struct delivery *const *batch, size_t n, int64_t deadline)
{
	enum pg_status status = PG_LOST;
	PGresult *r = NULL;

	assert(n >= 1 && n <= BATCH_MAX);
	assert(pg_connected(pg));
	pg->warned = false;
	if (send_batch(pg, batch, n))
		status = confirm_commit(pg, pg_finish(pg, deadline, &r));
	else
		pg_explain(pg, "the connection broke"); /* libpq's words might quote the data */
	if (status == PG_OK && !read_outcomes(r, batch, n)) {
		pg_explain(pg,
		    "record_deliveries() answered in words that this program does not know: "
		    "run foloosictl migrate or upgrade foloosi-webhook");
		status = PG_SCHEMA;
	}
	PQclear(r);
	return close_after(pg, status);
}
