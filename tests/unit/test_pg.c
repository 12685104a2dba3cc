// objects: lib/pg.c
/* SPDX-License-Identifier: MIT */
// pg.c: what it does without a server. test_pg_server.c has the rest.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "../../cgi-src/lib/pg_private.h"

static void
every_class_has_its_meaning(void **state)
{
	static const struct {
		const char *sqlstate;
		enum pg_status want;
	} rows[] = {
	    {NULL, PG_LOST}, /* libpq's own errors have none */
	    {"08006", PG_LOST},
	    {"08P01", PG_LOST},
	    {"57P01", PG_LOST},
	    {"57P02", PG_LOST},
	    {"57P03", PG_LOST},
	    {"25006", PG_LOST},
	    {"25P03", PG_LOST},
	    {"40003", PG_LOST},
	    {"40001", PG_LOCKED},
	    {"40P01", PG_LOCKED},
	    {"55P03", PG_LOCKED},
	    {"57014", PG_LOCKED},
	    {"22P02", PG_DATA},
	    {"22021", PG_DATA},
	    {"23505", PG_DATA},
	    {"23514", PG_DATA},
	    {"21000", PG_DATA},
	    {"P0001", PG_DATA},
	    {"54000", PG_DATA},
	    {"38000", PG_DATA},
	    {"SHOP1", PG_DATA}, /* a merchant's trigger may raise what it likes */
	    {"28000", PG_DOWN},
	    {"28P01", PG_DOWN},
	    {"3D000", PG_DOWN},
	    {"42501", PG_DOWN},
	    {"42703", PG_DOWN},
	    {"53100", PG_DOWN},
	    {"53300", PG_DOWN},
	    {"58030", PG_DOWN},
	    {"XX000", PG_DOWN},
	    {"XX001", PG_DOWN},
	    {"0A000", PG_DOWN},
	    {"3F000", PG_SCHEMA},
	    {"42883", PG_SCHEMA},
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
		if (pg_classify(rows[i].sqlstate) != rows[i].want)
			fail_msg("%s is %d", rows[i].sqlstate, pg_classify(rows[i].sqlstate));
}

static void
sentences_are_lines(void **state)
{
	struct pg pg = {0};

	(void)state;
	pg_explain(&pg, "%s", "one host failed\nthe other\tfailed\n\n");
	assert_string_equal(pg_error(&pg), "one host failed the other failed");
	pg_explain(&pg, "%s", "");
	assert_string_equal(pg_error(&pg), "");
	char long_one[2 * PG_ERROR_SIZE];
	memset(long_one, 'x', sizeof long_one - 1);
	long_one[sizeof long_one - 1] = '\0';
	pg_explain(&pg, "%s", long_one);
	assert_int_equal(strlen(pg_error(&pg)), PG_ERROR_SIZE - 1);
}

/* By SQLSTATE or, where libpq does not give one, by words. */
static void
remedies_are_found(void **state)
{
	static const struct {
		const char *error, *remedy; /* words of it */
	} rows[] = {
	    {"connection to server at \"h\" (::1), port 5432 failed: Connection refused",
		"is PostgreSQL running?"},
	    {"connection to server on socket \"/s/.s.PGSQL.5432\" failed: No such file or "
	     "directory",
		"start the server"},
	    {"connection to server on socket \"/s/.s.PGSQL.5432\" failed: Permission denied",
		"may not connect to the server's socket"},
	    {"failed: FATAL:  28P01: password authentication failed for user \"u\"",
		"database_password_file"},
	    {"failed: FATAL:  password authentication failed for user \"u\"",
		"look at the password"},
	    {"failed: fe_sendauth: no password supplied", "name a password file"},
	    {"failed: FATAL:  Peer authentication failed for user \"u\"", "pg_hba.conf"},
	    {"failed: FATAL:  no pg_hba.conf entry for host \"h\", user \"u\"", "pg_hba.conf"},
	    {"failed: FATAL:  28000: role \"u\" is not permitted to log in", "let the role log in"},
	    {"failed: FATAL:  permission denied for database \"d\"", "grant connect"},
	    {"failed: FATAL:  too many connections for role \"u\"", "max_connections"},
	    {"failed: FATAL:  too many connections for database \"d\"", "max_connections"},
	    {"failed: FATAL:  role \"u\" does not exist", "let the role log in"},
	    {"failed: FATAL:  database \"d\" does not exist", "make the database"},
	    {"failed: FATAL:  57P03: the database system is starting up", "wait"},
	    {"failed: FATAL:  sorry, too many clients already", "max_connections"},
	    {"no answer before the deadline", NULL},
	};
	struct pg pg = {0};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		const char *remedy;

		pg_explain(&pg, "%s", rows[i].error);
		remedy = pg_remedy(&pg);
		if (rows[i].remedy == NULL
			? remedy != NULL
			: remedy == NULL || strstr(remedy, rows[i].remedy) == NULL)
			fail_msg("%s: %s", rows[i].error, remedy != NULL ? remedy : "no remedy");
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(every_class_has_its_meaning),
	    cmocka_unit_test(sentences_are_lines),
	    cmocka_unit_test(remedies_are_found),
	};

	return cmocka_run_group_tests_name("pg", tests, NULL, NULL);
}
