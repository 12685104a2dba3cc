/* SPDX-License-Identifier: MIT */
/*
 * json.h - bytes from outside into a tree of values.
 *
 * json.c alone calls json-c. Numbers are text here, with the digits that they had in the bytes: an
 * amount is never a double.
 */
#ifndef JSON_H
#define JSON_H

#include <stdbool.h>
#include <stddef.h>

#include "rfc8259.h"
#include "text.h"

/* A value of a tree. A NULL pointer is JSON's null. */
struct json;

/*
 * Check bytes by rfc8259_check(), and build their tree.
 *   room  NULL, or a text that is used as memory and can be used again; its content is lost. Afterwards
 *         its block has room for all strings of the tree and one of them once more, with a NUL each.
 *   tree  receives the tree, for json_free()
 *   e     filled when the answer is false
 * Aborts when memory runs out.
 */
bool json_parse(
    const char *bytes, size_t len, struct text *room, struct json **tree, struct json_error *e);
void json_free(struct json *tree); /* NULL is ignored. Parts of a tree are not freed */

/* What follows reads a tree; what is returned belongs to it. v may be NULL in all of them. */

bool json_is_object(const struct json *v);
bool json_is_array(const struct json *v);

/* The text of a string or number; NULL for all else. len, unless NULL: receives its length. */
const char *json_string(const struct json *v, size_t *len);

/* The member of an object with this name. False: it has none, or v is no object; *member is NULL then. */
bool json_member(const struct json *v, const char *name, struct json **member);

/* Elements of an array, members of an object; 0 for all else. */
size_t json_count(const struct json *v);

/* An element of an array, by its index from 0 to below json_count(). */
struct json *json_element(const struct json *v, size_t i);

#endif
