// warp_perspective: resamples an image through a homography, as OpenCV's warpPerspective does with bilinear
// interpolation and a constant border of zero.
//
//   image   [H, W], [C, H, W] or [N, C, H, W]
//   matrix  [3, 3], or [N, 3, 3] for a 4-D image: maps (x, y, 1) of the source to the destination, in pixels
//   size    (height, width) of the result, >= 0
//   out     [height, width], [C, height, width] or [N, C, height, width], overwritten
//
// Pixel centres have integer coordinates. A destination pixel is the weighted sum of the four source pixels
// around its preimage; those outside the image count as 0, one by one. Geometry is computed in float64. A
// destination pixel whose preimage is at infinity is 0. The scale of a matrix does not matter, nor does its
// sign.
//
// image is float32 or float64 on the CPU, those, float16 or bfloat16 on CUDA; matrix float32 or float64
// independently of it; both on one device. Empty images and results are legal: an image without pixels gives
// zeros. Rejected: other ranks and dtypes, a matrix count that is not N, negative or overflowing sizes, sides
// of 2^31 - 8 and more, and, on the CPU, a matrix that is not finite or is singular to the precision of its
// dtype. NaN and infinity in the image reach each pixel that has them among its four neighbours, also with
// weight 0 (0·NaN is NaN).
//
// On CUDA the values of a matrix cannot be checked without waiting for the device: the image of a matrix that
// is not finite or is singular is NaN. The geometry of a float64 image is in float64 there, too. For the
// others it is in float32, but only over the small distances inside a tile of 32 by 32 pixels, whose centre
// and slopes are computed in float64: a position is wrong by less than 2^-15 of the distance between
// neighbouring preimages plus 2^-22 pixels, wherever it is in the image. Tiles near the horizon, where that
// would not hold, take float64 throughout. Half types are weighted in float32 and rounded once.
//
// On the CPU the geometry of a float64 image is in float64. That of a float32 image is in float64 once for
// every 64 pixels of a row, and in float32 over the distances between: a position is wrong by less than 5e-5
// pixels, and by less than 1e-5 where the scale is near 1, wherever it is in the image. Pixels that are more
// than 128 pixels of the source away from the middle of their 64, or near the horizon, take float64
// throughout.
//
// Backward, of grad with the shape of out:
//
//   grad_image   each pixel of grad is added to its four neighbours by their weights, on CUDA in the order in
//                which threads arrive: it can differ by roundings from call to call.
//   grad_matrix  through the preimages, with the slope of the bilinear patch that the position belongs to: at
//                a whole column or row, where two patches meet, that of the one to the right or below. For
//                one matrix shared by all images the sum over them. Always the same, bit for bit.
//
// On the CPU both are the same with any number of threads, and their geometry is in float64.
//
// If the result of an image is NaN, so are both its gradients.
#pragma once

#include <cstdint>

#include "opserve/cuda.h"
#include "opserve/parallel.h"
#include "opserve/status.h"
#include "opserve/tensor.h"

namespace opserve {

struct WarpPerspectiveSizes {
    int64_t n;             // images
    int64_t c;             // channels of each
    int64_t h, w;          // source
    int64_t out_h, out_w;  // destination
    bool matrix_per_image;
};

// Checks the arguments, on any device. `size` has `size_count` elements. Sets `sizes`.
Status check_warp_perspective(const TensorArg& image, const TensorArg& matrix, const int64_t* size,
                              int64_t size_count, WarpPerspectiveSizes* sizes);

struct WarpPerspectiveParams {
    DType dtype;
    DType matrix_dtype;
    WarpPerspectiveSizes sizes;
    const void* image;
    // In elements; the pixels of a row are adjacent.
    int64_t image_stride_n;
    int64_t image_stride_c;
    int64_t image_stride_h;
    const void* matrix;  // contiguous
    void* out;           // contiguous
};

// Sets `sizes`.
Status check_warp_perspective_backward(const TensorArg& grad, const TensorArg& image, const TensorArg& matrix,
                                       const int64_t* size, int64_t size_count, WarpPerspectiveSizes* sizes);

struct WarpPerspectiveBackwardParams {
    DType dtype;
    DType matrix_dtype;
    WarpPerspectiveSizes sizes;
    const void* grad;  // contiguous
    const void* image;
    // In elements; the pixels of a row are adjacent.
    int64_t image_stride_n;
    int64_t image_stride_c;
    int64_t image_stride_h;
    const void* matrix;  // contiguous
    // Contiguous and overwritten; null if it is not needed.
    void* grad_image;
    void* grad_matrix;
    void* workspace;  // of the queried size, aligned to 64 bytes; contents need not be set
};

namespace cpu {
// Checks the values of the matrices, then computes.
Status warp_perspective(const WarpPerspectiveParams& params, const ParallelFor& parallel_for);

// Depends on which gradients are needed: those that are not null.
Status warp_perspective_backward_workspace_size(const WarpPerspectiveBackwardParams& params, int64_t* bytes);
// Checks the values of the matrices, then computes.
Status warp_perspective_backward(const WarpPerspectiveBackwardParams& params,
                                 const ParallelFor& parallel_for);
}  // namespace cpu

namespace cuda {
Status warp_perspective(const WarpPerspectiveParams& params, Stream stream);

// Depends on which gradients are needed: those that are not null.
Status warp_perspective_backward_workspace_size(const WarpPerspectiveBackwardParams& params, int64_t* bytes);
Status warp_perspective_backward(const WarpPerspectiveBackwardParams& params, Stream stream);
}  // namespace cuda

}  // namespace opserve
