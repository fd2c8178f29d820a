"""Batch normalization in float64 NumPy, and its derivatives without any formula for them."""

import numpy as np

EPSILON = 1e-3


def batch_norm(x, gamma, beta, counted=None, axis=-1, epsilon=EPSILON):
    """Return outputs, mean and variance; `counted` is a bool array that broadcasts to x.

    Every step is analytic, so complex numbers pass through it.
    """
    axes = tuple(np.delete(np.arange(x.ndim), axis))
    weights = np.broadcast_to(1.0 if counted is None else counted, x.shape).astype(float)
    count = np.maximum(weights.sum(axes, keepdims=True), 1)
    mean = (weights * x).sum(axes, keepdims=True) / count
    variance = (weights * (x - mean) ** 2).sum(axes, keepdims=True) / count
    shape = np.ones(x.ndim, int)
    shape[axis] = -1
    normalized = (x - mean) / np.sqrt(variance + epsilon)
    outputs = normalized * gamma.reshape(shape) + beta.reshape(shape)
    return outputs, mean.ravel(), variance.ravel()


def gradient(function, arrays, step=1e-30):
    """Differentiate a scalar function by complex steps: exact to rounding, no cancellation."""
    gradients = [np.zeros(array.shape) for array in arrays]
    for which, array in enumerate(arrays):
        for index in np.ndindex(array.shape):
            moved = [other.astype(complex) for other in arrays]
            moved[which][index] += 1j * step
            gradients[which][index] = function(*moved).imag / step
    return gradients


def second_gradient(function, arrays, directions, step=1e-5):
    """Differentiate `sum(direction * gradient)` by central differences in float64.

    The truncation error is about step ** 2 and the rounding error about 1e-16 / step: 1e-10.
    """

    def projected(*moved):
        pairs = zip(gradient(function, moved), directions, strict=True)
        return sum(np.sum(part * direction) for part, direction in pairs)

    seconds = [np.zeros(array.shape) for array in arrays]
    for which, array in enumerate(arrays):
        for index in np.ndindex(array.shape):
            ends = []
            for sign in (1, -1):
                moved = [other.copy() for other in arrays]
                moved[which][index] += sign * step
                ends.append(projected(*moved))
            seconds[which][index] = (ends[0] - ends[1]) / (2 * step)
    return seconds


class Problem:
    """A small batch, a loss that feels every output, and directions for the second derivative."""

    def __init__(self, shape, axis=-1, mask_shape=None, outputs=("outputs", "mean", "variance")):
        random = np.random.default_rng(7)
        self.shape, self.axis, channels = shape, axis, shape[axis]
        self.arrays = [
            random.normal(1.0, 2.0, shape),
            random.uniform(0.5, 1.5, channels),
            random.normal(size=channels),
        ]
        self.mask = None
        if mask_shape is not None:
            self.mask = random.uniform(size=mask_shape) < 0.6
            self.mask.flat[:2] = True, False
        shapes = {"outputs": shape, "mean": channels, "variance": channels}
        self.factors = [random.normal(size=shapes[name]) * (name in outputs) for name in shapes]
        self.directions = [random.normal(size=array.shape) for array in self.arrays]

    def loss(self, outputs, mean, variance):
        """Sum weighted squares, so that upstream gradients depend on the outputs too."""
        results = (outputs, mean, variance)
        # Called with NumPy arrays here, with a backend's tensors by the tests.
        return sum(
            (factor * result * result).sum()
            for factor, result in zip(self.factors, results, strict=True)
        )

    def _function(self, x, gamma, beta):
        return self.loss(*batch_norm(x, gamma, beta, self.mask, self.axis))

    def gradient(self):
        """Differentiate the loss with respect to x, gamma and beta."""
        return gradient(self._function, self.arrays)

    def second_gradient(self):
        """Differentiate the gradient along `directions`."""
        return second_gradient(self._function, self.arrays, self.directions)
