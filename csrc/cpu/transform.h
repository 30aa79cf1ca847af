// Tile transforms that turn a correlation along time into products per plane.
//
// A tile reads `rows_in` rows and yields rows_out(K). forward() writes `planes` rows, each is
// multiplied by its own [C_in, C_out] matrix, inverse() sums the products to outputs. Row p of the
// matrix that weights() makes gives the coefficients of the K taps in plane p, in double.
// Sources: Winograd, "Arithmetic Complexity of Computations"; Burrus & Parks, "DFT/FFT and
// Convolution Algorithms".
#pragma once

#include <cmath>
#include <vector>

#include "cpu/simd.h"

namespace vk {
namespace VK_ISA {

constexpr double kPi = 3.14159265358979323846;

constexpr double sin_series(double x) {
    double term = x, total = x;
    for (int i = 1; i < 20; ++i) {
        term *= -x * x / ((2 * i) * (2 * i + 1));
        total += term;
    }
    return total;
}

constexpr double cos_series(double x) {
    double term = 1, total = 1;
    for (int i = 1; i < 20; ++i) {
        term *= -x * x / ((2 * i - 1) * (2 * i));
        total += term;
    }
    return total;
}

// cos and sin of 2 pi f / N for f <= N / 4.
template <int N>
struct Twiddles {
    float cos[N / 4 + 1] = {};
    float sin[N / 4 + 1] = {};

    constexpr Twiddles() {
        for (int f = 0; f <= N / 4; ++f) {
            cos[f] = static_cast<float>(cos_series(2 * kPi * f / N));
            sin[f] = static_cast<float>(sin_series(2 * kPi * f / N));
        }
    }
};

// re[f] + i im[f] = sum_n x[n * S] exp(-2 pi i n f / N), f <= N / 2; im[0] and im[N / 2] are not
// set.
template <int N, int S>
VK_INLINE void real_fft(const vec* x, vec* re, vec* im) {
    if constexpr (N == 2) {
        re[0] = x[0] + x[S];
        re[1] = x[0] - x[S];
    } else {
        constexpr int H = N / 4;
        constexpr Twiddles<N> w;
        vec even_re[H + 1], even_im[H + 1], odd_re[H + 1], odd_im[H + 1];
        real_fft<N / 2, 2 * S>(x, even_re, even_im);
        real_fft<N / 2, 2 * S>(x + S, odd_re, odd_im);
        re[0] = even_re[0] + odd_re[0];
        re[N / 2] = even_re[0] - odd_re[0];
        VK_UNROLL
        for (int f = 1; f < H; ++f) {
            const vec c = set1(w.cos[f]), s = set1(w.sin[f]);
            const vec turned_re = fma(s, odd_im[f], c * odd_re[f]);
            const vec turned_im = fnma(s, odd_re[f], c * odd_im[f]);
            re[f] = even_re[f] + turned_re;
            im[f] = even_im[f] + turned_im;
            re[N / 2 - f] = even_re[f] - turned_re;
            im[N / 2 - f] = turned_im - even_im[f];
        }
        re[H] = even_re[H];
        im[H] = set1(0.0f) - odd_re[H];
    }
}

// y[n * S] = N times the inverse of real_fft.
template <int N, int S>
VK_INLINE void real_inverse_fft(const vec* re, const vec* im, vec* y) {
    if constexpr (N == 2) {
        y[0] = re[0] + re[1];
        y[S] = re[0] - re[1];
    } else {
        constexpr int H = N / 4;
        constexpr Twiddles<N> w;
        vec even_re[H + 1], even_im[H + 1], odd_re[H + 1], odd_im[H + 1];
        even_re[0] = re[0] + re[N / 2];
        odd_re[0] = re[0] - re[N / 2];
        VK_UNROLL
        for (int f = 1; f < H; ++f) {
            const vec c = set1(w.cos[f]), s = set1(w.sin[f]);
            even_re[f] = re[f] + re[N / 2 - f];
            even_im[f] = im[f] - im[N / 2 - f];
            const vec turned_re = re[f] - re[N / 2 - f];
            const vec turned_im = im[f] + im[N / 2 - f];
            odd_re[f] = fnma(s, turned_im, c * turned_re);
            odd_im[f] = fma(s, turned_re, c * turned_im);
        }
        even_re[H] = re[H] + re[H];
        odd_re[H] = set1(0.0f) - (im[H] + im[H]);
        real_inverse_fft<N / 2, 2 * S>(even_re, even_im, y);
        real_inverse_fft<N / 2, 2 * S>(odd_re, odd_im, y + S);
    }
}

// A circular correlation of rows 1..N by an FFT, each complex product as three real ones. Two more
// planes, (x0 - xN) w0 and (x[N + 1] - x1) w[K - 1], rescue the outputs whose first or last tap
// wrapped. Planes: 0 and N / 2, three per frequency between, the two wraps.
template <int N>
struct FftTile {
    static constexpr int rows_in = N + 2;
    static constexpr int planes = 3 * N / 2 + 1;
    static constexpr int most_rows = N + 1;
    static int rows_out(int K) { return N - K + 3; }

    static VK_INLINE void forward(const float* x, ptrdiff_t step, float* out, ptrdiff_t plane) {
        vec z[N], re[N / 2 + 1], im[N / 2 + 1];
        VK_UNROLL
        for (int n = 0; n < N; ++n)
            z[n] = load(x + (n + 1) * step);
        store(out + (planes - 2) * plane, load(x) - z[N - 1]);
        store(out + (planes - 1) * plane, load(x + (N + 1) * step) - z[0]);
        real_fft<N, 1>(z, re, im);
        store(out, re[0]);
        store(out + plane, re[N / 2]);
        VK_UNROLL
        for (int f = 1; f < N / 2; ++f) {
            store(out + (3 * f - 1) * plane, re[f] + im[f]);
            store(out + 3 * f * plane, re[f]);
            store(out + (3 * f + 1) * plane, im[f]);
        }
    }

    // y: most_rows vectors, of which rows_out(K) are outputs.
    static VK_INLINE void inverse(const float* p, ptrdiff_t plane, int K, vec* y) {
        vec re[N / 2 + 1], im[N / 2 + 1], z[N];
        re[0] = load(p);
        re[N / 2] = load(p + plane);
        VK_UNROLL
        for (int f = 1; f < N / 2; ++f) {
            const vec both = load(p + (3 * f - 1) * plane);
            re[f] = both - load(p + (3 * f + 1) * plane);
            im[f] = both + load(p + 3 * f * plane);
        }
        real_inverse_fft<N, 1>(re, im, z);
        y[0] = z[N - 1] + load(p + (planes - 2) * plane);
        VK_UNROLL
        for (int n = 0; n < N; ++n)
            y[n + 1] = z[n];
        const int last = rows_out(K) - 1;
        y[last] = y[last] + load(p + (planes - 1) * plane);
    }

    static std::vector<double> weights(int K) {
        std::vector<double> m(static_cast<size_t>(planes) * K, 0.0);
        const auto at = [&](int p, int k) -> double& { return m[static_cast<size_t>(p) * K + k]; };
        for (int k = 0; k < K; ++k) {
            at(0, k) = 1.0 / N;
            at(1, k) = (k % 2 ? -1.0 : 1.0) / N;
            for (int f = 1; f < N / 2; ++f) {
                const double angle = 2 * kPi * (f * k % N) / N;
                const double re = std::cos(angle) / N, im = std::sin(angle) / N;
                at(3 * f - 1, k) = re;
                at(3 * f, k) = im - re;
                at(3 * f + 1, k) = re + im;
            }
        }
        at(planes - 2, 0) = 1.0;
        at(planes - 1, K - 1) = 1.0;
        return m;
    }
};

// Toom-Cook F(4, 3) at 0, +-3/4, +-3/2 and infinity: half the products of a direct K = 3. These
// points err least (RMS 2.4 times the direct kernel's; the usual 0, +-1, +-2 give 3.6).
struct ToomCookTile {
    static constexpr int rows_in = 6;
    static constexpr int planes = 6;
    static constexpr int most_rows = 4;
    static constexpr double a = 0.75;
    static constexpr double b = 1.5;
    static int rows_out(int) { return 4; }

    static VK_INLINE vec constant(double value) { return set1(static_cast<float>(value)); }

    static VK_INLINE void forward(const float* x, ptrdiff_t step, float* out, ptrdiff_t plane) {
        const vec x1 = load(x + step), x2 = load(x + 2 * step);
        const vec x3 = load(x + 3 * step), x4 = load(x + 4 * step);
        const vec sum_squares = constant(a * a + b * b), product = constant(a * a * b * b);
        const vec even_a = fnma(constant(b * b), x2, x4), odd_a = fnma(constant(b * b), x1, x3);
        const vec even_b = fnma(constant(a * a), x2, x4), odd_b = fnma(constant(a * a), x1, x3);
        store(out, fma(product, load(x), fnma(sum_squares, x2, x4)));
        store(out + plane, fma(constant(a), odd_a, even_a));
        store(out + 2 * plane, fnma(constant(a), odd_a, even_a));
        store(out + 3 * plane, fma(constant(b), odd_b, even_b));
        store(out + 4 * plane, fnma(constant(b), odd_b, even_b));
        store(out + 5 * plane, fma(product, x1, fnma(sum_squares, x3, load(x + 5 * step))));
    }

    static VK_INLINE void inverse(const float* p, ptrdiff_t plane, int, vec* y) {
        const vec plus_a = load(p + plane), minus_a = load(p + 2 * plane);
        const vec plus_b = load(p + 3 * plane), minus_b = load(p + 4 * plane);
        const vec even_a = plus_a + minus_a, odd_a = plus_a - minus_a;
        const vec even_b = plus_b + minus_b, odd_b = plus_b - minus_b;
        y[0] = load(p) + even_a + even_b;
        y[1] = fma(constant(a), odd_a, constant(b) * odd_b);
        y[2] = fma(constant(a * a), even_a, constant(b * b) * even_b);
        y[3] =
            fma(constant(a * a * a), odd_a, fma(constant(b * b * b), odd_b, load(p + 5 * plane)));
    }

    static std::vector<double> weights(int) {
        const double points[] = {0, a, -a, b, -b};
        std::vector<double> m(3 * planes, 0.0);
        for (int i = 0; i < 5; ++i) {
            double others = 1;
            for (int j = 0; j < 5; ++j)
                others *= i == j ? 1.0 : points[i] - points[j];
            for (int k = 0; k < 3; ++k)
                m[3 * i + k] = (k == 0 ? 1.0 : k == 1 ? points[i] : points[i] * points[i]) / others;
        }
        m[3 * 5 + 2] = 1.0;
        return m;
    }
};

}  // namespace VK_ISA
}  // namespace vk
