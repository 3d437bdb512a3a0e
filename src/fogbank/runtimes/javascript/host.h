/* The parts of the JavaScript host, which main.c puts together. */

#ifndef HOST_H
#define HOST_H

#include <stddef.h>

#include "quickjs.h"

/* files.c: print, console and the object std, with files and the standard streams. */
int files_install(JSContext *context, JSValueConst global);
/* The module std, for scripts that import it; NULL with an exception if there is no memory. */
JSModuleDef *files_module(JSContext *context, const char *name);
/* A whole file with a NUL behind it, from malloc; NULL if it cannot be read. */
char *files_read(const char *path, size_t *size);

/* timers.c: setTimeout, setInterval and what clears them. */
int timers_install(JSContext *context, JSValueConst global);
/* Sleep until the next timer is due and call it. 1: called; 0: there is none; -1: it threw. */
int timers_run(JSContext *context);

#endif
