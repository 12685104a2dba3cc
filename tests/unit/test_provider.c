// objects: provider.c rfc8259.c money.c
// provider.c: what the provider's answers say, and what they do not.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "provider.h"

static struct provider shape = {.url = "https://api.example/",
    .path = "/v1/api/transaction-detail/{transaction_no}?x",
    .status = "data.status",
    .amount = "data.amount",
    .currency = "data.currency",
    .order = "data.api.optional1"};

/* word: "status amount currency order" with - for what is missing; NULL: it cannot be understood. */
static const struct {
	const char *answer, *word;
} cases[] = {
    {"{\"data\":{\"status\":\"success\",\"amount\":\"100\",\"currency\":\"AED\",\"api\":{"
     "\"optional1\":\"O-1\"}}}",
	"success 100 AED O-1"},
    {"{\"data\":{\"status\":\"SUCCESS\",\"amount\":367.3000,\"currency\":\"aed\"}}",
	"success 367.3000 AED -"},
    {"{\"data\":{\"status\":\"success\",\"amount\":0.1,\"currency\":\"AED\",\"api\":null}}",
	"success 0.1 AED -"},
    {"{\"data\":{\"status\":\"success\",\"amount\":999999999999.9999,\"currency\":\"AED\"}}",
	"success 999999999999.9999 AED -"},
    {"{\"data\":{\"status\":\"success\",\"amount\":1,\"currency\":\"AED\",\"api\":{\"optional1\":"
     "1042}}}",
	"success 1 AED 1042"},
    {"{\"data\":{\"status\":\"success\",\"amount\":1,\"currency\":\"AED\",\"api\":{\"optional1\":"
     "\"SHOP-7\"}}}",
	"success 1 AED 7"},
    {"{\"data\":{\"status\":\"success\",\"amount\":1,\"currency\":\"AED\",\"api\":[\"optional1\"]}"
     "}",
	"success 1 AED -"},
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
		struct provider_word w;
		char word[256];
		bool read =
		    provider_read(&shape, "SHOP-", cases[i].answer, strlen(cases[i].answer), &w);

		if (read != (cases[i].word != NULL))
			fail_msg("%s: %s", cases[i].answer, read ? "understood" : w.fault);
		if (read) {
			snprintf(word, sizeof word, "%s %s %s %s", or_dash(w.status),
			    or_dash(w.amount), or_dash(w.currency), or_dash(w.order));
			assert_string_equal(word, cases[i].word);
		} else {
			assert_non_null(w.fault);
		}
		provider_word_free(&w);
	}
}

static void
an_order_that_is_not_looked_for(void **state)
{
	struct provider v2 = shape;
	struct provider_word w;
	static const char answer[] = "{\"data\":{\"status\":\"failed\"},\"\":\"O-1\"}";

	(void)state;
	v2.order = "";
	assert_true(provider_read(&v2, NULL, answer, sizeof answer - 1, &w));
	assert_null(w.order);
	provider_word_free(&w);
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
		char *url = provider_question(&shape, numbers[i][0]);

		assert_string_equal(url, numbers[i][1]);
		free(url);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(answers),
	    cmocka_unit_test(an_order_that_is_not_looked_for),
	    cmocka_unit_test(questions),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
