"""Figures of runs: what is drawn are the numbers of the files, and every picture says which runs it is of."""

from __future__ import annotations

import csv
import runpy
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
from made_classifier_runs import write_run
from PIL import Image
from test_cifar import ten_binary

from resnet_backbone.classification.figures import plots
from resnet_backbone.classification.figures.figures import FigureOptions, axis, draw_figures
from resnet_backbone.classification.recipe.config import TrainConfig
from resnet_backbone.classification.training.train import pretrain

TOOL = Path(__file__).parents[1] / "tools" / "figures.py"
TRAIN = [(100, 60.0), (200, 40.0), (300, 20.0), (400, 10.0)]


def drawn(tmp_path, **options):
    said = []
    chosen = FigureOptions((tmp_path / "runs",), tmp_path / "out", device="cpu", **options)
    assert draw_figures(chosen, said.append) == 0
    return said


def texts(path):
    """All text of an SVG file, which must be XML with text as text."""
    found = ElementTree.parse(path).getroot().iter("{http://www.w3.org/2000/svg}text")
    return " ".join("".join(one.itertext()) for one in found)


def test_weights_that_runs_start_from_are_named_without_their_place(tmp_path):
    starts = (
        "",
        "runs/a/model.safetensors",
        "runs/b/model.safetensors",
        "https://me:word@example.org/c/n.pth?key=secret",
    )
    for number, weights in enumerate(starts):
        write_run(tmp_path / f"runs/{number}", "resnet18", TRAIN, [(400, 9.0 + number)], weights=weights, data="pets")
    drawn(tmp_path)
    (page,) = (file.read_text() for file in (tmp_path / "out").glob("table2*.md"))
    for label in ("no weights", "weights a/model.safetensors", "weights b/model.safetensors", "weights c/n.pth"):
        assert f"| ResNet-18 B ({label}) |" in page
    everything = page + (tmp_path / "out" / "README.md").read_text()
    assert "https://example.org/c/n.pth |" in everything
    assert "key=" not in everything and "me:word" not in everything


@pytest.fixture
def runs(tmp_path):
    """Plain-20 and -56 once, ResNet-20 with two seeds, ResNet-56 unfinished."""
    root = tmp_path / "runs"
    write_run(root / "p20", "cifar_plain20", TRAIN, [(200, 30.0), (400, 16.0)], data="cifar10")
    write_run(root / "p56", "cifar_plain56", TRAIN, [(200, 50.0), (400, 28.0)], data="cifar10", kept=False)
    write_run(root / "r0", "cifar_resnet20", TRAIN, [(200, 28.0), (400, 12.0)], data="cifar10")
    write_run(root / "r1", "cifar_resnet20", TRAIN, [(200, 32.0), (400, 15.0)], data="cifar10", seed=1, kept=False)
    write_run(root / "r56", "cifar_resnet56", TRAIN[:3], [(200, 25.0)], data="cifar10", kept=False)
    return root


def test_the_lines_are_the_numbers_of_the_files(runs, tmp_path, monkeypatch):
    figures = {}
    true_draw = plots.draw_panels

    def draw(panels, caption, **more):
        figures[len(figures)] = panels
        return true_draw(panels, caption, **more)

    monkeypatch.setattr(plots, "draw_panels", draw)
    drawn(tmp_path)
    training, test = figures[0]
    assert [(line.label, line.x.tolist(), line.y.tolist()) for line in training.lines] == [
        ("plain-20  10.00", [100, 200, 300, 400], [60, 40, 20, 10]),
        ("plain-56  10.00", [100, 200, 300, 400], [60, 40, 20, 10]),
    ]
    assert [(line.label, line.x.tolist(), line.y.tolist()) for line in test.lines] == [
        ("plain-20  16.00", [200, 400], [30, 16]), ("plain-56  28.00", [200, 400], [50, 28]),
    ]  # fmt: skip
    plain, residual = figures[1]
    assert (plain.title, residual.title) == ("plain", "ResNet") and len(plain.lines) == 4
    seeds, going = (line for line in residual.lines if line.bold)
    assert (seeds.label, seeds.y.tolist()) == ("ResNet-20  13.50", [30.0, 13.5])
    assert seeds.deviation.tolist() == pytest.approx([8**0.5, 4.5**0.5])  # 2, 2: sqrt(8); 1.5, 1.5: sqrt(4.5)
    assert going.label == "ResNet-56  25.00\n(unfinished:\n300 of 400)" and going.y.tolist() == [25.0]
    assert seeds.colour == plain.lines[1].colour and seeds.colour != going.colour


def test_pictures_are_whole_and_say_what_they_are_of(runs, tmp_path):
    said = drawn(tmp_path)
    out = tmp_path / "out"
    names = ["figure1-cifar10-400", "figure6-cifar10-400", "table6-cifar10-400"]
    assert [line.split(": ")[0] for line in said] == [*(str(out / name) for name in names), str(out / "README.md")]
    for name in names:
        with Image.open(out / f"{name}.png") as picture:
            picture.load()
            assert picture.info["dpi"] == pytest.approx((200, 200), abs=0.1)
        text = texts(out / f"{name}.svg")
        assert "Shortened schedule: 400 iterations of 128 images, rate divided by 10 at 200 and 300" in text
        assert "64,000" in text
    text = texts(out / "figure6-cifar10-400.svg")
    for part in ("plain-20  16.00", "ResNet-20  13.50", "(unfinished:", "error (%)", "iterations"):
        assert part in text
    assert "2 runs (seeds 0, 1) of ResNet-20" in text.replace("  ", " ")
    page = (out / "README.md").read_text()
    assert f"| {runs / 'r1'} | cifar_resnet20 | 1 | 400 of 400 | 15.00 |" in page
    assert "300 of 400 (unfinished)" in page and "steps [200, 300]" in page and "it needs test images" in page
    before = (out / "figure6-cifar10-400.svg").read_bytes()
    drawn(tmp_path)
    assert (out / "figure6-cifar10-400.svg").read_bytes() == before


def test_the_table_is_mean_and_deviation_beside_the_papers_error(runs, tmp_path):
    drawn(tmp_path)
    table = (tmp_path / "out" / "table6-cifar10-400.md").read_text()
    assert "| ResNet-20 | 269,722 | 400, 128 | 2 | 13.50 ± 2.12 | 12.00 | 8.75 |" in table
    assert "| plain-56 | – | 400, 128 | 1 | 28.00 | 28.00 | – |" in table
    assert "Not counted: ResNet-56 (unfinished: 300 of 400)." in table and "| ResNet-56 " not in table
    assert "paper: CIFAR-10, 64,000 iterations (%) |" in table
    with (tmp_path / "out" / "table6-cifar10-400.csv").open() as file:
        row = next(row for row in csv.DictReader(file) if row["network"] == "cifar_resnet20")
    assert (row["error_mean"], row["error_best"], row["paper"], row["seeds"]) == ("13.5", "12.0", "8.75", "0 1")
    assert float(row["error_deviation"]) == pytest.approx(4.5**0.5, rel=1e-5)


def test_110_layers_and_other_data_have_the_papers_number_as_printed_or_none(tmp_path):
    root = tmp_path / "runs"
    write_run(root / "a", "cifar_resnet110", test=[(400, 6.5)], kept=False, data="cifar10")
    write_run(root / "b", "cifar_resnet20", test=[(400, 30.0)], kept=False, data="cifar100", classes=100)
    drawn(tmp_path)
    assert "| 6.50 | 6.43 (best), 6.61 ± 0.16 over 5 |" in (tmp_path / "out" / "table6-cifar10-400.md").read_text()
    assert "| 30.00 | – |" in (tmp_path / "out" / "table6-cifar100-400.md").read_text()


def test_schedules_and_data_never_share_a_figure(tmp_path):
    root = tmp_path / "runs"
    for name, more in (("a", {"iterations": 800}), ("b", {}), ("c", {"batch_size": 64}), ("d", {"data": "imagenet"})):
        network = "resnet34" if name == "d" else "cifar_resnet20"
        write_run(root / name, network, TRAIN, [(400, 20.0)], kept=False, **more)
    (root / "a" / "model.safetensors").touch()
    with pytest.raises(ValueError, match="safetensors"):
        drawn(tmp_path)
    (root / "a" / "model.safetensors").unlink()
    drawn(tmp_path)
    out = tmp_path / "out"
    assert sorted(path.stem for path in out.glob("figure*.png")) == [
        "figure4-imagenet-400", "figure6-cifar-400", "figure6-cifar-400-2", "figure6-cifar-800",
    ]  # fmt: skip
    text = texts(out / "figure4-imagenet-400.svg")
    assert "ResNet-34 B  20.00" in text and "validation" in text and "up to 600,000 iterations of 256 images" in text
    assert "of 64 images" in texts(out / "figure6-cifar-400-2.svg")
    assert "unfinished" in texts(out / "figure6-cifar-800.svg")
    assert "24.52" in (out / "table2-imagenet-400.md").read_text()


def test_figure_7_is_of_the_runs_with_weights(runs, tmp_path):
    folder = ten_binary(tmp_path)
    drawn(tmp_path, data=folder, limit=8)
    text = texts(tmp_path / "out" / "figure7-cifar10-400.svg")
    for part in ("plain-20", "ResNet-20", "8 test images of CIFAR-10", "1 run (seed 0) of plain-20, ResNet-20."):
        assert part in text
    assert "plain-56" not in text


def test_a_run_of_the_trainer_is_drawn_as_it_is(tmp_path):
    data = ten_binary(tmp_path)
    config = TrainConfig(
        network="cifar_resnet8", iterations=40, steps=(20.0,), schedule="steps", batch_size=10, size=32, test_size=32,
        test_resize=32, augmentation="padded_crop", mean_image=True, mean=(0.0,) * 3, std=(255.0,) * 3,
        exact_norm_images=0, test_every=20, workers=0, device="cpu",
    )  # fmt: skip
    outcome = pretrain(config, data, tmp_path / "runs" / "a")
    drawn(tmp_path, data=data, limit=20)
    error = 100 - outcome.accuracy.top1_percent
    out = tmp_path / "out"
    # 9 weights a pair of channels and 2 of the norm a channel, then 64 x 10 + 10: the mean image does not count.
    layers = [(3, 16), (16, 16), (16, 16), (16, 32), (32, 32), (32, 64), (64, 64)]
    parameters = sum(9 * a * b + 2 * b for a, b in layers) + 650
    row = f"| ResNet-8 | {parameters:,} | 40, 10 | 1 | {error:.2f} | {error:.2f} | – |"
    assert row in (out / "table6-cifar10-40.md").read_text()
    text = texts(out / "figure6-cifar10-40.svg")
    assert f"ResNet-8  {error:.2f}" in text and "unfinished" not in text and "means of 20 iterations" in text
    assert "20 test images of CIFAR-10" in texts(out / "figure7-cifar10-40.svg")


def test_what_is_wrong_is_one_sentence(runs, tmp_path, monkeypatch, capsys):
    write_run(tmp_path / "other", "cifar_resnet8", test=[(400, 20.0)], kept="cifar_resnet14")
    words = [str(TOOL), str(tmp_path / "other"), "--output", str(tmp_path / "o"), "--device", "cpu"]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(TOOL), run_name="__main__")
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert ended.value.code == 1 and error.startswith("error: ")
    assert "model.safetensors: weights of cifar_resnet14, but config.yaml beside them says cifar_resnet8" in error
    monkeypatch.setattr(sys, "argv", [*words, "--data", "torchvision://MNIST"])  # an address stays one
    with pytest.raises(SystemExit):
        runpy.run_path(str(TOOL), run_name="__main__")
    assert "error: torchvision://MNIST: --data takes torchvision://CIFAR10" in capsys.readouterr().err
    with pytest.raises(ValueError, match="config.yaml is a file and no folder; choose another folder: --output DIR"):
        draw_figures(FigureOptions((runs,), tmp_path / "other/config.yaml"))
    with pytest.raises(ValueError, match="--top 0: an error in percent"):
        draw_figures(FigureOptions((runs,), tmp_path / "o", top=0.0))
    for name in "ab":
        (tmp_path / "folders" / name).mkdir(parents=True)
        Image.new("RGB", (40, 40)).save(tmp_path / "folders" / name / "1.png")
    with pytest.raises(ValueError, match=r"no run has weights for such images \(2 classes\)"):
        draw_figures(FigureOptions((runs,), tmp_path / "o", data=tmp_path / "folders", device="cpu"))
    assert not (tmp_path / "o").exists(), "nothing is written before all is read"


def test_labels_move_as_little_as_possible():
    # Two at 5.0 and 5.2 push each other to half a height from their middle 5.1; the third is far enough.
    assert plots.spread_apart([5.2, 9.0, 5.0], [1, 1, 1]).tolist() == pytest.approx([5.6, 9.0, 4.6])
    # Heights 1 and 3: 2 between the middles.
    assert plots.spread_apart([0.0, 0.0], [1, 3]).tolist() == pytest.approx([-1.0, 1.0])


@pytest.mark.parametrize(
    ("ends", "limits"),
    [
        ([9.3, 13.4, 6.8], (0, 25)),  # 1.8 x 13.4 = 24.1
        ([27.9, 31.1, 26.4], (20, 60)),  # 0.8 x 26.4 = 21.1; 1.8 x 31.1 = 56
        ([8.0, 9.0, 10.0, 62.0], (0, 20)),  # plain-110 is left out
        ([], (0, 100)), ([90.0], (70, 100)), ([0.0], (0, 5)),
    ],
)  # fmt: skip
def test_axes_leave_room_and_leave_out_what_is_far_off(ends, limits):
    assert axis(np.array(ends)) == limits


def test_runs_just_begun_are_drawn_and_do_not_stretch_the_axes(tmp_path, monkeypatch):
    root, limits = tmp_path / "runs", []
    write_run(root / "a", "cifar_resnet20", TRAIN, [(400, 10.0)], kept=False, rate=0.1)
    write_run(root / "b", "cifar_resnet20", TRAIN, [(400, 11.0)], kept=False, rate=0.2)
    write_run(root / "c", "cifar_resnet32", TRAIN[:1], [(100, 25.0)], kept=False, rate=0.1)
    write_run(root / "d", "cifar_resnet44", [(20, 90.0)], kept=False, rate=0.1)
    write_run(root / "e", "cifar_resnet56", kept=False, rate=0.1)
    true_draw = plots.draw_panels
    monkeypatch.setattr(plots, "draw_panels", lambda *a, **k: limits.append(k["y_limits"]) or true_draw(*a, **k))
    drawn(tmp_path)
    drawn(tmp_path, top=30)
    assert limits == [(0, 20), (0, 30)]  # 1.8 x 11
    text = texts(tmp_path / "out" / "figure6-cifar-400.svg")
    for part in ("ResNet-20  11.00 (rate 0.2)", "ResNet-44 (unfinished: 20 of 400)"):
        assert part in text
    assert "Outside of the axes: ResNet-44 (unfinished: 20 of 400) (90.00 %)." in text
    assert "| cifar_resnet56 | 0 | 0.1 | 0 of 400 (unfinished) | – |" in (tmp_path / "out" / "README.md").read_text()


def test_what_is_outside_of_the_axes_is_said(tmp_path):
    for name, error in (("plain20", 9.0), ("plain32", 10.0), ("plain110", 62.0)):
        write_run(tmp_path / "runs" / name, f"cifar_{name}", TRAIN, [(400, error)], kept=False)
    drawn(tmp_path)
    assert "Outside of the axes: plain-110 (62.00 %)." in texts(tmp_path / "out" / "figure6-cifar-400.svg")


def test_long_runs_count_iterations_as_the_paper_does():
    assert plots.iteration_axis(64_000) == (10_000, "iterations (1e4)")
    assert plots.iteration_axis(6_400) == (1_000, "iterations (1e3)") and plots.iteration_axis(400) == (1, "iterations")
