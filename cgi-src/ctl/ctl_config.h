/*
 * ctl_config.h - the handler's configuration file, for subcommands.
 */
#ifndef CTL_CONFIG_H
#define CTL_CONFIG_H

#include "config.h"

#define CTL_OPTION_CONFIG {"config", required_argument, NULL, 'c'}
#define HELP_CONFIG                                                                                \
	"  -c, --config PATH          the handler's configuration file (default $" CONFIG_PATH_ENV \
	",\n"                                                                                      \
	"                             then " CONFIG_DEFAULT_PATH ")\n"

/* The path that is read if none is said. Static. */
const char *ctl_config_path(void);

/* Read a configuration; path NULL: the default. NULL after a sentence. The caller ends it by config_unref(). */
struct config *ctl_config(const char *path);

/* The merchant with this name, or with NULL the only one. NULL after a sentence. Borrowed. */
const struct merchant *ctl_merchant(const struct config *, const char *name);

#endif
