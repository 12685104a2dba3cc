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

#include "json.h"
#include "mem.h"
#include "transfer.h"

static struct transfer t;
static enum transfer_field order_key = TRANSFER_OPTIONAL1;
static struct json_error e;
static struct faults f;

/* Decode a copy without a NUL behind it. */
static enum decoded
decode(const char *body, size_t len)
{
	char *exact = xrealloc(NULL, len);
	enum decoded d;

	memcpy(exact, body, len);
	d = transfer_decode(exact, len, order_key, &t, &e, &f);
	free(exact); /* nothing may point into the body any more */
	if (d != DECODED_OK) {
		assert_null(t.order_key);
		for (int i = 0; i < TRANSFER__MAX; i++)
			assert_null(t.field[i]);
	}
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
	static const char *const statuses[] = {
	    "success", "SUCCESS", "sUcCeSs", "success ", "\\u00a0Success\\r\\n"};
	static const char *const others[] = {
	    "failed", "refund", "successful", "suc cess", "\\u0131"};
	char *body;

	(void)state;
	for (size_t i = 0; i < sizeof statuses / sizeof *statuses; i++) {
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
	    {"{\"data\":{\"transfer\":{\"transaction_status\":\" \\u3000\"}}}",
		T "transaction_status", "is required"},
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
	const char *name, *detail; /* NULL: it is cut */
} limits[] = {
    {TRANSFER_NO, 128, false, "transaction_no", "must not be longer than 128 characters"},
    {TRANSFER_REFERENCE, 128, false, "payment_reference", "must not be longer than 128 characters"},
    {TRANSFER_MESSAGE, 1024, false, "transaction_message", NULL},
    {TRANSFER_OPTIONAL1, 255, true, "optional1", "must not be longer than 255 characters"},
    {TRANSFER_OPTIONAL2, 255, true, "optional2", NULL},
    {TRANSFER_OPTIONAL3, 255, true, "optional3", NULL},
    {TRANSFER_EMAIL, 320, true, "customer_email", NULL},
    {TRANSFER_MOBILE, 64, true, "customer_mobile", NULL},
    {TRANSFER_CARD, 32, true, "card_last_four", NULL},
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
				if (more == 0 || l->detail == NULL) {
					assert_int_equal(d, DECODED_OK);
					text[l->limit * size] = '\0';
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
	static const char *const pointers[] = {T "transaction_status", T "transaction_no",
	    T "payment_reference", T "transaction_amount", T "transaction_currency"};

	(void)state;
	assert_int_equal(
	    decode_text("{\"data\":{\"transfer\":{\"transaction_status\":[],"
			"\"transaction_no\":true,\"payment_reference\":{},"
			"\"transaction_amount\":\"1e2\",\"transaction_currency\":\"dirham\","
			"\"transaction_message\":false,\"api\":\"x\"}}}"),
	    DECODED_NOT_TRANSFER);
	assert_int_equal(f.count, 5);
	for (size_t i = 0; i < 5; i++)
		assert_string_equal(f.list[i].pointer, pointers[i]);
	assert_string_equal(f.list[0].detail, "must be text, a number or null");
	assert_string_equal(f.list[4].detail, "must be 3 letters");

	assert_int_equal(decode_with("", "\"optional1\":[],\"optional2\":{},\"optional3\":true,"
					 "\"customer_email\":false,\"customer_mobile\":[[]],"
					 "\"card_last_four\":{\"a\":1},"),
	    DECODED_NOT_TRANSFER);
	assert_int_equal(f.count, 3);
	assert_fault(0, T "api/optional1", "must be text, a number or null"); /* the order's key */
	assert_fault(1, T "transaction_amount", "is required for a success");
	assert_fault(2, T "transaction_currency", "is required for a success");
}

/* What decides nothing may be anything. */
static void
test_what_decides_nothing_refuses_nothing(void **state)
{
	static const char *const others[] = {
	    "[]", "{}", "true", "false", "[[1]]", "{\"a\":1}", "null"};
	static const char *const names[] = {
	    "optional2", "optional3", "customer_email", "customer_mobile", "card_last_four"};
	static const enum transfer_field in_api[] = {
	    TRANSFER_OPTIONAL2, TRANSFER_OPTIONAL3, TRANSFER_EMAIL, TRANSFER_MOBILE, TRANSFER_CARD};

	(void)state;
	for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
		char *message = xasprintf(MONEY "\"transaction_message\":%s,", others[i]);

		assert_int_equal(decode_with(message, "\"optional1\":\"A-1\","), DECODED_OK);
		assert_field(TRANSFER_MESSAGE, NULL);
		assert_string_equal(t.order_key, "A-1");
		free(message);
		for (size_t k = 0; k < sizeof names / sizeof *names; k++) {
			char *member =
			    xasprintf("\"%s\":%s,\"optional1\":\"A-1\",", names[k], others[i]);

			assert_int_equal(decode_with(MONEY, member), DECODED_OK);
			assert_field(in_api[k], NULL);
			assert_string_equal(t.order_key, "A-1");
			free(member);
		}
	}
	for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
		char *body = xasprintf(
		    "{\"data\":{\"transfer\":{\"transaction_status\":\"failed\",\"api\":%s}}}",
		    others[i]);

		assert_int_equal(decode_text(body), DECODED_OK);
		assert_field(TRANSFER_OPTIONAL1, NULL);
		assert_null(t.order_key);
		free(body);
	}
}

/* The field of the order's key decides, whichever it is. */
static void
test_the_order_key_decides(void **state)
{
	static const char *const names[] = {"optional1", "optional2", "optional3"};

	(void)state;
	for (int key = 0; key <= 3; key++) {
		order_key =
		    key < 3 ? (enum transfer_field)(TRANSFER_OPTIONAL1 + key) : TRANSFER__MAX;
		for (int i = 0; i < 3; i++) {
			char *member = xasprintf("\"%s\":[],", names[i]), *pointer, *text;

			assert_int_equal(decode_with(MONEY, member),
			    i == key ? DECODED_NOT_TRANSFER : DECODED_OK);
			free(member);
			pointer = xasprintf(T "api/%s", names[i]);
			if (i == key)
				assert_fault(0, pointer, "must be text, a number or null");
			text = xcalloc(1, 257);
			memset(text, 'x', 256);
			member = xasprintf("\"%s\":\"%s\",", names[i], text);
			assert_int_equal(decode_with(MONEY, member),
			    i == key ? DECODED_NOT_TRANSFER : DECODED_OK);
			if (i == key)
				assert_fault(0, pointer, "must not be longer than 255 characters");
			free(member);
			/* white space around it does not count */
			text[255] = '\0';
			member = xasprintf("\"%s\":\" %s\\u3000\",", names[i], text);
			assert_int_equal(decode_with(MONEY, member), DECODED_OK);
			if (i == key)
				assert_string_equal(t.order_key, text);
			else
				assert_null(t.order_key);
			assert_int_equal(utf8_length(t.field[TRANSFER_OPTIONAL1 + i]), 255);
			free(member);
			free(pointer);
			free(text);
		}
	}
	order_key = TRANSFER_NO;
	assert_int_equal(decode_with(MONEY "\"transaction_no\":\" N-1\\n\",", ""), DECODED_OK);
	assert_string_equal(t.order_key, "N-1");
	assert_field(TRANSFER_NO, "N-1");
	order_key = TRANSFER_REFERENCE;
	assert_int_equal(decode_with(MONEY "\"payment_reference\":\"undefined\",", ""), DECODED_OK);
	assert_null(t.order_key);
	assert_field(TRANSFER_REFERENCE, "undefined"); /* only the key has such words */
	order_key = TRANSFER_OPTIONAL1;
}

/* Identifiers and the address lose the white space around them; what is then empty is none. */
static void
test_white_space_around(void **state)
{
	(void)state;
	assert_int_equal(
	    decode_text("{\"data\":{\"transfer\":{"
			"\"transaction_status\":\"\\tSuccess \","
			"\"transaction_no\":\"FLS 1\\u00a0\","
			"\"payment_reference\":\"\\ufeffref\\u200b\","
			"\"transaction_amount\":\"100\","
			"\"transaction_currency\":\" aed\\r\\n\","
			"\"transaction_message\":\" m \","
			"\"api\":{\"optional1\":\" A-1001\\u3000\",\"optional2\":\" o \","
			"\"customer_email\":\"a@b.example \",\"customer_mobile\":\" 1 \"}}}}"),
	    DECODED_OK);
	assert_field(TRANSFER_STATUS, "success");
	assert_field(TRANSFER_NO, "FLS 1");
	assert_field(TRANSFER_REFERENCE, "ref");
	assert_field(TRANSFER_CURRENCY, "AED");
	assert_field(TRANSFER_MESSAGE, " m ");
	assert_field(TRANSFER_OPTIONAL1, " A-1001\xE3\x80\x80"); /* as it was sent */
	assert_string_equal(t.order_key, "A-1001");
	assert_field(TRANSFER_OPTIONAL2, " o ");
	assert_field(TRANSFER_EMAIL, "a@b.example");
	assert_field(TRANSFER_MOBILE, " 1 ");

	assert_int_equal(
	    decode_text("{\"data\":{\"transfer\":{\"transaction_status\":\"failed\","
			"\"transaction_no\":\" \",\"payment_reference\":\"\\u2003\","
			"\"transaction_currency\":\"\\n\",\"api\":{\"customer_email\":\" \"}}}}"),
	    DECODED_OK);
	for (int i = TRANSFER_STATUS + 1; i < TRANSFER__MAX; i++)
		assert_null(t.field[i]);
	/* an amount is no identifier */
	assert_int_equal(
	    decode_with("\"transaction_amount\":\"100 \",\"transaction_currency\":\"AED\",", ""),
	    DECODED_NOT_TRANSFER);
	assert_fault(0, T "transaction_amount",
	    "must be 1 to 12 digits with at most 4 decimals, and no sign, exponent or separator");
}

/* tests/corpus/order-keys.json: pairs of a key and what it is without white space and nonsense. */
static void
test_order_keys(void **state)
{
	const char *corpus = getenv("CORPUS");
	char *path = xasprintf("%s/order-keys.json", corpus != NULL ? corpus : "tests/corpus");
	static char bytes[1 << 16];
	FILE *in = fopen(path, "rb");
	struct json *pairs;
	size_t len;

	(void)state;
	assert_non_null(in);
	len = fread(bytes, 1, sizeof bytes, in);
	fclose(in);
	assert_true(json_parse(bytes, len, NULL, &pairs, &e));
	assert_true(json_count(pairs) > 80);
	for (size_t i = 0; i < json_count(pairs); i++) {
		const char *sent = json_string(json_element(json_element(pairs, i), 0), NULL);
		const char *clean = json_string(json_element(json_element(pairs, i), 1), NULL);
		struct text member = {0};

		text_add(&member, "\"optional1\":");
		text_add_json(&member, sent);
		text_add(&member, ",");
		assert_int_equal(decode_with(MONEY, member.bytes), DECODED_OK);
		if (clean == NULL)
			assert_null(t.order_key);
		else
			assert_string_equal(t.order_key, clean);
		text_free(&member);
	}
	json_free(pairs);
	free(path);
}

/* In front of the document, and nowhere else. */
static void
test_byte_order_mark(void **state)
{
	(void)state;
	assert_int_equal(
	    decode_text(
		"\xEF\xBB\xBF\r\n{\"data\":{\"transfer\":{\"transaction_status\":\"failed\"}}}"),
	    DECODED_OK);
	assert_field(TRANSFER_STATUS, "failed");
	assert_int_equal(decode_text("\xEF\xBB\xBF{\"data\": oops}"), DECODED_NOT_JSON);
	assert_int_equal(e.offset, 12);
	assert_int_equal(e.line, 1);
	assert_int_equal(e.column, 13);
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
	assert_int_equal(
	    transfer_decode(NULL, 0, TRANSFER_OPTIONAL1, &t, &e, &f), DECODED_NOT_JSON);
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
	    cmocka_unit_test(test_what_decides_nothing_refuses_nothing),
	    cmocka_unit_test(test_the_order_key_decides),
	    cmocka_unit_test(test_white_space_around),
	    cmocka_unit_test(test_order_keys),
	    cmocka_unit_test(test_byte_order_mark),
	    cmocka_unit_test(test_not_json_has_a_position),
	    cmocka_unit_test(test_reuse),
	    cmocka_unit_test(test_corpus_ok),
	    cmocka_unit_test(test_corpus_bad),
	};

	int failed = cmocka_run_group_tests_name("transfer", tests, NULL, NULL);
	transfer_free(&t);
	return failed;
}
