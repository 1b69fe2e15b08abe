"""One process of several that torchrun starts: trainings of few images, and what they saw.

    torchrun … ddp_worker.py RECORDS WHAT FLAGS OF VISAVIS [+ FLAGS OF VISAVIS …]

Each process writes RECORDS/N.json: a list, for each command in turn, of the images of each epoch,
the SHA-256 of the weights at its end, and who handles SIGTERM meanwhile. WHAT is `none`, or what
befalls process 1 in the second epoch that it trains: it is `killed` or `hangs`.
"""

import datetime
import hashlib
import json
import os
import signal
import sys
import time
from pathlib import Path

import torch

import small
from visavis import data
from visavis.cli import main
from visavis.data.batches import TrainingBatches
from visavis.training import ranks
from visavis.training.module import Classifier

folder, what, *words = sys.argv[1:]
rank = os.environ["RANK"]
records = []
step, batches = Classifier.training_step, TrainingBatches.__iter__


def recorded(self):
    labels = self.labels
    self.labels = torch.arange(len(labels))  # which image each is
    for images, rows, others, mixed in batches(self):
        records[-1]["epochs"].setdefault(self.epoch, []).extend(rows.tolist())
        yield images, labels[rows], labels[others], mixed
    self.labels = labels


def disturbed(self, batch, index):
    records[-1]["module"] = self
    records[-1]["sigterm"] = signal.getsignal(signal.SIGTERM).__module__
    if rank == "1" and len(records[-1]["epochs"]) == 2:
        if what == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if what == "hangs":
            time.sleep(600)
    return step(self, batch, index)


def sha256(module):
    state = module.model.state_dict().values()
    return hashlib.sha256(b"".join(each.numpy().tobytes() for each in state)).hexdigest()


TrainingBatches.__iter__, Classifier.training_step = recorded, disturbed
data.resolve = lambda wanted: small.dataset()
if what == "hangs":
    ranks.TIMEOUT = datetime.timedelta(seconds=3)
code = 0
while words and not code:
    end = words.index("+") if "+" in words else len(words)
    sys.argv[1:], words = words[:end], words[end + 1 :]
    records.append({"epochs": {}})
    code = main()
    if not code:
        records[-1]["weights"] = sha256(records[-1].pop("module"))
if not code:
    (Path(folder) / f"{rank}.json").write_text(json.dumps(records))
raise SystemExit(code)
