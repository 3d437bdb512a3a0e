/* How many points of an N x N picture of the plane stay near 0 for 50 rounds of z*z + c. */
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv) {
    int n = argc > 1 ? atoi(argv[1]) : 400;
    long inside = 0;
    for (int row = 0; row < n; row++)
        for (int column = 0; column < n; column++) {
            double cr = 3.0 * column / n - 2.0, ci = 3.0 * row / n - 1.5;
            double r = 0, i = 0;
            int round = 0;
            while (round < 50 && r * r + i * i <= 4.0) {
                double next = r * r - i * i + cr;
                i = 2 * r * i + ci;
                r = next;
                round++;
            }
            inside += round == 50;
        }
    printf("%ld\n", inside);
    return 0;
}
