"""Trains and exports `karate`: `python -m archive.karate.build --output build/models/karate`."""

import json
from pathlib import Path
from statistics import fmean

import torch

import opserve_ops  # noqa: F401  registers the operators the model is made of
from archive.karate.club import Club, any_label_each, load_club, one_label_each
from archive.karate.train import accuracy, model_inputs, train
from archive.packer.export import save_torchscript
from archive.packer.output import BuildError, output_folder, write_sample

MINIMUM_ACCURACY = 0.9
CHOICES = 10


def build(folder: Path) -> None:
    """Writes `karate.pt`, `weights.pt`, `metrics.json` and `sample/` into `folder`.

    Raises:
        BuildError: the trained model finds fewer communities than it must.
    """
    club = load_club()
    shown = one_label_each(club)
    model = train(club, shown)
    share, hidden = accuracy(model, club, shown), len(club.label) - len(shown)
    # Kipf and Welling (2017, appendix A) show a label of each community too, and of whichever node.
    choices = [any_label_each(club, seed) for seed in range(CHOICES)]
    mean = fmean(accuracy(train(club, choice), club, choice) for choice in choices)
    print(f"karate: accuracy {share:.1%} on {hidden} nodes, each community's best connected node being labelled")
    print(
        f"karate: {mean:.1%} on average, any node of each being labelled (Kipf and Welling's setting, {CHOICES} draws)"
    )
    if share < MINIMUM_ACCURACY:
        raise BuildError(f"karate: accuracy {share:.1%} is under the {MINIMUM_ACCURACY:.0%} that it must reach")
    metrics = {
        "accuracy": share,
        "accuracy_of_any_labels": mean,
        "labels_shown": len(shown),
        "nodes_without_label": hidden,
    }
    (folder / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n")
    torch.save(model.state_dict(), folder / "weights.pt")
    save_torchscript(model, folder / "karate.pt")
    write_karate_sample(model, club, folder / "sample")


def write_karate_sample(model: torch.nn.Module, club: Club, folder: Path) -> None:
    """The whole club without edge weights, and the eager model's answer."""
    with torch.inference_mode():
        label, probabilities = model(*model_inputs(club))
    request = {"rowptr": club.rowptr, "col": club.col, "x": club.features}
    write_sample(folder, request, {"label": label.numpy(), "probabilities": probabilities.numpy()})


if __name__ == "__main__":
    with output_folder("Trains and exports the karate club's communities.") as folder:
        build(folder)
