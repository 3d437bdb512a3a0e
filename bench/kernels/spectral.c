/* The spectral norm of an N x N matrix, by ten rounds of the power method. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static int size;

static double entry(int i, int j) { return 1.0 / ((i + j) * (i + j + 1) / 2 + i + 1); }

static void multiply(const double *in, double *out, int transposed) {
    for (int i = 0; i < size; i++) {
        out[i] = 0;
        for (int j = 0; j < size; j++)
            out[i] += (transposed ? entry(j, i) : entry(i, j)) * in[j];
    }
}

int main(int argc, char **argv) {
    size = argc > 1 ? atoi(argv[1]) : 500;
    double *u = malloc(sizeof *u * size), *v = malloc(sizeof *v * size);
    double *between = malloc(sizeof *between * size), over = 0, under = 0;
    if (!u || !v || !between)
        return 1;
    for (int i = 0; i < size; i++)
        u[i] = 1;
    for (int round = 0; round < 10; round++) {
        multiply(u, between, 0);
        multiply(between, v, 1);
        multiply(v, between, 0);
        multiply(between, u, 1);
    }
    for (int i = 0; i < size; i++) {
        over += u[i] * v[i];
        under += v[i] * v[i];
    }
    printf("%.9f\n", sqrt(over / under));
    return 0;
}
