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

// Points +-p of a Toom-Cook tile beside 0 and infinity. They err least: RMS 1.4 (two pairs) and 2.7
// (three) times the direct kernel's; the usual 0, +-1, +-2, +-1/2 give more.
template <int Pairs>
struct ToomCookPoints {
    double point[Pairs] = {};
    // power[n][i] = point[i]^n.
    double power[2 * Pairs][Pairs] = {};
    // Coefficients, constant first, of the product of z - point^2 over all points but the i-th, and
    // over all.
    double others[Pairs + 1][Pairs + 1] = {};

    constexpr ToomCookPoints() {
        const double two[] = {0.75, 1.5}, three[] = {0.5, 1.1, 2.0};
        for (int i = 0; i < Pairs; ++i) {
            point[i] = Pairs == 2 ? two[i % 2] : three[i];
            power[0][i] = 1;
            for (int n = 1; n < 2 * Pairs; ++n)
                power[n][i] = power[n - 1][i] * point[i];
        }
        for (int skip = 0; skip <= Pairs; ++skip) {
            double* c = others[skip];
            c[0] = 1;
            for (int i = 0; i < Pairs; ++i) {
                if (i == skip) continue;
                const double square = point[i] * point[i];
                for (int j = Pairs; j > 0; --j)
                    c[j] = c[j - 1] - square * c[j];
                c[0] *= -square;
            }
        }
    }
};

// Toom-Cook F(2 Pairs, 3): 6 products for 4 outputs or 8 for 6, where a direct K = 3 needs 12
// or 18.
template <int Pairs>
struct ToomCookTile {
    static_assert(Pairs == 2 || Pairs == 3, "points are known for two or three pairs");
    static constexpr int planes = 2 * Pairs + 2;
    static constexpr int rows_in = planes;
    static constexpr int most_rows = 2 * Pairs;
    static int rows_out(int) { return most_rows; }

    static VK_INLINE vec constant(double value) { return set1(static_cast<float>(value)); }

    // Sum of c[i] x[2 i] for i up to the degree, whose c is 1.
    template <int Degree>
    static VK_INLINE vec every_other(const double* c, const vec* x) {
        vec sum = x[2 * Degree];
        VK_UNROLL
        for (int i = Degree - 1; i >= 0; --i)
            sum = fma(constant(c[i]), x[2 * i], sum);
        return sum;
    }

    static VK_INLINE void forward(const float* from, ptrdiff_t step, float* out, ptrdiff_t plane) {
        constexpr ToomCookPoints<Pairs> k;
        vec x[rows_in];
        VK_UNROLL
        for (int n = 0; n < rows_in; ++n)
            x[n] = load(from + n * step);
        store(out, every_other<Pairs>(k.others[Pairs], x));
        store(out + (planes - 1) * plane, every_other<Pairs>(k.others[Pairs], x + 1));
        VK_UNROLL
        for (int i = 0; i < Pairs; ++i) {
            const vec even = every_other<Pairs - 1>(k.others[i], x + 2);
            const vec odd = every_other<Pairs - 1>(k.others[i], x + 1);
            store(out + (2 * i + 1) * plane, fma(constant(k.point[i]), odd, even));
            store(out + (2 * i + 2) * plane, fnma(constant(k.point[i]), odd, even));
        }
    }

    static VK_INLINE void inverse(const float* p, ptrdiff_t plane, int, vec* y) {
        constexpr ToomCookPoints<Pairs> k;
        vec even[Pairs], odd[Pairs];
        VK_UNROLL
        for (int i = 0; i < Pairs; ++i) {
            const vec plus = load(p + (2 * i + 1) * plane), minus = load(p + (2 * i + 2) * plane);
            even[i] = plus + minus;
            odd[i] = plus - minus;
        }
        y[0] = load(p) + even[0];
        VK_UNROLL
        for (int i = 1; i < Pairs; ++i)
            y[0] = y[0] + even[i];
        VK_UNROLL
        for (int n = 1; n < most_rows; ++n) {
            const vec* part = n % 2 ? odd : even;
            y[n] = constant(k.power[n][0]) * part[0];
            VK_UNROLL
            for (int i = 1; i < Pairs; ++i)
                y[n] = fma(constant(k.power[n][i]), part[i], y[n]);
        }
        y[most_rows - 1] = y[most_rows - 1] + load(p + (planes - 1) * plane);
    }

    static std::vector<double> weights(int) {
        const ToomCookPoints<Pairs> k;
        double points[2 * Pairs + 1] = {};
        for (int i = 0; i < Pairs; ++i) {
            points[2 * i + 1] = k.point[i];
            points[2 * i + 2] = -k.point[i];
        }
        std::vector<double> m(3 * planes, 0.0);
        for (int i = 0; i < planes - 1; ++i) {
            double others = 1;
            for (int j = 0; j < planes - 1; ++j)
                others *= i == j ? 1.0 : points[i] - points[j];
            for (int tap = 0; tap < 3; ++tap)
                m[3 * i + tap] = (tap == 0   ? 1.0
                                  : tap == 1 ? points[i]
                                             : points[i] * points[i]) /
                                 others;
        }
        m[3 * (planes - 1) + 2] = 1.0;
        return m;
    }
};

}  // namespace VK_ISA
}  // namespace vk
