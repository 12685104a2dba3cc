/* SPDX-License-Identifier: MIT */
/*
 * provider.c - what the provider's API says of transactions.
 *
 * Which members are read is configuration, for the provider has two shapes of answers and may make a
 * third.
 */
#include <string.h>

#include "json.h"
#include "mem.h"
#include "money.h"
#include "provider.h"

void
provider_get(
    const struct provider *p, struct http_client *client, const struct http_client_request *r)
{
	struct http_client_request request = *r;
	char *secret = xasprintf("secret_key: %s", p->secret);

	request.headers = (const char *const[]){secret, "Accept: application/json", NULL};
	request.keep = true;
	http_client_submit(client, &request);
	explicit_bzero(secret, strlen(secret));
	free(secret);
}

static bool
is_empty(const struct json *v)
{
	return v == NULL || ((json_is_array(v) || json_is_object(v)) && json_count(v) == 0);
}

/* Where the path to a member ends. */
enum end {
	END_ABSENT, /* before the member: there is none */
	END_NULL,   /* at a null, there or on the way */
	END_EMPTY,  /* at an empty object or array, there or on the way */
	END_VALUE
};

/* The member at "a.b.c". NULL: it is not there, or null. end, unless NULL: receives why. */
static struct json *
find_member(struct json *root, const char *path, enum end *end)
{
	char *names = xstrdup(path), *rest = names, *name;

	while (root != NULL && !is_empty(root) && (name = strsep(&rest, ".")) != NULL)
		if (!json_member(root, name, &root)) {
			if (end != NULL)
				*end = END_ABSENT;
			free(names);
			return NULL;
		}
	if (end != NULL)
		*end = root == NULL ? END_NULL : is_empty(root) ? END_EMPTY : END_VALUE;
	if (rest != NULL)
		root = NULL;
	free(names);
	return root;
}

/* The member at "a.b.c" as text. NULL: it is not there, null, empty, or no scalar. Owned by the caller. */
static char *
member_text(struct json *root, const char *path)
{
	const char *text = json_string(find_member(root, path, NULL), NULL);

	return text != NULL && *text != '\0' ? xstrdup(text) : NULL;
}

/* The tree of an answer, for json_free(). NULL: it is not JSON, or says nothing but null. */
static struct json *
parse_answer(const char *body, size_t len)
{
	struct json_error error;
	struct json *root;

	json_parse(body, len, NULL, &root, &error);
	return root;
}

static void
clear_text(char **text)
{
	free(*text);
	*text = NULL;
}

/* The members that an answer and a row of the list have both. */
static void
read_members(struct json *root, const char *status, const char *amount, const char *currency,
    struct provider_answer *answer)
{
	answer->status = member_text(root, status);
	answer->amount = *amount != '\0' ? member_text(root, amount) : NULL;
	answer->currency = *currency != '\0' ? member_text(root, currency) : NULL;
	for (char *c = answer->status; c != NULL && *c != '\0'; c++)
		if (*c >= 'A' && *c <= 'Z')
			*c = (char)(*c - 'A' + 'a');
	if (answer->amount != NULL && !money_valid(answer->amount))
		clear_text(&answer->amount);
	if (answer->currency != NULL && !currency_normalize(answer->currency))
		clear_text(&answer->currency);
}

/* Has the answer the member of the order? Null counts. */
static bool
has_order(struct json *root, const char *path)
{
	enum end end;
	struct json *order = find_member(root, path, &end);

	return end == END_NULL || json_string(order, NULL) != NULL;
}

bool
provider_read_answer(const struct provider *p, const char *order_prefix, const char *body,
    size_t len, struct provider_answer *answer)
{
	struct json *root = parse_answer(body, len);
	const char *rest;
	bool order_known;

	*answer = (struct provider_answer){0};
	if (root == NULL) {
		answer->fault = "the answer is not JSON";
		return false;
	}
	read_members(root, p->status, p->amount, p->currency, answer);
	answer->order = *p->order != '\0' ? member_text(root, p->order) : NULL;
	order_known = *p->order == '\0' || has_order(root, p->order);
	json_free(root);

	if (answer->status == NULL) {
		answer->fault = "the answer has no status where provider_status says";
		return false;
	}
	/* nothing behind the prefix stays "": it differs from the order that a delivery names */
	rest = order_without_prefix(answer->order, order_prefix);
	if (answer->order != NULL && rest == NULL)
		*answer->order = '\0';
	else if (rest != NULL)
		memmove(answer->order, rest, strlen(rest) + 1);
	if (strcmp(answer->status, "success") == 0 &&
	    (answer->amount == NULL || answer->currency == NULL)) {
		answer->fault = "the answer has no amount or currency where provider_amount and "
				"provider_currency say";
		return false;
	}
	if (strcmp(answer->status, "success") == 0 && !order_known) {
		answer->fault = "the answer has no order where provider_order says";
		return false;
	}
	return true;
}

void
provider_answer_free(struct provider_answer *answer)
{
	clear_text(&answer->status);
	clear_text(&answer->amount);
	clear_text(&answer->currency);
	clear_text(&answer->order);
}

static const char unreserved[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_";

/* Write text to a place, every byte that is not one of allowed percent-encoded. Returns the end. */
static char *
percent_encode(char *to, const char *text, size_t len, const char *allowed)
{
	for (const char *c = text; c < text + len; c++)
		if (strchr(allowed, *c) != NULL)
			*to++ = *c;
		else
			to += snprintf(to, 4, "%%%02X", (unsigned)(unsigned char)*c);
	*to = '\0';
	return to;
}

/* Base and path, with one / between them. Owned by the caller. */
static char *
join_url(const char *base, const char *path)
{
	size_t len = strlen(base);

	while (len > 0 && base[len - 1] == '/')
		len--;
	return xasprintf("%.*s%s", (int)len, base, path);
}

char *
provider_detail_url(const struct provider *p, const char *transaction_no)
{
	static const char slot[] = "{transaction_no}";
	const char *at = strstr(p->path, slot);
	char *path = xrealloc(NULL, strlen(p->path) + 3 * strlen(transaction_no) + 1), *to, *url;

	memcpy(path, p->path, (size_t)(at - p->path));
	to = path + (at - p->path);
	to = percent_encode(to, transaction_no, strlen(transaction_no), unreserved);
	memcpy(to, at + sizeof slot - 1, strlen(at + sizeof slot - 1) + 1);
	url = join_url(p->url, path);
	free(path);
	return url;
}

static void
read_row(const struct provider *p, struct json *json, struct provider_row *row)
{
	*row = (struct provider_row){.number = member_text(json, p->list_number)};
	read_members(json, p->list_status, p->list_amount, p->list_currency, &row->answer);
	if (row->number != NULL && strlen(row->number) > LIMIT_TRANSACTION_NO)
		clear_text(&row->number);
	if (row->answer.status != NULL && strlen(row->answer.status) > LIMIT_STATUS)
		clear_text(&row->answer.status);
	if (row->number == NULL)
		row->answer.fault = "the list's row has no number where provider_list_number says";
	else if (row->answer.status == NULL)
		row->answer.fault = "the list's row has no status where provider_list_status says";
}

bool
provider_read_list(const struct provider *p, const char *body, size_t len, struct provider_list *l)
{
	struct json *root = parse_answer(body, len), *rows;
	enum end end;

	*l = (struct provider_list){0};
	if (root == NULL) {
		l->fault = "the list is not JSON";
		return false;
	}
	rows = find_member(root, p->list_rows, &end);
	if (json_is_array(rows)) {
		l->count = json_count(rows);
		if (l->count > PROVIDER_LIST_MAX)
			l->fault = "the list has far more rows than it was asked for";
	} else if (end != END_NULL && end != END_EMPTY) {
		l->fault = "the list has no rows where provider_list_rows says";
	}
	if (l->fault != NULL)
		l->count = 0;
	l->rows = xcalloc(l->count, sizeof *l->rows);
	for (size_t i = 0; i < l->count; i++)
		read_row(p, json_element(rows, i), &l->rows[i]);
	json_free(root);
	return l->fault == NULL;
}

void
provider_list_free(struct provider_list *l)
{
	for (size_t i = 0; i < l->count; i++) {
		free(l->rows[i].number);
		provider_answer_free(&l->rows[i].answer);
	}
	free(l->rows);
	*l = (struct provider_list){0};
}

char *
provider_list_url(const struct provider *p, const char *from, const char *to, int page)
{
	/* what may stand in a path and a query: the JSON of the template may not, as it is */
	static const char allowed[] =
	    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.~/?&=%:,;+@!$'()*[]";
	char number[16], limit[16];
	const struct {
		const char *name, *text;
	} slots[] = {{"{from}", from}, {"{to}", to}, {"{page}", number}, {"{limit}", limit}};
	/* a slot has six characters or more, and what takes its place at most sixteen */
	char *path = xrealloc(NULL, strlen(p->list_path) * 3 * 16 + 1), *end = path, *url;

	snprintf(number, sizeof number, "%d", page);
	snprintf(limit, sizeof limit, "%d", PROVIDER_LIST_LIMIT);
	for (const char *c = p->list_path; *c != '\0';) {
		size_t i = 0;

		while (i < sizeof slots / sizeof *slots &&
		       strncmp(c, slots[i].name, strlen(slots[i].name)) != 0)
			i++;
		if (i < sizeof slots / sizeof *slots) {
			end = percent_encode(end, slots[i].text, strlen(slots[i].text), unreserved);
			c += strlen(slots[i].name);
		} else {
			end = percent_encode(end, c++, 1, allowed);
		}
	}
	url = join_url(p->url, path);
	free(path);
	return url;
}
