"""The LeNet article's network "with BN" makes its layers and never calls them."""

import keras
import numpy as np
import pytest

from bnzoo import BatchNormalization, models


class ArticleNetwork(keras.Model):
    """LeNet as the article's code has it: normalizations are attributes, and stay unused."""

    def __init__(self):
        super().__init__()
        self.lenet = models.build("lenet", "none")
        self.bn_1, self.bn_2 = BatchNormalization(), BatchNormalization()
        self.bn_3, self.bn_4 = BatchNormalization(), BatchNormalization()

    def call(self, inputs):
        return self.lenet(inputs)


def losses(make, images, labels):
    keras.utils.set_random_seed(44)
    model = make()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-4), loss)
    history = [model.train_on_batch(images, labels) for _ in range(5)]
    return [float(value) for value in history]


def test_its_network_with_bn_is_its_network_without():
    random = np.random.default_rng(0)
    images, labels = random.random((10, 32, 32, 3), "float32"), random.integers(0, 10, 10)
    without = losses(lambda: models.build("lenet", "none"), images, labels)
    with pytest.warns(UserWarning, match="unbuilt state"):  # Keras notices what the article did not
        as_published = losses(ArticleNetwork, images, labels)
    assert as_published == without
    assert losses(lambda: models.build("lenet", "before"), images, labels) != without
