/*
 * provider.c - what the provider's API says of transactions.
 *
 * As with webhooks (transfer.c), the text is checked by our own rfc8259.c first, which
 * also puts numbers in quotes: an amount keeps its digits. Which members are read is
 * configuration, for the provider has two shapes and may make a third.
 */
#include <string.h>

#include "json.h"
#include "mem.h"
#include "money.h"
#include "provider.h"

static bool
is_empty(const struct json *v)
{
	return v == NULL || ((json_is_array(v) || json_is_object(v)) && json_count(v) == 0);
}

/* Where the way to a member ends. */
enum end {
	END_ABSENT, /* before it: there is no such member */
	END_NULL,   /* at a null, or on the way */
	END_EMPTY,  /* at an empty object or array, or on the way */
	END_VALUE
};

/* The member at "a.b.c". NULL: it is not there, or null. end, unless NULL: receives why. */
static struct json *
find(struct json *root, const char *path, enum end *end)
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
member(struct json *root, const char *path)
{
	const char *text = json_string(find(root, path, NULL), NULL);

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
drop(char **text)
{
	free(*text);
	*text = NULL;
}

static void
read_word(struct json *root, const char *status, const char *amount, const char *currency,
    struct provider_word *w)
{
	w->status = member(root, status);
	w->amount = *amount != '\0' ? member(root, amount) : NULL;
	w->currency = *currency != '\0' ? member(root, currency) : NULL;
	for (char *c = w->status; c != NULL && *c != '\0'; c++)
		if (*c >= 'A' && *c <= 'Z')
			*c = (char)(*c - 'A' + 'a');
	if (w->amount != NULL && !money_valid(w->amount))
		drop(&w->amount);
	if (w->currency != NULL && !currency_normalize(w->currency))
		drop(&w->currency);
}

/* Does the answer speak of the order at all? Null or no text are an answer; a member that is not there is none. */
static bool
speaks_of_order(struct json *root, const char *path)
{
	enum end end;
	struct json *order = find(root, path, &end);

	return end == END_NULL || json_string(order, NULL) != NULL;
}

bool
provider_read(const struct provider *p, const char *order_prefix, const char *body, size_t len,
    struct provider_word *w)
{
	struct json *root = parse_answer(body, len);
	const char *rest;
	bool order_known;

	*w = (struct provider_word){0};
	if (root == NULL) {
		w->fault = "the answer is not JSON";
		return false;
	}
	read_word(root, p->status, p->amount, p->currency, w);
	w->order = *p->order != '\0' ? member(root, p->order) : NULL;
	order_known = *p->order == '\0' || speaks_of_order(root, p->order);
	json_free(root);

	if (w->status == NULL) {
		w->fault = "the answer has no status where provider_status says";
		return false;
	}
	rest = order_without_prefix(w->order, order_prefix);
	if (rest == NULL)
		drop(&w->order);
	else
		memmove(w->order, rest, strlen(rest) + 1);
	if (strcmp(w->status, "success") == 0 && (w->amount == NULL || w->currency == NULL)) {
		w->fault = "the answer has no amount or currency where provider_amount and "
			   "provider_currency say";
		return false;
	}
	if (strcmp(w->status, "success") == 0 && !order_known) {
		w->fault = "the answer has no order where provider_order says";
		return false;
	}
	return true;
}

void
provider_word_free(struct provider_word *w)
{
	drop(&w->status);
	drop(&w->amount);
	drop(&w->currency);
	drop(&w->order);
}

static const char harmless[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_";

/* Append text, every byte that is not one of allowed in its percent form. Returns the new end. */
static char *
escape(char *to, const char *text, size_t len, const char *allowed)
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
join(const char *base, const char *path)
{
	size_t len = strlen(base);

	while (len > 0 && base[len - 1] == '/')
		len--;
	return xasprintf("%.*s%s", (int)len, base, path);
}

char *
provider_question(const struct provider *p, const char *transaction_no)
{
	static const char slot[] = "{transaction_no}";
	const char *at = strstr(p->path, slot);
	char *path = xrealloc(NULL, strlen(p->path) + 3 * strlen(transaction_no) + 1), *to, *url;

	memcpy(path, p->path, (size_t)(at - p->path));
	to = path + (at - p->path);
	to = escape(to, transaction_no, strlen(transaction_no), harmless);
	memcpy(to, at + sizeof slot - 1, strlen(at + sizeof slot - 1) + 1);
	url = join(p->url, path);
	free(path);
	return url;
}

static void
read_row(const struct provider *p, struct json *json, struct provider_row *row)
{
	*row = (struct provider_row){.number = member(json, p->list_number)};
	read_word(json, p->list_status, p->list_amount, p->list_currency, &row->word);
	if (row->number != NULL && strlen(row->number) > LIMIT_TRANSACTION_NO)
		drop(&row->number);
	if (row->word.status != NULL && strlen(row->word.status) > LIMIT_STATUS)
		drop(&row->word.status);
	if (row->number == NULL)
		row->word.fault = "the list's row has no number where provider_list_number says";
	else if (row->word.status == NULL)
		row->word.fault = "the list's row has no status where provider_list_status says";
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
	rows = find(root, p->list_rows, &end);
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
		provider_word_free(&l->rows[i].word);
	}
	free(l->rows);
	*l = (struct provider_list){0};
}

char *
provider_list_question(const struct provider *p, const char *from, const char *to, int page)
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
			end = escape(end, slots[i].text, strlen(slots[i].text), harmless);
			c += strlen(slots[i].name);
		} else {
			end = escape(end, c++, 1, allowed);
		}
	}
	url = join(p->url, path);
	free(path);
	return url;
}
