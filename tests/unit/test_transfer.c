// objects: lib/transfer.c lib/rfc8259.c lib/money.c
/* SPDX-License-Identifier: MIT */
// transfer.c: the fields of good bodies, all faults of bad ones, and a run over two
// directories of files. CORPUS names their parent; else it is tests/corpus. A file in
// bad/ begins with the HTTP status that its fault deserves.
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "mem.h"
#include "transfer.h"

static struct transfer t;
static struct json_error e;
static struct faults f;

/* Decode a copy without a NUL behind it. */
static enum decoded
decode(const char *body, size_t len)
{
	char *exact = xrealloc(NULL, len);
	enum decoded d;

	memcpy(exact, body, len);
	d = transfer_decode(exact, len, &t, &e, &f);
	free(exact); /* nothing may point into the body any more */
	if (d != DECODED_OK)
		for (int i = 0; i < TRANSFER__MAX; i++)
			assert_null(t.field[i]);
	assert_true((d == DECODED_NOT_TRANSFER) == (f.count > 0));
	return d;
}

static enum decoded
decode_text(const char *body)
{
	return decode(body, strlen(body));
}

static void
assert_field(enum transfer_field i, const char *expected)
{
	if (expected == NULL && t.field[i] != NULL)
		fail_msg("field %d is %s, not NULL", i, t.field[i]);
	if (expected != NULL && t.field[i] == NULL)
		fail_msg("field %d is NULL, not %s", i, expected);
	if (expected != NULL)
		assert_string_equal(t.field[i], expected);
}

static void
assert_fault(size_t i, const char *pointer, const char *detail)
{
	assert_true(i < f.count);
	assert_string_equal(f.list[i].pointer, pointer);
	assert_string_equal(f.list[i].detail, detail);
}

/* A success whose transfer and api members are as given, without commas to care for. */
static enum decoded
decode_with(const char *in_transfer, const char *in_api)
{
	char *body =
	    xasprintf("{\"data\":{\"transfer\":{\"transaction_status\":\"success\",%s\"api\":{"
		      "%s\"x\":0}}}}",
		in_transfer, in_api);
	enum decoded d = decode_text(body);

	free(body);
	return d;
}

#define MONEY "\"transaction_amount\":\"100\",\"transaction_currency\":\"AED\","
#define T "/data/transfer/"

static void
test_every_field(void **state)
{
	(void)state;
	assert_int_equal(decode_text("{\"data\":{\"transfer\":{"
				     "\"transaction_status\":\"Success\","
				     "\"transaction_no\":\"FLSAPI61a859e4a8977\","
				     "\"payment_reference\":\"0b9f3c52-6c1e\","
				     "\"transaction_amount\":\"100.50\","
				     "\"transaction_currency\":\"aed\","
				     "\"transaction_message\":\"Approved\","
				     "\"api\":{"
				     "\"optional1\":\"order-1042\","
				     "\"optional2\":\"Blue kettle\","
				     "\"optional3\":\"gift\","
				     "\"customer_email\":\"buyer@example.org\","
				     "\"customer_mobile\":\"555010042\","
				     "\"card_last_four\":\"0042\"}}}}"),
	    DECODED_OK);
	assert_field(TRANSFER_STATUS, "success");
	assert_field(TRANSFER_NO, "FLSAPI61a859e4a8977");
	assert_field(TRANSFER_REFERENCE, "0b9f3c52-6c1e");
	assert_field(TRANSFER_AMOUNT, "100.50");
	assert_field(TRANSFER_CURRENCY, "AED");
	assert_field(TRANSFER_MESSAGE, "Approved"); /* only the status changes case */
	assert_field(TRANSFER_OPTIONAL1, "order-1042");
	assert_field(TRANSFER_OPTIONAL2, "Blue kettle");
	assert_field(TRANSFER_OPTIONAL3, "gift");
	assert_field(TRANSFER_EMAIL, "buyer@example.org");
	assert_field(TRANSFER_MOBILE, "555010042");
	assert_field(TRANSFER_CARD, "0042");
}

static void
test_only_status_is_required(void **state)
{
	(void)state;
	assert_int_equal(
	    decode_text("{\"data\":{\"transfer\":{\"transaction_status\":\"FAILED\"}}}"),
	    DECODED_OK);
	assert_field(TRANSFER_STATUS, "failed");
	for (int i = TRANSFER_STATUS + 1; i < TRANSFER__MAX; i++)
		assert_null(t.field[i]);
	/* a struct that was full before is empty now, and nothing of it is left in the fields */
	test_every_field(state);
	assert_int_equal(decode_text("{"), DECODED_NOT_JSON);
	assert_int_equal(decode_text("{}"), DECODED_NOT_TRANSFER);
}

static void
test_null_absent_and_empty_are_the_same(void **state)
{
	static const char *const silent[] = {"\"optional1\":null,", "\"optional1\":\"\",", ""};

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		assert_int_equal(decode_with(MONEY, silent[i]), DECODED_OK);
		assert_field(TRANSFER_OPTIONAL1, NULL);
	}
	assert_int_equal(
	    decode_text(
		"{\"data\":{\"transfer\":{\"transaction_status\":\"failed\",\"api\":null}}}"),
	    DECODED_OK);
}

static void
test_numbers_keep_their_text(void **state)
{
	(void)state;
	assert_int_equal(
	    decode_with("\"transaction_amount\":367.30,\"transaction_currency\":\"AED\","
			"\"transaction_no\":18446744073709551616,\"payment_reference\":0,",
		"\"optional1\":1042,\"optional2\":1e400,\"optional3\":-1.50E-3,"
		"\"customer_mobile\":123456789012345678901234567890,\"card_last_four\":0.10,"),
	    DECODED_OK);
	assert_field(TRANSFER_AMOUNT, "367.30");
	assert_field(TRANSFER_NO, "18446744073709551616");
	assert_field(TRANSFER_REFERENCE, "0");
	assert_field(TRANSFER_OPTIONAL1, "1042");
	assert_field(TRANSFER_OPTIONAL2, "1e400");
	assert_field(TRANSFER_OPTIONAL3, "-1.50E-3");
	assert_field(TRANSFER_MOBILE, "123456789012345678901234567890");
	assert_field(TRANSFER_CARD, "0.10");
}

static void
test_unescaped(void **state)
{
	(void)state;
	assert_int_equal(
	    decode_with(MONEY "\"\\u0074ransaction_no\":\"\\u0041\\u00e9\\u20AC\","
			      "\"transaction_message\":\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u0001\",",
		"\"optional2\":\"\\uD83D\\uDE00 \xF0\x9F\x98\x80 \xD8\xA7\","),
	    DECODED_OK);
	assert_field(TRANSFER_NO, "A\xC3\xA9\xE2\x82\xAC");
	assert_field(TRANSFER_MESSAGE, "\"\\/\b\f\n\r\t\x01");
	assert_field(TRANSFER_OPTIONAL2, "\xF0\x9F\x98\x80 \xF0\x9F\x98\x80 \xD8\xA7");
}

static void
test_success_needs_money(void **state)
{
	static const char *const statuses[] = {"success", "SUCCESS", "sUcCeSs"};
	static const char *const others[] = {
	    "failed", "refund", "successful", "success ", "\\u0131"};
	char *body;

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		body = xasprintf("{\"data\":{\"transfer\":{\"transaction_status\":\"%s\","
				 "\"transaction_amount\":null,\"transaction_currency\":\"\"}}}",
		    statuses[i]);
		assert_int_equal(decode_text(body), DECODED_NOT_TRANSFER);
		assert_int_equal(f.count, 2);
		assert_fault(0, T "transaction_amount", "is required for a success");
		assert_fault(1, T "transaction_currency", "is required for a success");
		free(body);
	}
	for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
		body = xasprintf(
		    "{\"data\":{\"transfer\":{\"transaction_status\":\"%s\"}}}", others[i]);
		assert_int_equal(decode_text(body), DECODED_OK);
		free(body);
	}
	/* a wrong amount is said to be wrong, not to be missing */
	assert_int_equal(
	    decode_with("\"transaction_amount\":-5,\"transaction_currency\":\"AED\",", ""),
	    DECODED_NOT_TRANSFER);
	assert_int_equal(f.count, 1);
	assert_fault(0, T "transaction_amount",
	    "must be 1 to 12 digits with at most 4 decimals, and no sign, exponent or separator");
}

static void
test_shape(void **state)
{
	static const struct {
		const char *body, *pointer, *detail;
	} cases[] = {
	    {"null", "", "the document must be an object"},
	    {"1", "", "the document must be an object"},
	    {"\"x\"", "", "the document must be an object"},
	    {"true", "", "the document must be an object"},
	    {" [{}] ", "", "the document must be an object"},
	    {"{}", "/data", "is missing"},
	    {"{\"data\":null}", "/data", "must be an object"},
	    {"{\"data\":7}", "/data", "must be an object"},
	    {"{\"data\":{}}", "/data/transfer", "is missing"},
	    {"{\"data\":{\"transfer\":[]}}", "/data/transfer", "must be an object"},
	    {"{\"data\":{\"transfer\":{}}}", T "transaction_status", "is required"},
	    {"{\"data\":{\"transfer\":{\"transaction_status\":null}}}", T "transaction_status",
		"is required"},
	    {"{\"data\":{\"transfer\":{\"transaction_status\":\"\"}}}", T "transaction_status",
		"is required"},
	    {"{\"data\":{\"transfer\":{\"transaction_status\":\"failed\",\"api\":[]}}}",
		"/data/transfer/api", "must be an object or null"},
	    {"{\"data\":{\"transfer\":{\"transaction_status\":\"failed\",\"api\":\"\"}}}",
		"/data/transfer/api", "must be an object or null"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		assert_int_equal(decode_text(cases[i].body), DECODED_NOT_TRANSFER);
		assert_int_equal(f.count, 1);
		assert_fault(0, cases[i].pointer, cases[i].detail);
	}
}

static const struct limit {
	enum transfer_field field;
	size_t limit;
	bool in_api;
	const char *name, *detail;
} limits[] = {
    {TRANSFER_NO, 128, false, "transaction_no", "must not be longer than 128 characters"},
    {TRANSFER_REFERENCE, 128, false, "payment_reference", "must not be longer than 128 characters"},
    {TRANSFER_MESSAGE, 1024, false, "transaction_message",
	"must not be longer than 1024 characters"},
    {TRANSFER_OPTIONAL1, 255, true, "optional1", "must not be longer than 255 characters"},
    {TRANSFER_OPTIONAL2, 255, true, "optional2", "must not be longer than 255 characters"},
    {TRANSFER_OPTIONAL3, 255, true, "optional3", "must not be longer than 255 characters"},
    {TRANSFER_EMAIL, 320, true, "customer_email", "must not be longer than 320 characters"},
    {TRANSFER_MOBILE, 64, true, "customer_mobile", "must not be longer than 64 characters"},
    {TRANSFER_CARD, 32, true, "card_last_four", "must not be longer than 32 characters"},
};

static void
test_limits_count_characters(void **state)
{
	static const char *const characters[] = {
	    "x", "\xC3\xA9", "\xE2\x82\xAC", "\xF0\x9F\x98\x80"};

	(void)state;
	for (size_t i = 0; i < sizeof limits / sizeof *limits; i++)
		for (size_t c = 0; c < 4; c++)
			for (size_t more = 0; more < 2; more++) {
				const struct limit *l = &limits[i];
				size_t n = l->limit + more, size = strlen(characters[c]);
				char *text = xcalloc(1, n * size + 1), *member, *pointer;
				enum decoded d;

				for (size_t k = 0; k < n; k++)
					memcpy(text + k * size, characters[c], size);
				member = xasprintf("\"%s\":\"%s\",", l->name, text);
				if (l->in_api) {
					d = decode_with(MONEY, member);
				} else {
					char *all = xasprintf(MONEY "%s", member);
					d = decode_with(all, "");
					free(all);
				}
				if (more == 0) {
					assert_int_equal(d, DECODED_OK);
					assert_field(l->field, text);
				} else {
					pointer =
					    xasprintf(T "%s%s", l->in_api ? "api/" : "", l->name);
					assert_int_equal(d, DECODED_NOT_TRANSFER);
					assert_int_equal(f.count, 1);
					assert_fault(0, pointer, l->detail);
					free(pointer);
				}
				free(member);
				free(text);
			}
}

static void
test_every_fault_at_once(void **state)
{
	static const char *const pointers[] = {T "api", T "transaction_status", T "transaction_no",
	    T "payment_reference", T "transaction_amount", T "transaction_currency",
	    T "transaction_message"};
	static const char *const in_api[] = {T "api/optional1", T "api/optional2",
	    T "api/optional3", T "api/customer_email", T "api/customer_mobile",
	    T "api/card_last_four"};

	(void)state;
	assert_int_equal(
	    decode_text("{\"data\":{\"transfer\":{\"transaction_status\":[],"
			"\"transaction_no\":true,\"payment_reference\":{},"
			"\"transaction_amount\":\"1e2\",\"transaction_currency\":\"dirham\","
			"\"transaction_message\":false,\"api\":\"x\"}}}"),
	    DECODED_NOT_TRANSFER);
	assert_int_equal(f.count, 7);
	for (size_t i = 0; i < 7; i++)
		assert_string_equal(f.list[i].pointer, pointers[i]);
	assert_string_equal(f.list[1].detail, "must be text, a number or null");
	assert_string_equal(f.list[5].detail, "must be 3 letters");

	assert_int_equal(decode_with("", "\"optional1\":[],\"optional2\":{},\"optional3\":true,"
					 "\"customer_email\":false,\"customer_mobile\":[[]],"
					 "\"card_last_four\":{\"a\":1},"),
	    DECODED_NOT_TRANSFER);
	assert_int_equal(f.count, 8);
	for (size_t i = 0; i < 6; i++)
		assert_fault(i, in_api[i], "must be text, a number or null");
	assert_fault(6, T "transaction_amount", "is required for a success");
	assert_fault(7, T "transaction_currency", "is required for a success");
}

static void
test_not_json_has_a_position(void **state)
{
	(void)state;
	assert_int_equal(decode_text("{\n \"data\": oops}"), DECODED_NOT_JSON);
	assert_int_equal(e.offset, 11);
	assert_int_equal(e.line, 2);
	assert_int_equal(e.column, 10);
	assert_non_null(e.reason);
	assert_int_equal(decode("", 0), DECODED_NOT_JSON);
	assert_int_equal(transfer_decode(NULL, 0, &t, &e, &f), DECODED_NOT_JSON);
	assert_int_equal(decode("{}\0", 3), DECODED_NOT_JSON);
	assert_int_equal(e.offset, 2);
}

/* Small and large bodies by turns on one struct, then freed twice. */
static void
test_reuse(void **state)
{
	char *large = xcalloc(1, 200000);

	(void)state;
	memset(large, ' ', 150000);
	strcpy(large + 150000, "{\"data\":{\"transfer\":{\"transaction_status\":\"failed\"}}}");
	for (int i = 0; i < 3; i++) {
		test_every_field(state);
		assert_int_equal(decode_text(large), DECODED_OK);
		assert_field(TRANSFER_STATUS, "failed");
		transfer_free(&t);
		transfer_free(&t);
	}
	free(large);
}

/* Decode every *.json in the directory; expected() says by its name what must come out. */
static size_t
run_directory(const char *name, enum decoded expected(const char *file))
{
	const char *corpus = getenv("CORPUS");
	char *path = xasprintf("%s/%s", corpus != NULL ? corpus : "tests/corpus", name);
	struct dirent *entry;
	size_t files = 0, wrong = 0;
	DIR *dir = opendir(path);

	if (dir == NULL)
		fail_msg("no directory %s", path);
	while ((entry = readdir(dir)) != NULL) {
		static char body[1 << 20];
		const char *dot = strrchr(entry->d_name, '.');
		enum decoded d;
		size_t len;
		char *file;
		FILE *in;

		if (dot == NULL || strcmp(dot, ".json") != 0)
			continue;
		file = xasprintf("%s/%s", path, entry->d_name);
		in = fopen(file, "rb");
		assert_non_null(in);
		len = fread(body, 1, sizeof body, in);
		assert_true(len < sizeof body);
		fclose(in);
		d = decode(body, len);
		if (d != expected(entry->d_name)) {
			print_error("%s: %s%s%s\n", file,
			    d == DECODED_OK ? "accepted" : "refused: ",
			    d == DECODED_OK         ? ""
			    : d == DECODED_NOT_JSON ? e.reason
						    : f.list[0].pointer,
			    d == DECODED_NOT_TRANSFER ? f.list[0].detail : "");
			wrong++;
		}
		files++;
		free(file);
	}
	closedir(dir);
	free(path);
	assert_int_equal(wrong, 0);
	return files;
}

static enum decoded
expected_ok(const char *file)
{
	(void)file;
	return DECODED_OK;
}

static enum decoded
expected_bad(const char *file)
{
	if (strncmp(file, "400-", 4) == 0)
		return DECODED_NOT_JSON;
	if (strncmp(file, "422-", 4) == 0)
		return DECODED_NOT_TRANSFER;
	fail_msg("%s: a name in bad/ begins with 400- or 422-", file);
	return DECODED_OK;
}

static void
test_corpus_ok(void **state)
{
	(void)state;
	assert_true(run_directory("ok", expected_ok) >= 40);
}

static void
test_corpus_bad(void **state)
{
	(void)state;
	assert_true(run_directory("bad", expected_bad) >= 150);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_every_field),
	    cmocka_unit_test(test_only_status_is_required),
	    cmocka_unit_test(test_null_absent_and_empty_are_the_same),
	    cmocka_unit_test(test_numbers_keep_their_text),
	    cmocka_unit_test(test_unescaped),
	    cmocka_unit_test(test_success_needs_money),
	    cmocka_unit_test(test_shape),
	    cmocka_unit_test(test_limits_count_characters),
	    cmocka_unit_test(test_every_fault_at_once),
	    cmocka_unit_test(test_not_json_has_a_position),
	    cmocka_unit_test(test_reuse),
	    cmocka_unit_test(test_corpus_ok),
	    cmocka_unit_test(test_corpus_bad),
	};

	int failed = cmocka_run_group_tests_name("transfer", tests, NULL, NULL);
	transfer_free(&t);
	return failed;
}
