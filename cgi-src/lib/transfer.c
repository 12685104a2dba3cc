/* SPDX-License-Identifier: MIT */
/*
 * transfer.c - bytes in, struct transfer out.
 *
 * What was a number is text with its source digits (json.h): "100", 100 and 100.00 all reach
 * money.c as they were written.
 *
 * A payment must not be refused for what decides nothing: see enum kind.
 *
 * One block, t->text, serves twice: for json_parse(), and then for the fields, for which it is
 * large enough, with the order's key twice.
 */
#include "transfer.h"

#include <stdlib.h>
#include <string.h>

#include "json.h"
#include "money.h"

#define SPELL(x) #x
#define DIGITS(x) SPELL(x) /* a limit's value as a string literal */

#define DATA "/data"
#define TRANSFER DATA "/transfer"
#define API TRANSFER "/api"

enum place {
	IN_TRANSFER,
	IN_API
};

enum kind {
	/* These decide, so they may refuse the transfer. */
	KIND_STATUS,     /* an identifier in lower case; the one field that must not be empty */
	KIND_IDENTIFIER, /* without the white space around it */
	KIND_AMOUNT,     /* money_valid() */
	KIND_CURRENCY,   /* currency_normalize() of an identifier */
	/* These do not. */
	KIND_TEXT,
	KIND_EMAIL, /* without the white space around it */
};

struct field {
	const char *name;    /* of the member */
	const char *pointer; /* to it */
	enum place place;
	enum kind kind;
	size_t limit;      /* of all but amount and currency, in code points */
	const char *fault; /* of a text that its kind or limit refuses */
};

// clang-format off
#define AT_TRANSFER(name) name, TRANSFER "/" name, IN_TRANSFER
#define AT_API(name) name, API "/" name, IN_API
#define UP_TO(limit) limit, "must not be longer than " DIGITS(limit) " characters"
#define MONEY 0, "must be 1 to " DIGITS(MONEY_INTEGER_DIGITS) " digits with at most " \
	DIGITS(MONEY_DECIMALS) " decimals, and no sign, exponent or separator"
#define LETTERS 0, "must be " DIGITS(CURRENCY_LETTERS) " letters"

static const struct field fields[] = {
	[TRANSFER_STATUS]    = {AT_TRANSFER("transaction_status"),  KIND_STATUS,     UP_TO(LIMIT_STATUS)},
	[TRANSFER_NO]        = {AT_TRANSFER("transaction_no"),      KIND_IDENTIFIER, UP_TO(LIMIT_TRANSACTION_NO)},
	[TRANSFER_REFERENCE] = {AT_TRANSFER("payment_reference"),   KIND_IDENTIFIER, UP_TO(LIMIT_REFERENCE)},
	[TRANSFER_AMOUNT]    = {AT_TRANSFER("transaction_amount"),  KIND_AMOUNT,     MONEY},
	[TRANSFER_CURRENCY]  = {AT_TRANSFER("transaction_currency"),KIND_CURRENCY,   LETTERS},
	[TRANSFER_MESSAGE]   = {AT_TRANSFER("transaction_message"), KIND_TEXT,       UP_TO(LIMIT_MESSAGE)},
	[TRANSFER_OPTIONAL1] = {AT_API("optional1"),                KIND_TEXT,       UP_TO(LIMIT_OPTIONAL)},
	[TRANSFER_OPTIONAL2] = {AT_API("optional2"),                KIND_TEXT,       UP_TO(LIMIT_OPTIONAL)},
	[TRANSFER_OPTIONAL3] = {AT_API("optional3"),                KIND_TEXT,       UP_TO(LIMIT_OPTIONAL)},
	[TRANSFER_EMAIL]     = {AT_API("customer_email"),           KIND_EMAIL,      UP_TO(LIMIT_EMAIL)},
	[TRANSFER_MOBILE]    = {AT_API("customer_mobile"),          KIND_TEXT,       UP_TO(LIMIT_MOBILE)},
	[TRANSFER_CARD]      = {AT_API("card_last_four"),           KIND_TEXT,       UP_TO(LIMIT_CARD_DIGITS)},
};
// clang-format on
_Static_assert(sizeof fields / sizeof *fields == TRANSFER__MAX, "a row for every field");

static void
add_fault(struct faults *f, const char *pointer, const char *detail)
{
	if (f->count < FAULTS_MAX)
		f->list[f->count++] = (struct fault){pointer, detail};
}

/* The member that must be an object; NULL, with a fault, if it is not. */
static struct json *
read_required_object(struct json *in, const char *name, const char *pointer, struct faults *f)
{
	struct json *member;

	if (!json_member(in, name, &member))
		add_fault(f, pointer, "is missing");
	else if (!json_is_object(member))
		add_fault(f, pointer, "must be an object");
	else
		return member;
	return NULL;
}

static void
lower_case(char *text)
{
	for (; *text != '\0'; text++)
		if (*text >= 'A' && *text <= 'Z')
			*text = (char)(*text - 'A' + 'a');
}

static bool
kind_decides(enum kind kind)
{
	return kind <= KIND_CURRENCY;
}

/* May the field hold this text? If so, bring it into the form in which it is stored. */
static bool
field_normalize(const struct field *field, char *text)
{
	switch (field->kind) {
	case KIND_AMOUNT:
		return money_valid(text);
	case KIND_CURRENCY:
		return currency_normalize(text);
	case KIND_STATUS:
		lower_case(text);
		break;
	case KIND_IDENTIFIER:
		break;
	case KIND_TEXT:
	case KIND_EMAIL:
		utf8_cut(text, field->limit);
		break;
	}
	return utf8_length(text) <= field->limit;
}

const char *
transfer_clean_key(const char *key)
{
	static const char *const none[] = {"", "undefined", "null", "NaN", "[object Object]"};

	if (key == NULL)
		return NULL;
	key = utf8_skip_white(key);
	for (size_t i = 0; i < sizeof none / sizeof *none; i++)
		if (strcmp(key, none[i]) == 0)
			return NULL;
	return key;
}

/*
 * Read one field out of the object that should have it (NULL: there is none),
 * write its text to *room and move that behind it. Returns the text; NULL if there
 * is none, or a fault: then *faulty is set.
 */
static const char *
read_field(const struct field *field, struct json *in, char **room, struct faults *f, bool *faulty)
{
	struct json *member;
	const char *value;
	char *text = *room;
	size_t len = 0;

	*faulty = true;
	json_member(in, field->name, &member);
	value = json_string(member, &len);
	if (member != NULL && value == NULL && kind_decides(field->kind)) {
		add_fault(f, field->pointer, "must be text, a number or null");
		return NULL;
	}
	if (value != NULL && len > 0) {
		memcpy(text, value, len);
		text[len] = '\0';
		*room += len + 1;
		if (field->kind != KIND_AMOUNT && field->kind != KIND_TEXT)
			text = utf8_trim(text);
	}
	if (len == 0 || *text == '\0') {
		*faulty = field->kind == KIND_STATUS;
		if (*faulty)
			add_fault(f, field->pointer, "is required");
		return NULL;
	}
	if (!field_normalize(field, text)) {
		add_fault(f, field->pointer, field->fault);
		return NULL;
	}
	*faulty = false;
	return text;
}

/* Read the order's key: where its field decides only for that, once more, as an identifier. */
static const char *
read_order_key(const struct transfer *t, enum transfer_field i, struct json *api, char **room,
    struct faults *f)
{
	struct field field;
	bool faulty;

	if (i == TRANSFER__MAX)
		return NULL;
	field = fields[i];
	if (kind_decides(field.kind))
		return transfer_clean_key(t->field[i]);
	field.kind = KIND_IDENTIFIER;
	return transfer_clean_key(read_field(&field, api, room, f, &faulty));
}

/* Read the tree into t, adding every fault to f. */
static void
read_transfer(
    struct json *root, enum transfer_field order_key, struct transfer *t, struct faults *f)
{
	struct json *data, *transfer, *api = NULL;
	char *room = t->text.bytes;
	bool faulty[TRANSFER__MAX];

	if (!json_is_object(root)) {
		add_fault(f, "", "the document must be an object");
		return;
	}
	if ((data = read_required_object(root, "data", DATA, f)) == NULL ||
	    (transfer = read_required_object(data, "transfer", TRANSFER, f)) == NULL)
		return;
	json_member(transfer, "api", &api); /* one that is no object has no members */
	for (size_t i = 0; i < TRANSFER__MAX; i++)
		t->field[i] = read_field(
		    &fields[i], fields[i].place == IN_API ? api : transfer, &room, f, &faulty[i]);
	t->order_key = read_order_key(t, order_key, api, &room, f);

	if (t->field[TRANSFER_STATUS] == NULL || strcmp(t->field[TRANSFER_STATUS], "success") != 0)
		return;
	for (size_t i = TRANSFER_AMOUNT; i <= TRANSFER_CURRENCY; i++)
		if (t->field[i] == NULL && !faulty[i])
			add_fault(f, fields[i].pointer, "is required for a success");
}

static void
forget_fields(struct transfer *t)
{
	memset(t->field, 0, sizeof t->field);
	t->order_key = NULL;
}

enum decoded
transfer_decode(const char *body, size_t len, enum transfer_field order_key, struct transfer *t,
    struct json_error *e, struct faults *f)
{
	struct json *root;

	forget_fields(t);
	f->count = 0;
	if (!json_parse(body, len, &t->text, &root, e))
		return DECODED_NOT_JSON;
	read_transfer(root, order_key, t, f);
	json_free(root);
	if (f->count == 0)
		return DECODED_OK;
	forget_fields(t);
	return DECODED_NOT_TRANSFER;
}

void
transfer_add_faults(
    struct text *t, enum decoded d, const struct json_error *e, const struct faults *f)
{
	if (d == DECODED_NOT_JSON)
		text_format(t, "not JSON: line %u column %u: %s", e->line, e->column, e->reason);
	for (size_t i = 0; d == DECODED_NOT_TRANSFER && i < f->count; i++)
		text_format(
		    t, "%s%s: %s", i > 0 ? "\n" : "", f->list[i].pointer, f->list[i].detail);
}

void
transfer_free(struct transfer *t)
{
	text_free(&t->text);
	*t = (struct transfer){0};
}
