// objects: lib/outcome.c lib/log.c
/* SPDX-License-Identifier: MIT */
/*
 * What pg_record.c does without a server: encode and understand. It is included, for its
 * functions are static. PQmakeEmptyPGresult() and its like build the answers.
 * test_pg_server.c has the rest.
 */
#include <setjmp.h>

#include "../../cgi-src/lib/pg_record.c"

#include <cmocka.h>

/* -- the encoder -- */

static void
array_in_binary(void **state)
{
	static const unsigned char want[] = {0, 0, 0, 1,   /* one dimension */
	    0, 0, 0, 1,                                    /* with nulls */
	    0, 0, 0, 25,                                   /* of text */
	    0, 0, 0, 4,                                    /* elements */
	    0, 0, 0, 1,                                    /* from subscript 1 */
	    0, 0, 0, 3, '"', ',', '}', 255, 255, 255, 255, /* null */
	    0, 0, 0, 0,                                    /* '' */
	    0, 0, 0, 4, 'N', 'U', 'L', 'L'};
	struct piece pieces[] = {
	    text_piece("\",}"), text_piece(NULL), text_piece(""), text_piece("NULL")};
	struct text b = {0};

	(void)state;
	put_array(&b, TEXT, pieces, 4);
	assert_int_equal(b.len, sizeof want);
	assert_memory_equal(b.bytes, want, sizeof want);

	b.len = 0;
	put_array(&b, TEXT, pieces, 1);
	assert_int_equal(b.bytes[7], 0); /* no nulls */
	free(b.bytes);
}

static void
array_of_any_bytes(void **state)
{
	struct piece piece = {"\0\xff\\", 3};
	struct text b = {0};

	(void)state;
	put_array(&b, BYTEA, &piece, 1);
	assert_int_equal(b.len, 20 + 4 + 3);
	assert_int_equal(b.bytes[11], BYTEA);
	assert_memory_equal(b.bytes + 24, "\0\xff\\", 3);
	free(b.bytes);
}

static void
array_of_numbers(void **state)
{
	struct piece pieces[] = {text_piece("100"), text_piece(NULL), text_piece("0.5"),
	    text_piece("999999999999.9999")};
	struct text b = {0};

	(void)state;
	put_number_array(&b, pieces, 4);
	assert_string_equal(b.bytes, "{100,NULL,0.5,999999999999.9999}");
	assert_int_equal(b.len, strlen(b.bytes) + 1);
	b.len = 0;
	put_number_array(&b, pieces + 1, 1);
	assert_string_equal(b.bytes, "{NULL}");
	free(b.bytes);
}

static void
buffer_grows_and_stays(void **state)
{
	struct text b = {0};
	char *large = xcalloc(1, 100000);
	struct piece pieces[] = {{large, 100000}, {large, 1}};

	(void)state;
	memset(large, 'x', 100000);
	put_array(&b, BYTEA, pieces, 2);
	assert_int_equal(b.len, 20 + 4 + 100000 + 4 + 1);
	assert_memory_equal(b.bytes + 24, large, 100000);
	char *where = b.bytes;
	b.len = 0;
	put_array(&b, BYTEA, pieces, 2);
	assert_ptr_equal(b.bytes, where); /* the second batch allocates nothing */
	free(b.bytes);
	free(large);
}

static void
every_parameter_has_its_type(void **state)
{
	static const struct {
		int parameter;
		Oid type;
	} odd[] = {{P_ORDINAL, INT4_ARRAY}, {P_DIGEST, BYTEA_ARRAY}, {P_BODY, BYTEA_ARRAY},
	    {10, NUMERIC_ARRAY}};
	struct delivery d = {.merchant = "shop",
	    .order_ref = "1042",
	    .unprefixed = "FLSSUB_1",
	    .faults = "/data: missing",
	    .body = (const unsigned char *)"{}",
	    .body_len = 2};
	char names[TRANSFER__MAX][2];

	(void)state;
	for (int i = 0; i < TRANSFER__MAX; i++) {
		names[i][0] = (char)('a' + i);
		names[i][1] = '\0';
		d.transfer.field[i] = names[i];
	}
	for (int p = 0; p < PARAMETERS; p++) {
		Oid want = TEXT_ARRAY;
		for (size_t i = 0; i < sizeof odd / sizeof odd[0]; i++)
			if (odd[i].parameter == p)
				want = odd[i].type;
		assert_int_equal(type_of(p), want);
	}
	assert_string_equal(piece_of(&d, P_MERCHANT, NULL).at, "shop");
	assert_string_equal(piece_of(&d, P_ORDER_REF, NULL).at, "1042");
	assert_string_equal(piece_of(&d, P_UNPREFIXED, NULL).at, "FLSSUB_1");
	assert_string_equal(piece_of(&d, P_FAULTS, NULL).at, "/data: missing");
	assert_ptr_equal(piece_of(&d, P_DIGEST, NULL).at, d.digest);
	assert_int_equal(piece_of(&d, P_DIGEST, NULL).len, 32);
	assert_int_equal(piece_of(&d, P_BODY, NULL).len, 2);
	assert_null(piece_of(&d, P_SOURCE, NULL).at);
	for (int i = 0; i < TRANSFER__MAX; i++) /* in the order of the header's enum */
		assert_ptr_equal(piece_of(&d, P_TRANSFER + i, NULL).at, names[i]);

	d.body = NULL; /* an empty body is not an absent one */
	d.body_len = 0;
	assert_non_null(piece_of(&d, P_BODY, NULL).at);
}

/* -- the answer -- */

/* An answer of the shape that record_sql asks for; each row is C__MAX strings. */
static PGresult *
answer_of(int rows, const char *const (*values)[C__MAX])
{
	PGresAttDesc columns[C__MAX] = {0};
	PGresult *r = PQmakeEmptyPGresult(NULL, PGRES_TUPLES_OK);
	char name[] = "c";

	for (int c = 0; c < C__MAX; c++)
		columns[c].name = name;
	assert_true(PQsetResultAttrs(r, C__MAX, columns));
	for (int row = 0; row < rows; row++)
		for (int c = 0; c < C__MAX; c++) {
			const char *v = values[row][c];
			char *copied = v != NULL ? xstrdup(v) : NULL;
			assert_true(PQsetvalue(r, row, c, copied, v != NULL ? (int)strlen(v) : -1));
			free(copied);
		}
	return r;
}

static void
answer_in_any_order(void **state)
{
	static const char *const rows[][C__MAX] = {
	    {"3", "busy", NULL, NULL, NULL, NULL, "f"},
	    {"1", "recorded", "1042", "paid", NULL, "9007199254740993", "t"},
	    {"2", "review", "Bestellung-\xc3\xa4", "verifying", "order_verifying", "12", "f"},
	};
	struct delivery d[3] = {0};
	struct delivery *batch[] = {&d[0], &d[1], &d[2]};

	(void)state;
	PGresult *r = answer_of(3, rows);
	assert_true(read_outcomes(r, batch, 3));
	assert_int_equal(d[0].outcome, OUTCOME_RECORDED);
	assert_string_equal(d[0].order, "1042");
	assert_string_equal(d[0].order_state, "paid");
	assert_string_equal(d[0].reason, "");
	assert_true(d[0].delivery_id == 9007199254740993);
	assert_true(d[0].merchant_known);
	assert_int_equal(d[1].outcome, OUTCOME_REVIEW);
	assert_string_equal(d[1].order, "Bestellung-\xc3\xa4");
	assert_string_equal(d[1].reason, "order_verifying");
	assert_false(d[1].merchant_known);
	assert_int_equal(d[2].outcome, OUTCOME_BUSY);
	assert_string_equal(d[2].order, "");
	assert_true(d[2].delivery_id == 0);
	PQclear(r);
}

static void
answers_that_are_refused(void **state)
{
	static char long_order[ORDER_REF_SIZE + 1], long_state[ORDER_STATE_SIZE + 1],
	    long_reason[REASON_SIZE + 1];
	memset(long_order, 'x', ORDER_REF_SIZE);
	memset(long_state, 'x', ORDER_STATE_SIZE);
	memset(long_reason, 'x', REASON_SIZE);
	const char *const good[C__MAX] = {"1", "recorded", "1", "paid", NULL, "1", "t"};
	const struct {
		int column;
		const char *value;
	} wrong[] = {
	    {C_ORDINAL, "2"}, /* twice */
	    {C_ORDINAL, "0"},
	    {C_ORDINAL, "3"},
	    {C_ORDINAL, "-1"},
	    {C_ORDINAL, NULL},
	    {C_OUTCOME, "lost"},
	    {C_OUTCOME, NULL},
	    {C_OUTCOME, "spooled"}, /* an outcome, but not one of the database */
	    {C_OUTCOME, "not_found"},
	    {C_OUTCOME, "unavailable"},
	    {C_ORDER_REF, long_order},
	    {C_ORDER_STATE, long_state},
	    {C_REASON, long_reason},
	};
	struct delivery d[2] = {{.outcome = OUTCOME__MAX}, {.outcome = OUTCOME__MAX}};
	struct delivery *batch[] = {&d[0], &d[1]};
	PGresult *r;

	(void)state;
	for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
		const char *rows[2][C__MAX] = {{"2", "recorded", "1", "paid", NULL, "1", "t"}};
		memcpy(rows[1], good, sizeof good);
		rows[1][wrong[i].column] = wrong[i].value;
		r = answer_of(2, (const char *const(*)[C__MAX])rows);
		if (read_outcomes(r, batch, 2))
			fail_msg("row %zu was accepted", i);
		assert_int_equal(d[0].outcome, OUTCOME__MAX); /* all or none */
		assert_int_equal(d[1].outcome, OUTCOME__MAX);
		PQclear(r);
	}
	const char *const both[2][C__MAX] = {{"2", "recorded", "1", "paid", NULL, "1", "t"},
	    {"1", "recorded", "1", "paid", NULL, "1", "t"}};
	r = answer_of(1, both); /* one row too few */
	assert_false(read_outcomes(r, batch, 2));
	PQclear(r);
	r = answer_of(2, both); /* one too many */
	assert_false(read_outcomes(r, batch, 1));
	assert_true(read_outcomes(r, batch, 2)); /* the very rows are good */
	PQclear(r);
	r = PQmakeEmptyPGresult(NULL, PGRES_TUPLES_OK); /* no columns */
	assert_false(read_outcomes(r, batch, 1));
	PQclear(r);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(array_in_binary),
	    cmocka_unit_test(array_of_any_bytes),
	    cmocka_unit_test(array_of_numbers),
	    cmocka_unit_test(buffer_grows_and_stays),
	    cmocka_unit_test(every_parameter_has_its_type),
	    cmocka_unit_test(answer_in_any_order),
	    cmocka_unit_test(answers_that_are_refused),
	};

	return cmocka_run_group_tests_name("pg_record", tests, NULL, NULL);
}
