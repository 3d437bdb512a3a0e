/* N steps of five bodies that attract each other. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define BODIES 5

struct body {
    double place[3], speed[3], mass;
};

static struct body bodies[BODIES] = {
    {{0.0, 0.0, 0.0}, {0.0, 0.0, 0.0}, 40.0},
    {{5.0, -1.0, 0.1}, {0.5, 2.7, 0.0}, 0.04},
    {{-8.0, 4.0, 0.4}, {-1.0, -1.8, 0.1}, 0.01},
    {{13.0, 15.0, -0.2}, {-1.1, 0.9, 0.0}, 0.002},
    {{-15.0, 25.0, 0.3}, {-0.9, -0.5, 0.1}, 0.003},
};

static void step(double time) {
    for (int i = 0; i < BODIES; i++)
        for (int j = i + 1; j < BODIES; j++) {
            double way[3], square = 0;
            for (int k = 0; k < 3; k++) {
                way[k] = bodies[i].place[k] - bodies[j].place[k];
                square += way[k] * way[k];
            }
            double pull = time / (square * sqrt(square));
            for (int k = 0; k < 3; k++) {
                bodies[i].speed[k] -= way[k] * bodies[j].mass * pull;
                bodies[j].speed[k] += way[k] * bodies[i].mass * pull;
            }
        }
    for (int i = 0; i < BODIES; i++)
        for (int k = 0; k < 3; k++)
            bodies[i].place[k] += time * bodies[i].speed[k];
}

int main(int argc, char **argv) {
    int steps = argc > 1 ? atoi(argv[1]) : 100000;
    for (int i = 0; i < steps; i++)
        step(0.001);
    double sum = 0;
    for (int i = 0; i < BODIES; i++)
        sum += bodies[i].place[0];
    printf("%.6f\n", sum);
    return 0;
}
