// objects: lib/url.c
/* SPDX-License-Identifier: MIT */
// url.c: where a URL of the configuration leads.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "url.h"

static const struct {
	const char *url;
	enum url_kind kind;
	const char *site;
} cases[] = {
    {"https://shop.example", URL_TLS, "https://shop.example"},
    {"HTTPS://Shop.Example:8443/a?b=c", URL_TLS, "HTTPS://Shop.Example:8443"},
    {"https://10.0.0.1/x", URL_TLS, "https://10.0.0.1"},
    {"https://[2001:db8::1]:443?x", URL_TLS, "https://[2001:db8::1]:443"},
    {"http://localhost/x", URL_LOOPBACK, "http://localhost"},
    {"http://LOCALHOST:1/x", URL_LOOPBACK, "http://LOCALHOST:1"},
    {"http://127.0.0.1:65535/x", URL_LOOPBACK, "http://127.0.0.1:65535"},
    {"http://127.255.3.4", URL_LOOPBACK, "http://127.255.3.4"},
    {"http://[::1]/x", URL_LOOPBACK, "http://[::1]"},
    {"http://[0:0::1]/x", URL_LOOPBACK, "http://[0:0::1]"},
    {"http://shop.example/x", URL_PLAIN, "http://shop.example"},
    {"http://127.0.0.1.shop.example/x", URL_PLAIN, NULL},
    {"http://localhost.shop.example/x", URL_PLAIN, NULL},
    {"http://notlocalhost/x", URL_PLAIN, NULL},
    {"http://127.1/x", URL_PLAIN, NULL}, /* not everybody's 127.0.0.1 */
    {"http://2130706433/x", URL_PLAIN, NULL},
    {"http://0.0.0.0/x", URL_PLAIN, NULL},
    {"http://[::ffff:127.0.0.1]/x", URL_PLAIN, NULL},
    {"http://[::]/x", URL_PLAIN, NULL},
    {"", URL_BAD, NULL},
    {"https://", URL_BAD, NULL},
    {"https:///x", URL_BAD, NULL},
    {"https:/shop.example", URL_BAD, NULL},
    {"shop.example/x", URL_BAD, NULL},
    {"ftp://shop.example/x", URL_BAD, NULL},
    {"file:///etc/passwd", URL_BAD, NULL},
    {"https://user@shop.example/x", URL_BAD, NULL},
    {"https://user:password@shop.example/x", URL_BAD, NULL},
    {"http://127.0.0.1@shop.example/x", URL_BAD, NULL},
    {"http://127.0.0.1\\@shop.example/x", URL_BAD, NULL},
    {"http://127.0.0.1#@shop.example/x", URL_BAD, NULL},
    {"https://shop.example/x#y", URL_BAD, NULL},
    {"https://shop.example:/x", URL_BAD, NULL},
    {"https://shop.example:0/x", URL_BAD, NULL},
    {"https://shop.example:65536/x", URL_BAD, NULL},
    {"https://shop.example:080080/x", URL_BAD, NULL},
    {"https://shop.example:8o/x", URL_BAD, NULL},
    {"https://sh%6Fp.example/x", URL_BAD, NULL},
    {"https://shop.example/a b", URL_BAD, NULL},
    {"https://shop.example/\r\nX: y", URL_BAD, NULL},
    {"https://shop.example/\xc3\xa4", URL_BAD, NULL},
    {"https://[::1/x", URL_BAD, NULL},
    {"https://[::1]x/x", URL_BAD, NULL},
    {"https://[fe80::1%25eth0]/x", URL_BAD, NULL},
};

static void
kinds_and_sites(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		if (url_kind(cases[i].url) != cases[i].kind)
			fail_msg("%s: %d", cases[i].url, (int)url_kind(cases[i].url));
		if (cases[i].site != NULL) {
			char *site = url_site(cases[i].url);

			assert_string_equal(site, cases[i].site);
			free(site);
		}
	}
}

static void
the_longest(void **state)
{
	char url[URL_MAX + 2];

	(void)state;
	memset(url, 'a', sizeof url);
	memcpy(url, "https://", 8);
	url[20] = '/';
	url[URL_MAX] = '\0';
	assert_int_equal(url_kind(url), URL_TLS);
	url[URL_MAX] = 'a';
	url[URL_MAX + 1] = '\0';
	assert_int_equal(url_kind(url), URL_BAD);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(kinds_and_sites),
	    cmocka_unit_test(the_longest),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
