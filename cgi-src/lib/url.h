/* SPDX-License-Identifier: MIT */
/*
 * url.h - what kind of URL the configuration has. No name is looked up.
 */
#ifndef URL_H
#define URL_H

#define URL_MAX 2048 /* bytes */

enum url_kind {
	URL_BAD,      /* not scheme://host[:port][/…], or one with a user, a fragment or blanks */
	URL_TLS,      /* https or smtps, any host */
	URL_LOOPBACK, /* without TLS, to this machine: localhost, 127.0.0.0/8, [::1] */
	URL_PLAIN,    /* without TLS, to anywhere else: readable on the way */
};

enum url_kind url_kind(const char *url);      /* of http or https */
enum url_kind url_smtp_kind(const char *url); /* of smtp or smtps, without a path */

/* "https://host:port" of a URL that is not URL_BAD; the rest may be a secret. Owned by the caller. */
char *url_site(const char *url);

#endif
