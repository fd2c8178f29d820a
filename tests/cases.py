"""Every layer, builder and config once: the common contracts run over these lists."""

# --- layers: (id, constructor arguments, input shape without the batch) ------------------
LAYERS = [
    ("dense", {}, (8,)),
    ("sequence", {"momentum": 0.9, "epsilon": 1e-5, "unbiased_moving_variance": True}, (5, 4)),
    ("image", {"beta_regularizer": "l2", "gamma_constraint": "non_neg"}, (4, 4, 3)),
    ("channels_first", {"axis": 1, "center": False}, (3, 4, 4)),
    ("volume", {"scale": False}, (2, 3, 2, 4)),
    ("renorm", {"renorm": True, "renorm_clipping": {"rmax": 3.0, "dmax": 5.0}}, (6,)),
    ("synchronized", {"synchronized": True}, (4, 3)),
    ("ghosts", {"virtual_batch_size": 4}, (5, 3)),
    ("cumulative", {"momentum": None}, (4, 4)),
    ("reference", {"implementation": "reference"}, (3, 4)),
    ("fused", {"implementation": "fused"}, (4, 4, 4)),
    ("xla", {"implementation": "xla"}, (4, 4, 3)),
    ("nothing_to_learn", {"center": False, "scale": False}, (102,)),
]

# --- models: (name, parameters) ------------------------------------------------------------------
# Small sizes, so that the contract runs in seconds; the published sizes are golden-tested.
MODELS = [
    ("conv1d", {"input_shape": (9, 4), "filters": [4]}),  # the bare example
    ("conv1d", {"input_shape": (None, 4), "filters": [4], "classes": 3}),
    ("dense", {"input_shape": (4, 4, 1), "units": [8, 6], "classes": 3}),
    ("f1", {"input_shape": (6,), "units": [6, 5], "classes": 3}),
    (
        "inception",
        {
            "input_shape": (8, 8, 1),
            "filters": [3, 4],
            "blocks": ["3a"],
            "width": 0.05,
            "classes": 3,
        },
    ),
    ("lenet", {"input_shape": (16, 16, 1), "filters": [2, 4], "units": [8, 6], "classes": 3}),
    ("one_conv", {"input_shape": (6, 6, 1), "filters": [4], "classes": 3}),
    ("resnet", {"depth": 8, "input_shape": (8, 8, 1), "width": 0.25, "classes": 3}),
    ("sigmoid_mlp", {"input_shape": (6,), "units": [6, 5], "classes": 3}),
    ("three_conv", {"input_shape": (6, 6, 1), "filters": [4, 3, 4], "classes": 3}),
    ("vgg", {"input_shape": (8, 8, 1), "filters": [[4], [4, 5]], "units": [6], "classes": 3}),
]

# In the quick suite only with the placement of the paper, and not on JAX: they have many layers, or
# are built as `dense` is.
SLOW_MODELS = ("f1", "inception", "resnet", "sigmoid_mlp")
