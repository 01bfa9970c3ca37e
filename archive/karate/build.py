"""Trains and exports `karate`: `python -m archive.karate.build --output build/models/karate`."""

import json
from pathlib import Path
from statistics import fmean

import torch

import opserve_ops  # noqa: F401  registers the operators of the model
from archive.building.export import save_torchscript
from archive.building.output import BuildError, run_build, write_sample
from archive.karate.graph import hub_per_class, load_karate_graph, random_node_per_class
from archive.karate.train import accuracy, model_inputs, train

MINIMUM_ACCURACY = 0.9
DRAWS = 10


def build(folder: Path) -> None:
    """Writes `karate.pt`, `weights.pt`, `metrics.json` and `sample/` into `folder`.

    Raises:
        BuildError: the trained model assigns too few nodes to their community.
    """
    graph = load_karate_graph()
    train_nodes = hub_per_class(graph)
    model = train(graph, train_nodes)
    share, others = accuracy(model, graph, train_nodes), len(graph.label) - len(train_nodes)
    # Kipf and Welling (2017, appendix A) label one node of each community too, chosen at random.
    draws = [random_node_per_class(graph, seed) for seed in range(DRAWS)]
    mean = fmean(accuracy(train(graph, draw), graph, draw) for draw in draws)
    print(f"karate: accuracy {share:.1%} on {others} nodes, given the label of each community's best connected node")
    print(f"karate: {mean:.1%} on average, given that of a random node (Kipf and Welling's setting, {DRAWS} draws)")
    if share < MINIMUM_ACCURACY:
        raise BuildError(f"karate: accuracy {share:.1%}, less than the required {MINIMUM_ACCURACY:.0%}")
    metrics = {
        "accuracy": share,
        "accuracy_of_any_labels": mean,
        "labels_shown": len(train_nodes),
        "nodes_without_label": others,
    }
    (folder / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n")
    torch.save(model.state_dict(), folder / "weights.pt")
    save_torchscript(model, folder / "karate.pt")
    with torch.inference_mode():
        label, probabilities = model(*model_inputs(graph))
    request = {"rowptr": graph.rowptr, "col": graph.col, "x": graph.features}
    write_sample(folder / "sample", request, {"label": label.numpy(), "probabilities": probabilities.numpy()})


if __name__ == "__main__":
    run_build(build)
