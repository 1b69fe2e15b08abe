"""A server in a thread, a client, and an experiment of other models, for tests."""

import contextlib
import http.client
import json
import threading
import time
from dataclasses import replace
from urllib.parse import urlsplit

import numpy as np
from torch import nn

import small
from visavis.registry import register_model
from visavis.serve import Site
from visavis.stages.evaluate import evaluate
from visavis.stages.train import train


def resnet20(classes, side):
    """A stand-in: no attention, and no grid of 8 x 8."""
    return nn.Sequential(
        *(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU()),
        *(nn.Conv2d(8, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, classes)),
    )


def larger(dataset, side=56):
    """The same images, larger."""
    rows = np.arange(side) * dataset.side // side
    return replace(
        dataset,
        train_pixels=dataset.train_pixels[:, rows][:, :, rows],
        test_pixels=dataset.test_pixels[:, rows][:, :, rows],
        test_masks=None,
    )


def other_experiment(folder):
    """A registered CNN and a ViT of 7 x 7 patches, trained on images of 56 x 56 and tested."""
    register_model("resnet20", resnet20)
    dataset, plain = larger(small.dataset()), small.experiment()
    vit = replace(plain.vit, patch_size=8, optim=replace(plain.vit.optim, crop=0))
    experiment = replace(
        plain, first="resnet20", vit=vit, optim=replace(plain.optim, epochs=1, batch_size=50)
    )
    for name in ("resnet20", "vit"):
        train(folder / name, experiment, name, dataset)
        evaluate(folder / name, dataset)
    return folder


@contextlib.contextmanager
def serving(experiment, *, host="127.0.0.1"):
    """A running server."""
    site = Site(experiment, host=host, port=8000)
    thread = threading.Thread(target=site.run, daemon=True)
    thread.start()
    while not site.server.started:
        time.sleep(0.02)
    try:
        yield site
    finally:
        site.server.should_exit = True
        thread.join(timeout=20)
        assert not thread.is_alive()


class Response:
    def __init__(self, response):
        self.status = response.status
        self.headers = {name.lower(): value for name, value in response.getheaders()}
        self.body = response.read()

    @property
    def json(self):
        return json.loads(self.body)


def ask(site, path, body=None, *, method=None, **headers):
    """One request. Keyword arguments are headers, with _ for -."""
    port = urlsplit(site.url).port
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    if body is not None:
        named.setdefault("content-type", "image/png")
    with contextlib.closing(connection):
        connection.request(method or ("GET" if body is None else "POST"), path, body, named)
        return Response(connection.getresponse())
