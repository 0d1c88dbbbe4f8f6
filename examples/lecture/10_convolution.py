"""Experiment 10: convolution. Six filters of 5 x 5 make 28 x 28 x 6 of an image of 32 x 32 x 3, and other sizes of the lecture.

Each number of a map is a product of 75 weights and 75 pixels, plus a bias. The picture shows the six filters of a small net after
training, and what they see.
"""

from __future__ import annotations

import common
import numpy as np

import pyfastnn as fnn
from pyfastnn import nn, optim
from pyfastnn.nn.initializers import Normal

# Name, image, layer, and what the lecture has: shape and number of weights.
SIZES = (
    ("six 5x5 filters", (32, 32, 3), nn.Conv2d(6, 5), "28x28x6", 456),
    ("ten 5x5 filters on that", (28, 28, 6), nn.Conv2d(10, 5), "24x24x10", None),
    ("3x3, stride 1", (7, 7, 1), nn.Conv2d(1, 3), "5x5x1", None),
    ("3x3, stride 2", (7, 7, 1), nn.Conv2d(1, 3, stride=2), "3x3x1", None),
    ("3x3, stride 3", (7, 7, 1), nn.Conv2d(1, 3, stride=3), "does not fit", None),
    ("3x3, stride 1, padded by 1", (7, 7, 1), nn.Conv2d(1, 3, padding=1), "7x7x1", None),
    ("ten 5x5 filters, padded by 2", (32, 32, 3), nn.Conv2d(10, 5, padding=2), "32x32x10", 760),
    ("32 1x1 filters", (56, 56, 64), nn.Conv2d(32, 1), "56x56x32", None),
    ("AlexNet: 96 11x11, stride 4", (227, 227, 3), nn.Conv2d(96, 11, stride=4), "55x55x96", 34_944),
    ("AlexNet: 3x3 pool, stride 2", (55, 55, 96), nn.MaxPool2d(3, stride=2), "27x27x96", 0),
)


def sizes() -> None:
    """Print what layers make of images, and how many weights they have."""
    rows = []
    for name, image, layer, shape, weights in SIZES:
        model = nn.Sequential(layer).build(image)
        found = "x".join(map(str, model(np.zeros((1, *image), np.float32)).shape[1:]))
        count = sum(array.size for array in model.parameters.values())
        rows.append((name, "x".join(map(str, image)), found, shape, str(count), weights and str(weights)))
    common.compare(*rows, heads=("", "image", "ours", "published", "weights", "published"))
    print("stride 3 leaves a row and a column of the 7 x 7 image out: sizes are rounded down, as in other libraries")


def check() -> None:
    """Check one number of a map, and the max pool of the lecture."""
    image = np.random.default_rng(0).standard_normal((1, 32, 32, 3), np.float32)
    model = nn.Sequential(nn.Conv2d(6, 5)).build((32, 32, 3))
    w, b = (model.parameters[f"conv2d_1.{name}"].astype(np.float64) for name in "wb")
    chunk = image[0, 10:15, 20:25].reshape(75).astype(np.float64)
    pool = nn.Sequential(nn.MaxPool2d(2)).build((4, 4, 1))
    square = np.float32([[1, 1, 2, 4], [5, 6, 7, 8], [3, 2, 1, 0], [1, 2, 3, 4]])
    by_hand = chunk @ w[..., 3].reshape(75) + b[3]
    common.compare(("map 3 at (10, 20)", float(model(image)[0, 10, 20, 3]), by_hand), heads=("", "ours", "by hand"))
    largest = pool(square[None, ..., None])[0, ..., 0].astype(int).tolist()
    common.compare(("max pool of the lecture's 4 x 4", str(largest), "[[6, 8], [3, 4]]"))


def filters(args) -> None:
    """Train a small net, and draw its first filters and what they make of an image."""
    data = common.load(args, rows=500 if args.short else 49_000)
    layers = [
        nn.Conv2d(6, 5, init=Normal(0.01)),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(64),
        nn.ReLU(),
        nn.Linear(10),
    ]
    net = nn.Sequential(*layers, preprocess=fnn.data.Standardize(per="all"))
    trainer = fnn.Trainer(net, optimizer=optim.Adam(1e-3))
    trainer.fit(data.X, data.y, epochs=10, batch_size=50, verbose=0)
    accuracy = trainer.evaluate(data.X_val, data.y_val)["accuracy"]
    maps = nn.Sequential(net.layers["conv2d_1"], preprocess=net.preprocess).build(data.X.shape[1:])
    maps.load_state_dict({name: net.arrays()[name] for name in maps.arrays()})
    image = data.X_val[:1]
    seen = maps(image)[0]
    common.compare(
        ("maps of an image", "x".join(map(str, seen.shape)), "28x28x6" if data.X.shape[1] == 32 else None),
        ("validation accuracy of the net", f"{accuracy:.1%}", None),
    )
    if args.output:
        with common.picture(args.output, 2, 7, (11, 3.4)) as panels:
            common.show_images(panels[0], image[0], "image")
            panels[7].set_axis_off()
            for k in range(6):
                common.show_images(panels[1 + k], maps.parameters["conv2d_1.w"][..., k], f"filter {k + 1}")
                common.show_images(panels[8 + k], seen[..., k : k + 1], f"map {k + 1}")


def main() -> None:
    """Print sizes, check numbers by hand, and look at the filters of a net."""
    args = common.options(__doc__, images=True)
    sizes()
    check()
    filters(args)


if __name__ == "__main__":
    main()
