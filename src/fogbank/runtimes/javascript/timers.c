/* setTimeout, setInterval and what clears them: the next one due is slept for, then called. */

#include <stdint.h>
#include <stdlib.h>
#include <time.h>

#include "host.h"

#define MOST_ARGUMENTS 8

struct timer {
    struct timer *next;
    uint32_t id;
    int64_t due;    /* milliseconds of the monotonic clock */
    int64_t period; /* 0: called once */
    JSValue function;
    int count;
    JSValue arguments[MOST_ARGUMENTS];
};

static struct timer *timers; /* the next one due first */

static int64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * 1000 + time.tv_nsec / 1000000;
}

static void enter(struct timer *fresh)
{
    struct timer **at = &timers;
    while (*at && (*at)->due <= fresh->due)
        at = &(*at)->next;
    fresh->next = *at;
    *at = fresh;
}

static void release(JSContext *context, struct timer *old)
{
    JS_FreeValue(context, old->function);
    for (int i = 0; i < old->count; i++)
        JS_FreeValue(context, old->arguments[i]);
    free(old);
}

static JSValue set_timer(JSContext *context, JSValueConst self, int count, JSValueConst *given,
                         int repeated)
{
    static uint32_t last;
    double wait = 0;
    (void)self;
    if (!JS_IsFunction(context, given[0]))
        return JS_ThrowTypeError(context, "a timer needs a function");
    if (count > 1 && JS_ToFloat64(context, &wait, given[1]))
        return JS_EXCEPTION;
    if (!(wait >= 0)) /* NaN too */
        wait = 0;
    if (wait > INT32_MAX)
        wait = INT32_MAX;
    struct timer *fresh = calloc(1, sizeof *fresh);
    if (!fresh)
        return JS_ThrowOutOfMemory(context);
    fresh->id = ++last;
    fresh->period = !repeated ? 0 : wait < 1 ? 1 : (int64_t)wait;
    fresh->due = now() + (int64_t)wait;
    fresh->function = JS_DupValue(context, given[0]);
    for (int i = 2; i < count && fresh->count < MOST_ARGUMENTS; i++)
        fresh->arguments[fresh->count++] = JS_DupValue(context, given[i]);
    enter(fresh);
    return JS_NewUint32(context, fresh->id);
}

static JSValue clear_timer(JSContext *context, JSValueConst self, int count, JSValueConst *given)
{
    uint32_t id;
    (void)self, (void)count;
    if (JS_ToUint32(context, &id, given[0]))
        return JS_EXCEPTION;
    for (struct timer **at = &timers; *at; at = &(*at)->next) {
        struct timer *found = *at;
        if (found->id != id)
            continue;
        *at = found->next;
        release(context, found);
        break;
    }
    return JS_UNDEFINED;
}

int timers_run(JSContext *context)
{
    struct timer *next = timers;
    if (!next)
        return 0;
    int64_t wait = next->due - now();
    if (wait > 0) {
        struct timespec pause = { wait / 1000, wait % 1000 * 1000000 };
        nanosleep(&pause, NULL);
    }
    timers = next->next;
    JSValue function = JS_DupValue(context, next->function);
    JSValue arguments[MOST_ARGUMENTS];
    int count = next->count;
    for (int i = 0; i < count; i++)
        arguments[i] = JS_DupValue(context, next->arguments[i]);
    if (next->period) { /* It is entered again before it is called, so that it can clear itself. */
        next->due += next->period;
        enter(next);
    } else {
        release(context, next);
    }
    JSValue result = JS_Call(context, function, JS_UNDEFINED, count, arguments);
    JS_FreeValue(context, function);
    for (int i = 0; i < count; i++)
        JS_FreeValue(context, arguments[i]);
    if (JS_IsException(result))
        return -1;
    JS_FreeValue(context, result);
    return 1;
}

static const JSCFunctionListEntry functions[] = {
    JS_CFUNC_MAGIC_DEF("setTimeout", 2, set_timer, 0),
    JS_CFUNC_MAGIC_DEF("setInterval", 2, set_timer, 1),
    JS_CFUNC_DEF("clearTimeout", 1, clear_timer),
    JS_CFUNC_DEF("clearInterval", 1, clear_timer),
};

int timers_install(JSContext *context, JSValueConst global)
{
    JS_SetPropertyFunctionList(context, global, functions, sizeof functions / sizeof *functions);
    return 0;
}
