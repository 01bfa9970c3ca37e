#include "images.h"

#include <optional>
#include <string>

#include "canvas.h"
#include "image_file.h"
#include "jpeg.h"
#include "png.h"

namespace opserve::native {
namespace {

struct Form {
    Layout layout;
    int colours;
};

std::optional<Form> find_form(const Shape& shape) {
    const auto colours = [](int64_t size) { return size == 1 || size == 3; };
    if (shape.size() == 2) return Form{Layout::kHw, 1};
    if (shape.size() != 3) return std::nullopt;
    if (colours(shape[0])) return Form{Layout::kChw, static_cast<int>(shape[0])};
    if (colours(shape[2])) return Form{Layout::kHwc, static_cast<int>(shape[2])};
    return std::nullopt;
}

template <typename Image>
Array draw(const Image& image, Form form, const TensorSpec& spec, Budget& budget) {
    budget.take_pixels(image.width, image.height, spec.name);
    const uint64_t pixels = uint64_t{image.width} * image.height;
    budget.take_bytes(pixels * static_cast<uint64_t>(form.colours) * item_size(spec.dtype), spec.name);
    // Most models take one of these two; every byte is a float32.
    const DType dtype = spec.dtype == DType::kFloat32 ? DType::kFloat32 : DType::kUInt8;
    Canvas canvas(image.width, image.height, form.colours, form.layout, image.orientation, dtype,
                  image.rows_in_order());
    image.decode(canvas);
    return canvas.finish();
}

}  // namespace

bool accepts_image(const TensorSpec& spec) { return find_form(spec.shape).has_value(); }

Array decode_image(const Buffer& content, const TensorSpec& spec, Budget& budget) {
    const auto form = find_form(spec.shape);
    if (!form)
        throw RequestError("'" + spec.name + "' is " + spec.describe() + ", which an image cannot be",
                           spec.name);
    try {
        if (content.text().starts_with(kPngMagic)) return draw(parse_png(content.bytes), *form, spec, budget);
        if (content.text().starts_with(kJpegMagic))
            return draw(parse_jpeg(content.bytes), *form, spec, budget);
    } catch (const DamagedImage& error) {
        throw RequestError("'" + spec.name + "' is a damaged image: " + error.what(), spec.name);
    } catch (const ImageTooComplex& error) {
        throw RequestError("the image '" + spec.name + "' is not accepted: " + error.what(), spec.name, 413);
    }
    throw RequestError("'" + spec.name + "' is not a PNG or JPEG image", spec.name);
}

}  // namespace opserve::native
