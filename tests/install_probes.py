"""What each fix of Detectron2 v0.6 is for, tried on the module with and without it; run by test_install_patches.

    python install_probes.py MENDED PRISTINE

Both are unpacked `detectron2` packages; MENDED (with all fixes) is imported, and every module under test is read
again from the text of PRISTINE with all of its fixes but one. Prints JSON: fix -> {"with": ..., "without": ...},
each "ok" or the error.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

MENDED, PRISTINE = Path(sys.argv[1]), Path(sys.argv[2])
sys.path.insert(0, str(MENDED.parent))

import numpy as np  # noqa: E402
import torch  # noqa: E402
from detectron2.data import DatasetCatalog, MetadataCatalog  # noqa: E402
from detectron2.structures import Boxes, Instances  # noqa: E402
from PIL import Image  # noqa: E402
from pycocotools.coco import COCO  # noqa: E402

from resnet_backbone.install import patches  # noqa: E402

ALL = (*patches.FIXES, *patches.CLARIFICATIONS)


class TodaysNumpy:
    """numpy without the names that some of its releases lack (`bool` from 1.24 to 1.26)."""

    def __getattr__(self, name: str) -> Any:
        if name in {"int", "float", "str", "bool"}:
            raise AttributeError(f"module 'numpy' has no attribute {name!r}")
        return getattr(np, name)


@contextlib.contextmanager
def todays_libraries() -> Iterator[None]:
    """What newer libraries have no more is hidden, whatever is installed here."""
    hidden = {name: sys.modules.get(name) for name in ("pkg_resources", "caffe2", "caffe2.proto")}
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]
    linear = vars(Image).pop("LINEAR", None)
    try:
        yield
    finally:
        for name, found in hidden.items():
            del sys.modules[name]
            if found is not None:
                sys.modules[name] = found
        if linear is not None:
            Image.LINEAR = linear  # type: ignore[attr-defined]


def read(file: str, without: str | None) -> Any:
    """The module of `file` with all of its fixes but one."""
    text = (PRISTINE / file).read_text()
    for fix in ALL:
        if fix.file == file and fix.name != without:
            text = text.replace(fix.old, fix.new)
    name = "detectron2." + file[:-3].replace("/", ".").removesuffix(".__init__")
    module = types.ModuleType(name)
    is_package = file.endswith("__init__.py")
    module.__package__ = name if is_package else name.rpartition(".")[0]
    module.__file__ = str(MENDED / file)
    exec(compile(text, file, "exec"), vars(module))
    if hasattr(module, "np"):
        module.np = TodaysNumpy()
    return module


def metadata(**facts: Any) -> str:
    MetadataCatalog.pop("probe", None)
    MetadataCatalog.get("probe").set(**facts)
    return "probe"


def voc_folder() -> str:
    root = MENDED.parent.parent / "voc"
    for name in ("Annotations", "ImageSets/Main"):
        (root / name).mkdir(parents=True, exist_ok=True)
    (root / "ImageSets/Main/val.txt").write_text("a\nb\n")
    box = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox>"
    kept = f"<object><name>cat</name><difficult>0</difficult>{box}</object>"
    for name in "ab":
        xml = f"<annotation><size><width>10</width><height>10</height></size>{kept}</annotation>"
        xml = xml.replace("<difficult>", "<pose>x</pose><truncated>0</truncated><difficult>")
        (root / f"Annotations/{name}.xml").write_text(xml)
    return str(root)


def crop(module: Any) -> None:
    image = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    assert module.ExtentTransform((0, 0, 4, 4), (4, 4)).apply_image(image).shape == (4, 4, 3)


def class_counts(module: Any) -> None:
    annotations = [{"category_id": 1}, {"category_id": 1}, {"category_id": 0, "iscrowd": 1}]
    module.print_instances_class_histogram([{"annotations": annotations}], ["a", "b"])


def voc_names(module: Any) -> None:
    assert [record["image_id"] for record in module.load_voc_instances(voc_folder(), "val", ["cat"])] == ["a", "b"]


def voc_score(module: Any) -> None:
    root = Path(voc_folder())
    (root / "found_cat.txt").write_text("a 0.9 1.0 1.0 9.0 9.0\nb 0.8 1.0 1.0 9.0 9.0\n")
    names = str(root / "ImageSets/Main/val.txt")
    found = module.voc_eval(str(root / "found_{}.txt"), str(root / "Annotations/{}.xml"), names, "cat")
    assert abs(found[2] - 1) < 1e-9


def semantic(module: Any) -> None:
    labels = np.array([[0, 1], [1, 1]], dtype=np.uint8)
    truth = MENDED.parent.parent / "labels.png"
    Image.fromarray(labels).save(truth)
    DatasetCatalog.pop("probe", None)
    DatasetCatalog.register("probe", lambda: [{"file_name": "x.jpg", "sem_seg_file_name": str(truth)}])
    evaluator = module.SemSegEvaluator(metadata(stuff_classes=["a", "b"], ignore_label=255), distributed=False)
    evaluator.reset()
    scores = torch.nn.functional.one_hot(torch.as_tensor(labels).long(), 2).permute(2, 0, 1)
    evaluator.process([{"file_name": "x.jpg"}], [{"sem_seg": scores}])
    assert evaluator.evaluate()["sem_seg"]["mIoU"] == 100


def masks(module: Any) -> None:
    assert module.polygons_to_bitmask([], 2, 3).dtype == np.bool_
    assert module.polygons_to_bitmask([np.array([0.0, 0, 4, 0, 4, 4])], 4, 4).any()


def nonempty_masks(module: Any) -> None:
    assert module.PolygonMasks([[np.array([0.0, 0, 4, 0, 4, 4])]]).nonempty().tolist() == [True]


def panoptic(module: Any) -> None:
    segments = [{"id": 1, "isthing": True, "category_id": 0}, {"id": 2, "isthing": False, "category_id": 0}]
    names = types.SimpleNamespace(thing_dataset_id_to_contiguous_id={}, label_divisor=1000)
    drawn = module._PanopticPrediction(torch.tensor([[0, 1], [2, 2]]), segments, names)
    assert drawn.non_empty_mask().dtype == np.bool_
    assert len(list(drawn.semantic_masks())) == len(list(drawn.instance_masks())) == 1


def video(module: Any) -> None:
    drawn = module.VideoVisualizer(MetadataCatalog.get(metadata(thing_classes=["a"])))
    boxes, classes = Boxes(torch.tensor([[1.0, 1, 9, 9]])), torch.zeros(1, dtype=torch.long)
    found = Instances((20, 20), pred_boxes=boxes, pred_classes=classes, scores=torch.ones(1))
    for _ in range(2):  # the second frame has a first one to track from
        drawn.draw_instance_predictions(np.zeros((20, 20, 3), dtype=np.uint8), found)


def zoo(module: Any) -> None:
    assert Path(module.get_config_file("Base-RCNN-FPN.yaml")).is_file()


def exporting(module: Any) -> None:
    assert module.TracingAdapter and module.scripting_with_instances


def coco_numbers(module: Any) -> None:
    box = {"image_id": 1, "category_id": 1, "bbox": [1, 1, 5, 5]}
    truth = COCO()
    truth.dataset = {
        "info": {},
        "images": [{"id": 1, "width": 10, "height": 10}],
        "annotations": [{**box, "id": 1, "area": 25, "iscrowd": 0}],
        "categories": [{"id": 1, "name": "a"}],
    }
    truth.createIndex()
    result = module._evaluate_predictions_on_coco(truth, [{**box, "score": 0.9}], "bbox")
    assert abs(result.stats[0] - 1) < 1e-9


def coco_log(module: Any) -> None:
    truth = MENDED.parent.parent / "truth.json"
    truth.write_text(json.dumps({"images": [], "annotations": [], "categories": []}))
    evaluator = module.COCOEvaluator(metadata(json_file=str(truth)), distributed=False)
    assert not evaluator._use_fast_impl, "would call the official numbers unofficial"


def rotated_nms(module: Any) -> None:
    try:
        module.nms_rotated(torch.zeros(1, 5), torch.zeros(1), 0.5)
    except RuntimeError as error:
        assert "Remedy" in str(error)


PROBES: dict[str, Callable[[Any], None]] = {
    "pillow": crop,
    "numpy-build": class_counts,
    "numpy-build-annotations": class_counts,
    "numpy-voc": voc_names,
    "numpy-voc-evaluation": voc_score,
    "numpy-semantic-int": semantic,
    "numpy-semantic-dtype": semantic,
    "numpy-semantic-float": semantic,
    "numpy-masks": masks,
    "numpy-masks-keep": nonempty_masks,
    "numpy-visualizer": panoptic,
    "numpy-video": video,
    "resources-import": zoo,
    "resources-use": zoo,
    "caffe2": exporting,
    "fast-coco": coco_numbers,
    "fast-coco-log": coco_log,
    "rotated-nms": rotated_nms,
}


def attempt(fix: patches.Fix, without: str | None) -> str:
    try:
        with todays_libraries():
            PROBES[fix.name](read(fix.file, without))
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "ok"


def stand_in() -> dict[str, str]:
    """Without the stand-in the layers do not import; with it they do, and its use says the remedy."""
    real = importlib.import_module("detectron2._C")
    assert real.get_compiler_version() and not real.has_cuda()
    results = {}
    for case in ("with", "without"):
        sys.modules["detectron2._C"] = real if case == "with" else None  # type: ignore[assignment]
        sys.modules["detectron2"].__dict__.pop("_C", None)
        try:
            module = read("layers/rotated_boxes.py", None)
            results[case] = "ok"
        except ImportError as error:
            results[case] = f"ImportError: {error}"
        sys.modules["detectron2._C"] = real
    module = read("layers/rotated_boxes.py", None)
    try:
        module.pairwise_iou_rotated(torch.zeros(1, 5), torch.zeros(1, 5))
    except RuntimeError as error:
        results["use"] = str(error)
    return results


if __name__ == "__main__":
    found = {fix.name: {"with": attempt(fix, None), "without": attempt(fix, fix.name)} for fix in ALL}
    print(json.dumps({**found, "stand-in": stand_in()}))
