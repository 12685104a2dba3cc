/* SPDX-License-Identifier: MIT */
/*
 * json.c - bytes from outside into a tree of values.
 *
 * The hard part is that json-c believes too much, rounds numbers, and does not report when memory
 * runs out. So the bytes go through rfc8259_check() first, which says whether they are JSON and
 * writes a copy with every number in quotes; json-c builds the tree of that copy. And where
 * memory may have run out, the tree is weighed against the copy.
 */
#include <errno.h>
#include <json-c/json.h>
#include <limits.h>
#include <string.h>

#include "json.h"
#include "mem.h"

/* For json-c takes no const. */
static json_object *
object_of(const struct json *v)
{
	return (json_object *)(uintptr_t)v;
}

/* Bytes of strings and names once they are unescaped, and 2 for each of these, and 1 for each other value. */
static size_t
weight_of_text(const char *quoted)
{
	bool in_string = false;
	size_t n = 0;

	for (const char *p = quoted; *p != '\0'; p++) {
		if (*p == '"') {
			in_string = !in_string;
			n++;
		} else if (in_string && *p == '\\' && *++p == 'u') {
			char digits[] = {p[1], p[2], p[3], p[4], '\0'};
			unsigned long unit = strtoul(digits, NULL, 16);
			bool surrogate = unit >= 0xD800 && unit <= 0xDFFF; /* two are four bytes */

			n += unit < 0x80 ? 1 : unit < 0x800 || surrogate ? 2 : 3;
			p += 4;
		} else if (in_string || strchr("{[tfn", *p) != NULL) {
			n++;
		}
	}
	return n;
}

static size_t
weight_of_tree(json_object *o)
{
	size_t n = 1;

	if (json_object_is_type(o, json_type_string))
		return 2 + (size_t)json_object_get_string_len(o);
	if (json_object_is_type(o, json_type_array))
		for (size_t i = 0; i < json_object_array_length(o); i++)
			n += weight_of_tree(json_object_array_get_idx(o, i));
	if (json_object_is_type(o, json_type_object)) {
		json_object_object_foreach(o, name, member)
		{
			n += 2 + strlen(name) + weight_of_tree(member);
		}
	}
	return n;
}

/*
 * Without memory json-c 0.16 calls no tree, or one without some of its members or bytes, a success: a
 * payment would be refused for members that it has. errno alone does not prove it, for malloc() may have
 * found memory elsewhere.
 */
static bool
lacks_memory(json_object *root, const char *quoted)
{
	return errno == ENOMEM && (root == NULL || weight_of_tree(root) != weight_of_text(quoted));
}

/* Build the tree of text that was checked. False: json-c refuses it. */
static bool
build(const char *quoted, json_object **root)
{
	/* No JSON_TOKENER_STRICT: the text is strict already, and 0.18's refuses all but ASCII. One
	 * level more, for json-c counts the scalar in the innermost array as a level. */
	json_tokener *tokener = json_tokener_new_ex(RFC8259_MAX_DEPTH + 1);
	enum json_tokener_error error;

	if (tokener == NULL)
		out_of_memory();
	errno = 0;
	/* With the NUL, without which it would wait for more behind a bare literal. */
	*root = json_tokener_parse_ex(tokener, quoted, (int)strlen(quoted) + 1);
	error = json_tokener_get_error(tokener);
	if (lacks_memory(*root, quoted))
		out_of_memory();
	json_tokener_free(tokener);
	return error == json_tokener_success;
}

bool
json_parse(
    const char *bytes, size_t len, struct text *room, struct json **tree, struct json_error *e)
{
	struct text own = {0};
	json_object *root = NULL;
	bool ok = false;

	*tree = NULL;
	if (room == NULL)
		room = &own;
	if (len > (INT_MAX - 3) / 2) { /* json-c counts in int */
		*e = (struct json_error){INT_MAX, 1, 1, "the text is too long"};
		return false;
	}
	text_clear(room);
	text_reserve(room, RFC8259_QUOTED_SIZE(len));
	if (rfc8259_check(bytes, len, room->bytes, e)) {
		ok = build(room->bytes, &root);
		if (!ok) /* Stricter than the RFC. Never seen; a body must not end the process. */
			*e = (struct json_error){0, 1, 1, "the JSON library refuses the text"};
		*tree = (struct json *)(void *)root;
	}
	text_free(&own);
	return ok;
}

void
json_free(struct json *tree)
{
	json_object_put(object_of(tree));
}

bool
json_is_object(const struct json *v)
{
	return json_object_is_type(object_of(v), json_type_object);
}

bool
json_is_array(const struct json *v)
{
	return json_object_is_type(object_of(v), json_type_array);
}

const char *
json_string(const struct json *v, size_t *len)
{
	json_object *o = object_of(v);

	if (!json_object_is_type(o, json_type_string))
		return NULL;
	if (len != NULL)
		*len = (size_t)json_object_get_string_len(o);
	return json_object_get_string(o);
}

bool
json_member(const struct json *v, const char *name, struct json **member)
{
	json_object *found = NULL;
	bool has = json_is_object(v) && json_object_object_get_ex(object_of(v), name, &found);

	*member = (struct json *)(void *)found;
	return has;
}

size_t
json_count(const struct json *v)
{
	if (json_is_array(v))
		return json_object_array_length(object_of(v));
	return json_is_object(v) ? (size_t)json_object_object_length(object_of(v)) : 0;
}

struct json *
json_element(const struct json *v, size_t i)
{
	return (struct json *)(void *)json_object_array_get_idx(object_of(v), i);
}
