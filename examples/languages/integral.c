/* Integrates 4 / (1 + x^2) from 0 to 1 by the midpoint rule. */
#include <stdio.h>

int main(void) {
    const int n = 1000000;
    double sum = 0;
    for (int i = 0; i < n; i++) {
        double x = (i + 0.5) / n;
        sum += 4 / (1 + x * x);
    }
    printf("%.9f\n", sum / n);
    return 0;
}
