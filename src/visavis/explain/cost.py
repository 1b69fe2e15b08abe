"""How much work explaining and crosstesting will be, for the estimate that `run` gives."""

from visavis.config import Experiment
from visavis.explain.findings import BASELINES, CASCADE_PICTURES
from visavis.explain.in_domain import PICTURES_PER_SAMPLED
from visavis.saliency import METHODS
from visavis.saliency.attribution import STEPS as PATH
from visavis.saliency.faithfulness import CELLS, FEW_STEPS, STEPS
from visavis.saliency.pointing import CANDIDATES
from visavis.saliency.single_deletion import SIDE
from visavis.saliency.sufficiency import KEPT

WITH_GRADIENT = 2
"""What an answer with its gradient costs, in answers."""


def answers(name: str, experiment: Experiment) -> int:
    """How many pictures the two stages show to the model called `name`."""
    settings = experiment.explain
    methods = [method for method, facts in METHODS.items() if name in facts.models]
    kinds = len(methods) + len(BASELINES)
    few = min(CASCADE_PICTURES, settings.images)
    parts = 5 if name == "cnn" else 5 + experiment.vit.depth
    # Maps for three classes (occlusion: for all at once), with all weights shuffled, part by part.
    shuffled = settings.images + parts * few
    gradients = WITH_GRADIENT * (PATH + len(methods) - 2)  # of all methods but occlusion
    maps = (3 * settings.images + shuffled) * gradients + (settings.images + shuffled) * CELLS

    def removal(maps: int, steps: int) -> int:  # every cell alone, then the curves of all orders
        return CELLS + (steps - 1) * (settings.random_orders + 2 * (1 + maps))

    layers = 3 * len(experiment.cnn.widths) if name == "cnn" else 2 * experiment.vit.depth - 1
    both_holes = removal(kinds, STEPS) + removal(kinds, FEW_STEPS)
    scores = settings.images * (both_holes + len(KEPT) * kinds)
    # A step of training counts as three answers; then one more map of each method, of the copy.
    adapting = 3 * PICTURES_PER_SAMPLED * settings.images
    adapting += settings.images * (gradients + CELLS + SIDE**2)
    # Then the crosstest: the maps of both models on this one, and all methods on composites.
    both = sum(len(method.models) for method in METHODS.values())
    crosstest = settings.images * (STEPS - 1) * (both - len(methods))
    crosstest += 2 * settings.composites * (CANDIDATES + 2 * gradients + CELLS)
    sweep = settings.sweep_images * removal(layers, STEPS)
    return maps + scores + adapting + crosstest + sweep
