"""Runs read back and put together: the numbers are those of the files, means and deviations worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from made_classifier_runs import write_run

from resnet_backbone.classification.figures import captions
from resnet_backbone.classification.figures.curves import band, group_runs, windowed
from resnet_backbone.classification.figures.figures_page import section
from resnet_backbone.classification.figures.paper import RunLength
from resnet_backbone.classification.figures.run_folders import Curve, find_runs

MEAN = [123.675, 116.28, 103.53]
TEST = [(200, 40.0), (400, 20.0)]


def curve(*points):
    iterations, errors = zip(*points)
    return Curve(np.array(iterations), np.array(errors))


def points(one):
    return list(zip(one.iterations.tolist(), one.errors.tolist()))


def test_a_run_is_what_its_files_say(tmp_path):
    train = [(20, 88.5), (40, 70.25)]
    write_run(tmp_path / "a", "cifar_plain20", train, TEST, data="/data/cifar-10-batches-bin", seed=3)
    (tmp_path / "detector").mkdir()
    (tmp_path / "detector" / "config.yaml").write_text("MODEL: {}\n")
    (run,) = find_runs([tmp_path, tmp_path / "a"])
    assert (run.network, run.seed, run.data, run.shortcut) == ("cifar_plain20", 3, "CIFAR-10", "none")
    assert run.length == RunLength(400, (200, 300), 128)
    assert points(run.train) == train and points(run.test) == TEST
    assert run.finished and run.done == 400 and run.error == 20.0


@pytest.mark.parametrize(
    ("name", "known"),
    [("cifar10", "CIFAR-10"), ("CIFAR-100", "CIFAR-100"), ("/d/cifar-100-python.tar.gz", "CIFAR-100"),
     ("imagenet", "ImageNet"), ("/d/imagenette", "imagenette"), (None, "")],
)  # fmt: skip
def test_data_sets_have_their_titles(tmp_path, name, known):
    write_run(tmp_path / "a", "cifar_plain20", test=TEST, kept=False, data=name)
    assert find_runs([tmp_path])[0].data == known


def test_an_unfinished_run_says_how_far_it_is(tmp_path):
    write_run(tmp_path / "a", "cifar_resnet20", [(100, 50.0), (220, 40.0)], [(200, 40.0)], kept=False)
    with (tmp_path / "a" / "metrics.jsonl").open("a") as file:
        file.write('{"iteration": 240, "err')  # the writer is at it
    (run,) = find_runs([tmp_path])
    assert not run.finished and run.done == 220
    (group,) = group_runs([run])
    assert group.series[0].progress == "unfinished: 220 of 400"


def test_the_later_line_of_an_iteration_counts(tmp_path):
    write_run(tmp_path / "a", "cifar_resnet20", test=[(200, 40.0), (400, 20.0), (400, 18.0)], kept=False)
    assert points(find_runs([tmp_path])[0].test) == [(200, 40.0), (400, 18.0)]


def test_a_run_from_before_a_setting_existed_is_one_with_its_default(tmp_path):
    write_run(tmp_path / "old", "cifar_resnet20", test=TEST, kept=False, seed=0)
    write_run(tmp_path / "new", "cifar_resnet20", test=TEST, kept=False, seed=1, fresh_head=False, mean=MEAN)
    (group,) = group_runs(find_runs([tmp_path]))
    assert [(one.label, len(one.runs)) for one in group.series] == [("ResNet-20", 2)]
    assert "| run | network | seed | iterations |" in "\n".join(section(group, []))


def test_seeds_are_one_series_and_other_settings_another(tmp_path):
    for seed in (2, 0, 1):
        write_run(tmp_path / f"s{seed}", "cifar_resnet20", test=TEST, kept=False, seed=seed, workers=seed)
    write_run(tmp_path / "rate", "cifar_resnet20", test=TEST, kept=False, rate=0.05)
    write_run(tmp_path / "plain", "cifar_plain56", test=TEST, kept=False)
    write_run(tmp_path / "going", "cifar_resnet20", test=TEST[:1], kept=False, seed=5)
    write_run(tmp_path / "long", "cifar_resnet20", test=TEST, kept=False, iterations=800)
    longer, group = group_runs(find_runs([tmp_path]))
    assert (longer.iterations, longer.name) == (800, "cifar-800") and len(longer.series) == 1
    assert [(one.label, [run.seed for run in one.runs]) for one in group.series] == [
        ("plain-56", [0]), ("ResNet-20 (rate 0.05)", [0]), ("ResNet-20 (rate None)", [0, 1, 2]),
        ("ResNet-20 (rate None)", [5]),
    ]  # fmt: skip
    assert captions.seeds(group.series) == (
        "1 run (seed 0) of plain-56, ResNet-20 (rate 0.05); 3 runs (seeds 0, 1, 2) of ResNet-20 (rate None); "
        "1 run (seed 5; unfinished: 200 of 400) of ResNet-20 (rate None)."
    )


def test_options_are_letters_as_in_the_papers_tables(tmp_path):
    for name, network, option in (("a", "resnet18", "A"), ("b", "resnet18", None), ("p", "plain18", None)):
        write_run(tmp_path / name, network, test=TEST, kept=False, shortcut=option)
    (group,) = group_runs(find_runs([tmp_path]))
    assert [one.label for one in group.series] == ["plain-18", "ResNet-18 A", "ResNet-18 B"]
    assert not group.cifar and group.paper.length == 600_000


def test_lengths_in_epochs_are_iterations_where_a_run_is_finished(tmp_path):
    epochs = {"iterations": None, "epochs": 2, "steps": [1], "data": "imagenet"}
    write_run(tmp_path / "a", "plain18", test=TEST[:1], kept=False, **epochs)
    (group,) = group_runs(find_runs([tmp_path]))
    assert (group.name, group.iterations) == ("imagenet-2epochs", 200)
    assert group.series[0].progress == "unfinished: 200 of 2 epochs' iterations"
    write_run(tmp_path / "b", "plain34", test=TEST, **epochs)
    (group,) = group_runs(find_runs([tmp_path]))
    assert group.iterations == 400
    assert captions.schedule(group).startswith(
        "Shortened schedule: 2 epochs (400 iterations) in batches of 128 images, rate divided by 10 at epoch 1; the "
    )


def test_mean_and_deviation_over_seeds_by_hand():
    found = band([curve((100, 50.0), (200, 10.0)), curve((100, 53.0), (200, 12.0)), curve((100, 56.0), (150, 9.0),
                                                                                      (200, 17.0))])  # fmt: skip
    assert found.iterations.tolist() == [100, 200], "what all have"
    assert found.mean.tolist() == [53.0, 13.0]
    # -3, 0, 3: sqrt(18 / 2); -3, -1, 4: sqrt(26 / 2)
    assert found.deviation.tolist() == pytest.approx([3.0, math.sqrt(13)])
    assert band([curve((100, 50.0))]).deviation.tolist() == [0.0]


def test_windows_weigh_points_by_the_iterations_that_they_stand_for():
    # Resumed at 40: the point at 50 is the mean of 10 iterations only; after 90 a part is missing.
    errors = {20: 80.0, 40: 60.0, 50: 90.0, 70: 50.0, 90: 30.0, 140: 40.0, 160: 10.0}
    found = windowed(curve(*errors.items()), 100)
    first = (20 * 80 + 20 * 60 + 10 * 90 + 20 * 50 + 20 * 30) / 90
    assert points(found) == [(100, first), (160, (50 * 40 + 20 * 10) / 70)]
    # No error was written in a warm-up of 400 iterations: the first point stands for 20.
    assert points(windowed(curve((420, 80.0), (440, 40.0), (460, 30.0)), 500)) == [(460, 50.0)]
    assert points(windowed(curve((20, 5.0), (40, 3.0)), 20)) == [(20, 5.0), (40, 3.0)]


def test_training_curves_have_about_128_points(tmp_path):
    train = [(i, 50.0) for i in range(20, 64_001, 20)]
    write_run(tmp_path / "a", "cifar_resnet20", train, [(64_000, 9.0)], kept=False, iterations=64_000)
    (group,) = group_runs(find_runs([tmp_path]))
    assert group.window == 500 and len(group.series[0].train(group.window).mean) == 128


@pytest.mark.parametrize(
    ("break_it", "said"),
    [
        (lambda run: (run / "metrics.jsonl").write_text('{"iteration": 20}\n{"itera\n{"iteration": 40}\n'),
         r"metrics.jsonl, line 2: '\{\"itera' is no JSON object; restore the file"),
        (lambda run: (run / "metrics.jsonl").write_bytes(b"\xff\xfe\x00"), "metrics.jsonl is no text file"),
        (lambda run: (run / "metrics.jsonl").write_text('{"iteration": 800}\n'), "iteration 800, but .* says 400"),
        (lambda run: (run / "metrics.jsonl").write_text('{"loss": 8}\n'), "a line has the iteration None"),
        (lambda run: (run / "metrics.jsonl").write_text('{"iteration": 8, "error": 120}\n'), "120, not a percentage"),
        (lambda run: (run / "metrics.jsonl").unlink(), "no val/error at the end of a finished run"),
        (lambda run: (run / "metrics.jsonl").write_text('{"iteration": 8, "val/error": 9}\n{"iteration": 400}\n{"'),
         "no val/error at the end of a finished run; .* make the end again by --resume"),
        (lambda run: (run / "config.yaml").write_text("network: [\n"), "config.yaml is not valid YAML"),
        (lambda run: (run / "config.yaml").write_text("network: resnet19\n"), "config.yaml: unknown network"),
        (lambda run: (run / "config.yaml").write_text("network: resnet18\niterations: 4\n"), "batch_size is missing"),
        (lambda run: (run / "config.yaml").unlink(), "no runs of classifiers"),
    ],
)  # fmt: skip
def test_what_is_damaged_is_one_sentence(tmp_path, break_it, said):
    break_it(write_run(tmp_path / "run", "cifar_resnet8", test=TEST))
    with pytest.raises(ValueError, match=said) as caught:
        find_runs([tmp_path])
    assert "\n" not in str(caught.value)


def test_a_copy_of_a_run_does_not_count_twice(tmp_path):
    for name in "ab":
        write_run(tmp_path / name, "cifar_resnet8", test=TEST, kept=False)
    with pytest.raises(ValueError, match=r"both are cifar_resnet8 with seed 0 .* move one of them elsewhere"):
        group_runs(find_runs([tmp_path]))
    with pytest.raises(ValueError, match="nowhere: no such folder"):
        find_runs([tmp_path / "nowhere"])
