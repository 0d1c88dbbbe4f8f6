"""The two-layer net and the trainer of the CS231n lectures, under their names, on native code.

The lecture's session on watching a net learn, on 20 rows of three classes:

>>> import numpy as np
>>> from pyfastnn.cs231n import ClassifierTrainer, init_two_layer_model, two_layer_net
>>> rng = np.random.default_rng(0)
>>> y = np.arange(20) % 3
>>> X = 10.0 * np.eye(3)[y] + rng.standard_normal((20, 3))
>>> model = init_two_layer_model(3, 8, 3, seed=0)
>>> loss, grads = two_layer_net(X, model, y, 0.0)
>>> print(f"{loss:.4f}")  # log(3)
1.0986
>>> loss, grads = two_layer_net(X, model, y, 1e7)
>>> print(f"{loss:.1f}")  # regularization makes it rise
4.2
>>> trainer = ClassifierTrainer(seed=0)
>>> best_model, stats = trainer.train(
...     X, y, X, y, model, two_layer_net, num_epochs=400, reg=0.0, update="sgd", learning_rate=0.1,
...     learning_rate_decay=1, sample_batches=False, verbose=False
... )
>>> print(f"train {stats['train_acc_history'][-1]:f}, cost under 0.01: {stats['loss_history'][-1] < 0.01}")
train 1.000000, cost under 0.01: True

`two_layer_net` is recognised: all steps of an epoch then are one native call. Any other function of the same signature is trained by the
same loop in Python.
"""

from pyfastnn.cs231n.trainer import ClassifierTrainer
from pyfastnn.cs231n.two_layer import init_two_layer_model, two_layer_net

__all__ = ["ClassifierTrainer", "init_two_layer_model", "two_layer_net"]
