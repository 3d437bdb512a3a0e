/* The product of two N x N matrices, row by row. */
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv) {
    int n = argc > 1 ? atoi(argv[1]) : 200;
    double *a = malloc(sizeof *a * n * n), *b = malloc(sizeof *b * n * n);
    double *c = calloc((size_t)n * n, sizeof *c);
    if (!a || !b || !c)
        return 1;
    for (int i = 0; i < n * n; i++) {
        a[i] = (i % 17) * 0.25;
        b[i] = (i % 13) * 0.5 - 1.0;
    }
    for (int i = 0; i < n; i++)
        for (int k = 0; k < n; k++) {
            double factor = a[i * n + k];
            for (int j = 0; j < n; j++)
                c[i * n + j] += factor * b[k * n + j];
        }
    double trace = 0;
    for (int i = 0; i < n; i++)
        trace += c[i * n + i];
    printf("%.3f\n", trace);
    return 0;
}
