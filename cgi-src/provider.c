/*
 * provider.c - what the provider's transaction-detail API says of a transaction.
 *
 * As with webhooks (transfer.c), the text is checked by our own rfc8259.c first, which
 * also puts numbers in quotes: an amount keeps its digits. Which members are read is
 * configuration, for the provider has two shapes and may make a third.
 */
#include <json.h>
#include <limits.h>
#include <string.h>

#include "mem.h"
#include "money.h"
#include "provider.h"
#include "rfc8259.h"

/* The member at "a.b.c" as text. NULL: it is not there, null, empty, or no scalar. Owned by the caller. */
static char *
member(json_object *root, const char *path)
{
	char *names = xstrdup(path), *rest = names, *name, *text = NULL;

	while (root != NULL && (name = strsep(&rest, ".")) != NULL)
		if (!json_object_is_type(root, json_type_object) ||
		    !json_object_object_get_ex(root, name, &root))
			root = NULL;
	if (root != NULL && json_object_is_type(root, json_type_string) &&
	    json_object_get_string_len(root) > 0)
		text = xstrdup(json_object_get_string(root));
	free(names);
	return text;
}

static json_object *
parse(const char *body, size_t len)
{
	struct json_error error;
	json_tokener *tokener;
	json_object *root = NULL;
	char *quoted;

	if (len > INT_MAX / 4)
		return NULL;
	quoted = xrealloc(NULL, RFC8259_QUOTED_SIZE(len));
	if (rfc8259_check(body, len, quoted, &error)) {
		if ((tokener = json_tokener_new_ex(RFC8259_MAX_DEPTH + 1)) == NULL)
			abort();
		root = json_tokener_parse_ex(tokener, quoted, (int)strlen(quoted) + 1);
		json_tokener_free(tokener);
	}
	free(quoted);
	return root;
}

static void
drop(char **text)
{
	free(*text);
	*text = NULL;
}

bool
provider_read(const struct provider *p, const char *order_prefix, const char *body, size_t len,
    struct provider_word *w)
{
	json_object *root = parse(body, len);

	*w = (struct provider_word){0};
	if (root == NULL) {
		w->fault = "the answer is not JSON";
		return false;
	}
	w->status = member(root, p->status);
	w->amount = member(root, p->amount);
	w->currency = member(root, p->currency);
	w->order = *p->order != '\0' ? member(root, p->order) : NULL;
	json_object_put(root);

	if (w->status == NULL) {
		w->fault = "the answer has no status where provider_status says";
		return false;
	}
	for (char *c = w->status; *c != '\0'; c++)
		if (*c >= 'A' && *c <= 'Z')
			*c = (char)(*c - 'A' + 'a');
	if (w->amount != NULL && !money_valid(w->amount))
		drop(&w->amount);
	if (w->currency != NULL && !currency_normalize(w->currency))
		drop(&w->currency);
	if (w->order != NULL && order_prefix != NULL &&
	    strncmp(w->order, order_prefix, strlen(order_prefix)) == 0)
		memmove(w->order, w->order + strlen(order_prefix),
		    strlen(w->order) - strlen(order_prefix) + 1);
	if (strcmp(w->status, "success") == 0 && (w->amount == NULL || w->currency == NULL)) {
		w->fault = "the answer has no amount or currency where provider_amount and "
			   "provider_currency say";
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

char *
provider_question(const struct provider *p, const char *transaction_no)
{
	static const char slot[] = "{transaction_no}";
	static const char harmless[] =
	    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_";
	const char *at = strstr(p->path, slot);
	char *escaped = xrealloc(NULL, 3 * strlen(transaction_no) + 1), *to = escaped, *url;
	size_t base = strlen(p->url);

	for (const char *c = transaction_no; *c != '\0'; c++)
		if (strchr(harmless, *c) != NULL)
			*to++ = *c;
		else
			to += snprintf(to, 4, "%%%02X", (unsigned)(unsigned char)*c);
	*to = '\0';
	while (base > 0 && p->url[base - 1] == '/')
		base--;
	url = xasprintf("%.*s%.*s%s%s", (int)base, p->url, (int)(at - p->path), p->path, escaped,
	    at + sizeof slot - 1);
	free(escaped);
	return url;
}
