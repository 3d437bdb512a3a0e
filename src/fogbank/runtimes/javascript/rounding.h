/* Comes before quickjs.c: numbers printed in a given direction of rounding.
 *
 * The engine prints digits of numbers by snprintf in rounding modes of the processor, which
 * WebAssembly does not have. Without them 0.125.toFixed(2) would be 0.12, not 0.13. Here the digits
 * come from the exact decimal expansion, which the C library prints.
 */

#ifndef ROUNDING_H
#define ROUNDING_H

#include <fenv.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What the engine names; both are absent from the C library's fenv.h. */
#define FE_DOWNWARD 1
#define FE_UPWARD 2

/* More decimal places than any double has, and room for its integer part as far as toFixed goes. */
#define EXACT_PLACES 1100
#define EXACT_SIZE (EXACT_PLACES + 400)

static int rounding_mode_now = FE_TONEAREST;

static inline int rounding_set(int mode)
{
    rounding_mode_now = mode;
    return 0;
}

/* Add one in the last place of the digits up to `end`; 1 if the first digit overflowed. */
static inline int rounding_increment(char *first, char *end)
{
    for (char *at = end; at-- > first;) {
        if (*at == '.')
            continue;
        if (*at != '9') {
            ++*at;
            return 0;
        }
        *at = '0';
    }
    return 1;
}

/* snprintf in the mode that is set; in one with a direction "%.*f" and "%+.*e" alone. */
static inline int rounding_print(char *out, size_t size, const char *format, ...)
{
    char exact[EXACT_SIZE];
    va_list list;
    va_start(list, format);
    if (rounding_mode_now == FE_TONEAREST) {
        int length = vsnprintf(out, size, format, list);
        va_end(list);
        return length;
    }
    int places = va_arg(list, int);
    double value = va_arg(list, double);
    va_end(list);
    snprintf(exact, sizeof exact, format, EXACT_PLACES, value);
    char *exponent = strchr(exact, 'e');
    int power = exponent ? atoi(exponent + 1) : 0;
    if (exponent)
        *exponent = 0;
    char *first = exact + strspn(exact, "+-");
    char *end = strchr(exact, '.') + (places ? places + 1 : 0);
    int cut = strspn(end, ".0") < strlen(end);
    *end = 0;
    if (cut && (rounding_mode_now == FE_UPWARD) == (exact[0] != '-')
        && rounding_increment(first, end)) {
        if (exponent)
            power++; /* 9.99 became 0.00, and is 1.00 of the next power */
        else
            memmove(first + 1, first, strlen(first) + 1);
        *first = '1';
    }
    if (exponent)
        return snprintf(out, size, "%se%+03d", exact, power);
    return snprintf(out, size, "%s", exact);
}

#define fesetround rounding_set
#define snprintf rounding_print

#endif
