// objects: lib/json.c lib/rfc8259.c lib/text.c
/* SPDX-License-Identifier: MIT */
// json.c: trees as they are, and trees from which memory that ran out has taken something.
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <json-c/json.h>

#include "json.h"

/* What becomes of json-c's tree on its way to json.c. */
static enum {
	WHOLE,
	WHOLE_BUT_ENOMEM, /* malloc() has failed, and found memory elsewhere */
	NO_TREE,
	A_MEMBER_LESS,
	A_BYTE_LESS,
	A_NULL_LESS,
	EMPTY
} fate;

static void
damage(json_object *root)
{
	json_object *data = json_object_object_get(root, "data"), *list;

	if (fate == A_MEMBER_LESS)
		json_object_object_del(data, "b");
	if (fate == A_BYTE_LESS)
		json_object_set_string_len(
		    json_object_object_get(data, "a"), "x\ty\xf0\x9f\x98\x80", 6);
	if (fate == A_NULL_LESS && (list = json_object_object_get(data, "list")) != NULL)
		json_object_array_del_idx(list, 1, 1);
	if (fate == EMPTY)
		json_object_object_del(root, "data");
}

json_object *
json_tokener_parse_ex(json_tokener *tokener, const char *text, int len)
{
	json_object *(*real)(json_tokener *, const char *, int);
	json_object *root;

	*(void **)&real = dlsym(RTLD_NEXT, "json_tokener_parse_ex");
	root = real(tokener, text, len);
	if (fate == WHOLE)
		return root;
	if (fate == NO_TREE) {
		json_object_put(root);
		root = NULL;
	}
	if (root != NULL)
		damage(root);
	errno = ENOMEM;
	return root;
}

static const char document[] =
    " {\"data\": {\"a\": \"x\\ty\\ud83d\\ude00\", \"b\" : 1.50, \"list\": [true, null, false, "
    "\"\\u00e9\\u20ac\\\"\\\\\", -0, {}, []], \"caf\xc3\xa9\": \"{[tfn\", \"e\\u0041\": \"\"}} ";

static struct json *
parse(const char *text)
{
	struct json_error e;
	struct json *root;

	assert_true(json_parse(text, strlen(text), NULL, &root, &e));
	return root;
}

static void
values(void **state)
{
	struct json *root = parse(document), *data, *v, *list;
	size_t len;

	(void)state;
	assert_true(json_is_object(root) && !json_is_array(root));
	assert_true(json_member(root, "data", &data));
	assert_int_equal(json_count(data), 5);
	assert_true(json_member(data, "a", &v));
	assert_string_equal(json_string(v, &len), "x\ty\xf0\x9f\x98\x80");
	assert_int_equal(len, 7);
	assert_true(json_member(data, "b", &v));
	assert_string_equal(json_string(v, NULL), "1.50");
	assert_true(json_member(data, "eA", &v));
	assert_string_equal(json_string(v, &len), "");
	assert_int_equal(len, 0);
	assert_true(json_member(data, "list", &list));
	assert_true(json_is_array(list) && !json_is_object(list));
	assert_int_equal(json_count(list), 7);
	assert_null(json_string(list, NULL));
	assert_null(json_string(json_element(list, 0), NULL));
	assert_null(json_element(list, 1));
	assert_string_equal(json_string(json_element(list, 4), NULL), "-0");
	assert_false(json_member(data, "c", &v));
	assert_null(v);
	assert_false(json_member(list, "a", &v));
	json_free(root);
}

static void
null_is_a_value(void **state)
{
	struct json *root = parse("{\"n\":null}"), *v = root;

	(void)state;
	assert_true(json_member(root, "n", &v));
	assert_null(v);
	assert_false(json_is_object(NULL) || json_is_array(NULL));
	assert_null(json_string(NULL, NULL));
	assert_int_equal(json_count(NULL), 0);
	assert_false(json_member(NULL, "n", &v));
	json_free(root);
	assert_null(parse("null"));
	json_free(NULL);
}

static void
room_is_used_again(void **state)
{
	struct text room = {0};
	struct json_error e;
	struct json *root;
	char *block = NULL;

	(void)state;
	for (int i = 0; i < 3; i++) {
		assert_true(json_parse(document, sizeof document - 1, &room, &root, &e));
		assert_true(block == NULL || block == room.bytes);
		assert_true(room.cap >= RFC8259_QUOTED_SIZE(sizeof document - 1));
		block = room.bytes;
		json_free(root);
	}
	assert_false(json_parse("{", 1, &room, &root, &e));
	assert_null(root);
	assert_int_equal(e.offset, 1);
	text_free(&room);
}

/* How a process ends that parses the document. */
static int
end_of(void)
{
	int status;
	pid_t child = fork();

	assert_true(child >= 0);
	if (child == 0) {
		struct json_error e;
		struct json *root;
		bool ok;

		signal(SIGABRT, SIG_DFL);
		if (dup2(open("/dev/null", O_WRONLY), STDERR_FILENO) < 0)
			_exit(9);
		ok = json_parse(document, sizeof document - 1, NULL, &root, &e);
		json_free(root);
		_exit(ok ? 0 : 1);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

static void
half_a_tree_ends_the_process(void **state)
{
	(void)state;
	fate = WHOLE;
	assert_int_equal(end_of(), 0);
	fate = WHOLE_BUT_ENOMEM;
	assert_int_equal(end_of(), 0);
	for (fate = NO_TREE; fate <= EMPTY; fate++)
		if (end_of() != -SIGABRT)
			fail_msg("fate %d was not noticed", (int)fate);
	fate = WHOLE;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(values),
	    cmocka_unit_test(null_is_a_value),
	    cmocka_unit_test(room_is_used_again),
	    cmocka_unit_test(half_a_tree_ends_the_process),
	};

	return cmocka_run_group_tests_name("json", tests, NULL, NULL);
}
