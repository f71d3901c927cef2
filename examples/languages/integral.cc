// Integrates 4 / (1 + x^2) from 0 to 1 by the midpoint rule.
#include <cstdio>
#include <numeric>
#include <vector>

int main() {
    const int n = 1000000;
    std::vector<double> values(n);
    for (int i = 0; i < n; i++) {
        const double x = (i + 0.5) / n;
        values[i] = 4 / (1 + x * x);
    }
    std::printf("%.9f\n", std::accumulate(values.begin(), values.end(), 0.0) / n);
}
