/* SPDX-License-Identifier: MIT */
/*
 * events.c - "foloosictl events": the consumers of events, and what they did not take.
 *
 * A table of actions over the functions of sql/functions/events.sql, which decide
 * everything; psql can do the same.
 */
#include <err.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "ctl.h"
#include "mem.h"

struct action {
	const char *name;
	const char *sql; /* $1: the consumer, $2: ids, if it takes some */
	bool takes_ids, needs_ids;
	const char *counted; /* what the number that comes back counts; NULL: there is none */
};

static const struct action actions[] = {
    {"retry", "select foloosi.retry_events($1, $2::bigint[])", true, false,
	"events will be handed out again"},
    {"discard", "select foloosi.discard_events($1, $2::bigint[])", true, true,
	"events were given up"},
    {"enable", "select foloosi.enable_consumer($1)", false, false, NULL},
    {"disable", "select foloosi.disable_consumer($1)", false, false, NULL},
    {"drop", "select foloosi.drop_consumer($1)", false, false, NULL},
};
#define ACTIONS (sizeof actions / sizeof *actions)

static int
run_action(struct pg *s, const struct action *a, const char *consumer, char **ids, int count)
{
	struct text array = {0};
	const char *values[] = {consumer, NULL};
	struct pg_rows rows;
	enum pg_status status;
	int code = CTL_OK;

	for (int i = 0; i < count; i++)
		pg_array_add(&array, ids[i]);
	if (count > 0)
		values[1] = pg_array_text(&array);
	status = pg_query(s, a->sql, a->takes_ids ? 2 : 1, values, &rows);
	text_free(&array);
	if (status != PG_OK) {
		warnx("%s", pg_error(s));
		return CTL_FAILED;
	}
	if (count > 0 && strcmp(pg_value(&rows, 0, 0), "0") == 0) {
		warnx("nothing was changed: none of these events waits for \"%s\"", consumer);
		code = CTL_FAILED;
	} else if (a->counted != NULL) {
		printf("%s %s\n", pg_value(&rows, 0, 0), a->counted);
	}
	pg_rows_free(&rows);
	return code;
}

static int
run_events(const struct ctl_call *call)
{
	const struct action *action = NULL;
	int argc = call->argc, code;
	char **argv = call->argv;
	bool json = ctl_value(call, "json") != NULL;
	struct pg *s;

	if (argc > 1 || (argc == 1 && strcmp(argv[0], "list") != 0)) {
		for (size_t i = 0; i < ACTIONS; i++)
			if (strcmp(actions[i].name, argv[0]) == 0)
				action = &actions[i];
		if (action == NULL || json || argc < 2 || (argc > 2 && !action->takes_ids) ||
		    (argc == 2 && action->needs_ids))
			return ctl_usage(call->self);
		for (int i = 2; i < argc; i++)
			if (!ctl_is_number(argv[i]))
				return ctl_usage(call->self);
	}
	if ((s = ctl_connect(call)) == NULL)
		return CTL_FAILED;
	code = action == NULL ? ctl_list_consumers(s, json)
			      : run_action(s, action, argv[1], argv + 2, argc - 2);
	pg_free(s);
	return code;
}

const struct subcommand events_subcommand = {
    .name = "events",
    .arguments = "[list | retry CONSUMER [ID ...] | discard CONSUMER ID ... | enable CONSUMER | "
		 "disable CONSUMER | drop CONSUMER]",
    .summary = "list the consumers of events; hand out again what was not taken",
    .options = CTL_OPTIONS(CTL_DATABASE, CTL_JSON),
    .help = "  retry CONSUMER             hand out its dead letters again, or these events\n"
	    "  discard CONSUMER ID        give these events up\n"
	    "  enable CONSUMER            after an answer 410, or to try an endpoint at once\n"
	    "  disable CONSUMER           hand out nothing until it is enabled\n"
	    "  drop CONSUMER              forget it and all that waits for it\n",
    .run = run_events,
};
