/* SPDX-License-Identifier: MIT */
/*
 * snippet.c - "foloosictl nginx-snippet" and "apache-snippet": the shipped configuration of the
 * web server, with the handler's socket and limit, and if wanted for one merchant alone.
 *
 * The text is the installed file; a few strings in it are replaced. A string that is not found is an error,
 * so that no snippet does something else than this program believes. Without "listen"
 * the socket is systemd's, at the path that the shipped files have.
 */
#include <sys/stat.h>

#include <err.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "ctl.h"
#include "mem.h"

#ifndef FOLOOSI_DATADIR
#define FOLOOSI_DATADIR "/usr/share/foloosi-webhook"
#endif

#define SOCKET "/run/foloosi-webhook/foloosi-webhook.sock"
#define FILE_MAX 262144
#define SPARE                                                                                      \
	4 /* times the handler's limit is the web server's: the handler answers first, with a 413 of its own */

/* What a replacement is made of. */
enum by {
	BY_SOCKET,
	BY_LIMIT, /* bytes */
	BY_MERCHANT,
	BY_NAME /* the merchant's as part of a name: letters, digits and _ */
};

struct replacement {
	const char *old, *before, *after; /* old becomes before, the value, after */
	enum by by;
	bool merchants; /* only for one merchant */
};

struct template
{
	const char *part, *path;
	const char *where; /* where it is to be put */
	struct replacement replacements[8];
};

static const struct template nginx_templates[] = {
    {"http", "nginx/foloosi-webhook.conf", "into http { }, or as a file into /etc/nginx/conf.d/",
	{{SOCKET, "", "", BY_SOCKET, false},
	    {"foloosi_webhook", "foloosi_webhook_", "", BY_NAME, true}}},
    {"server", "nginx/foloosi-webhook-location.conf", "into the server { } that shall answer",
	{{" 256k;", " ", ";", BY_LIMIT, false},
	    {"foloosi_webhook", "foloosi_webhook_", "", BY_NAME, true},
	    {"location ^~ /webhooks/foloosi/ ", "location ^~ /webhooks/foloosi/", "/ ", BY_MERCHANT,
		true},
	    {"location = /webhooks/foloosi ", "location = /webhooks/foloosi/", " ", BY_MERCHANT,
		true},
	    {"rewrite ^ /webhooks/foloosi/ ", "rewrite ^ /webhooks/foloosi/", "/ ", BY_MERCHANT,
		true}}},
    {NULL, NULL, NULL, {{NULL, NULL, NULL, BY_SOCKET, false}}},
};

static const struct template apache_templates[] = {
    {"", "apache/foloosi-webhook-proxy.conf", "into the <VirtualHost> that shall answer",
	{{SOCKET, "", "", BY_SOCKET, false}, {"-gt 262144", "-gt ", "", BY_LIMIT, false},
	    {"<Location \"/webhooks/foloosi/\">", "<Location \"/webhooks/foloosi/", "/\">",
		BY_MERCHANT, true}}},
    {NULL, NULL, NULL, {{NULL, NULL, NULL, BY_SOCKET, false}}},
};

/* A file, owned and NUL-terminated; NULL after a message. */
static char *
read_template(const char *dir, const char *path)
{
	char *full = xasprintf("%s/%s", dir, path), *text = NULL;
	FILE *f = fopen(full, "re");
	size_t n;

	if (f == NULL) {
		warnx("%s: %s; --templates DIR says where else it is", full, strerror(errno));
	} else {
		text = xcalloc(FILE_MAX, 1);
		n = fread(text, 1, FILE_MAX - 1, f);
		if (ferror(f) || n == 0 || n == FILE_MAX - 1) {
			warnx("%s: cannot be read, or is none of our files", full);
			free(text);
			text = NULL;
		}
		fclose(f);
	}
	free(full);
	return text;
}

/* Replace every old in *text, which is owned and replaced. False if there is none. */
static bool
replace_string(char **text, const struct replacement *r, const char *value)
{
	char *result, *at, *rest = *text;
	bool found = false;
	size_t len;
	FILE *out = open_memstream(&result, &len);

	if (out == NULL)
		abort();
	for (; (at = strstr(rest, r->old)) != NULL; rest = at + strlen(r->old)) {
		fprintf(out, "%.*s%s%s%s", (int)(at - rest), rest, r->before, value, r->after);
		found = true;
	}
	fputs(rest, out);
	if (fclose(out) != 0)
		abort();
	free(*text);
	*text = result;
	return found;
}

/* The merchant's name as part of a web server's name. Owned. */
static char *
plain_name(const char *merchant)
{
	char *name = xstrdup(merchant);

	for (char *p = name; *p != '\0'; p++)
		if (*p == '.' || *p == '-')
			*p = '_';
	return name;
}

static int
print_template(const struct template *t, const char *dir, const struct config *config,
    const char *merchant, bool several)
{
	size_t limit = config->body_limit * SPARE > 262144 ? config->body_limit * SPARE : 262144;
	char *bytes = xasprintf("%zu", limit), *name = plain_name(merchant != NULL ? merchant : "");
	const char *values[] = {[BY_SOCKET] = config->listen != NULL ? config->listen : SOCKET,
	    [BY_LIMIT] = bytes,
	    [BY_MERCHANT] = merchant,
	    [BY_NAME] = name};
	char *text = read_template(dir, t->path);
	int code = text != NULL ? CTL_OK : CTL_FAILED;

	for (const struct replacement *r = t->replacements; code == CTL_OK && r->old != NULL; r++)
		if ((merchant != NULL || !r->merchants) &&
		    !replace_string(&text, r, values[r->by])) {
			warnx("%s/%s: \"%s\" is not in it: take the file of this release", dir,
			    t->path, r->old);
			code = CTL_FAILED;
		}
	if (code == CTL_OK) {
		if (several)
			printf("# ======== part \"%s\": %s\n\n", t->part, t->where);
		fputs(text, stdout);
	}
	free(text);
	free(bytes);
	free(name);
	return code;
}

static int
run_snippet(const struct ctl_call *call)
{
	const struct template *templates = call->self->arg;
	const char *part = templates == nginx_templates ? ctl_value(call, "part") : NULL,
		   *dir = ctl_value(call, "templates"), *merchant = call->argv[0];
	struct config *config;
	int code = CTL_OK;

	if (call->argc > 1)
		return ctl_usage(call->self);
	if (dir == NULL)
		dir = FOLOOSI_DATADIR;
	if ((config = ctl_config(call)) == NULL)
		return CTL_FAILED;
	if (merchant != NULL && ctl_merchant(config, merchant) == NULL)
		code = CTL_FAILED;
	for (const struct template *t = templates; code == CTL_OK && t->part != NULL; t++)
		if (part == NULL || strcmp(part, t->part) == 0)
			code = print_template(
			    t, dir, config, merchant, part == NULL && t->part[0] != '\0');
	config_unref(config);
	return code;
}

#define TEMPLATES {"templates", 0, "DIR", "the shipped files (default: " FOLOOSI_DATADIR ")", NULL}
#define HELP_MERCHANT "  MERCHANT                   only its endpoint (default: all of them)\n"

const struct subcommand nginx_snippet_subcommand = {
    .name = "nginx-snippet",
    .arguments = "[MERCHANT]",
    .summary = "print what goes into nginx's configuration",
    .options = CTL_OPTIONS(CTL_CONFIG,
	{"part", 0, "PART", "the part for http { } or for server { } (default: both)",
	    "http server"},
	TEMPLATES),
    .help = HELP_MERCHANT,
    .run = run_snippet,
    .arg = nginx_templates,
};

const struct subcommand apache_snippet_subcommand = {
    .name = "apache-snippet",
    .arguments = "[MERCHANT]",
    .summary = "print what goes into Apache's configuration (mod_proxy_fcgi)",
    .options = CTL_OPTIONS(CTL_CONFIG, TEMPLATES),
    .help = HELP_MERCHANT,
    .run = run_snippet,
    .arg = apache_templates,
};
