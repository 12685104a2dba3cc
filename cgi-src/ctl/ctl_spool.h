/*
 * ctl_spool.h - "foloosictl spool": look into the spool, and drain it.
 */
#ifndef CTL_SPOOL_H
#define CTL_SPOOL_H

#include "ctl.h"

extern const struct subcommand spool_subcommand;

#endif
