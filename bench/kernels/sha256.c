/* SHA-256 (FIPS 180-4) of N blocks of 64 bytes. The constants are computed: they are the fractions
   of the square and cube roots of the first primes. */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

static uint32_t constant[64], state[8];

static uint32_t turn(uint32_t word, int by) { return word >> by | word << (32 - by); }

static uint32_t fraction(double root) { return (uint32_t)((root - floor(root)) * 4294967296.0); }

static void prepare(void) {
    int found = 0;
    for (int number = 2; found < 64; number++) {
        int prime = 1;
        for (int divisor = 2; divisor * divisor <= number; divisor++)
            prime &= number % divisor != 0;
        if (!prime)
            continue;
        if (found < 8)
            state[found] = fraction(sqrt(number));
        constant[found++] = fraction(cbrt(number));
    }
}

static void absorb(const uint32_t *block) {
    uint32_t w[64], s[8];
    for (int i = 0; i < 16; i++)
        w[i] = block[i];
    for (int i = 16; i < 64; i++) {
        uint32_t x = w[i - 15], y = w[i - 2];
        w[i] = w[i - 16] + (turn(x, 7) ^ turn(x, 18) ^ x >> 3) + w[i - 7] +
               (turn(y, 17) ^ turn(y, 19) ^ y >> 10);
    }
    for (int i = 0; i < 8; i++)
        s[i] = state[i];
    for (int i = 0; i < 64; i++) {
        uint32_t first = s[7] + (turn(s[4], 6) ^ turn(s[4], 11) ^ turn(s[4], 25)) +
                         ((s[4] & s[5]) ^ (~s[4] & s[6])) + constant[i] + w[i];
        uint32_t second = (turn(s[0], 2) ^ turn(s[0], 13) ^ turn(s[0], 22)) +
                          ((s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]));
        for (int j = 7; j > 0; j--)
            s[j] = s[j - 1];
        s[4] += first;
        s[0] = first + second;
    }
    for (int i = 0; i < 8; i++)
        state[i] += s[i];
}

int main(int argc, char **argv) {
    uint32_t blocks = argc > 1 ? (uint32_t)atoi(argv[1]) : 100000;
    uint32_t block[16] = {0};
    prepare();
    for (uint32_t i = 0; i < blocks; i++) {
        block[0] = i;
        absorb(block);
    }
    /* The padding of whole blocks is a block of its own. */
    uint32_t last[16] = {0x80000000u};
    last[14] = (uint32_t)((uint64_t)blocks * 512 >> 32);
    last[15] = (uint32_t)((uint64_t)blocks * 512);
    absorb(last);
    for (int i = 0; i < 8; i++)
        printf("%08x", state[i]);
    printf("\n");
    return 0;
}
