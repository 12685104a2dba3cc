// objects: push.c auth.c url.c backoff.c log.c
// push.c: what an answer means for an event. The rest of it runs in tests/e2e/test_worker.py.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "push.h"

/* Nobody is asked here. */
bool
store_ready(struct store *s)
{
	(void)s;
	return false;
}

enum store_status
store_ask(
    struct store *s, const char *sql, size_t n, const char *const *values, struct store_rows *rows)
{
	(void)s, (void)sql, (void)n, (void)values, (void)rows;
	return STORE_AWAY;
}

const char *
store_text(const struct store_rows *rows, size_t row, int column)
{
	(void)rows, (void)row, (void)column;
	return NULL;
}

void
store_rows_free(struct store_rows *rows)
{
	(void)rows;
}

void
array_add(struct array *a, const char *element)
{
	(void)a, (void)element;
}

const char *
array_text(struct array *a)
{
	return a->text;
}

void
array_clear(struct array *a)
{
	(void)a;
}

void
array_free(struct array *a)
{
	(void)a;
}

void
courier_send(struct courier *c, const struct courier_request *r)
{
	(void)c, (void)r;
}

static void
every_status_has_its_verdict(void **state)
{
	(void)state;
	for (long status = 0; status < 1000; status++) {
		enum verdict expected = status >= 200 && status < 300   ? VERDICT_DONE
					: status >= 300 && status < 500 ? VERDICT_REFUSED
									: VERDICT_FAILED;

		if (status == 408 || status == 425 || status == 429)
			expected = VERDICT_FAILED;
		if (status == 410)
			expected = VERDICT_GONE;
		assert_int_equal(push_judge(status), expected);
	}
}

static void
the_last_attempt(void **state)
{
	(void)state;
	assert_false(push_was_last(VERDICT_FAILED, 14, 15));
	assert_true(push_was_last(VERDICT_FAILED, 15, 15));
	assert_false(push_was_last(VERDICT_REFUSED, 8, 15));
	assert_true(push_was_last(VERDICT_REFUSED, 9, 15));
	assert_true(push_was_last(VERDICT_REFUSED, 1, 1));
	assert_false(push_was_last(VERDICT_GONE, 100, 15));
	assert_false(push_was_last(VERDICT_DONE, 100, 15));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(every_status_has_its_verdict),
	    cmocka_unit_test(the_last_attempt),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
