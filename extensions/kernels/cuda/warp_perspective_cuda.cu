#include "opserve/warp_perspective.h"

#include "device.h"
#include "kernels.h"
#include "opserve/workspace.h"

namespace opserve::cuda {
inline namespace warp_perspective_cuda {

constexpr const char* kOp = "warp_perspective";
constexpr const char* kBackwardOp = "_warp_perspective_backward";

// A block computes tiles of kTileWidth columns, warps side by side, by kLines·Rows rows, `Rows` for each
// thread.
constexpr int kTileWidth = kWarp;
constexpr int kThreads = 256;
constexpr int kLines = kThreads / kTileWidth;
constexpr int kMostRows = 4;
// Blocks that a multiprocessor holds at once; more would only check the same matrix again.
constexpr int kResident = 4;

struct Matrices {
    const void* data;
    bool is_double;
    bool per_image;

    __device__ double at(int64_t matrix, int i) const {
        return is_double ? static_cast<const double*>(data)[matrix * 9 + i]
                         : static_cast<double>(static_cast<const float*>(data)[matrix * 9 + i]);
    }
};

struct Shape {
    int64_t n, c;
    int32_t h, w, out_h, out_w;
    int64_t stride_n, stride_c, stride_h;  // of the image
    int64_t tiles_across, tiles_down;
};

// The inverse homography: from a destination pixel to the source, up to a factor.
struct Back {
    double m[9];        // adjugate of the matrix times `factor`
    double forward[9];  // the matrix times `factor`
    double factor;      // a power of two
    bool usable;        // finite and invertible
};

// The same decision as the check on the CPU.
__device__ inline bool usable(const Matrices& matrices, int64_t matrix) {
    double largest = 0.0;
    for (int i = 0; i < 9; ++i) {
        const double value = fabs(matrices.at(matrix, i));
        if (!(value <= 1.7976931348623157e308)) return false;
        largest = fmax(largest, value);
    }
    if (largest == 0.0) return false;
    double a[9];
    for (int i = 0; i < 9; ++i) a[i] = matrices.at(matrix, i) / largest;
    double determinant = 0.0, magnitude = 0.0;
    for (int i = 0; i < 3; ++i) {
        const int j = (i + 1) % 3, l = (i + 2) % 3;
        // Rounded one by one: fused, the two products of a singular matrix would not cancel.
        const double plus = __dmul_rn(__dmul_rn(a[i], a[3 + j]), a[6 + l]);
        const double minus = __dmul_rn(__dmul_rn(a[i], a[3 + l]), a[6 + j]);
        determinant += __dadd_rn(plus, -minus);
        magnitude += fabs(plus) + fabs(minus);
    }
    const double epsilon = matrices.is_double ? 2.220446049250313e-16 : 1.1920928955078125e-07;
    return fabs(determinant) > 4.0 * epsilon * magnitude;
}

// One thread does this for a block: the cost of a call does not matter here, and one copy serves all kernels.
__device__ __attribute__((noinline)) void invert_homography(const Matrices& matrices, int64_t matrix,
                                                            Back& back) {
    back.usable = usable(matrices, matrix);
    double largest = 0.0;
    for (int i = 0; i < 9; ++i) largest = fmax(largest, fabs(matrices.at(matrix, i)));
    // Scaled by a power of two, so that whole pixels stay whole: 2^-e for a largest element of 2^e and more,
    // as far as both are normal numbers.
    const int64_t exponent = static_cast<int64_t>(__double_as_longlong(largest)) >> 52;
    back.factor = __longlong_as_double((exponent < 2045 ? 2046 - exponent : 1) << 52);
    double* a = back.forward;
    for (int i = 0; i < 9; ++i) a[i] = matrices.at(matrix, i) * back.factor;
    back.m[0] = a[4] * a[8] - a[5] * a[7];
    back.m[1] = a[2] * a[7] - a[1] * a[8];
    back.m[2] = a[1] * a[5] - a[2] * a[4];
    back.m[3] = a[5] * a[6] - a[3] * a[8];
    back.m[4] = a[0] * a[8] - a[2] * a[6];
    back.m[5] = a[2] * a[3] - a[0] * a[5];
    back.m[6] = a[3] * a[7] - a[4] * a[6];
    back.m[7] = a[1] * a[6] - a[0] * a[7];
    back.m[8] = a[0] * a[4] - a[1] * a[3];
}

// What one thread computes in float64 for a whole tile. With (x, y) the distance of a pixel from the one at
// the centre, its preimage is
//     origin + (slope_x·x + slope_y·y) / (1 + tilt_x·x + tilt_y·y),
// which float32 represents to its own precision, since nothing in it is larger than the tile. This is used if
// `near`: if the denominator stays away from 0 all over the tile, and every number is in range.
struct Tile {
    int64_t image;
    int32_t column, row;  // of the first pixel
    bool near;
    float tilt_x, tilt_y;
    float slope_x[2], slope_y[2];  // [0] of the source column, [1] of the source row
    float fraction[2];             // of the origin
    int32_t whole[2];              // of the origin
    int32_t centre[2];
    double origin[2];
    double scale;  // 1 / the denominator at the centre
};

template <int Rows>
__device__ __attribute__((noinline)) void place(const Back& back, int32_t column, int32_t row, Tile& tile) {
    constexpr int half_width = kTileWidth / 2, half_height = kLines * Rows / 2;
    tile.column = column;
    tile.row = row;
    // A tile begins at a multiple of its size and before 2^31 - 8: its centre fits.
    tile.centre[0] = column + half_width;
    tile.centre[1] = row + half_height;
    const double x = static_cast<double>(tile.centre[0]), y = static_cast<double>(tile.centre[1]);
    const double* m = back.m;
    tile.scale = 1.0 / (m[6] * x + m[7] * y + m[8]);
    const double tilt_x = m[6] * tile.scale, tilt_y = m[7] * tile.scale;
    tile.tilt_x = static_cast<float>(tilt_x);
    tile.tilt_y = static_cast<float>(tilt_y);
    // A NaN fails each of these comparisons.
    tile.near = half_width * fabs(tilt_x) + half_height * fabs(tilt_y) <= 0.5;
    for (int i = 0; i < 2; ++i) {
        const double origin = (m[3 * i] * x + m[3 * i + 1] * y + m[3 * i + 2]) * tile.scale;
        const double slope_x = (m[3 * i] - origin * m[6]) * tile.scale;
        const double slope_y = (m[3 * i + 1] - origin * m[7]) * tile.scale;
        const bool in_range =
            fabs(origin) <= 1073741824.0 && fabs(slope_x) <= 1048576.0 && fabs(slope_y) <= 1048576.0;
        tile.near = tile.near && in_range;
        tile.origin[i] = origin;
        tile.slope_x[i] = static_cast<float>(slope_x);
        tile.slope_y[i] = static_cast<float>(slope_y);
        const double whole = floor(origin);
        tile.whole[i] = in_range ? static_cast<int32_t>(whole) : 0;
        tile.fraction[i] = static_cast<float>(origin - whole);
    }
}

// Where a destination pixel comes from.
template <class A>
struct Position {
    int32_t at[2];  // column and row of the upper left neighbour
    A weight[2];    // of the neighbours to the right and below
    // For the gradient of the matrix: the distances of the pixel and the preimage from the tile's points of
    // reference, and the factor of the preimage's denominator.
    A from[2];
    A moved[2];
    A scale;
};

__device__ __forceinline__ Position<float> locate_near(const Tile& tile, int32_t column, int32_t row) {
    const float x = static_cast<float>(column - tile.centre[0]), y = static_cast<float>(row - tile.centre[1]);
    Position<float> position;
    position.from[0] = x;
    position.from[1] = y;
    position.scale = 1.0F / (tile.tilt_x * x + (tile.tilt_y * y + 1.0F));
#pragma unroll
    for (int i = 0; i < 2; ++i) {
        position.moved[i] = (tile.slope_x[i] * x + tile.slope_y[i] * y) * position.scale;
        const float relative = position.moved[i] + tile.fraction[i];
        const float whole = floorf(relative);
        position.at[i] = tile.whole[i] + static_cast<int32_t>(whole);
        position.weight[i] = relative - whole;
    }
    return position;
}

template <class A>
__device__ __forceinline__ Position<A> locate_far(const Back& back, const Shape& shape, int32_t column,
                                                  int32_t row) {
    const double x = static_cast<double>(column), y = static_cast<double>(row);
    const double* m = back.m;
    const double scale = 1.0 / (m[6] * x + (m[7] * y + m[8]));
    Position<A> position;
    position.from[0] = static_cast<A>(x);
    position.from[1] = static_cast<A>(y);
    position.scale = static_cast<A>(scale);
#pragma unroll
    for (int i = 0; i < 2; ++i) {
        double at = (m[3 * i] * x + (m[3 * i + 1] * y + m[3 * i + 2])) * scale;
        position.moved[i] = static_cast<A>(at);
        // Far outside is equivalent to just outside, and fits in 32 bits. The comparisons send NaN (0/0)
        // outside as well.
        const double limit = static_cast<double>(i == 0 ? shape.w : shape.h) + 1.0;
        at = at > -2.0 ? at : -2.0;
        at = at < limit ? at : limit;
        const double whole = floor(at);
        position.at[i] = static_cast<int32_t>(whole);
        position.weight[i] = static_cast<A>(at - whole);
    }
    return position;
}

// Kept apart from the pixels that do not need it.
__device__ __attribute__((noinline)) Position<float> locate_near_horizon(const Back& back, const Shape& shape,
                                                                         int32_t column, int32_t row) {
    return locate_far<float>(back, shape, column, row);
}

template <class T>
__device__ __forceinline__ Position<Accumulator<T>> locate(const Tile& tile, const Back& back,
                                                           const Shape& shape, int32_t column, int32_t row) {
    if constexpr (std::is_same_v<T, double>) {
        return locate_far<double>(back, shape, column, row);
    } else {
        return tile.near ? locate_near(tile, column, row) : locate_near_horizon(back, shape, column, row);
    }
}

// Which of the four neighbours are inside the image. All comparisons are with int32 sides below 2^31 - 8, and
// positions are at most that much larger: nothing overflows.
struct Neighbours {
    bool left, right, above, below;

    __device__ Neighbours(const Shape& shape, const int32_t (&at)[2])
        : left(at[0] >= 0 && at[0] < shape.w),
          right(at[0] >= -1 && at[0] < shape.w - 1),
          above(at[1] >= 0 && at[1] < shape.h),
          below(at[1] >= -1 && at[1] < shape.h - 1) {}

    __device__ bool any() const { return (left || right) && (above || below); }
};

template <class A>
struct Patch {
    A p00, p01, p10, p11;
};

// The neighbours in a plane; 0 for those outside, one by one. `offset` is that of the upper left one, which
// may be before the plane.
template <class T>
__device__ __forceinline__ Patch<Accumulator<T>> read(const T* __restrict__ plane, int64_t offset,
                                                      int64_t stride, const Neighbours& has) {
    using A = Accumulator<T>;
    return {has.above && has.left ? widen(plane[offset]) : A(0),
            has.above && has.right ? widen(plane[offset + 1]) : A(0),
            has.below && has.left ? widen(plane[offset + stride]) : A(0),
            has.below && has.right ? widen(plane[offset + stride + 1]) : A(0)};
}

// One thread moves the block on to a tile; the others wait. Called by all threads of a block.
template <int Rows>
__device__ __forceinline__ void enter_tile(const Matrices& matrices, const Shape& shape, int64_t index,
                                           Back& back, Tile& tile, int64_t& turned) {
    __syncthreads();
    if (threadIdx.x == 0) {
        const int64_t line = index / shape.tiles_across;
        const int64_t image = line / shape.tiles_down;
        const int64_t matrix = matrices.per_image ? image : 0;
        if (matrix != turned) {
            invert_homography(matrices, matrix, back);
            turned = matrix;
        }
        tile.image = image;
        place<Rows>(back, static_cast<int32_t>(index % shape.tiles_across * kTileWidth),
                    static_cast<int32_t>(line % shape.tiles_down * (kLines * Rows)), tile);
    }
    __syncthreads();
}

template <class T, int Rows>
__global__ void __launch_bounds__(kThreads, kResident)
    warp_kernel(Matrices matrices, Shape shape, const T* __restrict__ image, T* __restrict__ out) {
    using A = Accumulator<T>;
    __shared__ Back back;
    __shared__ Tile tile;
    int64_t turned = -1;  // the matrix in `back`; only the first thread's is used
    const int64_t tiles = shape.n * shape.tiles_down * shape.tiles_across;
    for (int64_t index = blockIdx.x; index < tiles; index += gridDim.x) {
        enter_tile<Rows>(matrices, shape, index, back, tile, turned);
        const int32_t column = tile.column + static_cast<int32_t>(threadIdx.x % kTileWidth);
        if (column >= shape.out_w) continue;
#pragma unroll
        for (int r = 0; r < Rows; ++r) {
            const int32_t row = tile.row + static_cast<int32_t>(threadIdx.x / kTileWidth) + r * kLines;
            if (row >= shape.out_h) continue;
            const int64_t out_plane = int64_t{shape.out_h} * shape.out_w;
            T* to = out + tile.image * shape.c * out_plane + int64_t{row} * shape.out_w + column;
            if (!back.usable) {
                for (int64_t channel = 0; channel < shape.c; ++channel) {
                    to[channel * out_plane] = narrow<T>(not_a_number<A>());
                }
                continue;
            }
            const Position<A> position = locate<T>(tile, back, shape, column, row);
            const Neighbours has(shape, position.at);
            const A right = position.weight[0], below = position.weight[1];
            const A left = A(1) - right, above = A(1) - below;
            const int64_t offset = int64_t{position.at[1]} * shape.stride_h + position.at[0];
            const T* plane = image + tile.image * shape.stride_n;
            for (int64_t channel = 0; channel < shape.c; ++channel) {
                const auto [p00, p01, p10, p11] = read(plane, offset, shape.stride_h, has);
                to[channel * out_plane] =
                    narrow<T>(above * (left * p00 + right * p01) + below * (left * p10 + right * p11));
                plane += shape.stride_c;
            }
        }
    }
}

// Sums over the threads of a block, in a fixed order, into the first thread. `parts` has room for the sums of
// each warp.
template <class A>
__device__ void sum_over_block(A (&sums)[9], A (*parts)[9]) {
#pragma unroll
    for (int i = 0; i < 9; ++i) {
#pragma unroll
        for (int distance = kWarp / 2; distance > 0; distance /= 2) {
            sums[i] += __shfl_xor_sync(kWholeWarp, sums[i], distance);
        }
        if (threadIdx.x % kWarp == 0) parts[threadIdx.x / kWarp][i] = sums[i];
    }
    __syncthreads();
    if (threadIdx.x == 0) {
        for (int warp = 1; warp < kThreads / kWarp; ++warp) {
            for (int i = 0; i < 9; ++i) sums[i] += parts[warp][i];
        }
    }
}

// What a tile adds to the gradient of the inverse homography. With u = back·(X, Y, 1) and the preimage s =
// (u0, u1)/u2, row i < 2 of that gradient is the sum of g_i/u2·(X, Y, 1), and row 2 that of -(g_0·s_0 +
// g_1·s_1)/u2·(X, Y, 1), g being the gradient of s. `sums` has the same with X, Y and s relative to the
// tile's points of reference, and without the common factor of u2.
template <class A>
__device__ void unfold(const Tile& tile, bool near, const A (&sums)[9], double* to) {
    const double x = near ? static_cast<double>(tile.centre[0]) : 0.0;
    const double y = near ? static_cast<double>(tile.centre[1]) : 0.0;
    const double scale = near ? tile.scale : 1.0;
    double rows[3][3];
    for (int i = 0; i < 3; ++i) {
        const double one = static_cast<double>(sums[3 * i + 2]);
        rows[i][0] = (static_cast<double>(sums[3 * i]) + x * one) * scale;
        rows[i][1] = (static_cast<double>(sums[3 * i + 1]) + y * one) * scale;
        rows[i][2] = one * scale;
    }
    for (int j = 0; j < 3; ++j) {
        to[j] = rows[0][j];
        to[3 + j] = rows[1][j];
        to[6 + j] = rows[2][j] - (near ? tile.origin[0] * rows[0][j] + tile.origin[1] * rows[1][j] : 0.0);
    }
}

// grad_sums [n, c, h, w], or null, is added to; partial [tiles, 9], or null, is overwritten.
template <class T, int Rows>
__global__ void __launch_bounds__(kThreads)
    warp_backward_kernel(Matrices matrices, Shape shape, const T* __restrict__ grad,
                         const T* __restrict__ image, Accumulator<T>* grad_sums, double* partial) {
    using A = Accumulator<T>;
    __shared__ Back back;
    __shared__ Tile tile;
    __shared__ A parts[kThreads / kWarp][9];
    int64_t turned = -1;
    const int64_t tiles_per_image = shape.tiles_down * shape.tiles_across;
    const int64_t plane_size = int64_t{shape.h} * shape.w;
    const int64_t out_plane = int64_t{shape.out_h} * shape.out_w;
    for (int64_t index = blockIdx.x; index < shape.n * tiles_per_image; index += gridDim.x) {
        enter_tile<Rows>(matrices, shape, index, back, tile, turned);
        if (!back.usable) {
            // The first tile of an image reports for all of them.
            const int64_t count = shape.c * plane_size;
            if (grad_sums != nullptr && index % tiles_per_image == 0) {
                for (int64_t i = threadIdx.x; i < count; i += kThreads) {
                    grad_sums[tile.image * count + i] = not_a_number<A>();
                }
            }
            if (partial != nullptr && threadIdx.x < 9)
                partial[index * 9 + threadIdx.x] = not_a_number<double>();
            continue;
        }
        const int32_t column = tile.column + static_cast<int32_t>(threadIdx.x % kTileWidth);
        A sums[9] = {};
#pragma unroll 1
        for (int r = 0; r < Rows; ++r) {
            const int32_t row = tile.row + static_cast<int32_t>(threadIdx.x / kTileWidth) + r * kLines;
            if (column >= shape.out_w || row >= shape.out_h) continue;
            const Position<A> position = locate<T>(tile, back, shape, column, row);
            const Neighbours has(shape, position.at);
            if (!has.any()) continue;
            const A right = position.weight[0], below = position.weight[1];
            const A left = A(1) - right, above = A(1) - below;
            const int64_t offset = int64_t{position.at[1]} * shape.stride_h + position.at[0];
            const int64_t to = int64_t{position.at[1]} * shape.w + position.at[0];
            A slope[2] = {0, 0};
            for (int64_t channel = 0; channel < shape.c; ++channel) {
                const int64_t plane = tile.image * shape.c + channel;
                const A g = widen(grad[plane * out_plane + int64_t{row} * shape.out_w + column]);
                if (grad_sums != nullptr) {
                    A* pixels = grad_sums + plane * plane_size;
                    if (has.above && has.left) atomicAdd(pixels + to, above * left * g);
                    if (has.above && has.right) atomicAdd(pixels + to + 1, above * right * g);
                    if (has.below && has.left) atomicAdd(pixels + to + shape.w, below * left * g);
                    if (has.below && has.right) atomicAdd(pixels + to + shape.w + 1, below * right * g);
                }
                if (partial != nullptr) {
                    const T* pixels = image + tile.image * shape.stride_n + channel * shape.stride_c;
                    const auto [p00, p01, p10, p11] = read(pixels, offset, shape.stride_h, has);
                    slope[0] += g * (above * (p01 - p00) + below * (p11 - p10));
                    slope[1] += g * (left * (p10 - p00) + right * (p11 - p01));
                }
            }
            const A along = position.scale * slope[0], down = position.scale * slope[1];
            const A lost = -(along * position.moved[0] + down * position.moved[1]);
            const A(&from)[2] = position.from;
            sums[0] += along * from[0];
            sums[1] += along * from[1];
            sums[2] += along;
            sums[3] += down * from[0];
            sums[4] += down * from[1];
            sums[5] += down;
            sums[6] += lost * from[0];
            sums[7] += lost * from[1];
            sums[8] += lost;
        }
        if (partial == nullptr) continue;
        sum_over_block(sums, parts);
        if (threadIdx.x == 0) {
            unfold(tile, !std::is_same_v<T, double> && tile.near, sums, partial + index * 9);
        }
    }
}

// The gradient of each matrix, from that of its inverse homography: with B = factor·adj(factor·M), whose
// scale does not matter, it is -Bᵀ·G·Bᵀ over the determinant. One block per matrix.
template <class M>
__global__ void __launch_bounds__(kThreads)
    matrix_gradient_kernel(Matrices matrices, int64_t count, int64_t tiles, const double* partial, M* grad) {
    __shared__ double parts[kThreads / kWarp][9];
    for (int64_t matrix = blockIdx.x; matrix < count; matrix += gridDim.x) {
        double sums[9] = {};
        for (int64_t index = threadIdx.x; index < tiles; index += kThreads) {
            for (int i = 0; i < 9; ++i) sums[i] += partial[(matrix * tiles + index) * 9 + i];
        }
        sum_over_block(sums, parts);
        if (threadIdx.x == 0) {
            Back back;
            invert_homography(matrices, matrix, back);
            const double* m = back.m;
            const double* a = back.forward;
            const double determinant = a[0] * m[0] + a[1] * m[3] + a[2] * m[6];
            double intermediate[9];  // G·Bᵀ
            for (int i = 0; i < 9; ++i) {
                const double *row = sums + i / 3 * 3, *other = m + i % 3 * 3;
                intermediate[i] = row[0] * other[0] + row[1] * other[1] + row[2] * other[2];
            }
            for (int i = 0; i < 9; ++i) {
                const double *column = m + i / 3, *other = intermediate + i % 3;
                const double product = column[0] * other[0] + column[3] * other[3] + column[6] * other[6];
                grad[matrix * 9 + i] = static_cast<M>(back.usable ? -product / determinant * back.factor
                                                                  : not_a_number<double>());
            }
        }
        __syncthreads();
    }
}

// Returns how many rows a thread takes: several, so that the values computed for a tile serve many pixels,
// but only if there are enough tiles to keep the device busy. It depends on nothing but the sizes, and so do
// the results.
int rows_per_thread(const WarpPerspectiveSizes& s) {
    constexpr int64_t enough = 512;
    const int64_t across = divide_up(s.out_w, kTileWidth);
    const int64_t down = divide_up(s.out_h, int64_t{kLines} * kMostRows);
    // Each factor is below 2^31, except n.
    return min_of(s.n, enough) * across * down >= enough ? kMostRows : 1;
}

Shape make_shape(const WarpPerspectiveSizes& s, int64_t stride_n, int64_t stride_c, int64_t stride_h) {
    return {s.n,
            s.c,
            static_cast<int32_t>(s.h),
            static_cast<int32_t>(s.w),
            static_cast<int32_t>(s.out_h),
            static_cast<int32_t>(s.out_w),
            stride_n,
            stride_c,
            stride_h,
            divide_up(s.out_w, kTileWidth),
            divide_up(s.out_h, int64_t{kLines} * rows_per_thread(s))};
}

// Blocks that stay resident and move from tile to tile.
Status blocks_for(const char* op, int64_t tiles, int64_t* blocks) {
    int device = 0, multiprocessors = 0;
    OPSERVE_RETURN_IF_ERROR(check_runtime(op, cudaGetDevice(&device)));
    OPSERVE_RETURN_IF_ERROR(
        check_runtime(op, cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device)));
    *blocks = min_of(tiles, multiprocessors * kResident);
    return {};
}

bool is_empty(const WarpPerspectiveSizes& s) { return s.n == 0 || s.c == 0 || s.out_h == 0 || s.out_w == 0; }

// The workspace of the backward pass.
struct BackwardPlan {
    BackwardPlan(const WarpPerspectiveBackwardParams& p, Workspace& workspace) {
        const WarpPerspectiveSizes& s = p.sizes;
        const Shape shape = make_shape(s, 0, 0, 0);
        tiles_per_image = is_empty(s) ? 0 : shape.tiles_across * shape.tiles_down;
        partial = workspace.take_matrix(p.grad_matrix != nullptr, s.n, tiles_per_image, 9 * sizeof(double));
        separate_sums = element_size(p.dtype) < sum_size(p.dtype);
        // The image itself has been allocated, so the product fits.
        pixels = s.n * s.c * s.h * s.w;
        sums = workspace.take_matrix(p.grad_image != nullptr && separate_sums, pixels, 1, sum_size(p.dtype));
    }

    int64_t tiles_per_image;
    int64_t pixels;
    bool separate_sums;
    void* partial;
    void* sums;
};

}  // namespace warp_perspective_cuda

Status warp_perspective(const WarpPerspectiveParams& p, Stream stream) {
    if (is_empty(p.sizes)) return {};
    return with_floating(kOp, p.dtype, [&]<class T>(T*) -> Status {
        OPSERVE_RETURN_IF_ERROR(check_aligned<T>(kOp, p.image, p.out));
        const Matrices matrices{p.matrix, p.matrix_dtype == DType::kFloat64, p.sizes.matrix_per_image};
        const Shape shape = make_shape(p.sizes, p.image_stride_n, p.image_stride_c, p.image_stride_h);
        int64_t blocks = 0;
        OPSERVE_RETURN_IF_ERROR(blocks_for(kOp, shape.n * shape.tiles_down * shape.tiles_across, &blocks));
        auto* kernel = rows_per_thread(p.sizes) == 1 ? &warp_kernel<T, 1> : &warp_kernel<T, kMostRows>;
        return launch(kOp, kernel, blocks, kThreads, stream, matrices, shape, static_cast<const T*>(p.image),
                      static_cast<T*>(p.out));
    });
}

Status warp_perspective_backward_workspace_size(const WarpPerspectiveBackwardParams& params, int64_t* bytes) {
    Workspace workspace(nullptr);
    BackwardPlan(params, workspace);
    return workspace.size(kBackwardOp, bytes);
}

Status warp_perspective_backward(const WarpPerspectiveBackwardParams& p, Stream stream) {
    return with_floating(kBackwardOp, p.dtype, [&]<class T>(T*) -> Status {
        using A = Accumulator<T>;
        OPSERVE_RETURN_IF_ERROR(check_aligned<T>(kBackwardOp, p.grad, p.image, p.grad_image));
        Workspace workspace(p.workspace);
        const BackwardPlan plan(p, workspace);
        const Matrices matrices{p.matrix, p.matrix_dtype == DType::kFloat64, p.sizes.matrix_per_image};
        const Shape shape = make_shape(p.sizes, p.image_stride_n, p.image_stride_c, p.image_stride_h);
        A* sums = static_cast<A*>(plan.separate_sums ? plan.sums : p.grad_image);
        if (p.grad_image != nullptr) {
            OPSERVE_RETURN_IF_ERROR(set_to_zero(kBackwardOp, sums, plan.pixels * sizeof(A), stream));
        }
        if (plan.tiles_per_image > 0) {
            int64_t blocks = 0;
            OPSERVE_RETURN_IF_ERROR(blocks_for(kBackwardOp, shape.n * plan.tiles_per_image, &blocks));
            auto* kernel = rows_per_thread(p.sizes) == 1 ? &warp_backward_kernel<T, 1>
                                                         : &warp_backward_kernel<T, kMostRows>;
            OPSERVE_RETURN_IF_ERROR(launch(kBackwardOp, kernel, blocks, kThreads, stream, matrices, shape,
                                           static_cast<const T*>(p.grad), static_cast<const T*>(p.image),
                                           p.grad_image != nullptr ? sums : nullptr,
                                           static_cast<double*>(plan.partial)));
        }
        if (p.grad_image != nullptr && plan.separate_sums) {
            OPSERVE_RETURN_IF_ERROR(
                round_sums(kBackwardOp, p.dtype, plan.pixels, sums, p.grad_image, stream));
        }
        const int64_t count = p.sizes.matrix_per_image ? p.sizes.n : 1;
        if (p.grad_matrix == nullptr || count == 0) return {};
        const int64_t tiles = plan.tiles_per_image * (p.sizes.matrix_per_image ? 1 : p.sizes.n);
        const auto* partial = static_cast<const double*>(plan.partial);
        if (matrices.is_double) {
            return launch(kBackwardOp, &matrix_gradient_kernel<double>, count, kThreads, stream, matrices,
                          count, tiles, partial, static_cast<double*>(p.grad_matrix));
        }
        return launch(kBackwardOp, &matrix_gradient_kernel<float>, count, kThreads, stream, matrices, count,
                      tiles, partial, static_cast<float*>(p.grad_matrix));
    });
}

}  // namespace opserve::cuda
