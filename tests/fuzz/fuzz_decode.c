// objects: lib/transfer.c lib/json.c lib/rfc8259.c lib/text.c lib/money.c
/* SPDX-License-Identifier: MIT */
// A fuzzer for the decoder (clang -fsanitize=fuzzer). What must hold for any bytes: what
// rfc8259_check() accepts, json-c builds a tree of, in its strict mode if that can, without a number in it;
// a decoded field is UTF-8, not empty, and within its limit; a refusal has its reason.
// Seeds: tests/corpus/ok and tests/corpus/bad.
#include <json-c/json.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mem.h"
#include "money.h"
#include "rfc8259.h"
#include "transfer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Unlike assert(), not to be compiled away. */
#define MUST(x) ((x) ? (void)0 : (fprintf(stderr, "line %d: %s\n", __LINE__, #x), abort()))

static const size_t limits[TRANSFER__MAX] = {LIMIT_STATUS, LIMIT_TRANSACTION_NO, LIMIT_REFERENCE,
    MONEY_INTEGER_DIGITS + 1 + MONEY_DECIMALS, CURRENCY_LETTERS, LIMIT_MESSAGE, LIMIT_OPTIONAL,
    LIMIT_OPTIONAL, LIMIT_OPTIONAL, LIMIT_EMAIL, LIMIT_MOBILE, LIMIT_CARD_DIGITS};

/* Characters of valid UTF-8, decoded in another way than rfc8259.c does it: by value. */
static size_t
characters(const char *text)
{
	const unsigned char *p = (const unsigned char *)text;
	size_t n = 0;

	for (; *p != '\0'; n++) {
		static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
		unsigned len = *p < 0x80 ? 1 : *p >> 5 == 6 ? 2 : *p >> 4 == 14 ? 3 : 4;
		uint32_t c = len == 1 ? *p : *p & (0xFFu >> (len + 1));

		MUST(len < 4 || *p >> 3 == 30);
		for (unsigned i = 1; i < len; i++) {
			MUST(p[i] >> 6 == 2);
			c = c << 6 | (p[i] & 0x3F);
		}
		MUST(c >= least[len] && c <= 0x10FFFF && (c < 0xD800 || c > 0xDFFF));
		p += len;
	}
	return n;
}

/* json-c's strict mode, except where that of 0.18 refuses valid JSON: text that is not ASCII. */
static int
strict(const char *text)
{
	if (json_c_version_num() >= (18 << 8))
		for (; *text != '\0'; text++)
			if ((unsigned char)*text > 0x7F)
				return 0;
	return JSON_TOKENER_STRICT;
}

static void
no_number(json_object *o)
{
	switch (json_object_get_type(o)) {
	case json_type_int:
	case json_type_double:
		MUST(false); /* a number escaped the quotes */
		break;
	case json_type_array:
		for (size_t i = 0; i < json_object_array_length(o); i++)
			no_number(json_object_array_get_idx(o, i));
		break;
	case json_type_object: {
		json_object_object_foreach(o, name, member)
		{
			characters(name);
			no_number(member);
		}
		break;
	}
	case json_type_string:
		MUST(strlen(json_object_get_string(o)) == (size_t)json_object_get_string_len(o));
		characters(json_object_get_string(o));
		break;
	case json_type_boolean:
	case json_type_null:
		break;
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct transfer t;
	const char *text = (const char *)data;
	char *quoted = xrealloc(NULL, RFC8259_QUOTED_SIZE(size));
	struct json_error e = {0}, again = {0};
	struct faults f;
	bool json = rfc8259_check(text, size, quoted, &e);

	MUST(rfc8259_check(text, size, NULL, &again) == json);
	if (json) {
		json_tokener *tokener = json_tokener_new_ex(RFC8259_MAX_DEPTH + 1);
		json_object *root;

		MUST(strlen(quoted) < RFC8259_QUOTED_SIZE(size));
		json_tokener_set_flags(tokener, strict(quoted) | JSON_TOKENER_VALIDATE_UTF8);
		root = json_tokener_parse_ex(tokener, quoted, (int)strlen(quoted) + 1);
		MUST(json_tokener_get_error(tokener) == json_tokener_success);
		no_number(root);
		json_object_put(root);
		json_tokener_free(tokener);
	} else {
		MUST(e.reason != NULL && e.reason == again.reason);
		MUST(e.offset <= size && e.offset == again.offset);
		MUST(e.line >= 1 && e.column >= 1 && e.column <= e.offset + 1);
	}
	free(quoted);

	/* the size picks the field of the order's key, or none */
	static const enum transfer_field keys[] = {
	    TRANSFER_OPTIONAL1, TRANSFER_OPTIONAL3, TRANSFER_NO, TRANSFER_REFERENCE, TRANSFER__MAX};
	enum transfer_field key = keys[size % (sizeof keys / sizeof *keys)];
	enum decoded d = transfer_decode(text, size, key, &t, &e, &f);
	MUST((d != DECODED_NOT_JSON) == json);
	MUST((d == DECODED_NOT_TRANSFER) == (f.count > 0));
	MUST(f.count <= FAULTS_MAX);
	for (int i = 0; i < TRANSFER__MAX; i++) {
		if (t.field[i] == NULL)
			continue;
		MUST(d == DECODED_OK && t.field[i][0] != '\0');
		MUST(characters(t.field[i]) <= limits[i]);
	}
	if (t.order_key != NULL) {
		MUST(d == DECODED_OK && key != TRANSFER__MAX && t.field[key] != NULL);
		MUST(characters(t.order_key) <= limits[key]);
		MUST(transfer_clean_key(t.order_key) == t.order_key);
	}
	if (d == DECODED_OK) {
		char currency[CURRENCY_LETTERS + 1];
		const char *status = t.field[TRANSFER_STATUS];

		MUST(status != NULL && strpbrk(status, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") == NULL);
		MUST(strcmp(status, "success") != 0 ||
		     (t.field[TRANSFER_AMOUNT] != NULL && t.field[TRANSFER_CURRENCY] != NULL));
		MUST(t.field[TRANSFER_AMOUNT] == NULL || money_valid(t.field[TRANSFER_AMOUNT]));
		if (t.field[TRANSFER_CURRENCY] != NULL) {
			memcpy(currency, t.field[TRANSFER_CURRENCY], sizeof currency);
			MUST(currency_normalize(currency) &&
			     strcmp(currency, t.field[TRANSFER_CURRENCY]) == 0);
		}
	} else if (d == DECODED_NOT_TRANSFER) {
		for (size_t i = 0; i < f.count; i++)
			MUST(f.list[i].pointer != NULL && f.list[i].detail != NULL);
	}
	return 0;
}
