// objects: worker/push.c lib/auth.c lib/url.c lib/mail.c lib/rfc8259.c lib/backoff.c lib/log.c
/* SPDX-License-Identifier: MIT */
// push.c: what an answer means for an event. The rest of it runs in tests/e2e/test_worker.py.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "push.h"

/* Nobody is asked here. */
bool
pg_ready(struct pg *s)
{
	(void)s;
	return false;
}

enum pg_status
pg_query(struct pg *s, const char *sql, size_t n, const char *const *values, struct pg_rows *rows)
{
	(void)s, (void)sql, (void)n, (void)values, (void)rows;
	return PG_LOST;
}

const char *
pg_value(const struct pg_rows *rows, size_t row, int column)
{
	(void)rows, (void)row, (void)column;
	return NULL;
}

void
pg_rows_free(struct pg_rows *rows)
{
	(void)rows;
}

void
pg_array_add(struct text *a, const char *element)
{
	(void)a, (void)element;
}

const char *
pg_array_text(struct text *a)
{
	return a->bytes;
}

void
http_client_submit(struct http_client *c, const struct http_client_request *r)
{
	(void)c, (void)r;
}

static void
every_status_has_its_result(void **state)
{
	(void)state;
	for (long status = 0; status < 1000; status++) {
		enum push_result expected = status >= 200 && status < 300   ? RESULT_DONE
					    : status >= 300 && status < 500 ? RESULT_REFUSED
									    : RESULT_FAILED;

		if (status == 408 || status == 425 || status == 429)
			expected = RESULT_FAILED;
		if (status == 410)
			expected = RESULT_GONE;
		assert_int_equal(push_result_of(WAY_HTTP, status), expected);
	}
}

static void
every_reply_to_a_mail_has_its_result(void **state)
{
	(void)state;
	for (long status = 0; status < 1000; status++) {
		enum push_result expected = status >= 200 && status < 300   ? RESULT_DONE
					    : status >= 400 && status < 600 ? RESULT_REFUSED
									    : RESULT_FAILED;

		if (status == 421 || (status >= 530 && status <= 539))
			expected = RESULT_FAILED;
		assert_int_equal(push_result_of(WAY_MAIL, status), expected);
	}
}

static void
the_last_attempt(void **state)
{
	static const struct {
		enum way way;
		long status;
		int attempt, most;
		bool last;
	} cases[] = {
	    {WAY_HTTP, 500, 14, 15, false},
	    {WAY_HTTP, 500, 15, 15, true},
	    {WAY_HTTP, 0, 15, 15, true},
	    {WAY_HTTP, 404, 8, 15, false},
	    {WAY_HTTP, 404, 9, 15, true},
	    {WAY_HTTP, 404, 1, 1, true},
	    {WAY_HTTP, 410, 100, 15, false},
	    {WAY_HTTP, 200, 100, 15, false},
	    {WAY_MAIL, 250, 100, 15, false},
	    {WAY_MAIL, 550, 1, 15, true},
	    {WAY_MAIL, 552, 1, 15, true},
	    {WAY_MAIL, 535, 1, 15, false},
	    {WAY_MAIL, 535, 15, 15, true},
	    {WAY_MAIL, 451, 14, 15, false},
	    {WAY_MAIL, 451, 15, 15, true},
	    {WAY_MAIL, 421, 14, 15, false},
	    {WAY_MAIL, 0, 14, 15, false},
	    {WAY_MAIL, 0, 15, 15, true},
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
		assert_int_equal(
		    push_was_last(cases[i].way, cases[i].status, cases[i].attempt, cases[i].most),
		    cases[i].last);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(every_status_has_its_result),
	    cmocka_unit_test(every_reply_to_a_mail_has_its_result),
	    cmocka_unit_test(the_last_attempt),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
