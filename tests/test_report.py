"""The benchmarks' results file and the tables made from it."""

from __future__ import annotations

import importlib
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def record(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    return importlib.import_module("benchmarks.record")


@pytest.fixture
def report(record):
    return importlib.import_module("benchmarks.report")


def entry(record, name="bccd-ours", runs=({"seed": 0, "AP": 30.0},), **changes):
    values = {
        "name": name, "what": "Made up.", "command": "python -m benchmarks.none", "date": "2026-01-02",
        "hardware": {"cpu": "abacus", "cores": 2, "cores_used": 1, "threads": 1, "gpu": "none"},
        "versions": {"torch": "2", "detectron2": "0.6, made up", "resnet_backbone": "abc, with changes in x"},
        "settings": {"side": 320}, "seeds": [0], "runs": list(runs), "summary": record.summarise(list(runs)),
        "note": "A note.",
    }  # fmt: skip
    return record.Entry(**{**values, **changes})


def bccd_run(seed, ap, **changes):
    metrics = dict.fromkeys(("AP", "AP50", "AP75", "APs", "APm", "APl", "voc_AP50"), ap)
    return {"seed": seed, **metrics, "iterations": 300, "side": 320, "seconds": 100.4, **changes}


def test_the_documents_are_up_to_date(report, capsys):
    assert report.main(["--check"]) == 0, capsys.readouterr()


def test_every_table_stands_in_a_document(report):
    text = "".join(path.read_text() for path in report.documents(ROOT))
    assert {match["name"] for match in report.BEGIN.finditer(text)} == set(report.TABLES)


def test_tables_without_entries_say_not_run_in_every_row(report):
    for name, table in report.TABLES.items():
        header, ruler, *rows = table({})
        assert header.count("|") == ruler.count("|"), name
        assert rows and all("not run" in row and row.count("|") == header.count("|") for row in rows), name


def test_results_of_other_tables_and_the_papers_numbers_never_stand_for_ours(record, report):
    same = {"experiment": "CIFAR-10", "network": "cifar_resnet56", "precision": "bf16"}
    runs = [{**same, "seed": s, "error": e} for s, e in ((1, 8), (0, 7))]
    entries = {"reproduction-cifar": entry(record, "reproduction-cifar", runs)}
    lines = report.TABLES["paper-cifar"](entries)
    assert "| ResNet-56 | 6.97 | 7.50 ± 0.71 | 2 | 7.00, 8.00 | bf16 |" in lines
    assert sum("not run" in line for line in lines) == 9
    short = {"cifar-short": entry(record, "cifar-short", [{**run, "schedule": "9 iterations"} for run in runs])}
    assert sum("not run" in line for line in report.TABLES["paper-cifar"](short)) == 10
    assert "| ResNet-56 | 9 iterations | 7.50 ± 0.71 | 2 | 7.00, 8.00 | bf16 |" in report.TABLES["cifar-short"](short)
    assert "not run" in report.TABLES["paper-imagenet"](entries)[-1]
    (recipe,) = (line for line in report.TABLES["recipes"](entries) if "not run" not in line and "`" in line)
    assert recipe.startswith("| `cifar/resnet56.yaml` | ResNet-56 | 64,000 iterations | 128 | 0.1 |")
    assert recipe.endswith("| a tenth at 32,000, 48,000 | 6.97 | 7.50 ± 0.71 |")


def test_two_seeds_are_mean_and_deviation_and_compared_pair_by_pair(record, report):
    ours = entry(record, "bccd-ours", [bccd_run(0, 30.0), bccd_run(1, 32.0), bccd_run(2, 34.0, APs=None)])
    stock = entry(record, "bccd-stock", [bccd_run(1, 31.0), bccd_run(2, 35.0)])
    lines = report.TABLES["bccd"]({"bccd-ours": ours, "bccd-stock": stock})
    assert lines[3].startswith("| ours, R50-FPN | 32.0 ± 2.0 |")
    assert lines[3].endswith("| 32.0 ± 2.0 | 3 | 300 | 320 | 100 ± 0 |")
    assert lines[5].startswith("| ours minus Detectron2's, seed by seed | 0.0 ± 1.4 |") and "| 1.0 |" in lines[5]
    assert any("1 of 2 cores of an abacus" in line and "uncommitted" in line and "A note." in line for line in lines)


def test_only_what_verify_found_is_bold(record, report):
    def hypothesis(order, stride, correct):
        return {
            "channel_order": order,
            "statistics": "0 to 1",
            "stride_in_1x1": stride,
            "correct": correct,
            "images": 8,
        }

    rows = [hypothesis("BGR", False, 6), hypothesis("RGB", False, 1), hypothesis("RGB", True, 4)]
    runs = [
        {"network": "resnet50", "winner": "BGR, 0 to 1, stride in 3x3", "p_against_next": 0.01, "hypotheses": rows},
        {"network": "resnet18", "winner": "none", "p_against_next": 0.6, "hypotheses": [hypothesis("RGB", None, 2)]},
    ]
    lines = report.TABLES["verify"]({"verify": entry(record, "verify", runs)})
    assert lines[0].split(" | ")[1:] == ["ResNet-50, stride in 3x3", "ResNet-50, stride in 1x1", "ResNet-18 |"]
    assert lines[2] == "| BGR, 0 to 1 | **6 of 8 (75.00 %)** | not run | not run |"
    assert lines[3] == "| RGB, 0 to 1 | 1 of 8 (12.50 %) | 4 of 8 (50.00 %) | 2 of 8 (25.00 %) |"
    assert "ResNet-18: could not tell (the best two: p = 0.6, paired exact test)." in lines


def test_check_tells_and_writing_mends_and_is_idempotent(record, report, tmp_path, capsys):
    results = tmp_path / "results.json"
    record.record(entry(record, runs=[bccd_run(0, 30.0)]), path=results)
    (tmp_path / "README.md").write_text("no block\n")
    page = tmp_path / "docs" / "a.md"
    page.parent.mkdir()
    page.write_text("before\n\n<!-- generated: bccd -->\nold\n<!-- end -->\nafter\n")
    arguments = ["--root", str(tmp_path), "--results", str(results)]
    old = page.read_text()
    assert report.main([*arguments, "--check"]) == 1 and page.read_text() == old
    assert "docs/a.md is out of date: run python -m benchmarks.report" in capsys.readouterr().out
    assert report.main(arguments) == 0
    new = page.read_text()
    assert new.startswith("before\n\n<!-- generated: bccd -->\n| backbone |") and new.endswith("<!-- end -->\nafter\n")
    assert "old" not in new and "| ours, R50-FPN | 30.0 |" in new
    assert report.main(arguments) == 0 and report.main([*arguments, "--check"]) == 0 and page.read_text() == new


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<!-- generated: bcd -->\n<!-- end -->", "x.md:1: no table 'bcd'; did you mean 'bccd'?"),
        ("<!-- generated: bccd -->\n", "x.md: block 'bccd' has no"),
        ("<!-- generated: bccd -->\n<!-- generated: demo -->\n<!-- end -->", "x.md:2: block 'bccd' has no"),
    ],
)
def test_a_broken_block_is_one_sentence(report, text, message):
    with pytest.raises(ValueError, match=message):
        report.render(text, {}, "x.md")


def test_a_run_without_a_key_of_its_table_is_one_sentence(record, report):
    with pytest.raises(ValueError, match="table 'demo' misses 'box_AP' in a run"):
        report.render("<!-- generated: demo -->\n<!-- end -->", {"demo": entry(record, "demo")}, "x.md")


def test_the_summary_is_numpys_and_a_single_run_has_none(record):
    values = [30.25, 31.5, 29.75]
    runs = [{"seed": i, "AP": v, "device": "cpu", "list": [1]} for i, v in enumerate(values)]
    (line,) = record.summarise([*runs, {"seed": 0, "AP": 1.0, "device": "gpu", "list": [1]}])
    assert line.keys() == {"device", "n", "AP"} and line["n"] == 3
    assert line["AP"]["mean"] == pytest.approx(np.mean(values), rel=1e-6)
    assert line["AP"]["sd"] == pytest.approx(np.std(values, ddof=1), rel=1e-6)
    assert (line["AP"]["min"], line["AP"]["max"]) == (29.75, 31.5)


def test_recording_again_replaces_and_the_rest_stays(record, tmp_path):
    path = tmp_path / "results.json"
    record.record(entry(record, "b"), entry(record, "a"), path=path)
    record.record(entry(record, "b", note="newer"), path=path)
    assert [e["name"] for e in json.loads(path.read_text())["entries"]] == ["a", "b"]
    assert record.read(path)["b"].note == "newer" and record.read(path)["a"].note == "A note."


def test_recordings_at_once_all_get_in(record, tmp_path):
    path = tmp_path / "results.json"
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: record.record(entry(record, f"e{i}"), path=path), range(16)))
    assert len(record.read(path)) == 16 and [p.name for p in tmp_path.iterdir()] == ["results.json"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"command": "python x.py --data /work/data/bccd"}, "/work/data/bccd is an absolute path"),
        ({"note": "from https://example.org/simple"}, "https://example.org/simple is an address"),
        ({"settings": {"weights": "/tmp/a.pth"}}, "/tmp/a.pth is an absolute path"),
        ({"summary": [{"n": 2}]}, "the summary is not that of its runs"),
        ({"runs": [], "summary": []}, "runs is empty"),
    ],
)
def test_what_has_no_place_in_the_file_is_refused(record, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        record.record(entry(record, **changes), path=tmp_path / "results.json")
    assert not (tmp_path / "results.json").exists()


def test_rates_and_names_of_weights_are_no_paths(record):
    note = "top-1 / top-5, AP/AP50, torchvision://ResNet50_Weights.IMAGENET1K_V2, $RESNET_BACKBONE_DATA/bccd, x/255"
    record.check(entry(record, note=note))


def test_an_entry_of_this_machine_is_whole_and_has_null_for_nan(record, tmp_path):
    runs = [{"seed": s, "AP": 1.0 + s, "APs": float("nan")} for s in (0, 1)]
    made = record.make_entry("made", "Made up.", "python -m none", runs, settings={}, seeds=[0, 1])
    record.record(made, path=tmp_path / "results.json")
    read = record.read(tmp_path / "results.json")["made"]
    assert [run["APs"] for run in read.runs] == [None, None] and read.summary[0]["AP"]["mean"] == 1.5
    assert {"python", "torch", "torchvision", "detectron2", "numpy", "resnet_backbone"} <= read.versions.keys()


def test_a_foreign_file_is_one_sentence(record, tmp_path, capsys):
    path = tmp_path / "results.json"
    path.write_text('{"entries": [{"name": "x"}]}')
    assert record.main([str(path)]) == 1
    assert "not a results file" in capsys.readouterr().err
