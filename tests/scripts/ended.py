"""Seeds what torch.manual_seed does not; saves what a run leaves behind, where the environment asks for it."""  # noqa: E501

import os
import random

import numpy as np
import torch

random.seed(0)
np.random.seed(0)


def ended(*things):
    """Save the states of models and optimizers, and of every random generator."""
    place = os.environ.get("FINAL_STATE")
    if not place:
        return
    states = [
        thing.state_dict() if callable(getattr(thing, "state_dict", None)) else thing for thing in things
    ]
    generators = {"torch": torch.get_rng_state(), "python": random.getstate(), "numpy": np.random.get_state()}
    torch.save({"states": states, "generators": generators}, place)
