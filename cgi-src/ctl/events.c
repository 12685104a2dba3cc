/*
 * events.c - "foloosictl events": who gets events, and what they did not take.
 *
 * A table of actions over the functions of sql/functions/events.sql, which decide
 * everything; psql can do the same.
 */
#include <err.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "ctl.h"
#include "mem.h"
#include "pg_query.h"
#include "query.h"

struct action {
	const char *name;
	const char *sql; /* $1: the consumer, $2: ids, if it takes some */
	bool takes_ids, needs_ids;
	const char *said; /* what the number that comes back counts; NULL: there is none */
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

static int run(int argc, char **argv);

const struct subcommand events_subcommand = {
    .name = "events",
    .synopsis = "[list [--json] | retry CONSUMER [ID ...] | discard CONSUMER ID ... |\n"
		"           enable CONSUMER | disable CONSUMER | drop CONSUMER]",
    .summary = "list who gets events; hand out again what was not taken",
    .options = HELP_DATABASE HELP_JSON
    "  retry CONSUMER         hand out all its dead letters again, or these events\n"
    "  discard CONSUMER ID    give these events up\n"
    "  enable CONSUMER        after an answer 410, or to try an endpoint at once\n"
    "  disable CONSUMER       hand out nothing until it is enabled\n"
    "  drop CONSUMER          forget it and all that waits for it\n",
    .run = run,
};

static int
act(struct pg *s, const struct action *a, const char *consumer, char **ids, int count)
{
	struct pg_array array = {0};
	const char *values[] = {consumer, NULL};
	struct pg_rows rows;
	enum pg_status status;

	for (int i = 0; i < count; i++)
		pg_array_add(&array, ids[i]);
	if (count > 0)
		values[1] = pg_array_text(&array);
	status = pg_query(s, a->sql, a->takes_ids ? 2 : 1, values, &rows);
	pg_array_free(&array);
	if (status != PG_OK) {
		warnx("%s", pg_error(s));
		return CTL_FAILED;
	}
	if (a->said != NULL)
		printf("%s %s\n", pg_value(&rows, 0, 0), a->said);
	pg_rows_free(&rows);
	return CTL_OK;
}

static int
run(int argc, char **argv)
{
	static const struct option known[] = {
	    CTL_OPTION_DATABASE, CTL_OPTION_JSON, {NULL, 0, NULL, 0}};
	const char *conninfo = "";
	const struct action *action = NULL;
	struct pg *s;
	bool json = false;
	int option, code;

	while ((option = getopt_long(argc, argv, "d:j", known, NULL)) != -1) {
		if (option == 'd')
			conninfo = optarg;
		else if (option == 'j')
			json = true;
		else
			return ctl_usage(&events_subcommand);
	}
	argc -= optind;
	argv += optind;
	if (argc > 1 || (argc == 1 && strcmp(argv[0], "list") != 0)) {
		for (size_t i = 0; i < ACTIONS; i++)
			if (strcmp(actions[i].name, argv[0]) == 0)
				action = &actions[i];
		if (action == NULL || json || argc < 2 || (argc > 2 && !action->takes_ids) ||
		    (argc == 2 && action->needs_ids))
			return ctl_usage(&events_subcommand);
		for (int i = 2; i < argc; i++)
			if (*argv[i] == '\0' || strlen(argv[i]) > 18 ||
			    strspn(argv[i], "0123456789") != strlen(argv[i]))
				return ctl_usage(&events_subcommand);
	}
	if ((s = ctl_connect(conninfo)) == NULL)
		return CTL_FAILED;
	code = action == NULL ? ctl_list_consumers(s, json)
			      : act(s, action, argv[1], argv + 2, argc - 2);
	pg_free(s);
	return code;
}
