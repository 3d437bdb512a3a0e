/* Runs one script with QuickJS: /main.js, with the program's arguments as scriptArgs.
 *
 * The first argument is the script's name, by which errors call it. Exit code 0, what the script
 * gives to std.exit, or 1 after an exception that nothing caught, which is told on stderr.
 */

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "host.h"

#define SCRIPT "/main.js"
/* Beyond it the engine throws an InternalError: some 800 calls deep, a little before the sandbox's
 * own stack would end the program.
 */
#define STACK_SIZE (320 * 1024)

/* Promises that were rejected, and that nothing has handled so far. */
struct rejection {
    struct rejection *next;
    JSValue promise;
    JSValue reason;
};

static struct rejection *rejections;

static void note_rejection(JSContext *context, JSValueConst promise, JSValueConst reason,
                           JS_BOOL handled, void *unused)
{
    (void)unused;
    if (!handled) {
        struct rejection *fresh = malloc(sizeof *fresh);
        if (!fresh)
            return;
        *fresh = (struct rejection){ rejections, JS_DupValue(context, promise),
                                     JS_DupValue(context, reason) };
        rejections = fresh;
        return;
    }
    for (struct rejection **at = &rejections; *at; at = &(*at)->next) {
        struct rejection *found = *at;
        if (JS_VALUE_GET_PTR(found->promise) != JS_VALUE_GET_PTR(promise))
            continue;
        *at = found->next;
        JS_FreeValue(context, found->promise);
        JS_FreeValue(context, found->reason);
        free(found);
        return;
    }
}

static void tell(JSContext *context, JSValueConst error)
{
    const char *words = JS_ToCString(context, error);
    if (JS_IsNull(error))
        fputs("for lack of memory, or thrown: ", stderr); /* An error needs memory too. */
    fprintf(stderr, "%s\n", words ? words : "an exception that has no words");
    JS_FreeCString(context, words);
    if (!JS_IsError(context, error))
        return;
    JSValue stack = JS_GetPropertyStr(context, error, "stack");
    const char *places = JS_IsString(stack) ? JS_ToCString(context, stack) : NULL;
    if (places)
        fputs(places, stderr);
    JS_FreeCString(context, places);
    JS_FreeValue(context, stack);
}

static int fail(JSContext *context)
{
    fflush(stdout);
    JSValue error = JS_GetException(context);
    tell(context, error);
    JS_FreeValue(context, error);
    return EXIT_FAILURE;
}

/* Run what promises wait for, and timers, until nothing is left to do. */
static int run_jobs(JSContext *context)
{
    int timers;
    do {
        JSContext *where = context;
        int done;
        while ((done = JS_ExecutePendingJob(JS_GetRuntime(context), &where)) > 0)
            ;
        if (done < 0)
            return fail(where);
        if (rejections) {
            fflush(stdout);
            fputs("a promise was rejected, and nothing handled it: ", stderr);
            tell(context, rejections->reason);
            return EXIT_FAILURE;
        }
        timers = timers_run(context);
    } while (timers > 0);
    return timers < 0 ? fail(context) : EXIT_SUCCESS;
}

/* Math.random by xorshift64*, seeded from the task's randomness when it is first asked. */
static JSValue random_number(JSContext *context, JSValueConst self, int count, JSValueConst *given)
{
    static uint64_t state;
    (void)self, (void)count, (void)given;
    if (!state) {
        if (getentropy(&state, sizeof state))
            return JS_ThrowInternalError(context, "there is no randomness");
        state |= 1;
    }
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return JS_NewFloat64(context, ldexp((double)((state * 0x2545f4914f6cdd1d) >> 11), -53));
}

static JSModuleDef *load_module(JSContext *context, const char *name, void *unused)
{
    (void)unused;
    if (!strcmp(name, "std"))
        return files_module(context, name);
    size_t size;
    char *source = files_read(name, &size);
    if (!source) {
        JS_ThrowReferenceError(context, "there is no module %s: give it with --file", name);
        return NULL;
    }
    int flags = JS_EVAL_TYPE_MODULE | JS_EVAL_FLAG_COMPILE_ONLY;
    JSValue compiled = JS_Eval(context, source, size, name, flags);
    free(source);
    if (JS_IsException(compiled))
        return NULL;
    JSModuleDef *module = JS_VALUE_GET_PTR(compiled);
    JS_FreeValue(context, compiled); /* The context holds the module itself. */
    return module;
}

static int install(JSContext *context, int count, char **arguments)
{
    JSValue global = JS_GetGlobalObject(context);
    JSValue list = JS_NewArray(context);
    for (int i = 0; i < count; i++)
        JS_SetPropertyUint32(context, list, i, JS_NewString(context, arguments[i]));
    JSValue math = JS_GetPropertyStr(context, global, "Math");
    int failed = JS_SetPropertyStr(context, global, "scriptArgs", list) < 0
        || JS_SetPropertyStr(context, math, "random",
                             JS_NewCFunction(context, random_number, "random", 0)) < 0
        || files_install(context, global) || timers_install(context, global);
    JS_FreeValue(context, math);
    JS_FreeValue(context, global);
    return failed;
}

int main(int count, char **arguments)
{
    const char *name = count > 0 ? arguments[0] : SCRIPT;
    size_t size;
    char *source = files_read(SCRIPT, &size);
    if (!source) {
        fputs("there is no script: " SCRIPT " cannot be read\n", stderr);
        return EXIT_FAILURE;
    }
    JSRuntime *runtime = JS_NewRuntime();
    JSContext *context = runtime ? JS_NewContext(runtime) : NULL;
    if (!context) {
        fputs("there is too little memory to start\n", stderr);
        return EXIT_FAILURE;
    }
    JS_SetMaxStackSize(runtime, STACK_SIZE);
    JS_SetModuleLoaderFunc(runtime, NULL, load_module, NULL);
    JS_SetHostPromiseRejectionTracker(runtime, note_rejection, NULL);
    if (install(context, count, arguments))
        return fail(context);
    int kind = JS_DetectModule(source, size) ? JS_EVAL_TYPE_MODULE : JS_EVAL_TYPE_GLOBAL;
    JSValue result = JS_Eval(context, source, size, name, kind);
    /* The process ends here: nothing is freed, which would only cost fuel. */
    int code = JS_IsException(result) ? fail(context) : run_jobs(context);
    fflush(stdout);
    _Exit(code);
}
