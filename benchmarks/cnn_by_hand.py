"""The convolutional network as one would write it by hand: products over gathered windows.

Inside, images are laid out with their channels last and a window is one row of ``columns``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.harness import Run

if TYPE_CHECKING:
    from benchmarks.cnn import Images


def channels_last(problem: Images) -> tuple[list[np.ndarray], np.ndarray]:
    """Return the parameters at the start and the images, laid out with the channels last."""
    W1, b1, W2, b2, W3, b3 = problem.start
    start = [
        W1.transpose(2, 3, 1, 0).reshape(9, 16),
        b1,
        W2.transpose(2, 3, 1, 0).reshape(144, 32),
        b2,
        W3.reshape(32, 25, 10).transpose(1, 0, 2).reshape(800, 10),
        b3,
    ]
    start = [np.array(value, order="C") for value in start]
    return start, np.ascontiguousarray(problem.images.reshape(-1, 28, 28, 1))


def plain_numpy(problem: Images) -> Run:
    from numpy.lib.stride_tricks import sliding_window_view

    parameters, images = channels_last(problem)

    def convolved(x: np.ndarray, W: np.ndarray, b: np.ndarray) -> tuple[Any, ...]:
        n, size, _, channels = x.shape
        windows = sliding_window_view(x, (3, 3), axis=(1, 2)).transpose(0, 1, 2, 4, 5, 3)
        columns = windows.reshape(-1, 9 * channels)
        z = (columns @ W + b).reshape(n, size - 2, size - 2, -1)
        half = (size - 2) // 2
        even = z[:, : 2 * half, : 2 * half]
        blocks = even.reshape(n, half, 2, half, 2, -1).transpose(0, 1, 3, 5, 2, 4)
        blocks = blocks.reshape(n, half, half, -1, 4)
        place = blocks.argmax(axis=-1)
        pooled = np.take_along_axis(blocks, place[..., None], axis=-1)[..., 0]
        return columns, z.shape, place, np.maximum(pooled, 0)

    def unpooled(grad: np.ndarray, pooled: Any, place: Any, shape: tuple[int, ...]) -> np.ndarray:
        n, half, _, channels = pooled.shape
        blocks = np.zeros((*pooled.shape, 4), np.float32)
        np.put_along_axis(blocks, place[..., None], (grad * (pooled > 0))[..., None], axis=-1)
        blocks = blocks.reshape(n, half, half, channels, 2, 2).transpose(0, 1, 4, 2, 5, 3)
        z = np.zeros(shape, np.float32)
        z[:, : 2 * half, : 2 * half] = blocks.reshape(n, 2 * half, 2 * half, channels)
        return z.reshape(-1, channels)

    def run() -> list[Any]:
        losses = []
        for rows in problem.rows:
            W1, b1, W2, b2, W3, b3 = parameters
            x, y = images[rows], problem.classes[rows]
            n, each = len(y), np.arange(len(y))
            columns1, shape1, place1, first = convolved(x, W1, b1)
            columns2, shape2, place2, second = convolved(first, W2, b2)
            flat = second.reshape(n, 800)
            logits = flat @ W3 + b3
            logits -= logits.max(axis=1, keepdims=True)
            powers = np.exp(logits)
            totals = powers.sum(axis=1, keepdims=True)
            losses.append(np.mean(np.log(totals[:, 0]) - logits[each, y]))
            grad = powers / totals
            grad[each, y] -= 1
            grad /= n
            grad_z2 = unpooled((grad @ W3.T).reshape(second.shape), second, place2, shape2)
            back = (grad_z2 @ W2.T).reshape(n, 11, 11, 3, 3, 16)
            grad_first = np.zeros_like(first)
            for i in range(3):
                for j in range(3):
                    grad_first[:, i : i + 11, j : j + 11] += back[:, :, :, i, j]
            grad_z1 = unpooled(grad_first, first, place1, shape1)
            gradients = [
                columns1.T @ grad_z1, grad_z1.sum(axis=0),
                columns2.T @ grad_z2, grad_z2.sum(axis=0),
                flat.T @ grad, grad.sum(axis=0),
            ]  # fmt: skip
            for p, g in zip(parameters, gradients):
                p -= problem.rate * g
        return losses

    return run


SHARE = 8
"""Images that a thread takes through the whole network at once, so that they stay in its cache."""


def compiled_epoch() -> Any:  # noqa: PLR0915 (one program, its functions inside)
    """Return a run of steps as one compiled function: threads over images, BLAS on one each."""
    from numba import njit, prange

    nil = np.float32(0)

    @njit(fastmath=True, error_model="numpy")
    def gathered(x, columns):  # type: ignore
        size, channels = x.shape[0] - 2, x.shape[2]
        for i in range(size):
            for j in range(size):
                row = columns[i * size + j]
                for di in range(3):
                    for dj in range(3):
                        for k in range(channels):
                            row[(di * 3 + dj) * channels + k] = x[i + di, j + dj, k]

    @njit(fastmath=True, error_model="numpy")
    def pooled(z, b, out, place):  # type: ignore
        for i in range(out.shape[0]):
            for j in range(out.shape[1]):
                for k in range(out.shape[2]):
                    best, at = z[2 * i, 2 * j, k], np.uint8(0)
                    for q in range(1, 4):
                        value = z[2 * i + q // 2, 2 * j + q % 2, k]
                        at = np.uint8(q) if value > best else at
                        best = max(best, value)
                    out[i, j, k] = max(best + b[k], nil)
                    place[i, j, k] = at

    @njit(fastmath=True, error_model="numpy")
    def unpooled(grad, value, place, z, gb):  # type: ignore
        for i in range(value.shape[0]):
            for j in range(value.shape[1]):
                for k in range(value.shape[2]):
                    g = grad[i, j, k] if value[i, j, k] > nil else nil
                    gb[k] += g
                    for q in range(4):
                        z[2 * i + q // 2, 2 * j + q % 2, k] = g if place[i, j, k] == q else nil

    @njit(fastmath=True, error_model="numpy")
    def scattered(back, grad):  # type: ignore
        size, channels = grad.shape[0] - 2, grad.shape[2]
        grad[:] = nil
        for i in range(size):
            for j in range(size):
                row = back[i * size + j]
                for di in range(3):
                    for dj in range(3):
                        for k in range(channels):
                            grad[i + di, j + dj, k] += row[(di * 3 + dj) * channels + k]

    @njit(fastmath=True, error_model="numpy")
    def softmax_loss(logits, classes, rows, share):  # type: ignore
        loss = 0.0
        for i in range(logits.shape[0]):
            largest = logits[i].max()
            picked = logits[i, classes[rows[i]]] - largest
            total = nil
            for j in range(logits.shape[1]):
                logits[i, j] = np.exp(logits[i, j] - largest)
                total += logits[i, j]
            loss += np.log(total) - picked
            for j in range(logits.shape[1]):
                logits[i, j] *= share / total
            logits[i, classes[rows[i]]] -= share
        return loss

    @njit(fastmath=True, error_model="numpy")
    def part(images, classes, rows, share, parameters, gradients, buffers):  # type: ignore
        """Take some images forward and back; leave gradients, return their share of the loss."""
        W1, b1, W2, b2, W3, b3 = parameters
        gW1, gb1, gW2, gb2, gW3, gb3 = gradients
        columns1, z1, first, place1, columns2, z2, second, place2, back, grad_first, grad_flat = (
            buffers
        )
        n = rows.size
        for i in range(n):
            gathered(images[rows[i]], columns1[i])
        np.dot(columns1.reshape(-1, 9), W1, z1.reshape(-1, 16))
        for i in range(n):
            pooled(z1[i], b1, first[i], place1[i])
            gathered(first[i], columns2[i])
        np.dot(columns2.reshape(-1, 144), W2, z2.reshape(-1, 32))
        for i in range(n):
            pooled(z2[i], b2, second[i], place2[i])
        flat = second.reshape(n, 800)
        logits = np.dot(flat, W3) + b3
        loss = softmax_loss(logits, classes, rows, share)
        np.dot(flat.T, logits, gW3)
        for j in range(10):
            gb3[j] = logits[:, j].sum()
        gb1[:] = nil
        gb2[:] = nil
        np.dot(logits, W3.T, grad_flat)
        for i in range(n):
            unpooled(grad_flat[i].reshape(5, 5, 32), second[i], place2[i], z2[i], gb2)
            z2[i, 10] = nil
            z2[i, :, 10] = nil
        np.dot(columns2.reshape(-1, 144).T, z2.reshape(-1, 32), gW2)
        np.dot(z2.reshape(-1, 32), W2.T, back.reshape(-1, 144))
        for i in range(n):
            scattered(back[i], grad_first[i])
            unpooled(grad_first[i], first[i], place1[i], z1[i], gb1)
        np.dot(columns1.reshape(-1, 9).T, z1.reshape(-1, 16), gW1)
        return loss

    @njit(fastmath=True, error_model="numpy", parallel=True)
    def epoch(images, classes, all_rows, parameters, gradients, buffers, rate, losses):  # type: ignore
        W1, b1, W2, b2, W3, b3 = parameters
        steps, batch = all_rows.shape
        parts = batch // SHARE
        share = np.float32(1 / batch)
        each = np.empty(parts)
        for t in range(steps):
            for k in prange(parts):
                rows = all_rows[t, k * SHARE : k * SHARE + SHARE]
                each[k] = part(
                    images, classes, rows, share, parameters,
                    (gradients[0][k], gradients[1][k], gradients[2][k],
                     gradients[3][k], gradients[4][k], gradients[5][k]),
                    (buffers[0][k], buffers[1][k], buffers[2][k], buffers[3][k], buffers[4][k],
                     buffers[5][k], buffers[6][k], buffers[7][k], buffers[8][k], buffers[9][k],
                     buffers[10][k]),
                )  # fmt: skip
            losses[t] = each.sum() / batch
            for k in range(parts):
                W1 -= rate * gradients[0][k]
                b1 -= rate * gradients[1][k]
                W2 -= rate * gradients[2][k]
                b2 -= rate * gradients[3][k]
                W3 -= rate * gradients[4][k]
                b3 -= rate * gradients[5][k]

    return epoch


def numba_epochs(problem: Images) -> Run:
    from threadpoolctl import ThreadpoolController

    epoch = compiled_epoch()
    start, images = channels_last(problem)
    parameters = tuple(start)
    parts = problem.rows.shape[1] // SHARE
    gradients = tuple(np.empty((parts, *value.shape), np.float32) for value in start)
    shapes = [
        (676, 9), (26, 26, 16), (13, 13, 16), (13, 13, 16), (121, 144), (11, 11, 32), (5, 5, 32),
        (5, 5, 32), (121, 144), (13, 13, 16), (800,),
    ]  # fmt: skip
    kinds = [np.uint8 if i in {3, 7} else np.float32 for i in range(len(shapes))]
    buffers = tuple(np.zeros((parts, SHARE, *s), kind) for s, kind in zip(shapes, kinds))
    rate = np.float32(problem.rate)
    libraries = ThreadpoolController()

    def run() -> np.ndarray:
        losses = np.empty(len(problem.rows))
        with libraries.limit(limits=1, user_api="blas"):
            epoch(
                images, problem.classes, problem.rows,
                parameters, gradients, buffers, rate, losses,
            )  # fmt: skip
        return losses

    return run
