"""Triton kernels: raw pixels to network images in one launch, or two where the result is resampled twice.

The same arithmetic as pixels.py, resample.py and prepare.py, which do it with torch operations; see there for the
why. One program makes ``BLOCK`` pixels of the canvas of one view.
"""

from __future__ import annotations

import triton
import triton.language as tl

# Which of a set's images lie at a multiple of 16 bytes depends on which cameras are there: one that drops out must not
# have the kernel compiled anew. Every thread reads and writes single pixels, so nothing is lost.
_ANYWHERE = ["source", "colours"]


@triton.jit
def _whole(value):
    """Nearest grey level, ties to even as torch has it: float32 has no digits left behind the point near 1.5 * 2^23."""
    return tl.minimum(tl.maximum((value + 12582912.0) - 12582912.0, 0.0), 255.0)


@triton.jit
def _byte(source, at, mask):
    return tl.load(source + at, mask=mask, other=0).to(tl.float32)


@triton.jit
def _yuv(luma, u, v):
    scaled = tl.maximum(luma - 16.0, 0.0) * 1.164
    u = u - 128.0
    v = v - 128.0
    r = tl.minimum(tl.maximum(scaled + 1.596 * v, 0.0), 255.0)
    g = tl.minimum(tl.maximum(scaled + (-0.813 * v - 0.391 * u), 0.0), 255.0)
    b = tl.minimum(tl.maximum(scaled + 2.018 * u, 0.0), 255.0)
    return r, g, b


@triton.jit
def _rgb(source, y, x, height, width, mask, ENCODING: tl.constexpr):
    """Red, green and blue at pixel (y, x); ``planar``: float32 (3, height, width), else an encoding of Frame."""
    if ENCODING == "planar":
        at = y * width + x
        plane = height * width
        r = tl.load(source + at, mask=mask, other=0.0)
        g = tl.load(source + at + plane, mask=mask, other=0.0)
        b = tl.load(source + at + 2 * plane, mask=mask, other=0.0)
    elif ENCODING == "mono8":
        r = _byte(source, y * width + x, mask)
        g = r
        b = r
    elif ENCODING == "mono16":
        at = (y * width + x) * 2
        r = (_byte(source, at, mask) + 256.0 * _byte(source, at + 1, mask)) / 257.0
        g = r
        b = r
    elif ENCODING == "yuv422" or ENCODING == "yuv422_yuy2":
        LUMA: tl.constexpr = 1 if ENCODING == "yuv422" else 0
        luma = _byte(source, (y * width + x) * 2 + LUMA, mask)
        pair = (y * width + x // 2 * 2) * 2 + (1 - LUMA)
        r, g, b = _yuv(luma, _byte(source, pair, mask), _byte(source, pair + 2, mask))
    elif ENCODING == "nv12" or ENCODING == "nv21":
        luma = _byte(source, y * width + x, mask)
        pair = (height + y // 2) * width + x // 2 * 2
        U: tl.constexpr = 0 if ENCODING == "nv12" else 1
        r, g, b = _yuv(luma, _byte(source, pair + U, mask), _byte(source, pair + (1 - U), mask))
    else:
        BYTES: tl.constexpr = 4 if ENCODING == "rgba8" or ENCODING == "bgra8" else 3
        RED: tl.constexpr = 2 if ENCODING == "bgr8" or ENCODING == "bgra8" else 0
        at = (y * width + x) * BYTES
        r = _byte(source, at + RED, mask)
        g = _byte(source, at + 1, mask)
        b = _byte(source, at + 2 - RED, mask)
    return r, g, b


@triton.jit
def _finish(value, at, images, colours, gain, offset, mask, inside):
    """A grey level as it is, and normalised; 0 in the padding."""
    grey = _whole(value)
    normalised = tl.where(inside, offset + grey * gain, 0.0)
    tl.store(images + at, normalised.to(images.dtype.element_ty), mask=mask)
    tl.store(colours + at, tl.where(inside, grey, 0.0).to(tl.uint8), mask=mask)


@triton.jit
def _store(
    r, g, b, pixel, view, plane, images, colours,
    gain_r, gain_g, gain_b, offset_r, offset_g, offset_b,
    mask, inside, FINAL: tl.constexpr, ROUND: tl.constexpr,
):  # fmt: skip
    """To the network's images and colours (B, 3, H, W) if ``FINAL``, else as they are to ``images``."""
    at = view.to(tl.int64) * 3 * plane + pixel
    if FINAL:
        _finish(r, at, images, colours, gain_r, offset_r, mask, inside)
        _finish(g, at + plane, images, colours, gain_g, offset_g, mask, inside)
        _finish(b, at + 2 * plane, images, colours, gain_b, offset_b, mask, inside)
    else:
        if ROUND:
            r = _whole(r)
            g = _whole(g)
            b = _whole(b)
        tl.store(images + at, r, mask=mask)
        tl.store(images + at + plane, g, mask=mask)
        tl.store(images + at + 2 * plane, b, mask=mask)


@triton.jit(do_not_specialize_on_alignment=_ANYWHERE)
def resample_kernel(
    source, image_size, in_h, in_w,
    row_first, row_weight, row_taps, column_first, column_weight, column_taps,
    images, colours, canvas_h, canvas_w, top, left, out_h, out_w,
    gain_r, gain_g, gain_b, offset_r, offset_g, offset_b,
    ENCODING: tl.constexpr, FINAL: tl.constexpr, ROUND: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Separable resampling of B images of ``image_size`` elements each to their place (top, left) on the canvas.

    ``*_first``: (B, n_out) int32, first input sample; ``*_weight``: (taps, B, n_out) float32.
    """
    view = tl.program_id(1)
    views = tl.num_programs(1)
    plane = canvas_h * canvas_w
    pixel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = pixel < plane
    y = pixel // canvas_w - top
    x = pixel % canvas_w - left
    inside = mask & (y >= 0) & (y < out_h) & (x >= 0) & (x < out_w)
    source += view.to(tl.int64) * image_size
    row = view * out_h + y
    column = view * out_w + x
    first_y = tl.load(row_first + row, mask=inside, other=0)
    first_x = tl.load(column_first + column, mask=inside, other=0)
    r = tl.zeros((BLOCK,), tl.float32)
    g = tl.zeros((BLOCK,), tl.float32)
    b = tl.zeros((BLOCK,), tl.float32)
    for tap_x in range(column_taps):
        weight_x = tl.load(column_weight + tap_x * views * out_w + column, mask=inside, other=0.0)
        in_x = tl.minimum(first_x + tap_x, in_w - 1)
        column_r = tl.zeros((BLOCK,), tl.float32)
        column_g = tl.zeros((BLOCK,), tl.float32)
        column_b = tl.zeros((BLOCK,), tl.float32)
        for tap_y in range(row_taps):
            weight_y = tl.load(row_weight + tap_y * views * out_h + row, mask=inside, other=0.0)
            in_y = tl.minimum(first_y + tap_y, in_h - 1)
            pixel_r, pixel_g, pixel_b = _rgb(source, in_y, in_x, in_h, in_w, inside, ENCODING)
            column_r += weight_y * pixel_r
            column_g += weight_y * pixel_g
            column_b += weight_y * pixel_b
        r += weight_x * column_r
        g += weight_x * column_g
        b += weight_x * column_b
    _store(
        r, g, b, pixel, view, plane, images, colours,
        gain_r, gain_g, gain_b, offset_r, offset_g, offset_b, mask, inside, FINAL, ROUND,
    )  # fmt: skip


@triton.jit(do_not_specialize_on_alignment=_ANYWHERE)
def rectify_kernel(
    source, image_size, in_h, in_w, grid, samples,
    images, colours, canvas_h, canvas_w, top, left, out_h, out_w,
    gain_r, gain_g, gain_b, offset_r, offset_g, offset_b,
    ENCODING: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Bilinear samples of B images at ``grid`` (B, out_h * samples, out_w * samples, 2), averaged for each pixel.

    x and y in ``grid`` go from -1 to 1 between the image's outer edges; beyond them, the border's pixels repeat.
    """
    view = tl.program_id(1)
    plane = canvas_h * canvas_w
    pixel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = pixel < plane
    y = pixel // canvas_w - top
    x = pixel % canvas_w - left
    inside = mask & (y >= 0) & (y < out_h) & (x >= 0) & (x < out_w)
    source += view.to(tl.int64) * image_size
    grid += view.to(tl.int64) * out_h * out_w * samples * samples * 2
    r = tl.zeros((BLOCK,), tl.float32)
    g = tl.zeros((BLOCK,), tl.float32)
    b = tl.zeros((BLOCK,), tl.float32)
    for sample in range(samples * samples):
        sample_y = y * samples + sample // samples
        sample_x = x * samples + sample % samples
        at = (sample_y * (out_w * samples) + sample_x) * 2
        unit_x = tl.load(grid + at, mask=inside, other=0.0)
        unit_y = tl.load(grid + at + 1, mask=inside, other=0.0)
        in_x = tl.minimum(tl.maximum(((unit_x + 1.0) * in_w - 1.0) * 0.5, 0.0), in_w - 1.0)
        in_y = tl.minimum(tl.maximum(((unit_y + 1.0) * in_h - 1.0) * 0.5, 0.0), in_h - 1.0)
        left_x = in_x.to(tl.int32)
        upper_y = in_y.to(tl.int32)
        right_x = tl.minimum(left_x + 1, in_w - 1)
        lower_y = tl.minimum(upper_y + 1, in_h - 1)
        share_x = in_x - left_x.to(tl.float32)
        share_y = in_y - upper_y.to(tl.float32)
        r0, g0, b0 = _rgb(source, upper_y, left_x, in_h, in_w, inside, ENCODING)
        r1, g1, b1 = _rgb(source, upper_y, right_x, in_h, in_w, inside, ENCODING)
        r2, g2, b2 = _rgb(source, lower_y, left_x, in_h, in_w, inside, ENCODING)
        r3, g3, b3 = _rgb(source, lower_y, right_x, in_h, in_w, inside, ENCODING)
        weight0 = (1.0 - share_x) * (1.0 - share_y)
        weight1 = share_x * (1.0 - share_y)
        weight2 = (1.0 - share_x) * share_y
        weight3 = share_x * share_y
        r += r0 * weight0 + r1 * weight1 + r2 * weight2 + r3 * weight3
        g += g0 * weight0 + g1 * weight1 + g2 * weight2 + g3 * weight3
        b += b0 * weight0 + b1 * weight1 + b2 * weight2 + b3 * weight3
    count = samples * samples
    _store(
        r / count, g / count, b / count, pixel, view, plane, images, colours,
        gain_r, gain_g, gain_b, offset_r, offset_g, offset_b, mask, inside, True, True,
    )  # fmt: skip
