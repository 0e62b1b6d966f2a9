"""VOC's results files of a data set in Detectron2's catalog, laid out as the devkit and the server want them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from detectron2.data import MetadataCatalog

from resnet_backbone.evaluation.voc import VocDetections
from resnet_backbone.evaluation.voc_files import write_class_files


def write_server_files(
    dataset_name: str, folder: Path, detections: VocDetections, classes: Sequence[str]
) -> Path | None:
    """Writes `folder`/results/<VOC2012>/Main/comp4_det_<split>_<class>.txt where the data set is one of VOC's layout.

    Args:
        dataset_name: registered by Detectron2's `register_pascal_voc` or by `DATA.FORMAT voc`.
        folder: the data set's own, for evaluation.
        detections: with class indices into `classes`.
        classes: names by class index.

    Returns:
        The folder with the files; None where the data set is of another kind.
    """
    metadata = MetadataCatalog.get(dataset_name)
    root = metadata.get("dirname")
    if not root or metadata.get("json_file"):
        return None
    year = metadata.get("year")
    main = folder / "results" / (f"VOC{year}" if year else Path(root).resolve().name) / "Main"
    write_class_files(main, metadata.get("split") or "test", detections, classes)
    return main
