/* SPDX-License-Identifier: MIT */
/*
 * spool.c - "foloosictl spool": list the files of the spool, and drain it.
 *
 * A running handler drains by itself. This is for plain CGI, where no process keeps running, and for a
 * person who wants to watch it. Directory and database are those of the handler's configuration.
 *
 * Root becomes the directory's owner first: files that are set aside still belong to the handler's user, and
 * the database sees a user that it knows.
 */
#include <err.h>
#include <errno.h>
#include <grp.h>
#include <inttypes.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "ctl.h"
#include "drain.h"
#include "mem.h"

#define LIST 1000 /* names at a time */

static int
become_owner(const char *directory)
{
	struct passwd *owner;
	struct stat st;

	if (geteuid() != 0 || stat(directory, &st) != 0 || st.st_uid == 0)
		return 0;
	if ((owner = getpwuid(st.st_uid)) == NULL) {
		warnx(
		    "%s belongs to user %u, which has no account", directory, (unsigned)st.st_uid);
		return -1;
	}
	if (initgroups(owner->pw_name, owner->pw_gid) != 0 || setgid(owner->pw_gid) != 0 ||
	    setuid(owner->pw_uid) != 0) {
		warn("cannot become user %s", owner->pw_name);
		return -1;
	}
	if (owner->pw_dir != NULL) /* libpq looks for its password file there */
		setenv("HOME", owner->pw_dir, 1);
	return 0;
}

/* 2026-11-24T02:15:00Z in a static buffer. */
static const char *
utc_time(int64_t us)
{
	static char text[32];
	time_t t = (time_t)(us / 1000000);
	struct tm tm;

	if (gmtime_r(&t, &tm) == NULL || strftime(text, sizeof text, "%FT%TZ", &tm) == 0)
		return "-";
	return text;
}

/* A row about a file; none if it is gone. */
static void
add_file(struct table *t, struct spool *spool, const char *name)
{
	const char *fault = NULL;
	enum spool_read found;
	struct spooled s;
	char bytes[24];

	found = spool_load(spool, name, &s, &fault);
	if (found == SPOOL_UNREADABLE)
		fault = strerror(errno);
	snprintf(bytes, sizeof bytes, "%zu", s.body_len);
	if (found == SPOOL_READ)
		table_row(t, (const char *[]){
				 utc_time(s.arrived), s.merchant, s.request_id, bytes, NULL, NULL});
	else if (found != SPOOL_GONE)
		table_row(t, (const char *[]){NULL, NULL, NULL, NULL, name, fault});
	spooled_free(&s);
}

/* So many names at a time, each with its own line of column names: a spool may hold millions. */
static void
print_files(struct spool *spool, bool json)
{
	const struct table_style style = table_style(stdout);
	char after[SPOOL_NAME_SIZE] = "";
	const char *separator = "";
	struct spool_name *names;
	size_t n;

	while ((n = spool_list(spool, after, LIST, false, &names)) > 0) {
		struct table t = {0};

		table_column(&t, "arrived", TABLE_TIME);
		table_column(&t, "merchant", TABLE_TEXT);
		table_column(&t, "request", TABLE_TEXT);
		table_column(&t, "bytes", TABLE_NUMBER);
		table_column(&t, "file", TABLE_TEXT);
		table_column(&t, "trouble", TABLE_TEXT);
		for (size_t i = 0; i < n; i++)
			add_file(&t, spool, names[i].text);
		memcpy(after, names[n - 1].text, sizeof after);
		free(names);
		for (size_t i = 0; json && i < t.rows; i++) {
			printf("%s\n ", separator);
			table_json_row(stdout, &t, i);
			separator = ",";
		}
		if (!json && t.rows > 0)
			table_print(stdout, &style, &t);
		table_free(&t);
	}
	free(names);
}

static int
list_spool(struct spool *spool, bool json)
{
	const struct spool_usage usage = spool_count(spool);

	if (usage.unread) {
		warnx("the spool's directory cannot be read");
		return CTL_FAILED;
	}
	if (json) {
		printf("{\"waiting\": %zu,\n\"bytes\": %zu,\n\"aside\": %zu,\n\"files\": [",
		    usage.files, usage.bytes, usage.aside);
		print_files(spool, true);
		puts("]}");
		return CTL_OK;
	}
	print_files(spool, false);
	printf("%zu waiting, %zu bytes\n", usage.files, usage.bytes);
	if (usage.aside > 0)
		printf("%zu set aside: look into the subdirectory aside\n", usage.aside);
	return CTL_OK;
}

static int
drain_spool(struct spool *spool, const struct config *config)
{
	const struct drain_options options = {
	    .spool = spool, .database = config->database, .rate = config->spool_rate};
	const size_t aside = spool_count(spool).aside;
	struct spool_usage usage;
	struct drain_result result;
	char *error;
	int code = CTL_OK;

	switch (drain_once(&options, &result, &error)) {
	case DRAIN_ELSEWHERE:
		warnx("another process is draining this spool, most likely foloosi-webhook itself");
		return CTL_FAILED;
	case DRAIN_FAILED:
		warnx("the database does not take it: %s", error);
		free(error);
		code = CTL_FAILED;
		break;
	case DRAIN_DONE:
		break;
	}
	usage = spool_count(spool);
	if (usage.unread) {
		warnx("the spool's directory cannot be read");
		return CTL_FAILED;
	}
	printf("%" PRIu64 " drained, %zu left", result.drained, usage.files);
	if (usage.aside > aside)
		printf(", %zu set aside", usage.aside - aside);
	putchar('\n');
	return result.left > 0 ? CTL_FAILED : code;
}

static int
run_spool(const struct ctl_call *call)
{
	struct config *config;
	struct spool *spool;
	char *error = NULL;
	bool drains, json = ctl_value(call, "json") != NULL;
	int code = CTL_FAILED;

	if (call->argc != 1 || !ctl_has_word("list drain", call->argv[0]))
		return ctl_usage(call->self);
	drains = strcmp(call->argv[0], "drain") == 0;
	if (drains && json)
		return ctl_usage(call->self);
	if ((config = ctl_config(call)) == NULL)
		return CTL_FAILED;
	if (config->spool_dir == NULL) {
		warnx("the configuration has no spool_dir, so there is no spool");
	} else if (become_owner(config->spool_dir) == 0) {
		spool = spool_open(&(struct spool_options){.directory = config->spool_dir,
				       .max_bytes = config->spool_max_bytes,
				       .max_files = (size_t)config->spool_max_files},
		    &error);
		if (spool == NULL) {
			warnx("%s", error);
			free(error);
		} else {
			code = drains ? drain_spool(spool, config) : list_spool(spool, json);
		}
		spool_close(spool);
	}
	config_unref(config);
	return code;
}

const struct subcommand spool_subcommand = {
    .name = "spool",
    .arguments = "list|drain",
    .summary = "list the spool's files, or record what is in them",
    .options = CTL_OPTIONS(CTL_CONFIG, CTL_JSON),
    .run = run_spool,
};
