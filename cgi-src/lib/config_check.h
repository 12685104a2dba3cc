/* SPDX-License-Identifier: MIT */
/*
 * config_check.h - what the settings of a configuration mean together.
 */
#ifndef CONFIG_CHECK_H
#define CONFIG_CHECK_H

#include "settings.h"

/* A section has been read: read the files that it names, fill in what follows from other settings, note faults. */
void config_check_section(struct loading *);

/* All of it has been read: note what its sections lack of each other. */
void config_check_whole(struct loading *);

#endif
