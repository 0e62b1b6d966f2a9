"""last.pth, from which a run goes on, is refused where weights are asked for: it says nothing of the input."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from made_cifar import CIFAR, write_cifar
from made_data import write_rectangles
from made_runs import options, said_by

import resnet_backbone as rb
from resnet_backbone.classification.testing.compare import EvalOptions, compare
from resnet_backbone.classification.training.train import pretrain
from resnet_backbone.cli import main
from resnet_backbone.detection.prediction.predictor import load
from resnet_backbone.detection.training.launch import guarded
from resnet_backbone.weights.files import read_weights

STATE = "the state of a run in training, no weights; "


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run on CIFAR in miniature."""
    root = tmp_path_factory.mktemp("run")
    pretrain(replace(CIFAR, iterations=2, steps=(1.0,)), write_cifar(root / "c.npz"), root / "run")
    return root / "run"


def test_the_sentence_names_the_weights_beside_it(run, capsys):
    last = run / "last.pth"
    said = f"{last}: {STATE}its weights are beside it: {run / 'model.safetensors'}"
    for use in (
        lambda: read_weights(last),
        lambda: rb.build("cifar_resnet8", num_classes=10, mean_image=32, weights=last),
        lambda: compare(EvalOptions((str(last),), run.parent / "c.npz"), lambda line: None),
    ):
        with pytest.raises(rb.WeightsError) as caught:
            use()
        assert str(caught.value) == said
    assert main(["weights", "show", str(last)]) == 1
    assert capsys.readouterr().err == f"error: {said}\n"
    assert read_weights(run / "model.safetensors").record.mean_image == 32


def test_without_weights_beside_it_the_run_is_to_go_on(run, tmp_path):
    last = tmp_path / "last_00000002.pth"
    last.write_bytes((run / "last.pth").read_bytes())
    with pytest.raises(rb.WeightsError) as caught:
        read_weights(last)
    assert str(caught.value) == (
        f"{last}: {STATE}there are none beside it: the run writes them at its end, go on with it by --resume"
    )


def test_a_detector_does_not_start_from_it(run, tmp_path, capsys):
    data = write_rectangles(tmp_path / "data")
    said = said_by(capsys, options(tmp_path, data, "MODEL.WEIGHTS", str(run / "last.pth")))
    assert f"{run / 'last.pth'}: {STATE}its weights are beside it: {run / 'model.safetensors'}" in said


def test_a_detectors_state_is_for_its_own_config_alone(tmp_path, capsys):
    """Without that config Detectron2's mean and order of channels were taken for the run's own."""
    data, folder = write_rectangles(tmp_path / "data"), tmp_path / "run"
    assert guarded(options(tmp_path, data)) == 0
    last = folder / "last.pth"
    said = said_by(capsys, options(tmp_path, data, "MODEL.WEIGHTS", str(last), eval_only=True))
    assert f"{last}: {STATE}its weights are beside it: {folder / 'model_final.pth'}" in said
    models = [load(folder / name, folder / "config.yaml")[0].model for name in ("last.pth", "model_final.pth")]
    states = [model.state_dict() for model in models]
    assert states[0].keys() == states[1].keys() and all(torch.equal(states[0][k], states[1][k]) for k in states[0])


def test_checkpoints_of_others_are_weights(tmp_path):
    """Detectron2's own have the state of an optimiser too."""
    tensor = torch.arange(3.0)
    parts = {"optimizer": {}, "scheduler": {}, "iteration": 99, "__author__": "somebody"}
    torch.save({"model": {"res2.0.conv1.weight": tensor}, **parts}, tmp_path / "model_0000099.pth")
    assert torch.equal(read_weights(tmp_path / "model_0000099.pth").state["res2.0.conv1.weight"], tensor)
