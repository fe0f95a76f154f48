"""Convolution and pooling of images, window by window: what engines' kernels are compared with."""

from __future__ import annotations

import numpy as np


def windows(value, image, kernel, count):
    """Yield the place of every window, and the slices of the padded image that it covers."""
    (top, left), (sh, sw) = value.attributes["pads"], value.attributes["stride"]
    height = max((count[0] - 1) * sh + kernel[0], image[0] + top)
    width = max((count[1] - 1) * sw + kernel[1], image[1] + left)
    pads = ((top, height - top - image[0]), (left, width - left - image[1]))
    places = [
        ((i, j), (slice(i * sh, i * sh + kernel[0]), slice(j * sw, j * sw + kernel[1])))
        for i in range(count[0])
        for j in range(count[1])
    ]
    return pads, places


def padded(x, pads, fill=0.0):
    return np.pad(x, ((0, 0), (0, 0), *pads), constant_values=fill)


def inside(padded_images, pads, image):
    return padded_images[
        :, :, pads[0][0] : pads[0][0] + image[0], pads[1][0] : pads[1][0] + image[1]
    ]


def conv2d(value, x, W):
    pads, places = windows(value, x.shape[2:], W.shape[2:], value.shape[2:])
    out = np.zeros(value.shape, value.dtype)
    for (i, j), (rows, columns) in places:
        out[:, :, i, j] = np.einsum("nchw,ochw->no", padded(x, pads)[:, :, rows, columns], W)
    return out


def conv2d_input_gradient(value, grad, W):
    pads, places = windows(value, value.shape[2:], W.shape[2:], grad.shape[2:])
    out = padded(np.zeros(value.shape, value.dtype), pads)
    for (i, j), (rows, columns) in places:
        out[:, :, rows, columns] += np.einsum("no,ochw->nchw", grad[:, :, i, j], W)
    return inside(out, pads, value.shape[2:])


def conv2d_weight_gradient(value, x, grad):
    pads, places = windows(value, x.shape[2:], value.shape[2:], grad.shape[2:])
    out = np.zeros(value.shape, value.dtype)
    for (i, j), (rows, columns) in places:
        part = padded(x, pads)[:, :, rows, columns]
        out += np.einsum("no,nchw->ochw", grad[:, :, i, j], part)
    return out


def max_pool2d(value, x):
    pads, places = windows(value, x.shape[2:], value.attributes["size"], value.shape[2:])
    out = np.zeros(value.shape, value.dtype)
    for (i, j), (rows, columns) in places:
        out[:, :, i, j] = padded(x, pads, -np.inf)[:, :, rows, columns].max(axis=(2, 3))
    return out


def max_pool2d_gradient(value, grad, x, pooled):
    image = x.shape[2:]
    pads, places = windows(value, image, value.attributes["size"], grad.shape[2:])
    source, real = padded(x, pads, -np.inf), padded(np.ones(x.shape, bool), pads, False)
    out = np.zeros(source.shape, value.dtype)
    for (i, j), (rows, columns) in places:
        part = source[:, :, rows, columns]
        hit = ~(part < pooled[:, :, i, j, None, None]) & real[:, :, rows, columns]
        flat = hit.reshape(*hit.shape[:2], hit.shape[2] * hit.shape[3])
        first = (np.cumsum(flat, axis=2) == 1) & flat
        out[:, :, rows, columns] += first.reshape(hit.shape) * grad[:, :, i, j, None, None]
    return inside(out, pads, image)


KERNELS = {
    "conv2d": conv2d,
    "conv2d_input_gradient": conv2d_input_gradient,
    "conv2d_weight_gradient": conv2d_weight_gradient,
    "max_pool2d": max_pool2d,
    "max_pool2d_gradient": max_pool2d_gradient,
}
"""By name: ``function(value, *arrays)``."""
