"""Keep what training has made, so that the same training is done once."""

from __future__ import annotations

import io
from pathlib import Path

from skerry.compress.train.fit import fit
from skerry.compress.train.training import Training
from skerry.core.durable import make_folder, write_file
from skerry.core.errors import ModelError
from skerry.runtimes.torch import torch
from skerry.tasks.evaluate import Progress


def fit_once(
    training: Training,
    path: Path,
    *,
    epochs: int,
    seed: int = 0,
    progress: Progress | None = None,
) -> Training:
    """Train the module of a training in place, or take the weights that are kept.

    What a `setup` function returns is a module that is trained already, and a search
    asks for it more than once.

    Args:
        training: Its module is not trained yet.
        path: The weights, as `torch.save` writes a state dict; put in place whole.
        epochs: How often to go through the batches, the first time.
        seed: As for `fit`.
        progress: Told of each batch.

    Returns:
        The training that was given.

    Raises:
        ModelError: The file holds no weights, or those of another module.
        StorageError: The disk refused.
        UsageError: The errors of `fit`.
    """
    module = training.module
    if path.exists():
        try:
            # Only tensors are read: a state dict of somebody else's runs no code.
            state = torch.load(path, map_location="cpu", weights_only=True)
            module.load_state_dict(state)
        except Exception as error:  # torch raises what its unpickler stumbles over
            raise ModelError(
                f"{path} does not hold the weights of this {type(module).__name__} "
                f"({type(error).__name__})",
                hint="Remove it, and the module is trained anew.",
            ) from error
        module.eval()
        return training
    fit(module, training, epochs=epochs, seed=seed, progress=progress)
    content = io.BytesIO()
    torch.save(module.state_dict(), content)
    make_folder(path.parent)
    write_file(path, content.getvalue())
    return training
