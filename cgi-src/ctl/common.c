/*
 * common.c - what subcommands share: the handler's configuration file.
 */
#include <err.h>
#include <stdlib.h>
#include <string.h>

#include "ctl.h"
#include "log.h"

struct config *
ctl_config(const char *path)
{
	struct config *config;
	char *error = NULL;

	log_set_level(LOG_WARNING);
	if ((config = config_load(
		 path != NULL ? path : config_path(), CONFIG_FOR_HANDLER, &error)) == NULL) {
		warnx("%s", error);
		free(error);
	}
	return config;
}

const struct merchant *
ctl_merchant(const struct config *config, const char *name)
{
	const struct merchant *m = NULL;

	if (name != NULL)
		m = config_merchant(config, name, strlen(name));
	else if (config->merchant_count == 1)
		m = &config->merchants[0];
	if (m == NULL && name != NULL)
		warnx("the configuration has no [merchant %s]", name);
	else if (m == NULL)
		warnx("the configuration has %zu merchants: say --merchant NAME",
		    config->merchant_count);
	return m;
}
