/* Sorts N numbers by quicksort, and N others by shellsort. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

static uint32_t draw(void) {
    static uint32_t seed = 1;
    seed = seed * 1664525u + 1013904223u;
    return seed >> 4;
}

static void shellsort(uint32_t *numbers, int count) {
    int gap = 1;
    while (gap < count / 3)
        gap = 3 * gap + 1;
    for (; gap > 0; gap /= 3)
        for (int i = gap; i < count; i++) {
            uint32_t moved = numbers[i];
            int at = i;
            for (; at >= gap && numbers[at - gap] > moved; at -= gap)
                numbers[at] = numbers[at - gap];
            numbers[at] = moved;
        }
}

static void quicksort(uint32_t *numbers, int count) {
    while (count > 16) {
        uint32_t middle = numbers[count / 2];
        int low = 0, high = count - 1;
        while (low <= high) {
            while (numbers[low] < middle)
                low++;
            while (numbers[high] > middle)
                high--;
            if (low <= high) {
                uint32_t moved = numbers[low];
                numbers[low++] = numbers[high];
                numbers[high--] = moved;
            }
        }
        quicksort(numbers, high + 1);
        numbers += low;
        count -= low;
    }
    shellsort(numbers, count);
}

int main(int argc, char **argv) {
    int count = argc > 1 ? atoi(argv[1]) : 1000000;
    uint32_t *numbers = malloc(sizeof *numbers * count), check = 0;
    if (!numbers)
        return 1;
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < count; i++)
            numbers[i] = draw();
        if (round)
            shellsort(numbers, count);
        else
            quicksort(numbers, count);
        for (int i = 0; i < count; i++)
            check = check * 31 + numbers[i];
    }
    printf("%u\n", check);
    return 0;
}
