/*
 * migrate.h - "foloosictl migrate": bring the schema to where the files in sql/ are.
 */
#ifndef MIGRATE_H
#define MIGRATE_H

#include "ctl.h"

extern const struct subcommand migrate_subcommand;

#endif
