/* SPDX-License-Identifier: MIT */
/*
 * url.c - what kind of URL the configuration has.
 *
 * The hard part is to be no cleverer than libcurl, which will read the same text: what could be
 * read in two ways (a user before "@", a backslash, an escape in the host) is refused.
 */
#include <arpa/inet.h>
#include <stdbool.h>
#include <string.h>
#include <strings.h>

#include "mem.h"
#include "url.h"

static const char host_bytes[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-";

/* Length of "scheme://", for the scheme with TLS or the one without; 0 for another. */
static size_t
scheme_len(const char *url, const char *tls, const char *plain, bool *has_tls)
{
	size_t n = strlen(tls);

	*has_tls = strncasecmp(url, tls, n) == 0;
	if (*has_tls)
		return n;
	n = strlen(plain);
	return strncasecmp(url, plain, n) == 0 ? n : 0;
}

/* The host at the beginning of rest: a name, an IPv4 address, or [IPv6]. 0: none. */
static size_t
host_len(const char *rest)
{
	size_t n;

	if (*rest != '[')
		return strspn(rest, host_bytes);
	n = 1 + strspn(rest + 1, "0123456789abcdefABCDEF:.");
	return rest[n] == ']' ? n + 1 : 0;
}

/* ":" and 1 to 5 digits, or nothing. False: something else. */
static bool
port_ok(const char *port, size_t *len)
{
	size_t digits;

	*len = 0;
	if (*port != ':')
		return true;
	digits = strspn(port + 1, "0123456789");
	*len = digits + 1;
	return digits >= 1 && digits <= 5 && strtol(port + 1, NULL, 10) >= 1 &&
	       strtol(port + 1, NULL, 10) <= 65535;
}

static bool
is_loopback(const char *host, size_t len)
{
	char text[INET6_ADDRSTRLEN];
	struct in_addr v4;
	struct in6_addr v6;

	if (len == 9 && strncasecmp(host, "localhost", 9) == 0)
		return true;
	if (len >= sizeof text)
		return false;
	if (*host == '[') {
		memcpy(text, host + 1, len - 2);
		text[len - 2] = '\0';
		return inet_pton(AF_INET6, text, &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6);
	}
	memcpy(text, host, len);
	text[len] = '\0';
	return inet_pton(AF_INET, text, &v4) == 1 && ntohl(v4.s_addr) >> 24 == 127;
}

static enum url_kind
kind_of(const char *url, const char *tls, const char *plain)
{
	bool has_tls;
	size_t scheme = scheme_len(url, tls, plain, &has_tls), host, port;
	const char *rest = url + scheme;

	if (scheme == 0 || strlen(url) > URL_MAX || (host = host_len(rest)) == 0 ||
	    !port_ok(rest + host, &port))
		return URL_BAD;
	rest += host + port;
	if (*rest != '\0' && *rest != '/' && *rest != '?')
		return URL_BAD;
	for (; *rest != '\0'; rest++)
		if (*rest <= ' ' || *rest >= 0x7f || strchr("#\\\"<>^`|", *rest) != NULL)
			return URL_BAD; /* a signed char beyond ASCII is negative */
	if (has_tls)
		return URL_TLS;
	return is_loopback(url + scheme, host) ? URL_LOOPBACK : URL_PLAIN;
}

enum url_kind
url_kind(const char *url)
{
	return kind_of(url, "https://", "http://");
}

enum url_kind
url_smtp_kind(const char *url)
{
	const char *host = strstr(url, "://");

	if (host == NULL || strpbrk(host + 3, "/?") != NULL)
		return URL_BAD;
	return kind_of(url, "smtps://", "smtp://");
}

char *
url_site(const char *url)
{
	const char *host = strstr(url, "://") + 3;

	return xasprintf("%.*s", (int)(host - url) + (int)strcspn(host, "/?"), url);
}
