// objects: worker/provider.c lib/rfc8259.c lib/money.c
/* SPDX-License-Identifier: MIT */
// provider.c: what the provider's answers say, and what they do not.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "provider.h"

/* No question is asked here. */
void
http_client_submit(struct http_client *c, const struct http_client_request *r)
{
	(void)c, (void)r;
}

static struct provider shape = {.url = "https://api.example/",
    .path = "/v1/api/transaction-detail/{transaction_no}?x",
    .status = "data.status",
    .amount = "data.amount",
    .currency = "data.currency",
    .order = "data.api.optional1",
    .list_path =
	"/v1/list?q={\"from\":\"{from}\",\"to\":\"{to}\",\"page\":\"{page}\",\"limit\":\"{limit}"
	"\"}&x=a b%2F#",
    .list_rows = "data.transactions",
    .list_number = "transaction_no",
    .list_status = "status",
    .list_amount = "send_amount",
    .list_currency = "sender_currency"};

/* read: "status amount currency order" with - for what is missing; NULL: it cannot be understood. */
static const struct {
	const char *answer, *read;
} cases[] = {
    {"{\"data\":{\"status\":\"success\",\"amount\":\"100\",\"currency\":\"AED\",\"api\":{"
     "\"optional1\":\"O-1\"}}}",
	"success 100 AED O-1"},
    {"{\"data\":{\"status\":\"SUCCESS\",\"amount\":367.3000,\"currency\":\"aed\",\"api\":{"
     "\"optional1\":null}}}",
	"success 367.3000 AED -"},
    {"{\"data\":{\"status\":\"success\",\"amount\":0.1,\"currency\":\"AED\",\"api\":null}}",
	"success 0.1 AED -"},
    {"{\"data\":{\"status\":\"success\",\"amount\":999999999999.9999,\"currency\":\"AED\","
     "\"api\":{\"optional1\":\"\"}}}",
	"success 999999999999.9999 AED -"},
    {"{\"data\":{\"status\":\"success\",\"amount\":1,\"currency\":\"AED\",\"api\":{\"optional1\":"
     "1042}}}",
	"success 1 AED 1042"},
    {"{\"data\":{\"status\":\"success\",\"amount\":1,\"currency\":\"AED\",\"api\":{\"optional1\":"
     "\"SHOP-7\"}}}",
	"success 1 AED 7"},
    {"{\"data\":{\"status\":\"success\",\"amount\":1,\"currency\":\"AED\",\"api\":{\"optional1\":"
     "\"SHOP-\"}}}",
	"success 1 AED "},
    {"{\"data\":{\"status\":\"success\",\"amount\":1,\"currency\":\"AED\",\"api\":[\"optional1\"]}"
     "}",
	NULL},
    {"{\"data\":{\"status\":\"success\",\"amount\":1,\"currency\":\"AED\"}}", NULL},
    {"{\"data\":{\"status\":\"success\",\"amount\":1,\"currency\":\"AED\",\"api\":{}}}", NULL},
    {"{\"data\":{\"status\":\"success\",\"amount\":1,\"currency\":\"AED\",\"api\":{"
     "\"optional2\":\"O-1\"}}}",
	NULL},
    {"{\"data\":{\"status\":\"success\",\"amount\":1,\"currency\":\"AED\",\"api\":{\"optional1\":"
     "{}}}}",
	NULL},
    {"{\"data\":{\"status\":\"success\",\"amount\":1,\"currency\":\"AED\",\"api\":{\"optional1\":"
     "true}}}",
	NULL},
    {"{\"data\":{\"status\":\"failed\"}}", "failed - - -"},
    {"{\"data\":{\"status\":\"failed\",\"amount\":\"a lot\",\"currency\":\"Dirham\"}}",
	"failed - - -"},
    {"{\"data\":{\"status\":\"success\",\"amount\":1e2,\"currency\":\"AED\"}}", NULL},
    {"{\"data\":{\"status\":\"success\",\"amount\":-1,\"currency\":\"AED\"}}", NULL},
    {"{\"data\":{\"status\":\"success\",\"amount\":1.00001,\"currency\":\"AED\"}}", NULL},
    {"{\"data\":{\"status\":\"success\",\"amount\":1}}", NULL},
    {"{\"data\":{\"status\":\"success\",\"currency\":\"AED\"}}", NULL},
    {"{\"data\":{\"status\":true,\"amount\":1,\"currency\":\"AED\"}}", NULL},
    {"{\"data\":{\"status\":\"\",\"amount\":1,\"currency\":\"AED\"}}", NULL},
    {"{\"data\":{\"status\":null}}", NULL},
    {"{\"data\":[]}", NULL},
    {"{\"data\":\"status\"}", NULL},
    {"[]", NULL},
    {"\"success\"", NULL},
    {"{\"data\":{\"status\":\"success\",\"status\":\"failed\"}}", NULL},
    {"{\"data\":{\"status\":\"failed\"}", NULL},
    {"{\"data\":{\"status\":\"failed\"}} x", NULL},
    {"<html>", NULL},
    {"", NULL},
};

static const char *
or_dash(const char *text)
{
	return text != NULL ? text : "-";
}

static void
answers(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct provider_answer a;
		char text[256];
		bool read = provider_read_answer(
		    &shape, "SHOP-", cases[i].answer, strlen(cases[i].answer), &a);

		if (read != (cases[i].read != NULL))
			fail_msg("%s: %s", cases[i].answer, read ? "understood" : a.fault);
		if (read) {
			snprintf(text, sizeof text, "%s %s %s %s", or_dash(a.status),
			    or_dash(a.amount), or_dash(a.currency), or_dash(a.order));
			assert_string_equal(text, cases[i].read);
		} else {
			assert_non_null(a.fault);
		}
		provider_answer_free(&a);
	}
}

static void
an_order_that_is_not_looked_for(void **state)
{
	struct provider v2 = shape;
	struct provider_answer a;
	static const char answer[] =
	    "{\"data\":{\"status\":\"success\",\"amount\":1,\"currency\":\"AED\"},\"\":\"O-1\"}";

	(void)state;
	v2.order = "";
	assert_true(provider_read_answer(&v2, NULL, answer, sizeof answer - 1, &a));
	assert_null(a.order);
	provider_answer_free(&a);
}

static void
questions(void **state)
{
	static const char *const numbers[][2] = {
	    {"FLS-1_a", "https://api.example/v1/api/transaction-detail/FLS-1_a?x"},
	    {"../a", "https://api.example/v1/api/transaction-detail/%2E%2E%2Fa?x"},
	    {"a b&?#%", "https://api.example/v1/api/transaction-detail/a%20b%26%3F%23%25?x"},
	    {"\xc3\xa4", "https://api.example/v1/api/transaction-detail/%C3%A4?x"},
	    {"\r\n", "https://api.example/v1/api/transaction-detail/%0D%0A?x"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
		char *url = provider_detail_url(&shape, numbers[i][0]);

		assert_string_equal(url, numbers[i][1]);
		free(url);
	}
}

#define LIST(rows) "{\"message\":\"x\",\"data\":{\"transactions\":[" rows "]}}"
#define TEN "0123456789"
#define FIFTY TEN TEN TEN TEN TEN

/* rows: each "number status amount currency", "!" before one with a fault; NULL: no list. */
static const struct {
	const char *answer, *rows;
} lists[] = {
    {LIST(""), ""},
    {LIST("{\"transaction_no\":\"N-1\",\"status\":\"Success\",\"send_amount\":0.10,\"sender_"
	  "currency\":"
	  "\"aed\"}"),
	"N-1 success 0.10 AED\n"},
    {LIST("{\"transaction_no\":1042,\"status\":\"failed\"},{\"transaction_no\":\"N-2\",\"status\":"
	  "\"success\",\"send_amount\":\"1e2\",\"sender_currency\":\"Dirham\"}"),
	"1042 failed - -\nN-2 success - -\n"},
    {LIST("{\"status\":\"success\"},{\"transaction_no\":\"N-1\"},null,[],1,\"N-1\""),
	"!- success - -\n!N-1 - - -\n!- - - -\n!- - - -\n!- - - -\n!- - - -\n"},
    {LIST("{\"transaction_no\":\"" FIFTY FIFTY FIFTY "\",\"status\":\"success\"}"),
	"!- success - -\n"},
    {LIST("{\"transaction_no\":\"N-1\",\"status\":\"" FIFTY FIFTY "\"}"), "!N-1 - - -\n"},
    {"{\"data\":{\"transactions\":null}}", ""},
    {"{\"data\":[]}", ""},
    {"{\"data\":null}", ""},
    {"{\"data\":{}}", ""},
    {"{}", ""},
    {"{\"data\":{\"message\":\"x\"}}", NULL},
    {"{\"message\":\"x\"}", NULL},
    {"{\"data\":[1]}", NULL},
    {"{\"data\":{\"transactions\":{}}}", ""},
    {"{\"data\":{\"transactions\":{\"N-1\":1}}}", NULL},
    {"{\"data\":{\"transactions\":\"\"}}", NULL},
    {"[]", ""},
    {"null", NULL},
    {"\"\"", NULL},
    {"<html>", NULL},
    {"", NULL},
    {LIST("{\"transaction_no\":\"N-1\",\"transaction_no\":\"N-2\",\"status\":\"success\"}"), NULL},
};

static void
pages(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
		struct provider_list l;
		char said[512] = "";
		bool read =
		    provider_read_list(&shape, lists[i].answer, strlen(lists[i].answer), &l);

		if (read != (lists[i].rows != NULL))
			fail_msg("%s: %s", lists[i].answer, read ? "understood" : l.fault);
		assert_int_equal(read, l.fault == NULL);
		for (size_t k = 0; k < l.count; k++) {
			const struct provider_answer *a = &l.rows[k].answer;

			snprintf(said + strlen(said), sizeof said - strlen(said), "%s%s %s %s %s\n",
			    a->fault != NULL ? "!" : "", or_dash(l.rows[k].number),
			    or_dash(a->status), or_dash(a->amount), or_dash(a->currency));
		}
		assert_string_equal(said, read ? lists[i].rows : "");
		provider_list_free(&l);
	}
}

static void
too_many_rows(void **state)
{
	static char answer[16 + 3 * (PROVIDER_LIST_MAX + 1)];
	struct provider bare = shape;
	struct provider_list l;
	char *end = answer;

	(void)state;
	bare.list_rows = "rows";
	end += sprintf(end, "{\"rows\":[1");
	for (int i = 1; i < PROVIDER_LIST_MAX; i++)
		end += sprintf(end, ",1");
	strcpy(end, "]}");
	assert_true(provider_read_list(&bare, answer, strlen(answer), &l));
	assert_int_equal(l.count, PROVIDER_LIST_MAX);
	provider_list_free(&l);
	strcpy(end, ",1]}");
	assert_false(provider_read_list(&bare, answer, strlen(answer), &l));
	assert_int_equal(l.count, 0);
	provider_list_free(&l);
}

static void
a_page_s_url(void **state)
{
	char *url = provider_list_url(&shape, "11/24/2026", "11/25/2026", 17);

	(void)state;
	assert_string_equal(url,
	    "https://api.example/v1/"
	    "list?q=%7B%22from%22:%2211%2F24%2F2026%22,%22to%22:%2211%2F25%2F2026%22,"
	    "%22page%22:%2217%22,%22limit%22:%22100%22%7D&x=a%20b%2F%23");
	free(url);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(answers),
	    cmocka_unit_test(an_order_that_is_not_looked_for),
	    cmocka_unit_test(questions),
	    cmocka_unit_test(pages),
	    cmocka_unit_test(too_many_rows),
	    cmocka_unit_test(a_page_s_url),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
